"""The models against recorded answers of moby 24.0.9, and the rules that the field declarations follow."""

from __future__ import annotations

import json as stdlib_json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from wherry.api import json
from wherry.api.models import containers, stats, system
from wherry.api.models.common import wire_name
from wherry.api.models.containers import ContainerConfig, ContainerInspect, ContainerState, HostConfig, Mount
from wherry.api.models.events import EventMessage
from wherry.api.models.images import ProgressMessage

REFERENCE = Path(os.environ.get("WHERRY_REFERENCE") or Path(__file__).parents[3] / "shared" / "reference")

RECORDED = [
    ("inspect", containers.ContainerInspect),
    ("list", list[containers.ContainerSummary]),
    ("stats", stats.ContainerStatsResponse),
    ("info", system.SystemInfo),
    ("version", system.SystemVersion),
]


@pytest.mark.parametrize(("name", "type_"), RECORDED)
def test_NUL_recorded_answers_come_out_as_they_went_in(name: str, type_: Any) -> None:
    recorded = (REFERENCE / f"{name}-24.0.9.json").read_bytes()
    fitting = msgspec.json.decode(recorded, type=type_)  # no slow way needed
    assert json.decode(type_, recorded) == fitting
    assert stdlib_json.loads(json.encode(fitting)) == stdlib_json.loads(recorded)


@pytest.mark.parametrize(("name", "type_"), RECORDED)
def test_recorded_answers_come_out_of_the_slow_way_too(name: str, type_: Any) -> None:
    recorded = stdlib_json.loads((REFERENCE / f"{name}-24.0.9.json").read_bytes())
    changed = [{**item, "Newer": 1} for item in recorded] if isinstance(recorded, list) else {**recorded, "Newer": 1}
    slow = json.decode(type_, stdlib_json.dumps(changed))
    assert stdlib_json.loads(json.encode(slow)) == recorded
    assert (slow[0] if isinstance(slow, list) else slow).extra == {"Newer": 1}


def test_a_request_of_the_docker_command_fits_as_it_is() -> None:
    """Recorded from docker 28: nothing in it needs the slow way, and it comes out as it went in."""
    recorded = (Path(__file__).parent / "data" / "create-docker-cli-28.json").read_bytes()
    request = msgspec.json.decode(recorded, type=containers.ContainerCreateRequest)
    shown = stdlib_json.loads(json.encode(request))
    assert shown["HostConfig"].pop("Runtime") == ""  # moby 24 shows it, docker 28 leaves it out
    assert shown == stdlib_json.loads(recorded)
    sent = json.decode_body(containers.ContainerCreateRequest, json.encode_request(request))
    assert json.encode_request(sent) == json.encode_request(request)


def test_INS2_keys_that_moby_leaves_out_are_left_out() -> None:
    state = stdlib_json.loads(json.encode(ContainerState()))
    assert "Health" not in state
    inspected = stdlib_json.loads(json.encode(ContainerInspect()))
    assert "SizeRw" not in inspected
    assert "SizeRootFs" not in inspected
    config = stdlib_json.loads(json.encode(ContainerConfig()))
    assert not {"Healthcheck", "StopSignal", "StopTimeout", "MacAddress", "Shell"} & set(config)
    assert config["Entrypoint"] is None
    host = stdlib_json.loads(json.encode(HostConfig()))
    assert not {"Mounts", "Init", "Annotations", "Tmpfs", "Sysctls", "StorageOpt"} & set(host)
    assert host["PidsLimit"] is None
    assert host["ConsoleSize"] == [0, 0]


def test_NUL_a_mount_is_shown_as_it_was_given() -> None:
    given = {"Type": "bind", "Source": "/a", "Target": "/b"}
    mount = json.decode(Mount, stdlib_json.dumps(given))
    assert stdlib_json.loads(json.encode(mount)) == given


def test_WAI2_no_error_key_without_an_error() -> None:
    assert json.encode(containers.ContainerWaitResponse(status_code=3)) == b'{"StatusCode":3}'


def test_CRE1_warnings_are_a_list() -> None:
    assert json.encode(containers.ContainerCreateResponse(id="a")) == b'{"Id":"a","Warnings":[]}'


def test_EVT1_events_have_lower_case_keys_beside_the_others() -> None:
    event = EventMessage(
        status="die", id="x", from_="busybox", type="container", action="die", scope="local", time=1, time_nano=2
    )
    assert set(stdlib_json.loads(json.encode(event))) == {
        *("status", "id", "from", "Type", "Action", "Actor", "scope", "time", "timeNano")
    }


def test_progress_messages_hold_what_is_set() -> None:
    assert json.encode(ProgressMessage(stream="Loaded image: a:b\n")) == b'{"stream":"Loaded image: a:b\\n"}'
    assert json.encode(ProgressMessage(aux={"ID": "x"})) == b'{"aux":{"ID":"x"}}'


@pytest.mark.parametrize(
    ("name", "wire"),
    [
        ("id", "Id"),
        ("network_id", "NetworkID"),
        ("exec_ids", "ExecIDs"),
        ("cpu_shares", "CpuShares"),
        ("uts_mode", "UTSMode"),
        ("blkio_device_read_iops", "BlkioDeviceReadIOps"),
        ("io_maximum_iops", "IOMaximumIOps"),
        ("global_ipv6_address", "GlobalIPv6Address"),
        ("working_dir", "WorkingDir"),
    ],
)
def test_wire_names(name: str, wire: str) -> None:
    assert wire_name(name) == wire


def test_the_contract_is_light_to_import() -> None:
    """No I/O, no server, no client comes with it."""
    code = "import sys, wherry.api.operations.catalog, wherry.api.json; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"asyncio", "ssl", "socket", "http", "email", "sqlite3", "anyio", "websockets", "httptools", "subprocess"}
    assert not heavy & set(loaded)
    assert not [name for name in loaded if name.startswith("wherry.") and not name.startswith("wherry.api")]
