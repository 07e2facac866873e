"""The streaming operations through the engine: websocket attach, archives, export, logs and statistics."""

from __future__ import annotations

import base64
import io
import json
import os
import struct
import tarfile
import time
from typing import Any

import pytest

from tests.faults.machine import CrashEngine
from tests.support.engines import Engine
from tests.support.http import PATIENCE, Exchange, eventually

TRAPPED = ("sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 3600 & wait $!; done")


def websocket(engine: Engine, target: str, prefix: str | None = None) -> Exchange:
    fields = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    fields["Sec-WebSocket-Key"] = base64.b64encode(os.urandom(16)).decode()
    return engine.http.open("GET", target, headers=fields, prefix=prefix)


def masked(payload: bytes) -> bytes:
    """A client's binary frame."""
    mask = os.urandom(4)
    return b"\x82" + bytes([0x80 | len(payload)]) + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))


def frames(exchange: Exchange) -> list[tuple[int, bytes]]:
    """Opcode and payload of all of the engine's frames until it closes."""
    data = b""
    while piece := exchange.recv():
        data += piece
    found = []
    while data:
        length, start = data[1], 2
        if length == 126:
            length, start = struct.unpack(">H", data[2:4])[0], 4
        found.append((data[0] & 0xF, data[start : start + length]))
        data = data[start + length :]
    return found


def test_WS1_refusals(verbs: CrashEngine) -> None:
    container = verbs.create("true")
    answer = verbs.http.get(f"/containers/{container}/attach/ws?stream=1&stdout=1")
    assert (answer.status, "not websocket protocol" in answer.message) == (400, True)
    with websocket(verbs, "/containers/nope/attach/ws?stream=1") as refused:
        assert (refused.status, json.loads(refused.read())) == (404, {"message": "No such container: nope"})


def test_WS1_raw_binary_frames_and_a_proper_end(verbs: CrashEngine) -> None:
    container = verbs.create("sh", "-c", "read x; echo out-$x; echo err >&2", OpenStdin=True, StdinOnce=True)
    with websocket(verbs, f"/containers/{container}/attach/ws?stream=1&stdin=1&stdout=1&stderr=1") as attached:
        assert attached.status == 101
        verbs.start(container)
        attached.send(masked(b"word\n"))
        seen = frames(attached)
    assert seen[-1] == (8, b"\x03\xe8")
    assert {opcode for opcode, _ in seen[:-1]} == {2}
    assert sorted(b"".join(data for _, data in seen[:-1]).split()) == [b"err", b"out-word"]


@pytest.mark.parametrize(("version", "expected"), [("/v1.43", b"out\n"), ("/v1.41", b"out\nerr\n")])
def test_WS1_chosen_streams_count_from_1_42_on(verbs: CrashEngine, version: str, expected: bytes) -> None:
    container = verbs.create("sh", "-c", "echo out; sleep 0.05; echo err >&2")
    with websocket(verbs, f"/containers/{container}/attach/ws?stream=1&stdout=1", version) as attached:
        verbs.start(container)
        assert b"".join(data for opcode, data in frames(attached) if opcode == 2) == expected


def members(body: bytes) -> dict[str, bytes | None]:
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        return {m.name: (f.read() if m.isfile() and (f := archive.extractfile(m)) else None) for m in archive}


def one_file(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def put(engine: Engine, container: str, path: str, body: bytes) -> Any:
    return engine.http.put(
        f"/containers/{container}/archive?path={path}", body=body, headers={"Content-Type": "application/x-tar"}
    )


def test_ARC5_ARC10_what_the_container_sees(verbs: CrashEngine) -> None:
    """Volumes, running and stopped; a tmpfs as long as there is one."""
    host = {"Tmpfs": {"/fast": ""}, "Binds": ["arcvolume:/data"]}
    container = verbs.run(*TRAPPED, HostConfig=host)
    for path in ("/data", "/fast", "/tmp"):
        assert put(verbs, container, path, one_file("x", path.encode())).status == 200
        assert verbs.exec(container, "cat", f"{path}/x")[:2] == (0, path.encode())
        answer = verbs.http.get(f"/containers/{container}/archive?path={path}/x")
        assert members(answer.body) == {"x": path.encode()}
    assert verbs.http.post(f"/containers/{container}/kill").status == 204
    assert members(verbs.http.get(f"/containers/{container}/archive?path=/data/x").body) == {"x": b"/data"}
    assert verbs.http.get(f"/containers/{container}/archive?path=/fast/x").status == 404
    assert put(verbs, container, "/data", one_file("y", b"stopped")).status == 200
    verbs.start(container)
    assert verbs.exec(container, "cat", "/data/y")[1] == b"stopped"
    assert verbs.http.delete(f"/containers/{container}?force=1").status == 204
    assert verbs.http.delete("/volumes/arcvolume").status == 204


def test_ARC11_a_slow_copy_blocks_nobody(verbs: CrashEngine) -> None:
    container = verbs.run("sh", "-c", "dd if=/dev/zero of=/big bs=1M count=16 2>/dev/null; echo ready; exec sleep 60")
    eventually(lambda: b"ready" in verbs.logs(container)[0])
    with verbs.http.open("GET", f"/containers/{container}/archive?path=/big") as copy:
        assert copy.status == 200
        started = time.monotonic()
        assert verbs.http.post(f"/containers/{container}/kill").status == 204
        verbs.start(container)
        assert verbs.http.delete(f"/containers/{container}?force=1").status == 204
        assert time.monotonic() - started < 3 * PATIENCE
        size = sum(map(len, copy.chunks()))
    assert size >= 16 << 20, "what was begun is brought to its end"


def test_EXP1_export(verbs: CrashEngine) -> None:
    container = verbs.run("sh", "-c", "echo mine > /tmp/mine; touch /vol/hidden", Volumes={"/vol": {}})
    assert verbs.wait(container) == 0
    answer = verbs.http.get(f"/containers/{container}/export")
    assert (answer.status, answer.headers.get("content-type")) == (200, None)
    names = members(answer.body)
    assert names["tmp/mine"] == b"mine\n"
    assert {".dockerenv", "proc", "sys", "dev", "vol"} <= set(names)
    assert "vol/hidden" not in names
    assert not [name for name in names if name.startswith("/")]
    assert verbs.http.get("/containers/nope/export").status == 404


def test_STT3_STT7_stopped_and_removed(verbs: CrashEngine) -> None:
    container = verbs.create("true", name="still")
    seen = verbs.http.get(f"/containers/{container}/stats?stream=0").json
    assert (seen["name"], seen["id"], seen["read"]) == ("/still", container, "0001-01-01T00:00:00Z")
    with verbs.http.open("GET", f"/containers/{container}/stats") as stream:
        values = stream.json_values()
        assert [next(values)["name"] for _ in range(2)] == ["/still", "/still"]
        assert verbs.http.delete(f"/containers/{container}").status == 204
        stream.sock.settimeout(5)
        assert {value["name"] for value in values} <= {"/still"}, "and then it ends"


def test_LOG7_follow_ends_at_the_exit_and_not_at_the_restart(verbs: CrashEngine) -> None:
    policy = {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}}
    container = verbs.create("sh", "-c", "echo run; sleep 0.2; exit 1", HostConfig=policy)
    verbs.start(container)
    with verbs.open_logs(container, follow=1) as logs:
        assert [data for _, data in logs.frames()] == [b"run\n"]
    eventually(lambda: verbs.status(container) == "exited")
    assert verbs.logs(container)[0] == b"run\n" * 3


def test_WAI1_headers_before_the_end_and_WAI2(verbs: CrashEngine) -> None:
    container = verbs.run(*TRAPPED)
    answer = verbs.http.post(f"/containers/{container}/wait?condition=bogus")
    assert (answer.status, answer.message) == (400, 'invalid condition: "bogus"')
    with verbs.http.open("POST", f"/containers/{container}/wait") as waiting:
        assert (waiting.status, waiting.chunked, waiting.headers["content-type"]) == (200, True, "application/json")
        assert verbs.http.post(f"/containers/{container}/kill").status == 204
        assert waiting.read() == b'{"StatusCode":137}\n'


@pytest.mark.parametrize("query", [{}, {"logs": 1}, {"stdout": 0, "stderr": 0}], ids=["live", "logs", "stdin"])
@pytest.mark.parametrize("ended", [False, True])
def test_ATT10_an_attach_ends_with_the_container(verbs: CrashEngine, query: dict[str, int], ended: bool) -> None:
    """One that waits for a run that will never be."""
    container = verbs.create("true", OpenStdin=True)
    if ended:
        verbs.start(container)
        verbs.wait(container)
    with verbs.attach(container, **query) as attached:
        attached.send(b"for nobody")
        assert verbs.http.delete(f"/containers/{container}").status == 204
        assert attached.read() == b""
