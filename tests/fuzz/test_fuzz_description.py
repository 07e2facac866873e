"""Every operation of the published description, called with what schemathesis draws from it, on an engine apart.

Three examples of each by default; ``make fuzz-api`` (WHERRY_FUZZ_API=200) has more. No answer may be a 500 but those that
moby gives by intent, none may be missing, and in the end nothing may be left.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import re
import socket
import tarfile
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from requests import Request

from tests.fuzz.description import FILTERS, full_body
from tests.fuzz.machine import ApartEngine, apart_engine
from tests.fuzz.support import TEXTS
from tests.support.description import DESCRIPTION, description
from tests.support.http import eventually

EXAMPLES = int(os.environ.get("WHERRY_FUZZ_API", "3"))
SEED = int(os.environ.get("WHERRY_SEED", "1"))
ANSWER_SECONDS = 60.0
"""No answer may take longer; some calls wait for ten seconds for a process that does not end."""

pytestmark = pytest.mark.skipif(not DESCRIPTION.exists(), reason=f"the description is not at {DESCRIPTION}")

INTENDED = [
    # operations, text of the message, rule
    ("ContainerCreate", r"invalid mode: |invalid volume specification: ", "CRE21"),
    ("ContainerList", r"invalid (publish|expose|filter)|[Pp]ort|proto|range|should not contain ':'", "LST7"),
    ("ContainerStart|ContainerRestart", r"OCI runtime|crun|unable to find user", "STA3, CRE16: what is found only then"),
    ("ContainerStop|ContainerRestart", r"cannot (stop|restart) container", "STP3"),
    ("ContainerUnpause", r"is not paused", "PAU1"),
    ("ContainerDelete", r"Conflict, cannot remove the default link name of the container", "DEL5"),
    ("ContainerLogs", r"strconv\.ParseInt: ", "LOG6"),
    ("ContainerTop", r"ps:|PID|is not allowed", "TOP1, TOP2"),
    ("ContainerUpdate", r"Cannot update container|is marked for removal", "UPD1, UPD3"),
    ("ContainerArchive(Info)?|PutContainerArchive",
     r"not a directory|read-only|unexpected EOF|outside|cannot overwrite|archive", "ARC3 to ARC8"),
    ("ExecResize|ContainerResize", r"not running|no tty", "RES1"),
    ("ExecStart", r"OCI runtime exec failed", "EXE2"),
    ("ExecStart", r"unable to find user", "STA3, of a detached exec"),
    ("NetworkDisconnect", r"is not connected to (the )?network", "as moby"),
    ("ImageBuild", r"Cannot locate specified Dockerfile|Error processing tar file|dockerfile", "as moby"),
    ("ImageCreate", r"archive/tar|unexpected EOF|invalid|not a tar|is outside of|cannot replace the directory", "ARC6, ARC7"),
    ("ImageCreate", r"^/.*: (no such file|not a directory|file name too long)", "ARC6: the tree cannot hold it"),
    ("Image(Create|Push|Search)|SystemAuth|DistributionInspect", r"name resolution|lookup|dial|connect|reachable", "no network"),
]  # fmt: skip

STREAMS = {
    "ContainerLogs",
    "ContainerAttach",
    "ContainerAttachWebsocket",
    "ContainerStats",
    "ContainerWait",
    "SystemEvents",
    "ExecStart",
}
"""They may have no end: a little is read."""

KEPT = {
    "running": {"Cmd": ["sh", "-c", "trap 'exit 0' TERM; while :; do echo; sleep 1; done"]},
    "paused": {"Cmd": ["sleep", "1000"], "StopTimeout": 1},
    "stopped": {"Cmd": ["true"]},
    "created": {"Cmd": ["true"]},
}


class Bench:
    """The engine with some containers, a network, a volume and an exec, made anew when a call took one away."""

    def __init__(self, engine: ApartEngine) -> None:
        self.engine = engine
        self.exec = ""
        self.restore()

    def restore(self) -> None:
        engine = self.engine
        states = {c["Names"][0][1:]: c["State"] for c in engine.http.get("/containers/json", query={"all": 1}).json}
        for extra in set(states) - set(KEPT):
            if len(states) > 12 or states[extra] != "created":
                engine.http.delete(f"/containers/{quote(extra)}", query={"force": 1, "v": 1})
        if not any("busybox:latest" in (image["RepoTags"] or []) for image in engine.http.get("/images/json").json):
            from scripts.make_images import busybox_archive

            engine.load(busybox_archive())
        for name, body in KEPT.items():
            state = states.get(name)
            if state == {"running": "running", "paused": "paused", "stopped": "exited", "created": "created"}[name]:
                continue
            engine.http.delete(f"/containers/{name}", query={"force": 1, "v": 1})
            engine.create(name=name, **body, HostConfig={"NetworkMode": "none"})
            if name != "created":
                engine.start(name)
            if name == "paused":
                assert engine.http.post("/containers/paused/pause").status == 204
            if name == "stopped":
                engine.wait(name)
        if engine.http.get("/networks/net").status != 200:
            engine.http.post("/networks/create", json={"Name": "net"})
        if engine.http.get("/volumes/vol").status != 200:
            engine.http.post("/volumes/create", json={"Name": "vol"})
        if not self.exec or engine.http.get(f"/exec/{self.exec}/json").status != 200:
            made = engine.http.post("/containers/running/exec", json={"Cmd": ["true"], "AttachStdout": True})
            self.exec = made.json["Id"]

    def names(self, path: str) -> list[str]:
        """What may stand for the parameter of a path."""
        kind = path.split("/")[1]
        known = {
            "containers": list(KEPT),
            "exec": [self.exec],
            "images": ["busybox", "busybox:latest"],
            "networks": ["net", "bridge", "none"],
            "volumes": ["vol"],
        }
        return known.get(kind, ["x"])


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with apart_engine() as engine:
        yield Bench(engine)


def operations() -> list[Any]:
    if not DESCRIPTION.exists():
        return []
    schema = schemathesis.openapi.from_dict(description())
    return [result.ok() for result in schema.get_all_operations()]


def identity(operation: Any) -> str:
    return str(operation.definition.raw.get("operationId", operation.label))


# -- what would touch the machine is taken out

HOST_FIELDS = {
    "Binds", "Mounts", "Privileged", "PidMode", "IpcMode", "UTSMode", "UsernsMode", "CgroupnsMode", "Cgroup", "CgroupParent",
    "Devices", "DeviceRequests", "DeviceCgroupRules", "DriverOpts", "Remote", "BlkioWeightDevice", "BlkioDeviceReadBps",
    "BlkioDeviceWriteBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps", "StopTimeout", "RestartPolicy",
}  # fmt: skip


def harmless(value: Any) -> Any:
    if isinstance(value, list):
        return [harmless(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: harmless(item) for key, item in value.items() if key not in HOST_FIELDS}
    if kept.get("NetworkMode") == "host":
        kept["NetworkMode"] = "none"
    return kept


def request(draw: st.DrawFn, bench: Bench, operation: Any, case: Any) -> bytes | None:
    """The bytes of a call; None where the case cannot be put into a request."""
    try:
        prepared = Request(**_keywords(case)).prepare()
    except (ValueError, UnicodeError):
        return None
    target = prepared.path_url
    path = operation.path
    if "{" in path and draw(st.integers(0, 9)):
        parameter = draw(st.sampled_from(bench.names(path)))
        _, question, query = target.partition("?")
        target = re.sub(r"\{[^}]*\}", lambda _: quote(parameter, safe=""), operation.full_path) + question + query
    target = _query(draw, operation, target)
    body = prepared.body or b""
    if isinstance(body, str):
        body = body.encode("utf-8", "surrogatepass")
    parameter = next((p for p in operation.definition.raw.get("parameters", []) if p.get("in") == "body"), None)
    media = prepared.headers.get("Content-Type", "")
    if (
        parameter is not None
        and parameter["schema"].get("type") != "string"
        and "$ref" not in str(parameter["schema"].get("format"))
    ):
        media = media if media and draw(st.integers(0, 9)) == 0 else "application/json"
        value = full_body(draw, parameter["schema"]) if draw(st.booleans()) else _decoded(body)
        if isinstance(value, dict) and operation.path == "/containers/create" and draw(st.integers(0, 9)):
            value["Image"] = "busybox"
        value = harmless(value)
        text = json.dumps(value, ensure_ascii=draw(st.booleans()))
        body = text.encode("utf-8", "surrogatepass" if draw(st.booleans()) else "replace")
    elif parameter is not None and draw(st.integers(0, 4)):
        body, media = draw(archives()), "application/x-tar"
    lines = [f"{operation.method.upper()} {target} HTTP/1.1", "Host: docker", "Connection: close"]
    if body or operation.method.upper() in ("POST", "PUT"):
        lines.append(f"Content-Length: {len(body)}")
    if media:
        lines.append(f"Content-Type: {media}")
    for name, value in prepared.headers.items():
        if name.lower().startswith("x-"):
            lines.append(f"{name}: {value}")
    try:
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
    except UnicodeError:
        return None


def _keywords(case: Any) -> dict[str, Any]:
    given_ = case.as_transport_kwargs(base_url="http://docker")
    return {
        key: value for key, value in given_.items() if key in ("method", "url", "headers", "params", "data", "json")
    }


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return {}


def _query(draw: st.DrawFn, operation: Any, target: str) -> str:
    """Filters are mostly filters; nothing waits for long, and nothing is fetched."""
    path, _, raw = target.partition("?")
    pairs = dict(parse_qsl(raw, keep_blank_values=True, errors="surrogateescape"))
    known = {
        parameter.get("name")
        for parameter in operation.definition.raw.get("parameters", [])
        if parameter.get("in") == "query"
    }
    if "filters" in known and draw(st.integers(0, 3)):
        pairs["filters"] = draw(FILTERS)
    if "t" in pairs or "t" in known:
        pairs["t"] = draw(st.sampled_from(["0", "1"])) if draw(st.integers(0, 5)) else "x"
    if "until" in known:
        pairs["until"] = draw(st.sampled_from(["1", "0.5", "", "x", "9" * 30]))
    return f"{path}?{urlencode(pairs, errors='surrogateescape')}" if pairs else path


@schemathesis.serializer("application/x-tar")
def _as_it_is(ctx: object, value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


NAMES = TEXTS.filter(lambda name: "\0" not in name) | st.sampled_from(
    [
        "a",
        "../a",
        "/a",
        "a/../../b",
        "link",
        "link/a",
        "manifest.json",
        "repositories",
        "layer.tar",
        "a" * 300,
        ".wh.a",
        ".",
    ]
)


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    """A tar archive with odd entries, and perhaps broken at a place."""
    out = io.BytesIO()
    with tarfile.open(
        fileobj=out, mode="w", format=draw(st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
    ) as tar:
        for _ in range(draw(st.integers(0, 4))):
            entry = tarfile.TarInfo(draw(NAMES))
            entry.type = draw(st.sampled_from([b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"S", b"x"]))
            entry.linkname = draw(NAMES)
            entry.mode = draw(st.integers(0, 0o7777))
            entry.uid = draw(st.sampled_from([0, 1234, 2**21]))
            data = draw(st.binary(max_size=20) | st.just(b"[]") | st.just(b'[{"Config":"a","Layers":["layer.tar"]}]'))
            entry.size = len(data)
            with contextlib.suppress(ValueError, UnicodeError):
                tar.addfile(entry, io.BytesIO(data))
    data = out.getvalue()
    at = draw(st.integers(0, len(data)))
    return draw(
        st.sampled_from([data, data, data[:at], data[:at] + b"\xff" + data[at + 1 :], gzip.compress(data)[: 20 + at]])
    )


# -- the call, and what may come of it


class Reply:
    def __init__(self, status: int, head: str, body: bytes) -> None:
        self.status, self.head, self.body = status, head, body


def call(engine: ApartEngine, data: bytes, *, endless: bool) -> Reply:
    """Send and read; a stream without an end is left after a moment. Raises ``TimeoutError`` where no answer comes."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(ANSWER_SECONDS)
        sock.connect(engine.socket_path)
        try:
            sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        seen = b""
        while b"\r\n\r\n" not in seen:
            piece = sock.recv(65536)
            if not piece:
                raise AssertionError(f"closed without an answer: {seen!r}")
            seen += piece
        head, _, body = seen.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        if endless and status < 300:
            sock.settimeout(0.02)
        try:
            while piece := sock.recv(65536):
                if len(body) < 1 << 20:
                    body += piece
                if endless and status < 300:
                    break
        except TimeoutError:
            if not (endless and status < 300):
                raise
        return Reply(status, head.decode("latin-1"), body)


def complaint(name: str, reply: Reply) -> str | None:
    """What is wrong with an answer."""
    if reply.status < 400:
        return None
    text = reply.body.decode("utf-8", "replace")
    message = text
    if name != "ContainerAttach" or reply.body.startswith(b"{"):
        if "chunked" not in reply.head.lower():
            try:
                message = json.loads(reply.body)["message"]
            except (ValueError, KeyError, TypeError):
                return f"{reply.status} without a message: {text[:300]}" if "HEAD" not in name and reply.body else None
        if not message:
            return f"{reply.status} with an empty message"
    if reply.status == 500 and not any(
        re.fullmatch(names, name) and re.search(texts, message) for names, texts, _ in INTENDED
    ):
        return f"500 {message[:300]}"
    return None


FOLLOWED = ("ContainerCreate", "ContainerExec", "NetworkCreate")


def follow_up(bench: Bench, name: str, id: str) -> str | None:
    """What was made is looked at from all sides: nothing odd in it may break what comes after."""
    steps = {
        "ContainerCreate": [
            ("ContainerInspect", "GET", f"/containers/{id}/json", None),
            ("ContainerStart", "POST", f"/containers/{id}/start", None),
            ("ContainerInspect", "GET", f"/containers/{id}/json", None),
            ("ContainerTop", "GET", f"/containers/{id}/top", None),
            ("ContainerLogs", "GET", f"/containers/{id}/logs?stdout=1&details=1", None),
            ("ContainerList all", "GET", "/containers/json?all=1&size=1", None),
            ("ContainerChanges", "GET", f"/containers/{id}/changes", None),
            ("ContainerDelete", "DELETE", f"/containers/{id}?force=1&v=1", None),
        ],
        "ContainerExec": [
            ("ExecStart", "POST", f"/exec/{id}/start", {"Detach": True}),
            ("ExecInspect", "GET", f"/exec/{id}/json", None),
        ],
        "NetworkCreate": [
            ("NetworkInspect", "GET", f"/networks/{id}", None),
            ("NetworkConnect", "POST", f"/networks/{id}/connect", {"Container": "running"}),
            ("ContainerInspect", "GET", "/containers/running/json", None),
            ("NetworkDelete", "DELETE", f"/networks/{id}", None),
            ("NetworkDisconnect", "POST", f"/networks/{id}/disconnect", {"Container": "running", "Force": True}),
            ("NetworkDelete", "DELETE", f"/networks/{id}", None),
        ],
    }
    for step, method, target, body in steps.get(name, []):
        sent = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} /v1.43{target} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Length: {len(sent)}\r\n"
        )
        if sent:
            head += "Content-Type: application/json\r\n"
        found = complaint(step, call(bench.engine, head.encode() + b"\r\n" + sent, endless=False))
        if found is not None:
            return f"then {step}: {found}"
    return None


@pytest.mark.timeout(max(120, EXAMPLES * 20))
@pytest.mark.parametrize("operation", operations(), ids=identity)
def test_any_call_has_a_proper_answer(bench: Bench, operation: Any) -> None:
    name = identity(operation)
    complaints: dict[str, bytes] = {}
    statuses: Counter[int] = Counter()

    @seed(SEED)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(), data=st.data())
    def examples(case: Any, data: st.DataObject) -> None:
        sent = request(data.draw, bench, operation, case)
        if sent is None:
            return
        try:
            reply = call(bench.engine, sent, endless=name in STREAMS)
            statuses[reply.status] += 1
            found = complaint(name, reply)
            if found is None and reply.status == 201 and name in FOLLOWED:
                found = follow_up(bench, name, json.loads(reply.body).get("Id", ""))
        except TimeoutError:
            found = "no answer"
        if found is not None:
            complaints.setdefault(re.sub(r"[0-9a-f]{12,}", "ID", found), sent[:2000])
        if operation.method.upper() not in ("GET", "HEAD"):
            bench.restore()

    before = len(bench.engine.log)
    examples()
    log = bench.engine.log[before:]
    print(f"{name}: {dict(sorted(statuses.items()))}")
    shown = "\n".join(f"{text}\n    {sent!r}" for text, sent in complaints.items())
    assert not complaints, shown
    assert "Task exception was never retrieved" not in log, log[-3000:]


def test_nothing_is_left(bench: Bench) -> None:
    """Everything removed, the engine holds what it held when it had just begun."""
    engine = bench.engine
    _clear(engine)
    settled = engine.descriptors()
    engine.run_to_end("true", HostConfig={"NetworkMode": "bridge"})
    _clear(engine)
    with apart_engine() as fresh:
        fresh.run_to_end("true", HostConfig={"NetworkMode": "bridge"})
        _clear(fresh)
        expected = {
            kind: [re.sub(fresh.layout.tag, "TAG", item) for item in items] for kind, items in fresh.leavings().items()
        }
        files = len(fresh.descriptors())

    def left() -> dict[str, list[str]]:
        found = {
            kind: [re.sub(engine.layout.tag, "TAG", item) for item in items]
            for kind, items in engine.leavings().items()
        }
        return {kind: items for kind, items in found.items() if items != expected.get(kind, [])}

    eventually(
        lambda: not left(), within=20, what=lambda: f"nothing left: {left()}, where a fresh engine has {expected}"
    )
    eventually(
        lambda: len(engine.descriptors()) <= files + 2, within=10, what=lambda: f"open files: {engine.descriptors()}"
    )
    assert len(settled) <= files + 4


def _clear(engine: ApartEngine) -> None:
    engine.remove_all()
    for volume in engine.http.get("/volumes").json["Volumes"] or []:
        assert engine.http.delete(f"/volumes/{quote(volume['Name'], safe='')}", query={"force": 1}).status == 204
    for network in engine.http.get("/networks").json:
        if network["Name"] not in ("bridge", "host", "none"):
            answer = engine.http.delete(f"/networks/{network['Id']}")
            assert answer.status == 204, answer
