"""Header fields of a request or an answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


class Headers:
    """Header fields by name, whatever its case. Fields given more than once are joined by ", ", as RFC 9110 has it."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self._fields: dict[str, str] = {}
        for name, value in fields:
            self.add(name, value)

    @classmethod
    def from_raw(cls, raw: Iterable[tuple[bytes, bytes]]) -> Headers:
        headers = cls()
        fields = headers._fields
        for raw_name, raw_value in raw:
            name = raw_name.decode("latin-1").lower()
            value = raw_value.decode("latin-1").strip(" \t")
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
        return headers

    def add(self, name: str, value: str) -> None:
        name = name.lower()
        self._fields[name] = f"{self._fields[name]}, {value}" if name in self._fields else value

    def get(self, name: str, default: str = "") -> str:
        """The field's value; ``default`` where there is none."""
        return self._fields.get(name.lower(), default)

    def tokens(self, name: str) -> list[str]:
        """The elements of a comma-separated field, lower-cased; empty where there is none."""
        value = self._fields.get(name.lower())
        return [] if value is None else [token.strip().lower() for token in value.split(",")]

    def items(self) -> Iterator[tuple[str, str]]:
        """Every field as (lower-case name, value)."""
        return iter(self._fields.items())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._fields

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self._fields == other._fields

    def __repr__(self) -> str:
        return f"Headers({list(self._fields.items())!r})"
