"""Query strings: structs to text and back, with moby's reading of booleans, numbers and filters (P1, P2, P7).

A query struct has a field for each parameter: ``bool``, ``int``, ``str``, a list (the parameter repeated) or
``Filters``, each ``| None`` where it may be absent.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, TypeVar, get_type_hints

import msgspec

from wherry.api.errors import BadRequest

Filters = dict[str, list[str]]
"""A filter's name to its values, as the API has it on the wire."""


class Query(msgspec.Struct, kw_only=True, frozen=True, rename="camel"):
    """The parameters of an operation. None is absent; names on the wire are camelCase unless given."""


Q = TypeVar("Q", bound=Query)

_FALSE = frozenset(("", "0", "no", "false", "none"))
_INTEGER = re.compile(r"[+-]?[0-9]{1,25}", re.ASCII)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2}).{0,2}", re.DOTALL)
_filters = msgspec.json.Decoder(dict[str, list[str] | dict[str, Any] | None] | None)


def decode_query(query_type: type[Q], raw: str) -> Q:
    """The struct for a query string (what follows the ``?``, still percent-encoded).

    Unknown parameters are ignored; of a repeated one the first counts, unless the field is a list.
    Raises BadRequest with moby's texts for bad numbers, filters and escapes.
    """
    given = _split(raw) if raw else {}
    values: dict[str, Any] = {}
    for name, wire, kind, required in _plan(query_type):
        texts = given.get(wire)
        if texts is None:
            if required:
                values[name] = parse_integer("") if kind is int else ""
            continue
        text = texts[0]
        if kind is bool:
            values[name] = parse_bool(text)
        elif kind is int:
            if text or required:
                values[name] = parse_integer(text)
        elif kind is list:
            values[name] = texts
        elif kind is dict:
            if text:
                values[name] = parse_filters(text)
        else:
            values[name] = text
    return query_type(**values)


def encode_query(query: Query) -> str:
    """The query string of a struct, without the ``?``; fields that are None are left out."""
    parts: list[str] = []
    for name, wire in zip(query.__struct_fields__, query.__struct_encode_fields__, strict=True):
        value = getattr(query, name)
        if value is None:
            continue
        if value is True:
            parts.append(f"{wire}=1")
        elif value is False:
            parts.append(f"{wire}=0")
        elif isinstance(value, int):
            parts.append(f"{wire}={value}")
        elif isinstance(value, dict):
            if value:
                parts.append(f"{wire}={escaped(encode_filters(value))}")
        elif isinstance(value, list):
            parts.extend(f"{wire}={escaped(item)}" for item in value)
        else:
            parts.append(f"{wire}={escaped(str(value))}")
    return "&".join(parts)


def escaped(text: str, safe: str = "") -> str:
    """A text as a part of a URL, with letters, digits, ``_.-~`` and what is ``safe`` as they are.

    Bytes of the command line or of a file's name that are no UTF-8 go over as they are.
    """
    if text.isascii() and text.isalnum():
        return text
    from urllib.parse import quote

    return quote(text, safe=safe, errors="surrogateescape")


def parse_bool(text: str) -> bool:
    """P1: a few words are false, everything else is true."""
    return text.strip().lower() not in _FALSE


def parse_integer(text: str) -> int:
    """P2: a decimal integer of 64 bits. Raises BadRequest with Go's text."""
    if not _INTEGER.fullmatch(text):
        raise BadRequest(f"strconv.Atoi: parsing {_quoted(text)}: invalid syntax")
    number = int(text)
    if not -(2**63) <= number < 2**63:
        raise BadRequest(f"strconv.Atoi: parsing {_quoted(text)}: value out of range")
    return number


def parse_filters(text: str) -> Filters:
    """P7: ``{"k":["a"]}`` or ``{"k":{"a":true}}``. Raises BadRequest for anything else."""
    try:
        decoded = _filters.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        raise BadRequest("invalid filter") from None
    return {key: list(values or ()) for key, values in decoded.items()} if decoded else {}


def encode_filters(filters: Filters) -> str:
    """Filters as JSON, in the form of lists. A value that is one string counts as a list of it."""
    return msgspec.json.encode({k: [v] if isinstance(v, str) else v for k, v in filters.items()}).decode()


def _quoted(text: str) -> str:
    """As Go's %q shows it, cut where it is long."""
    return msgspec.json.encode(text[:100].encode("utf-8", "replace").decode()).decode()


def _split(raw: str) -> dict[str, list[str]]:
    from urllib.parse import unquote_plus

    bad = _BAD_ESCAPE.search(raw)
    if bad:
        raise BadRequest(f"invalid URL escape {_quoted(bad.group())}")
    given: dict[str, list[str]] = {}
    for part in raw.split("&"):
        if part:
            key, _, value = part.partition("=")
            given.setdefault(unquote_plus(key), []).append(unquote_plus(value))
    return given


@cache
def _plan(query_type: type[Query]) -> tuple[tuple[str, str, type, bool], ...]:
    """Of each field: its name, its name on the wire, its kind, and whether it must be there."""
    hints = get_type_hints(query_type)
    names = query_type.__struct_fields__
    required = len(names) - len(query_type.__struct_defaults__)
    defaults = (msgspec.NODEFAULT,) * required + query_type.__struct_defaults__
    return tuple(
        (name, wire, _kind(hints[name]), default is msgspec.NODEFAULT)
        for name, wire, default in zip(names, query_type.__struct_encode_fields__, defaults, strict=True)
    )


def _kind(hint: Any) -> type:
    """bool, int, str, list or dict, with ``| None`` taken off."""
    choices = [choice for choice in getattr(hint, "__args__", ()) if choice is not type(None)]
    plain = hint if getattr(hint, "__origin__", None) or not choices else choices[0]
    kind: type = getattr(plain, "__origin__", plain)
    return kind
