"""The shape of a model, for the readers that go field by field where a plain decode did not fit."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec.inspect as inspect


class Shape:
    """One type of the models.

    ``kind``: struct, list, tuple, dict, str, int, float, bool or any. ``item`` is the element of a list, tuple or dict.
    ``deep``: a struct is in it. ``go`` is the type's name in the messages of moby.
    """

    __slots__ = ("cls", "deep", "fields", "folded", "go", "high", "item", "kind", "low", "nullable", "string_or_list")

    def __init__(self, kind: str, go: str, *, nullable: bool = False) -> None:
        self.kind = kind
        self.go = go
        self.nullable = nullable
        self.deep = False
        self.item: Shape | None = None
        self.low: float = float("-inf")
        self.high: float = float("inf")
        self.cls: type[Any] = object
        self.fields: dict[str, Shape] = {}  # by name on the wire
        self.folded: dict[str, str] = {}  # lower case to the name on the wire
        self.string_or_list: tuple[str, ...] = ()


def shape_of(type_: Any) -> Shape:
    """The shape of a type that ``msgspec`` can decode."""
    return _cached(type_)


@cache
def _cached(type_: Any) -> Shape:
    return _shape(inspect.type_info(type_))


_SCALARS = {
    inspect.StrType: ("str", "string"),
    inspect.BoolType: ("bool", "bool"),
    inspect.FloatType: ("float", "float64"),
}


def _shape(info: inspect.Type, go: str = "", *, nullable: bool = False) -> Shape:
    if isinstance(info, inspect.Metadata):
        return _shape(info.type, (info.extra or {}).get("go", ""), nullable=nullable)
    if isinstance(info, inspect.UnionType):
        others = [choice for choice in info.types if not isinstance(choice, inspect.NoneType)]
        if len(others) == 1:
            return _shape(others[0], nullable=len(others) < len(info.types))
        return Shape("any", "", nullable=True)
    if isinstance(info, inspect.StructType):
        return _struct(info.cls, nullable)
    if isinstance(info, inspect.ListType | inspect.TupleType):
        fixed = isinstance(info, inspect.TupleType)
        item = _shape(info.item_types[0] if isinstance(info, inspect.TupleType) else info.item_type)
        shape = Shape("tuple" if fixed else "list", ("[2]" if fixed else "[]") + item.go, nullable=nullable)
        shape.item, shape.deep = item, item.deep
        return shape
    if isinstance(info, inspect.DictType):
        item = _shape(info.value_type)
        shape = Shape("dict", "map[string]" + item.go, nullable=nullable)
        shape.item, shape.deep = item, item.deep
        return shape
    if isinstance(info, inspect.IntType):
        shape = Shape("int", go or "int", nullable=nullable)
        shape.low = shape.low if info.ge is None else info.ge
        shape.high = shape.high if info.le is None else info.le
        return shape
    kind, name = _SCALARS.get(type(info), ("any", "interface {}"))
    return Shape(kind, name, nullable=nullable or kind == "any")


def _struct(cls: Any, nullable: bool) -> Shape:
    base = _fields(cls)
    if nullable == base.nullable:
        return base
    shape = Shape("struct", base.go, nullable=nullable)
    shape.deep, shape.cls, shape.fields, shape.folded = True, cls, base.fields, base.folded
    shape.string_or_list = base.string_or_list
    return shape


@cache
def _fields(cls: Any) -> Shape:
    info = inspect.type_info(cls)
    assert isinstance(info, inspect.StructType)
    shape = Shape("struct", getattr(cls, "GO", cls.__name__))
    shape.deep, shape.cls = True, cls
    shape.fields = {field.encode_name: _shape(field.type) for field in info.fields}
    shape.folded = {name.lower(): name for name in shape.fields}
    shape.string_or_list = getattr(cls, "STRING_OR_LIST", ())
    return shape
