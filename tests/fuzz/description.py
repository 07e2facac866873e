"""Calls drawn from the published description: what schemathesis makes of it, and bodies with much in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.support import ODD_NUMBERS, TEXTS
from tests.support.description import description


def resolved(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with its reference followed and its parts put together."""
    if "$ref" in schema:
        return resolved(description()["definitions"][schema["$ref"].rpartition("/")[2]])
    if "allOf" not in schema:
        return dict(schema)
    whole: dict[str, Any] = {"type": "object", "properties": {}}
    for part in schema["allOf"]:
        whole["properties"].update(resolved(part).get("properties", {}))
    return whole


def full_body(draw: st.DrawFn, schema: Mapping[str, Any], depth: int = 0) -> Any:
    """A value as the schema says, mostly, with a good part of its properties."""
    schema = resolved(schema)
    if draw(st.integers(0, 40)) == 0:
        return draw(
            st.none()
            | st.booleans()
            | ODD_NUMBERS
            | TEXTS
            | st.just([])
            | st.just({})
            | st.just([None])
            | st.just([{}])
        )
    kind = schema.get("type")
    if schema.get("properties"):  # some have none
        names = sorted(schema["properties"])
        chosen = draw(st.lists(st.sampled_from(names), max_size=min(len(names), 6), unique=True))
        return {name: full_body(draw, schema["properties"][name], depth + 1) for name in chosen}
    if isinstance(schema.get("additionalProperties"), dict) and depth < 8:
        keys = draw(
            st.lists(TEXTS | st.sampled_from(["80/tcp", "/data", "a", "net.ipv4.ip_forward", "default"]), max_size=2)
        )
        return {key: full_body(draw, schema["additionalProperties"], depth + 1) for key in keys}
    if kind == "array" and depth < 8:
        return [full_body(draw, schema.get("items", {}), depth + 1) for _ in range(draw(st.integers(0, 2)))]
    if "enum" in schema:
        return draw(st.sampled_from(schema["enum"]) | TEXTS)
    if kind == "string":
        likely = [value for value in (schema.get("example"), schema.get("default")) if isinstance(value, str)]
        words = [
            "busybox",
            "sh",
            "true",
            "/",
            "/tmp",
            "a=b",
            "10m",
            "1s",
            "0",
            "80",
            "127.0.0.1",
            "10.99.0.0/16",
            "nobody",
            "root:root",
            *likely,
        ]
        return draw(st.sampled_from(words) | TEXTS)
    if kind in ("integer", "number"):
        return draw(st.sampled_from([0, 1, 2, 64, 1024, 1 << 24, schema.get("default") or 0]) | ODD_NUMBERS)
    if kind == "boolean":
        return draw(st.booleans())
    return draw(TEXTS)


FILTER_KEYS = (
    "ancestor before exited id isolation label label! name status health since volume network is-task publish expose until "
    "driver scope type dangling reference event container image daemon plugin all is-official stars"
).split()
FILTERS = st.dictionaries(
    st.sampled_from(FILTER_KEYS),
    st.lists(
        TEXTS | st.sampled_from(["running", "true", "0", "1", "80", "80/tcp", "1-2", "a=b", "10m", "busybox", "["]),
        max_size=2,
    ),
    max_size=2,
).map(json.dumps)
