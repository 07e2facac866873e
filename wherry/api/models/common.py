"""What every model shares: the base classes, the wire names, and number types with bounds.

How the fields say what moby does with them:

``int = 0``, ``str = ""``, ``bool = False``   always on the wire; null and absence read as the default
``X | None = None``                            always on the wire, null when nobody gave it
``X | UnsetType = UNSET``                      absent from the wire while unset; UNSET is falsy
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1, extra={"go": "int64"})]
GoInt = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1, extra={"go": "int"})]
GoUint = Annotated[int, Meta(ge=0, extra={"go": "uint"})]
Uint16 = Annotated[int, Meta(ge=0, le=2**16 - 1, extra={"go": "uint16"})]
Uint32 = Annotated[int, Meta(ge=0, le=2**32 - 1, extra={"go": "uint32"})]

StringMap = dict[str, str]
EmptyObjects = dict[str, dict[str, Any]]  # a set on the wire: {"80/tcp": {}}

_WORDS = {
    "id": "ID",
    "ids": "IDs",
    "io": "IO",
    "iops": "IOps",
    "ip": "IP",
    "ipam": "IPAM",
    "ips": "IPs",
    "ipv4": "IPv4",
    "ipv6": "IPv6",
    "rw": "RW",
    "tcp": "TCP",
    "uts": "UTS",
}


def wire_name(name: str) -> str:
    """A field's name on the wire: ``network_id`` is NetworkID, ``id`` alone is Id."""
    if name == "id":
        return "Id"
    return "".join(_WORDS.get(word) or word.capitalize() for word in name.split("_"))


class PlainModel(msgspec.Struct, kw_only=True, dict=True, forbid_unknown_fields=True):
    """A model whose fields are named on the wire as in Python.

    Decode with ``wherry.api.json`` only: msgspec alone refuses unknown fields here, which is how that module
    notices them without looking at every field.
    """

    @property
    def extra(self) -> dict[str, Any]:
        """The fields of the wire that the model has no place for, and those whose value was of another type.

        Filled by ``json.decode``; what is put here is sent by ``json.encode_request``.
        """
        extra: dict[str, Any] | None = self.__dict__.get("_extra")
        if extra is None:
            extra = self.__dict__["_extra"] = {}
        return extra


class Model(PlainModel, kw_only=True, rename=wire_name):
    """A model with the API's usual capitalised names on the wire."""


class ErrorResponse(PlainModel, kw_only=True):
    """The body of every error."""

    message: str = ""


class IdResponse(Model, kw_only=True):
    """The id of what was made: an exec instance, a committed image."""

    id: str = ""


class GraphDriverData(Model, kw_only=True):
    """Where the storage driver keeps a container or an image; the keys of ``data`` are the driver's own."""

    data: StringMap | None = None
    name: str = ""


__all__ = [
    "UNSET",
    "EmptyObjects",
    "ErrorResponse",
    "GoInt",
    "GoUint",
    "GraphDriverData",
    "IdResponse",
    "Int64",
    "Model",
    "PlainModel",
    "StringMap",
    "Uint16",
    "Uint32",
    "UnsetType",
    "wire_name",
]
