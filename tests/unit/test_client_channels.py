"""Channels (attach, exec, websockets), waits, and what is built on them; in both colours."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from client_fake import FRAMES, MULTIPLEXED, RAW, FakeEngine, Peer, Received, chunks

import wherry
from wherry.wire.frames import encode_frame
from wherry.wire.websocket import WebSocket, accept_handshake


def test_ATT6_a_channel_half_closes_and_output_goes_on(fake: FakeEngine, docker: Any) -> None:
    def cat(peer: Peer, request: Received) -> None:
        peer.hijack(MULTIPLEXED, encode_frame(2, b"early"))
        peer.send(encode_frame(1, peer.read_all()))

    fake.routes["POST /containers/web/attach"] = cat
    with docker.containers.attach("web", stdin=True) as channel:
        assert channel.tty is False
        channel.send(b"hello ")
        channel.send(b"world")
        channel.send_eof()
        assert channel.read_all() == wherry.Output(b"hello world", b"early")
    assert fake.last().head.headers.get("upgrade") == "tcp"
    assert fake.last().query == "stream=1&stdin=1&stdout=1&stderr=1"


def test_ATT1_a_terminal_comes_raw_and_is_resized(fake: FakeEngine, docker: Any) -> None:
    def shell(peer: Peer, request: Received) -> None:
        peer.hijack(RAW, b"$ ")
        peer.send(peer.read().upper())

    fake.routes["POST /containers/tty/attach"] = shell
    fake.routes["POST /containers/tty/resize"] = (200, b"")
    with docker.containers.attach("tty", stdin=True) as channel:
        assert channel.tty is True
        channel.resize(40, 100)
        assert fake.last().query == "h=40&w=100"
        channel.send(b"ls\n")
        assert channel.read_all().stdout == b"$ LS\n"


def test_ATT1_a_stream_without_an_upgrade_is_a_channel_too(fake: FakeEngine, docker: Any) -> None:
    def attach(peer: Peer, request: Received) -> None:
        peer.hijacked = True
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n" + FRAMES)

    fake.routes["POST /containers/web/attach"] = attach
    assert docker.containers.attach("web").read_all() == wherry.Output(b"one\ntwo\n", b"err\n")


def test_WS1_a_websocket_is_a_channel_too(fake: FakeEngine, docker: Any) -> None:
    def attach(peer: Peer, request: Received) -> None:
        peer.hijacked = True
        head = "".join(f"{k}: {v}\r\n" for k, v in accept_handshake("GET", request.head.headers))
        server = WebSocket(client=False)
        server.send(b"early")
        peer.send(f"HTTP/1.1 101 Switching Protocols\r\n{head}\r\n".encode() + server.outgoing())
        got = b""
        while b"\n" not in got:
            got += b"".join(server.feed(peer.read()))
        server.send(got.upper())
        server.close()
        peer.send(server.outgoing())
        peer.read_all()

    fake.routes["GET /containers/web/attach/ws"] = attach
    with docker.containers.attach_websocket("web", stdin=True) as channel:
        channel.send(b"a" * 70000)
        channel.send(b"b\n")
        assert channel.read_all().stdout == b"early" + b"A" * 70000 + b"B\n"


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        (b"\x88\x02\x03\xe8", None),
        (b"\x88\x00", None),
        (b"\x88\x02\x03\xf3", "1011"),
        (b"\xf3\xff\xff", "no websocket"),
        (b"\x82\x7e\x01\x00torn", "without a close"),
        (b"", "without a close"),
    ],
    ids=["closed", "closed without a code", "closed by an error", "garbage", "torn", "cut"],
)
def test_WS1_only_a_close_is_the_end_of_a_websocket(
    fake: FakeEngine, docker: Any, tail: bytes, reason: str | None
) -> None:
    """The engine leaves at once: an answer to its close finds nobody, and nothing that came before it is lost."""

    def serve(peer: Peer, request: Received) -> None:
        fields = "".join(f"{name}: {value}\r\n" for name, value in accept_handshake("GET", request.head.headers))
        peer.hijacked = True
        peer.send(f"HTTP/1.1 101 X\r\n{fields}\r\n".encode())
        peer.read()
        peer.send(b"\x82\x06output" + tail)
        peer.socket.close()
        left.set()

    left = threading.Event()
    fake.routes["GET /containers/web/attach/ws"] = serve
    with docker.containers.attach_websocket("web", stdin=True) as channel:
        channel.send(b"go")
        assert left.wait(5)
        assert next(channel) == (1, b"output")
        if reason is None:
            assert list(channel) == []
        else:
            with pytest.raises(wherry.ProtocolError, match=reason):
                next(channel)


def test_something_else_than_a_websocket_is_an_error(fake: FakeEngine, docker: Any) -> None:
    fake.routes["GET /containers/web/attach/ws"] = (200, b"hello")
    with pytest.raises(wherry.ProtocolError, match="websocket"):
        docker.containers.attach_websocket("web")


def test_WAI4_a_wait_stands_before_the_start(fake: FakeEngine, docker: Any) -> None:
    started = threading.Event()

    def wait(peer: Peer, request: Received) -> None:
        peer.chunked({"Content-Type": "application/json"})
        assert started.wait(5)
        peer.chunk(b'{"StatusCode":3}\n')
        peer.chunk(b"")

    def start(peer: Peer, request: Received) -> None:
        started.set()
        peer.reply(204)

    fake.routes["POST /containers/web/wait"] = wait
    fake.routes["POST /containers/web/start"] = start
    waiting = docker.containers.begin_wait("web", condition="next-exit")
    assert fake.last().query == "condition=next-exit"
    docker.containers.start("web")
    assert waiting.result().status_code == 3
    assert docker.containers.wait("web").status_code == 3


class Job:
    """A container on the fake engine: it upper-cases its stdin, or sleeps until it is removed."""

    def __init__(self, fake: FakeEngine, *, sleeps: bool = False, start: tuple[int, Any] = (204, b"")) -> None:
        self.steps: list[str] = []
        self.ended = threading.Event()
        self.sleeps = sleeps
        fake.routes |= {
            "POST /containers/create": self.note("create", lambda p, r: p.reply(201, {"Id": "job", "Warnings": []})),
            "POST /containers/job/attach": self.note("attach", self.attach),
            "POST /containers/job/wait": self.note("wait", self.wait),
            "POST /containers/job/start": self.note("start", lambda p, r: p.reply(*start)),
            "POST /containers/job/kill": self.note("kill", self.end),
            "DELETE /containers/job": self.note("delete", self.end),
        }

    def note(self, name: str, handler: Any) -> Any:
        def noted(peer: Peer, request: Received) -> None:
            self.steps.append(name)
            handler(peer, request)

        return noted

    def attach(self, peer: Peer, request: Received) -> None:
        peer.hijack(MULTIPLEXED)
        if self.sleeps:
            self.ended.wait(5)
            return
        data = peer.read_all() if "stdin=1" in request.query else b"output"
        for at in range(0, len(data), 10000):
            peer.send(encode_frame(1, data[at : at + 10000].upper()))
        peer.send(encode_frame(2, b"done\n"))
        self.ended.set()

    def wait(self, peer: Peer, request: Received) -> None:
        peer.chunked()
        self.ended.wait(5)
        peer.chunk(b'{"StatusCode":3}\n')
        peer.chunk(b"")

    def end(self, peer: Peer, request: Received) -> None:
        self.ended.set()
        peer.reply(204)


def test_run_is_create_attach_wait_start_remove(fake: FakeEngine, docker: Any) -> None:
    job = Job(fake)
    result = docker.containers.run("busybox", "tr a-z A-Z", input=b"x" * 1_000_000, env={"A": "1"}, name="n")
    assert result == wherry.RunResult("job", 3, b"X" * 1_000_000, b"done\n")
    assert job.steps == ["create", "attach", "wait", "start", "delete"]
    body = next(request for request in fake.received if request.path.endswith("/create")).json
    assert (body["OpenStdin"], body["StdinOnce"], body["Env"]) == (True, True, ["A=1"])
    assert fake.last().query == "v=1&force=1"
    assert docker.containers.run("busybox", remove=False).text == "OUTPUT"
    assert job.steps[5:] == ["create", "attach", "wait", "start"]


def test_run_leaves_removing_to_an_engine_that_was_asked_to(fake: FakeEngine, docker: Any) -> None:
    job = Job(fake)
    docker.containers.run("busybox", auto_remove=True)
    assert job.steps == ["create", "attach", "wait", "start"]
    assert "condition=removed" in {request.query for request in fake.received}


def test_run_removes_what_could_not_be_started(fake: FakeEngine, docker: Any) -> None:
    job = Job(fake, start=(400, {"message": 'exec: "nope": executable file not found in $PATH'}))
    with pytest.raises(wherry.BadRequest, match="executable file not found"):
        docker.containers.run("busybox", "nope")
    assert job.steps[-1] == "delete"


@pytest.mark.parametrize(("remove", "last"), [(True, "delete"), (False, "kill")])
def test_run_ends_what_takes_too_long(fake: FakeEngine, docker: Any, remove: bool, last: str) -> None:
    job = Job(fake, sleeps=True)
    began = time.monotonic()
    with pytest.raises(wherry.Timeout, match=r"did not end within 0\.2 s"):
        docker.containers.run("busybox", "sleep 60", timeout=0.2, remove=remove)
    assert time.monotonic() - began < 3
    assert job.steps[-1] == last


def test_run_with_a_process_that_does_not_read_its_stdin(fake: FakeEngine, docker: Any) -> None:
    Job(fake)

    def attach(peer: Peer, request: Received) -> None:
        peer.hijack(MULTIPLEXED, encode_frame(1, b"no thanks"))

    fake.routes["POST /containers/job/attach"] = attach
    fake.routes["POST /containers/job/wait"] = chunks(None, b'{"StatusCode":0}')
    result = docker.containers.run("busybox", "true", input=bytes(8 << 20))
    assert (result.stdout, result.exit_code) == (b"no thanks", 0)


def test_EXE6_exec_runs_to_its_exit_code(fake: FakeEngine, docker: Any) -> None:
    looks = iter([{"ID": "e", "Running": True, "ExitCode": None}, {"ID": "e", "Running": False, "ExitCode": 7}])

    def start(peer: Peer, request: Received) -> None:
        assert request.json == {}
        peer.hijack(MULTIPLEXED)
        peer.send(encode_frame(1, peer.read_all()))

    fake.routes |= {
        "POST /containers/web/exec": (201, {"Id": "e"}),
        "POST /exec/e/start": start,
        "GET /exec/e/json": lambda peer, request: peer.reply(200, next(looks)),
    }
    result = docker.exec.run("web", ["cat"], input=b"hi", user="nobody")
    assert result == wherry.ExecResult("e", 7, b"hi", b"")
    create = next(request for request in fake.received if request.path.endswith("/web/exec"))
    assert create.json == {
        "Cmd": ["cat"],
        "User": "nobody",
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
    }


def test_EXE4_an_execs_terminal_is_known_without_asking(fake: FakeEngine, docker: Any) -> None:
    def start(peer: Peer, request: Received) -> None:
        assert request.json == {"Tty": True, "ConsoleSize": [40, 100]}
        peer.hijack(RAW, b"# ")

    fake.routes["POST /exec/e/start"] = start
    fake.routes["POST /exec/e/resize"] = (200, b"")
    with docker.exec.start("e", tty=True, console_size=(40, 100)) as channel:
        assert channel.read_all().stdout == b"# "
        channel.resize(1, 2)
    assert fake.last().path.endswith("/exec/e/resize")
    fake.routes["POST /exec/e/start"] = (200, b"")
    assert docker.exec.start_detached("e") is None
    assert fake.last().json == {"Detach": True}


def test_sending_and_reading_go_on_at_the_same_time(fake: FakeEngine) -> None:
    """More each way than any buffer holds: a client that did one after the other would stand still."""

    def echo(peer: Peer, request: Received) -> None:
        peer.hijack(MULTIPLEXED)
        while data := peer.read():
            peer.send(encode_frame(1, data))

    fake.routes["POST /containers/web/attach"] = echo
    data = bytes(range(256)) * (16 << 12)
    with wherry.connect(fake.url) as docker, docker.containers.attach("web", stdin=True) as channel:

        def feed() -> None:
            channel.send(data)
            channel.send_eof()

        thread = threading.Thread(target=feed)
        thread.start()
        assert channel.read_all().stdout == data
        thread.join()


def test_a_stream_has_one_reader_at_a_time(fake: FakeEngine) -> None:
    import anyio

    def silent(peer: Peer, request: Received) -> None:
        peer.hijack(MULTIPLEXED)
        peer.read_all()

    fake.routes["POST /containers/web/attach"] = silent

    async def main() -> None:
        async with (
            wherry.connect_async(fake.url) as docker,
            await docker.containers.attach("web") as channel,
            anyio.create_task_group() as group,
        ):
            group.start_soon(channel.read_all)
            await anyio.sleep(0.05)
            with pytest.raises(wherry.WherryError, match="another task"):
                await channel.read_all()
            group.cancel_scope.cancel()

    anyio.run(main)


@pytest.mark.parametrize("way", ["close", "abort"])
def test_closing_a_channel_ends_its_reader(fake: FakeEngine, docker: Any, way: str) -> None:
    def silent(peer: Peer, request: Received) -> None:
        peer.hijack(MULTIPLEXED)
        peer.read_all()

    fake.routes["POST /containers/web/attach"] = silent
    channel = docker.containers.attach("web")
    timer = threading.Timer(0.1, getattr(channel, way))
    timer.start()
    with pytest.raises(wherry.ProtocolError, match="closed"):
        channel.read_all()
    timer.join()
    channel.close()


def test_a_client_serves_one_event_loop_after_another(fake: FakeEngine) -> None:
    import anyio

    client = wherry.connect_async(fake.url)

    async def main() -> None:
        assert (await client.containers.inspect("web")).id == "abc"
        assert (await client.containers.inspect("web")).id == "abc"

    for _ in range(3):
        anyio.run(main)
    anyio.run(client.close)
    assert fake.connections == 1
