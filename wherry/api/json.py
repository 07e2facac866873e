"""JSON in and out of the models.

Both readers try msgspec first, which takes an answer that is just as the models say. What does not fit goes the slow
way, field by field: the client's (``decode``) keeps what it cannot place in ``extra`` and fails for nothing but broken
JSON or an answer that is something else altogether; the engine's (``decode_body``) does what Go's decoder does: names
in any case, null means "not given", unknown fields dropped, and a wrong type refused in Go's words.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

import msgspec

from wherry.api.errors import BadRequest, ProtocolError
from wherry.api.models.common import PlainModel

if TYPE_CHECKING:
    from wherry.api.shapes import Shape

T = TypeVar("T")

encode_json = msgspec.json.Encoder().encode


def encode(value: object) -> bytes:
    """A model, or plain data, as JSON: no HTML escapes (P8), no newline at the end.

    Text that is no Unicode (file names read with surrogate escapes) gets U+FFFD where it is not.
    """
    try:
        return encode_json(value)
    except UnicodeEncodeError:
        return encode_json(_valid(msgspec.to_builtins(value)))


def encode_request(value: object) -> bytes:
    """A request's body: as ``encode``, without the fields that are at their default, and with ``extra``."""
    return encode(_sparse(value))


@overload
def decode(type_: type[T], data: bytes | str) -> T: ...
@overload
def decode(type_: Any, data: bytes | str) -> Any: ...
def decode(type_: Any, data: bytes | str) -> Any:
    """An answer of an engine as ``type_``: a model, or a list or dict of them.

    Null and absence read as the default; what has no place is in the model's ``extra``.
    Raises ProtocolError where the JSON is broken or is of another kind altogether.
    """
    try:
        return _decoder(type_).decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    from wherry.api.shapes import shape_of

    try:
        return _lenient(_parse(data), shape_of(type_))
    except _MisfitError:
        raise ProtocolError("the answer is JSON of another kind than expected") from None
    except RecursionError:
        raise ProtocolError("the answer is JSON nested too deeply") from None
    except msgspec.DecodeError as error:
        raise ProtocolError(f"the answer is broken JSON: {error}") from None


@overload
def decode_body(type_: type[T], data: bytes) -> T: ...
@overload
def decode_body(type_: Any, data: bytes) -> Any: ...
def decode_body(type_: Any, data: bytes) -> Any:
    """A request's body as ``type_`` (P5, P6).

    Raises BadRequest with moby's texts, for an empty body too, and for text with NUL in it: whatever it is for, the
    kernel, the runtime and the monitor would each cut it there.
    """
    try:
        value = _decoder(type_).decode(data)
    except msgspec.ValidationError:
        value = _read_as_go(type_, data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if _is_text(data):
            raise BadRequest(_syntax_text(error, data)) from None
        value = _read_as_go(type_, data)
    except RecursionError:
        raise BadRequest(_TOO_DEEP) from None
    if b"\\u0000" in data and _holds_nul(msgspec.to_builtins(value)):
        raise BadRequest("invalid JSON: text must not hold the character NUL (\\u0000)")
    refusal = getattr(value, "refusal", None)
    if refusal is not None and (text := refusal()):
        raise BadRequest(text)
    return value


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_holds_nul(key) or _holds_nul(item) for key, item in value.items())
    return isinstance(value, list | tuple) and any(_holds_nul(item) for item in value)


@cache
def _decoder(type_: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(type_)


def _parse(data: bytes | str) -> Any:
    """Plain data. Bytes that are no UTF-8 become U+FFFD, as Go has it."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):  # which of them, depends on msgspec's version
        if _is_text(data):
            raise
        return msgspec.json.decode(cast(bytes, data).decode("utf-8", "replace"))


def loose(data: bytes) -> Any:
    """Plain data, whatever it is; None for what is no JSON. Bytes that are no UTF-8 become U+FFFD."""
    try:
        return _parse(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _is_text(data: bytes | str) -> bool:
    if isinstance(data, bytes):
        try:
            data.decode()
        except UnicodeDecodeError:
            return False
    return True


# --- requests -------------------------------------------------------------------------------------------------------


def _sparse(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        members: dict[str, Any] = {}
        for name, wire, default in _defaults(type(value)):
            given = getattr(value, name)
            if given is msgspec.UNSET:
                continue
            if given == default and not _has_extra(given):
                continue
            members[wire] = _sparse(given)
        if isinstance(value, PlainModel) and "_extra" in value.__dict__:
            members.update(value.extra)
        return members
    if isinstance(value, list | tuple):
        return [_sparse(item) for item in value]
    if isinstance(value, dict):
        return {key: _sparse(item) for key, item in value.items()}
    return value


def _has_extra(value: Any) -> bool:
    return isinstance(value, PlainModel) and bool(value.__dict__.get("_extra"))


@cache
def _defaults(cls: type[msgspec.Struct]) -> tuple[tuple[str, str, Any], ...]:
    return tuple(
        (
            field.name,
            field.encode_name,
            field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory(),
        )
        for field in msgspec.structs.fields(cls)
    )


def _valid(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list | tuple):
        return [_valid(item) for item in value]
    if isinstance(value, dict):
        return {_valid(key): _valid(item) for key, item in value.items()}
    return value


# --- the client's slow way ------------------------------------------------------------------------------------------


class _MisfitError(Exception):
    """A value has no place in its field."""


def _lenient(value: Any, shape: Shape) -> Any:
    """``value`` with all structs made; the leaves are checked by msgspec."""
    kind = shape.kind
    if value is None:
        return None if shape.nullable else _zero(shape)
    if kind == "struct":
        if not isinstance(value, dict):
            raise _MisfitError
        return _lenient_struct(value, shape)
    if kind == "list" and isinstance(value, list):
        assert shape.item is not None
        if shape.deep:
            return [_lenient(item, shape.item) for item in value]
        return [_leaf(item, shape.item) for item in value]
    if kind == "dict" and isinstance(value, dict):
        assert shape.item is not None
        return {key: _lenient(item, shape.item) for key, item in value.items()}
    return _leaf(value, shape)


def _lenient_struct(members: dict[str, Any], shape: Shape) -> Any:
    fields = shape.fields
    kept: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for wire, value in members.items():
        field = fields.get(wire)
        if field is None:
            extra[wire] = value
        elif value is None:
            if field.nullable:
                kept[wire] = None
        elif field.deep:
            try:
                kept[wire] = _lenient(value, field)
            except _MisfitError:
                extra[wire] = value
        else:
            kept[wire] = value
    try:
        model = msgspec.convert(kept, shape.cls)
    except msgspec.ValidationError:
        fitting: dict[str, Any] = {}
        for wire, value in kept.items():
            try:
                fitting[wire] = _lenient(value, fields[wire]) if not fields[wire].deep else value
            except _MisfitError:
                extra[wire] = value
        try:
            model = msgspec.convert(fitting, shape.cls)
        except msgspec.ValidationError:  # a field that must be there is not
            raise _MisfitError from None
    if extra and isinstance(model, PlainModel):
        model.extra.update(extra)
    return model


_LEAVES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "bool": (bool,),
    "float": (float, int),
    "list": (list,),
    "dict": (dict,),
}


def _leaf(value: Any, shape: Shape) -> Any:
    if value is None:
        return None if shape.nullable else _zero(shape)
    kind = shape.kind
    if kind == "any":
        return value
    if kind == "tuple":
        assert shape.item is not None
        if isinstance(value, list) and len(value) == 2:
            return [_leaf(item, shape.item) for item in value]
        raise _MisfitError
    if kind == "int" and isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, _LEAVES[kind]):
        raise _MisfitError
    if kind == "int" and (isinstance(value, bool) or not shape.low <= cast(int, value) <= shape.high):
        raise _MisfitError
    return value


def _zero(shape: Shape) -> Any:
    if shape.kind == "struct":
        try:
            return shape.cls()
        except TypeError:
            raise _MisfitError from None
    return _ZEROS[shape.kind]()


_ZEROS: dict[str, Any] = {
    "str": str,
    "int": int,
    "bool": bool,
    "float": float,
    "list": list,
    "tuple": lambda: [0, 0],
    "dict": dict,
    "any": lambda: None,
}


# --- the engine's slow way ------------------------------------------------------------------------------------------

_TOO_DEEP = "invalid JSON: exceeded max depth"


def _read_as_go(type_: Any, data: bytes) -> Any:
    from wherry.api.shapes import shape_of

    try:
        return msgspec.convert(_go(_parse(data), shape_of(type_), ""), type_)
    except RecursionError:
        raise BadRequest(_TOO_DEEP) from None
    except msgspec.ValidationError as error:
        raise BadRequest(f"invalid JSON: {error}") from None
    except msgspec.DecodeError as error:
        raise BadRequest(_syntax_text(error, data)) from None


def _go(value: Any, shape: Shape, path: str) -> Any:
    """Plain data that is sure to fit: canonical names, and no nulls but where the model has them."""
    if value is None:
        return None if shape.nullable else _go_zero(shape)
    kind = shape.kind
    if kind == "struct":
        if not isinstance(value, dict):
            raise _unfit(value, shape, path)
        return _go_struct(value, shape, path)
    item = shape.item
    if kind == "list":
        if not isinstance(value, list):
            raise _unfit(value, shape, path)
        return [_go(element, cast("Shape", item), path) for element in value]
    if kind == "tuple":  # Go's arrays: what is missing is zero, what is too much is dropped
        if not isinstance(value, list):
            raise _unfit(value, shape, path)
        return [_go(element, cast("Shape", item), path) for element in [*value, 0, 0][:2]]
    if kind == "dict":
        if not isinstance(value, dict):
            raise _unfit(value, shape, path)
        return {key: _go(element, cast("Shape", item), path) for key, element in value.items()}
    if kind == "any":
        return value
    if kind == "int":
        if not isinstance(value, int) or isinstance(value, bool) or not shape.low <= value <= shape.high:
            raise _unfit(value, shape, path)
        return value
    if kind == "float":
        if type(value) not in (int, float):
            raise _unfit(value, shape, path)
        return value
    if not isinstance(value, _LEAVES[kind]):
        raise _unfit(value, shape, path)
    return value


def _go_struct(members: dict[str, Any], shape: Shape, path: str) -> dict[str, Any]:
    fields = shape.fields
    kept: dict[str, Any] = {}
    for name, value in members.items():
        wire = name if name in fields else shape.folded.get(name.lower())
        if wire is None:
            continue
        field = fields[wire]
        if value is None and not field.nullable:
            continue
        if wire in shape.string_or_list and not _is_strings(value):
            if not isinstance(value, str):
                raise BadRequest(f"invalid JSON: json: cannot unmarshal {_noun(value)} into Go value of type string")
            kept[wire] = [value]
        else:
            kept[wire] = _go(value, field, f"{path}.{wire}")
    return kept


def _is_strings(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(v is None or isinstance(v, str) for v in value))


def _go_zero(shape: Shape) -> Any:
    return {} if shape.kind == "struct" else _ZEROS[shape.kind]()


def _noun(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def _unfit(value: Any, shape: Shape, path: str) -> BadRequest:
    noun = _noun(value)
    if noun == "number" and shape.kind == "int":
        noun = f"number {value!r}"[:60]
    where = f"struct field {path}" if path else "value"
    return BadRequest(f"invalid JSON: json: cannot unmarshal {noun} into Go {where} of type {shape.go}")


def _syntax_text(error: Exception, data: bytes) -> str:
    """The words of Go for JSON that is broken."""
    text = str(error)
    if not data.strip():
        return "invalid JSON: got EOF while reading request body"
    if "trailing characters" in text:
        return "unexpected content after JSON"
    found = re.search(r"\(byte (\d+)\)", text)
    if "truncated" in text or found is None:
        return "invalid JSON: unexpected EOF"
    at = int(found[1])
    if at >= len(data):
        return "invalid JSON: unexpected EOF"
    character = ascii(chr(data[at])) if data[at] != 0x22 else "'\"'"
    before = data[:at].rstrip()[-1:]
    if "object" in text or before == b"{":
        what = " looking for beginning of object key string"
    elif before in (b"", b"[", b":", b","):
        what = " looking for beginning of value"
    else:
        what = ""
    return f"invalid JSON: invalid character {character}{what}"
