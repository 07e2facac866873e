"""The published description of API 1.43, walked operation by operation and field by field over the contract.

What the contract lacks fails, or stands on a list here with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.support.description import description
from wherry.api.models.images import ProgressMessage
from wherry.api.operation import Body, Operation, Reply
from wherry.api.operations.catalog import ALL, BY_ID, OUTLINES
from wherry.api.operations.outlines import REASONS
from wherry.api.shapes import Shape, shape_of

# Definitions that stay plain JSON: clusters are not Wherry's.
PLAIN = {"ClusterVolume", "ClusterVolumeSpec", "ClusterInfo", "GenericResources"}

# Parameters that the description does not know: ours to the reason they are there.
UNDESCRIBED = {
    "ContainerLogs details": "the docker command sends it",
    "ImageBuild cgroupparent": "the docker command sends it",
    "ImageBuild cpusetmems": "the docker command sends it",
    "ImageBuild securityopt": "refused with moby's text",
    "ImageBuild ulimits": "the docker command sends it",
    "ContainerStart checkpoint": "refused with moby's text",
    "ContainerStart checkpoint-dir": "refused with moby's text",
}

# Places where the wire is not as the description says.
OTHER_KIND = {
    "ContainerLogs since": "a fraction of a second is allowed",
    "ContainerLogs until": "a fraction of a second is allowed",
    "PutContainerArchive noOverwriteDirNonDir": "read as the other booleans",
    "PutContainerArchive copyUIDGID": "read as the other booleans",
    "ImageCommit changes": "the parameter may be repeated",
    "ImageBuild t": "the parameter may be repeated",
    "ImageBuild extrahosts": "the parameter may be repeated",
}

# Headers that are not a call's own but of every request or answer.
GENERAL_HEADERS = {"Content-type"}

# Fields of the description that moby does not have there.
NOT_THERE = {
    "ContainerUpdate.Init": "it belongs to HostConfig alone; an update ignores it",
    "ContainerInspect.HostConfig.MaximumIOps": "of an example: its old name",
    "ContainerInspect.HostConfig.MaximumIOBps": "of an example: its old name",
    'ContainerInspect.HostConfig.DeviceRequests[].DeviceIDs"': "of an example: a slip of the pen",
}


def described() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in description()["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def modelled() -> Iterator[tuple[Operation, dict[str, Any]]]:
    for _, _, operation in described():
        if operation["operationId"] in BY_ID:
            yield BY_ID[operation["operationId"]], operation


class Walk:
    """Compares a schema with a shape, and counts."""

    def __init__(self) -> None:
        self.missing: list[str] = []
        self.other: list[str] = []
        self.fields = 0

    def resolve(self, schema: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        name = ""
        while "$ref" in schema:
            name = schema["$ref"].rsplit("/", 1)[1]
            schema = description()["definitions"][name]
        return name, schema

    def properties(self, schema: dict[str, Any]) -> dict[str, Any]:
        _, schema = self.resolve(schema)
        found = dict(schema.get("properties") or {})
        for part in schema.get("allOf", ()):
            found.update(self.properties(part))
        return found

    def compare(self, where: str, schema: dict[str, Any], shape: Shape) -> None:
        name, schema = self.resolve(schema)
        if len(schema.get("allOf", ())) == 1:
            return self.compare(where, schema["allOf"][0], shape)
        if name in PLAIN:
            return None
        properties = self.properties(schema)
        if properties:
            if shape.kind != "struct":
                self.other.append(f"{where}: an object, here {shape.kind}")
                return None
            for field, inner in properties.items():
                self.fields += 1
                if field not in shape.fields:
                    if f"{where}.{field}" in NOT_THERE:
                        continue
                    self.missing.append(f"{where}.{field}")
                else:
                    self.compare(f"{where}.{field}", inner, shape.fields[field])
            return None
        kind = schema.get("type")
        if kind == "array":
            if shape.kind not in ("list", "tuple") or shape.item is None:
                self.other.append(f"{where}: a list, here {shape.kind}")
            else:
                self.compare(f"{where}[]", schema["items"], shape.item)
        elif kind == "object":
            if shape.kind == "dict" and shape.item is not None:
                inner = schema.get("additionalProperties")
                if isinstance(inner, dict) and inner.get("type") != "object":
                    self.compare(f"{where}{{}}", inner, shape.item)
            elif shape.kind not in ("any", "struct"):
                self.other.append(f"{where}: a map, here {shape.kind}")
        else:
            expected = {"string": "str", "integer": "int", "boolean": "bool", "number": "float"}.get(str(kind))
            if expected and shape.kind != expected:
                self.other.append(f"{where}: {kind}, here {shape.kind}")
        return None


def test_every_operation_is_there_or_has_its_reason() -> None:
    names = {operation["operationId"] for _, _, operation in described()}
    outlined = {operation.id for operation in OUTLINES}
    assert names == set(BY_ID) | outlined
    assert not set(BY_ID) & outlined
    assert len(ALL) == len(BY_ID)
    assert {operation.tag for operation in OUTLINES} <= set(REASONS)
    assert not [operation.id for operation in OUTLINES if operation.tag in ("Container", "Exec", "Network", "Volume")]
    print(f"{len(names)} operations described: {len(BY_ID)} modelled, {len(outlined)} outlined")


def test_methods_paths_and_tags_are_the_descriptions() -> None:
    by_id = {operation.id: operation for operation in (*ALL, *OUTLINES)}
    for method, path, operation in described():
        ours = by_id[operation["operationId"]]
        assert (ours.method, ours.path, ours.tag) == (method, path, operation["tags"][0])


def test_every_parameter_is_there() -> None:
    count = 0
    problems: list[str] = []
    for ours, theirs in modelled():
        shapes = shape_of(ours.query).fields if ours.query else {}
        queries = set()
        for parameter in theirs.get("parameters", ()):
            count += 1
            name, kind = parameter["name"], parameter["in"]
            where = f"{ours.id} {name}"
            if kind == "query":
                queries.add(name)
                if name not in shapes:
                    problems.append(f"{where} is missing")
                elif where not in OTHER_KIND:
                    expected = {"string": "str", "integer": "int", "boolean": "bool", "array": "list"}
                    wanted = "dict" if name == "filters" else expected[parameter["type"]]
                    if shapes[name].kind != wanted:
                        problems.append(f"{where}: {parameter['type']}, here {shapes[name].kind}")
            elif kind == "header" and name not in ours.headers and name not in GENERAL_HEADERS:
                problems.append(f"{where} is missing")
            elif kind == "path" and f"{{{name}}}" not in ours.path:
                problems.append(f"{where} is not in the path")
            elif kind == "body" and ours.body is Body.NONE:
                problems.append(f"{where} is missing")
        problems += [
            f"{ours.id} {name} is not described"
            for name in set(shapes) - queries
            if f"{ours.id} {name}" not in UNDESCRIBED
        ]
    assert not problems
    print(f"{count} parameters")


def test_every_field_of_a_request_is_there() -> None:
    walk = Walk()
    for ours, theirs in modelled():
        for parameter in theirs.get("parameters", ()):
            if parameter["in"] != "body":
                continue
            if ours.body is Body.STREAM:
                assert parameter["schema"].get("type") == "string"
                continue
            assert ours.body_required or not parameter.get("required"), ours.id
            walk.compare(ours.id, parameter["schema"], shape_of(ours.body_type))
    assert not walk.missing
    assert not walk.other
    assert walk.fields > 200
    print(f"{walk.fields} fields of requests")


def test_every_field_of_an_answer_is_there() -> None:
    walk = Walk()
    for ours, theirs in modelled():
        for status, answer in theirs["responses"].items():
            schema = answer.get("schema")
            if int(status) >= 300 or schema is None:
                continue
            if ours.returns is None:
                assert walk.resolve(schema)[1].get("type") == "string", ours.id
                assert ours.reply in (Reply.TEXT, Reply.FRAMES, Reply.BYTES, Reply.EMPTY), ours.id
            else:
                assert ours.reply in (Reply.JSON, Reply.JSON_STREAM), ours.id
                walk.compare(ours.id, schema, shape_of(ours.returns))
    assert not walk.missing
    assert not walk.other
    assert walk.fields > 400
    print(f"{walk.fields} fields of answers")


@pytest.mark.parametrize("name", ["CreateImageInfo", "PushImageInfo", "BuildInfo"])
def test_progress_messages_have_every_field(name: str) -> None:
    walk = Walk()
    schema = dict(description()["definitions"][name])
    properties = {k: v for k, v in schema["properties"].items() if k != "aux"}
    walk.compare(name, {**schema, "properties": properties}, shape_of(ProgressMessage))
    assert not walk.missing
    assert not walk.other


def test_every_key_of_the_examples_is_there() -> None:
    """Stats are described by an example only; the other examples are checked along with them."""
    count = 0
    missing: list[str] = []

    def compare(where: str, value: Any, shape: Shape) -> None:
        nonlocal count
        if isinstance(value, dict) and shape.kind == "struct":
            for key, inner in value.items():
                count += 1
                if key not in shape.fields:
                    missing.append(f"{where}.{key}")
                else:
                    compare(f"{where}.{key}", inner, shape.fields[key])
        elif isinstance(value, dict) and shape.kind == "dict" and shape.item:
            for key, inner in value.items():
                compare(f"{where}.{key}", inner, shape.item)
        elif isinstance(value, list) and shape.item:
            for inner in value:
                compare(f"{where}[]", inner, shape.item)

    for ours, theirs in modelled():
        for status, answer in theirs["responses"].items():
            for example in (answer.get("examples") or {}).values():
                if int(status) < 300 and ours.returns is not None:
                    compare(ours.id, example, shape_of(ours.returns))
    assert not set(missing) - set(NOT_THERE)
    assert count > 100
    print(f"{count} keys of examples")


@pytest.mark.parametrize(
    ("tag", "count"),
    {"Container": 25, "Image": 15, "Network": 7, "Volume": 6, "Exec": 4, "System": 7, "Distribution": 1}.items(),
)
def test_a_section_is_whole(tag: str, count: int) -> None:
    """Every operation of the section is modelled; the tests above hold their parameters and fields."""
    ids = {operation["operationId"] for _, _, operation in described() if tag in operation["tags"]}
    present = {id for id in ids if id in BY_ID and BY_ID[id].tag == tag}
    missing = [
        f"{ours.id} {parameter['name']}"
        for ours, theirs in modelled()
        if ours.id in ids
        for parameter in theirs.get("parameters", ())
        if parameter["in"] == "query" and parameter["name"] not in (shape_of(ours.query).fields if ours.query else {})
    ]
    walk = Walk()
    for ours, theirs in modelled():
        answers = [answer.get("schema") for status, answer in theirs["responses"].items() if int(status) < 300]
        if ours.id in ids and ours.returns is not None:
            for schema in filter(None, answers):
                walk.compare(ours.id, schema, shape_of(ours.returns))
    print(
        f"{tag}: {len(present)} of {len(ids)} operations, {len(missing)} missing parameters, {len(walk.missing)} missing fields"
    )
    assert (len(present), len(ids), missing, walk.missing) == (count, count, [], [])


def test_every_status_is_there() -> None:
    for ours, theirs in modelled():
        for status in theirs["responses"]:
            number = int(status)
            known = ours.success if number < 400 else ours.errors
            assert number in known, f"{ours.id} {number}"


def test_the_lists_hold_nothing_stale() -> None:
    parameters = {
        f"{operation['operationId']} {parameter['name']}"
        for _, _, operation in described()
        for parameter in operation.get("parameters", ())
    }
    assert not set(UNDESCRIBED) & parameters
    assert set(OTHER_KIND) <= parameters
    assert set(description()["definitions"]) >= PLAIN


def snake(wire: str) -> str:
    """The Python name of a field: words are capitals followed by small letters, or runs of capitals."""
    wire = wire.replace("IPv4", "Ipv4").replace("IPv6", "Ipv6").replace("IOps", "Iops").replace("IDs", "Ids")
    wire = wire.replace("IPs", "Ips").replace("CIDRs", "Cidrs").replace("iptables", "_iptables")
    wire = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", wire)
    wire = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", wire)
    return re.sub(r"[_.-]+", "_", wire).lower()


# Names that are keywords of Python or that capitals alone do not divide.
NAMES = {
    "from": "from_",
    "BridgeNfIp6tables": "bridge_nf_ip6tables",
    "CPUSet": "cpu_set",
    "RootFS": "root_fs",
    "copyUIDGID": "copy_uid_gid",
}


def structs() -> set[type[msgspec.Struct]]:
    found: set[type[msgspec.Struct]] = set()

    def visit(shape: Shape | None) -> None:
        if shape is not None and shape.kind == "struct":
            if shape.cls not in found:
                found.add(shape.cls)
                for field in shape.fields.values():
                    visit(field)
        elif shape is not None:
            visit(shape.item)

    for operation in ALL:
        for type_ in (operation.query, operation.body_type, operation.returns):
            if type_ is not None:
                visit(shape_of(type_))
    return found


def test_python_names_are_the_wires_in_snake_case() -> None:
    found = structs()
    for cls in found:
        for field in msgspec.structs.fields(cls):
            assert field.name == NAMES.get(field.encode_name, snake(field.encode_name)), f"{cls.__name__}"
    print(f"{len(found)} structs")


def test_every_model_says_what_it_is() -> None:
    assert not [cls.__name__ for cls in structs() if not cls.__doc__ or len(cls.__doc__) < 10]
