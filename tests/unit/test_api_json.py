"""JSON bodies: the engine's strict reading in Go's words, the client's patient one, and what is sent."""

from __future__ import annotations

import contextlib
import json as stdlib_json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.api import json
from wherry.api.errors import BadRequest, ProtocolError
from wherry.api.models.containers import (
    ContainerConfig,
    ContainerCreateRequest,
    ContainerInspect,
    ContainerSummary,
    ContainerUpdateRequest,
    HealthConfig,
    HostConfig,
    PortBinding,
    RestartPolicy,
)
from wherry.api.models.exec import ExecConfig, ExecStartConfig
from wherry.api.models.networks import EndpointSettings, NetworkingConfig
from wherry.api.models.system import SystemVersion
from wherry.api.operations.catalog import ALL


def body(text: str | bytes) -> ContainerCreateRequest:
    return json.decode_body(ContainerCreateRequest, text.encode() if isinstance(text, str) else text)


# --- requests read by the engine


def test_CRE2_a_configuration_with_the_host_beside_it() -> None:
    request = body('{"Image":"busybox","Cmd":["true"],"HostConfig":{"Memory":5},"NetworkingConfig":{}}')
    assert request.image == "busybox"
    assert request.cmd == ["true"]
    assert request.host_config is not None
    assert request.host_config.memory == 5
    assert request.networking_config == NetworkingConfig()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid JSON: got EOF while reading request body"),
        (" \n", "invalid JSON: got EOF while reading request body"),
        ('{"Image":"x"', "invalid JSON: unexpected EOF"),
        ("{", "invalid JSON: unexpected EOF"),
        ('{"Image":"x"} y', "unexpected content after JSON"),
        ('{"Image":"x"}{}', "unexpected content after JSON"),
        ("{}", "Config cannot be empty in order to create a container"),
        ("null", "Config cannot be empty in order to create a container"),
        ('{"HostConfig":{"Memory":1}}', "Config cannot be empty in order to create a container"),
        ("x", "invalid JSON: invalid character 'x' looking for beginning of value"),
        ('{"Image":x}', "invalid JSON: invalid character 'x' looking for beginning of value"),
        ('{"Image":"x",}', "invalid JSON: invalid character '}' looking for beginning of object key string"),
        ("{1:2}", "invalid JSON: invalid character '1' looking for beginning of object key string"),
        ('{"Image" "x"}', "invalid JSON: invalid character '\"'"),
        ("[" * 100_000, "invalid JSON: exceeded max depth"),
        ('{"a":' * 100_000, "invalid JSON: exceeded max depth"),
    ],
)
def test_P5_broken_and_empty_bodies(text: str, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        body(text)
    assert caught.value.message == message
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"HostConfig":{"Memory":"5"}}', "string into Go struct field .HostConfig.Memory of type int64"),
        ('{"HostConfig":{"Memory":1.5}}', "number 1.5 into Go struct field .HostConfig.Memory of type int64"),
        ('{"HostConfig":{"Memory":true}}', "bool into Go struct field .HostConfig.Memory of type int64"),
        (
            '{"HostConfig":{"Memory":9223372036854775808}}',
            "number 9223372036854775808 into Go struct field .HostConfig.Memory of type int64",
        ),
        ('{"HostConfig":{"BlkioWeight":-1}}', "number -1 into Go struct field .HostConfig.BlkioWeight of type uint16"),
        ('{"HostConfig":[]}', "array into Go struct field .HostConfig of type container.HostConfig"),
        ('{"Image":1}', "number into Go struct field .Image of type string"),
        ('{"Tty":"true"}', "string into Go struct field .Tty of type bool"),
        ('{"Env":{}}', "object into Go struct field .Env of type []string"),
        ('{"Env":[1]}', "number into Go struct field .Env of type string"),
        ('{"Labels":[]}', "array into Go struct field .Labels of type map[string]string"),
        ('{"StopTimeout":"1"}', "string into Go struct field .StopTimeout of type int"),
        ('{"Cmd":1}', "number into Go value of type string"),
        ('{"Entrypoint":[1]}', "array into Go value of type string"),
        ("[]", "array into Go value of type runconfig.ContainerConfigWrapper"),
        ('"x"', "string into Go value of type runconfig.ContainerConfigWrapper"),
    ],
)
def test_P5_wrong_types_in_the_words_of_go(text: str, what: str) -> None:
    with pytest.raises(BadRequest) as caught:
        body(text)
    assert caught.value.message == f"invalid JSON: json: cannot unmarshal {what}"


def test_P5_unknown_fields_are_ignored() -> None:
    request = body('{"Image":"x","Nope":1,"HostConfig":{"Nor":[]}}')
    assert request.image == "x"
    assert request.extra == {}


def test_P5_names_in_any_case() -> None:
    request = body('{"image":"x","HOSTCONFIG":{"memory":7,"PortBindings":{"80/tcp":[{"hostip":"::1"}]}}}')
    assert request.image == "x"
    assert request.host_config == HostConfig(memory=7, port_bindings={"80/tcp": [PortBinding(host_ip="::1")]})


def test_NUL_null_means_not_given() -> None:
    request = body(
        '{"Hostname":null,"Tty":null,"Image":"x","StopTimeout":null,"Env":null,"ExposedPorts":{"80/tcp":null},'
        '"Healthcheck":null,"HostConfig":{"Memory":null,"Mounts":null,"RestartPolicy":null,"ConsoleSize":null,'
        '"PortBindings":{"81/tcp":null,"82/tcp":[null]},"PidsLimit":null,"LogConfig":null,"Dns":[null]}}'
    )
    assert request == ContainerCreateRequest(
        image="x",
        exposed_ports={"80/tcp": {}},
        host_config=HostConfig(port_bindings={"81/tcp": None, "82/tcp": [PortBinding()]}, dns=[""]),
    )


def test_NUL_an_empty_list_stays_one() -> None:
    request = body('{"Image":"x","Entrypoint":[],"HostConfig":{"Dns":[],"CapAdd":null}}')
    assert request.entrypoint == []
    assert request.host_config is not None
    assert request.host_config.dns == []
    assert request.host_config.cap_add is None


def test_P6_a_command_may_be_a_string_and_is_not_split() -> None:
    request = body('{"Cmd":"echo hi there","Entrypoint":"sh","Shell":"bash","HostConfig":{"CapAdd":"ALL"}}')
    assert request.cmd == ["echo hi there"]
    assert request.entrypoint == ["sh"]
    assert request.shell == ["bash"]
    assert request.host_config is not None
    assert request.host_config.cap_add == ["ALL"]


def test_P6_but_not_that_of_an_exec() -> None:
    with pytest.raises(BadRequest, match=r"cannot unmarshal string into Go struct field \.Cmd of type \[\]string"):
        json.decode_body(ExecConfig, b'{"Cmd":"true"}')


def test_arrays_of_fixed_length_are_filled_and_cut() -> None:
    for text, size in (("[40]", (40, 0)), ("[40,100,7]", (40, 100)), ("[]", (0, 0))):
        request = body(f'{{"Image":"x","HostConfig":{{"ConsoleSize":{text}}}}}')
        assert request.host_config is not None
        assert request.host_config.console_size == size


def test_UPD1_an_empty_update_is_one() -> None:
    assert json.decode_body(ContainerUpdateRequest, b"{}") == ContainerUpdateRequest()
    assert json.decode_body(ContainerUpdateRequest, b'{"Image":"x","Binds":[]}') == ContainerUpdateRequest()


def test_bytes_that_are_no_text_become_replacement_characters() -> None:
    assert body(b'{"Image":"a\xff"}').image == "a�"


# --- answers read by the client


def test_unknown_fields_are_in_extra_at_every_depth() -> None:
    inspected = json.decode(
        ContainerInspect,
        '{"Id":"a","New":1,"State":{"Foo":[1]},"HostConfig":{"PortBindings":{"80/tcp":[{"Z":{"y":2}}]}},'
        '"NetworkSettings":{"Networks":{"n":{"Bar":"x","NetworkID":"i"}}}}',
    )
    assert inspected.extra == {"New": 1}
    assert inspected.state.extra == {"Foo": [1]}
    bindings = inspected.host_config.port_bindings
    assert bindings is not None
    assert (bindings["80/tcp"] or [])[0].extra == {"Z": {"y": 2}}
    networks = inspected.network_settings.networks
    assert networks is not None
    assert networks["n"].extra == {"Bar": "x"}
    assert networks["n"].network_id == "i"
    assert inspected.config.extra == {}


def test_values_of_another_type_are_in_extra() -> None:
    inspected = json.decode(
        ContainerInspect, '{"Id":7,"Args":"x","Mounts":[1],"RestartCount":"2","State":{"Pid":"x","Running":true}}'
    )
    assert inspected.extra == {"Id": 7, "Args": "x", "Mounts": [1], "RestartCount": "2"}
    assert inspected.id == ""
    assert inspected.args is None
    assert inspected.state.running
    assert inspected.state.extra == {"Pid": "x"}


def test_NUL_nulls_everywhere_read_as_nothing() -> None:
    names = {field.encode_name: None for field in msgspec.structs.fields(ContainerInspect)}
    assert json.decode(ContainerInspect, stdlib_json.dumps(names)) == ContainerInspect()
    assert json.decode(list[ContainerSummary], "null") == []
    assert json.decode(list[ContainerSummary], "[null]") == [ContainerSummary()]
    assert json.decode(SystemVersion, "null") == SystemVersion()


def test_an_answer_of_another_kind_is_an_error_of_the_protocol() -> None:
    for text in ("{}", "1", "[1]", "x", "", "[", "[" * 100_000):
        with pytest.raises(ProtocolError):
            json.decode(list[ContainerSummary], text)


# --- requests made by the client


def test_a_request_leaves_out_what_is_at_its_default() -> None:
    request = ContainerCreateRequest(
        image="x",
        cmd=[],
        stop_timeout=0,
        healthcheck=HealthConfig(test=["NONE"]),
        host_config=HostConfig(oom_kill_disable=False, restart_policy=RestartPolicy(name="always")),
        networking_config=NetworkingConfig(endpoints_config={"bridge": EndpointSettings()}),
    )
    assert stdlib_json.loads(json.encode_request(request)) == {
        "Image": "x",
        "Cmd": [],
        "StopTimeout": 0,
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {"OomKillDisable": False, "RestartPolicy": {"Name": "always"}},
        "NetworkingConfig": {"EndpointsConfig": {"bridge": {}}},
    }
    assert json.encode_request(ExecStartConfig()) == b"{}"


def test_a_request_carries_what_was_put_into_extra() -> None:
    request = ContainerCreateRequest(image="x", host_config=HostConfig())
    assert request.host_config is not None
    request.extra["Newer"] = 1
    request.host_config.restart_policy.extra["Later"] = True
    assert stdlib_json.loads(json.encode_request(request)) == {
        "Image": "x",
        "Newer": 1,
        "HostConfig": {"RestartPolicy": {"Later": True}},
    }


def test_P8_no_html_escapes_and_text_that_is_none() -> None:
    assert json.encode({"a": "<&>"}) == b'{"a":"<&>"}'
    assert json.encode(ContainerConfig(image="a\udcff")).startswith(b'{"Hostname":"')
    assert "a�" in json.encode(["a\udcff"]).decode()
    assert json.encode(["\ud800"]) == '["�"]'.encode()


# --- anything at all

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), inner)
    ),
    max_leaves=8,
)
NAMES = sorted(
    {
        field.encode_name
        for type_ in (ContainerCreateRequest, HostConfig, PortBinding)
        for field in msgspec.structs.fields(type_)
    }
)
likely = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)
BODIES = [operation.body_type for operation in ALL if operation.body_type is not None]
ANSWERS = [operation.returns for operation in ALL if operation.returns is not None]


@given(st.sampled_from(BODIES), likely)
@settings(max_examples=120, deadline=None)
def test_any_json_is_a_body_or_a_bad_request(type_: Any, value: Any) -> None:
    try:
        decoded = json.decode_body(type_, stdlib_json.dumps(value).encode())
    except BadRequest:
        return
    assert isinstance(decoded, type_)
    assert json.decode_body(type_, json.encode(decoded)) == decoded


@given(st.sampled_from(BODIES), st.binary(max_size=30))
@settings(max_examples=80, deadline=None)
def test_any_bytes_are_a_body_or_a_bad_request(type_: Any, data: bytes) -> None:
    with contextlib.suppress(BadRequest):
        assert isinstance(json.decode_body(type_, data), type_)


@given(st.sampled_from(ANSWERS), st.dictionaries(st.sampled_from(NAMES), likely) | likely)
@settings(max_examples=120, deadline=None)
def test_no_json_object_is_too_odd_for_an_answer(type_: Any, value: Any) -> None:
    try:
        decoded = json.decode(type_, stdlib_json.dumps(value))
    except ProtocolError:
        return
    json.encode(decoded)
    json.encode_request(decoded)


@given(
    st.sampled_from([type_ for type_ in ANSWERS if isinstance(type_, type)]),
    st.dictionaries(st.text(st.characters(codec="utf-8")), plain),
)
@settings(max_examples=80, deadline=None)
def test_every_object_is_an_answer(type_: Any, value: dict[str, Any]) -> None:
    """A client's call never fails because a model is too narrow, and nothing of the answer is lost."""
    decoded = json.decode(type_, stdlib_json.dumps(value))
    known = {field.encode_name for field in msgspec.structs.fields(type_)}
    assert set(decoded.extra) >= set(value) - known
