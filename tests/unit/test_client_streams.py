"""Streams: logs, JSON values, bytes in and out, channels and what is built on them; in both colours."""

from __future__ import annotations

import io
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from client_fake import FakeEngine, Peer, Received, client_of

import wherry
from wherry.wire import pathstat
from wherry.wire.frames import encode_frame
from wherry.wire.websocket import WebSocket, accept_handshake

MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
RAW = "application/vnd.docker.raw-stream"


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeEngine]:
    fake = FakeEngine(tmp_path / "engine.sock")
    fake.routes["GET /containers/web/json"] = (200, {"Id": "web", "Config": {"Tty": False}})
    fake.routes["GET /containers/tty/json"] = (200, {"Id": "tty", "Config": {"Tty": True}})
    yield fake
    fake.close()


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def docker(fake: FakeEngine, colour: str) -> Iterator[Any]:
    with client_of(colour, fake.url) as client:
        yield client


def chunks(content_type: str | None, *pieces: bytes) -> Any:
    def handler(peer: Peer, request: Received) -> None:
        peer.chunked({"Content-Type": content_type} if content_type else None)
        for piece in pieces:
            peer.chunk(piece)
        peer.chunk(b"")

    return handler


FRAMES = encode_frame(1, b"one\n") + encode_frame(2, b"err\n") + encode_frame(1, b"two\n")


@pytest.mark.parametrize("cut", range(1, len(FRAMES), 5))
def test_LOG2_logs_come_apart_wherever_the_network_cut_them(fake: FakeEngine, docker: Any, cut: int) -> None:
    fake.routes["GET /containers/web/logs"] = chunks(MULTIPLEXED, FRAMES[:cut], FRAMES[cut:])
    streams: dict[int, bytes] = {1: b"", 2: b""}
    for stream, data in docker.containers.logs("web", tail=2, since=5):
        streams[stream] += data
    assert streams == {1: b"one\ntwo\n", 2: b"err\n"}
    assert fake.last().query == "stdout=1&stderr=1&since=5&tail=2"
    assert fake.connections == 1


@pytest.mark.parametrize("content_type", [None, RAW])
def test_without_a_type_to_be_believed_the_container_tells_how_to_read(
    fake: FakeEngine, docker: Any, content_type: str | None
) -> None:
    fake.routes["GET /containers/web/logs"] = chunks(content_type, FRAMES)
    fake.routes["GET /containers/tty/logs"] = chunks(content_type, FRAMES)
    assert docker.containers.logs("web").read_all() == wherry.Output(b"one\ntwo\n", b"err\n")
    assert docker.containers.logs("tty").read_all() == wherry.Output(FRAMES, b"")


def test_logs_cut_within_a_frame_are_an_error(fake: FakeEngine, docker: Any) -> None:
    fake.routes["GET /containers/web/logs"] = chunks(MULTIPLEXED, FRAMES[:-2])
    with pytest.raises(wherry.ProtocolError, match="frame"):
        docker.containers.logs("web").read_all()


def test_logs_whose_connection_is_cut_are_an_error(fake: FakeEngine, docker: Any) -> None:
    def cut(peer: Peer, request: Received) -> None:
        peer.chunked({"Content-Type": MULTIPLEXED})
        peer.chunk(FRAMES)
        raise ConnectionAbortedError

    fake.routes["GET /containers/web/logs"] = cut
    with pytest.raises(wherry.ProtocolError, match="in the middle"):
        docker.containers.logs("web", follow=True).read_all()


def test_the_engines_own_stream_raises_its_text(fake: FakeEngine, docker: Any) -> None:
    frames = encode_frame(1, b"one\n") + encode_frame(3, b"error from daemon in stream: gone")
    fake.routes["GET /containers/web/logs"] = chunks(MULTIPLEXED, frames)
    logs = iter(docker.containers.logs("web"))
    assert next(logs) == (1, b"one\n")
    with pytest.raises(wherry.StreamError, match="gone"):
        next(logs)


def test_leaving_a_stream_early_gives_its_connection_up(fake: FakeEngine, docker: Any) -> None:
    ended = threading.Event()

    def endless(peer: Peer, request: Received) -> None:
        peer.chunked({"Content-Type": MULTIPLEXED})
        try:
            while True:
                peer.chunk(FRAMES * 100)
        finally:
            ended.set()

    fake.routes["GET /containers/web/logs"] = endless
    with docker.containers.logs("web", follow=True) as logs:
        assert next(iter(logs))[0] == 1
    assert ended.wait(5)
    with pytest.raises(wherry.ProtocolError):
        for _ in logs:
            pass


def test_EVT1_events_are_values_as_they_come(fake: FakeEngine, docker: Any) -> None:
    first = b'{"Type":"container","Action":"start","Actor":{"ID":"abc","Attributes":{"name":"x"}},"time":1}\n'
    second = b'{"Type":"image","Action":"pull","Actor":{"ID":"i"},"Novel":1}'
    fake.routes["GET /events"] = chunks(None, first + second[:9], second[9:])
    events = list(docker.system.events(filters={"type": "container"}, until="2026-11-23T00:00:00Z"))
    assert [(event.type, event.action, event.actor.id) for event in events] == [
        ("container", "start", "abc"),
        ("image", "pull", "i"),
    ]
    assert events[1].extra == {"Novel": 1}
    assert "until=1795392000.000000000" in fake.last().query


def test_statistics_as_a_value_and_as_a_stream(fake: FakeEngine, docker: Any) -> None:
    sample = b'{"read":"2026-11-23T12:00:00Z","name":"/web","memory_stats":{"usage":7}}\n'
    fake.routes["GET /containers/web/stats"] = chunks(None, sample, sample)
    assert [stats.memory_stats.usage for stats in docker.containers.stats_stream("web")] == [7, 7]
    fake.routes["GET /containers/web/stats"] = (200, sample)
    assert docker.containers.stats("web", one_shot=True).name == "/web"
    assert fake.last().query == "stream=0&one-shot=1"


def test_an_error_inside_a_stream_is_raised(fake: FakeEngine, docker: Any) -> None:
    fake.routes["POST /images/create"] = chunks(
        None, b'{"status":"Pulling","id":"a"}\n', b'{"errorDetail":{"message":"no space"},"error":"no space"}\n'
    )
    with pytest.raises(wherry.StreamError, match="no space"):
        docker.images.pull("host:5000/a:1")
    assert fake.last().query == "fromImage=host%3A5000%2Fa&tag=1"
    progress = docker.images.create(from_image="a", tag="1")
    assert next(iter(progress)).status == "Pulling"


def test_a_stream_of_broken_json_is_a_protocol_error(fake: FakeEngine, docker: Any) -> None:
    for broken in (b'{"Type":', b"}", b'{"Type" "x"}', b"[1]"):
        fake.routes["GET /events"] = chunks(None, broken)
        with pytest.raises(wherry.ProtocolError):
            docker.system.events().read_all()


class Numbers(io.RawIOBase):
    """A file of many bytes that exist only while they are read."""

    def __init__(self, size: int) -> None:
        self.left = size

    def read(self, size: int = -1) -> bytes:
        size = min(size, self.left)
        self.left -= size
        return b"x" * size


@pytest.mark.parametrize("kind", ["bytes", "file", "iterable"])
def test_load_takes_bytes_files_and_iterables(fake: FakeEngine, docker: Any, kind: str) -> None:
    fake.routes["POST /images/load"] = chunks(
        None, b'{"stream":"Loaded image: busybox:latest\\n"}\n{"stream":"Loaded image ID: sha256:1\\n"}'
    )
    data = b"tar" * 300000
    given = {"bytes": data, "file": io.BytesIO(data), "iterable": iter([data[:5], b"", data[5:]])}[kind]
    assert docker.images.load(given) == ["busybox:latest", "sha256:1"]
    assert fake.last().body == data
    assert fake.last().head.chunked is (kind != "bytes")


def test_import_gives_the_new_images_id(fake: FakeEngine, docker: Any) -> None:
    fake.routes["POST /images/create"] = chunks(None, b'{"status":"sha256:abc"}\n')
    made = docker.images.import_(b"tar", repo="mine", tag="1", changes=['CMD ["sh"]', "ENV a=b"])
    assert made == "sha256:abc"
    assert fake.last().body == b"tar"
    assert fake.last().query == "fromSrc=-&repo=mine&tag=1&changes=CMD%20%5B%22sh%22%5D&changes=ENV%20a%3Db"


def test_a_file_that_is_not_binary_is_refused(fake: FakeEngine, docker: Any) -> None:
    with pytest.raises(TypeError, match="binary"):
        docker.images.load(io.StringIO("text"))


STAT = pathstat.PathStat("etc", 4096, 2147484141, "2026-11-23T12:00:00Z")


def tar_of(**files: bytes) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return target.getvalue()


def test_ARC2_an_archive_comes_with_what_it_is_of(fake: FakeEngine, docker: Any) -> None:
    tar = tar_of(a=b"1" * 100000, b=b"2")

    def send(peer: Peer, request: Received) -> None:
        peer.chunked({"Content-Type": "application/x-tar", pathstat.HEADER: pathstat.encode(STAT)})
        for at in range(0, len(tar), 7777):
            peer.chunk(tar[at : at + 7777])
        peer.chunk(b"")

    fake.routes["GET /containers/web/archive"] = send
    with docker.containers.archive("web", "/etc") as archive:
        assert archive.stat == STAT
        assert archive.read(5) == tar[:5]
        assert archive.read(0) == b""
        assert archive.read() == tar[5:]
        assert archive.read(9) == b""
    with docker.containers.archive("web", "/etc") as archive:
        assert archive.read(9) + b"".join(archive) == tar
    fake.routes["HEAD /containers/web/archive"] = lambda peer, request: peer.send(
        f"HTTP/1.1 200 OK\r\n{pathstat.HEADER}: {pathstat.encode(STAT)}\r\nContent-Length: 0\r\n\r\n".encode()
    )
    assert docker.containers.archive_info("web", "/etc") == STAT
    assert fake.last().query == "path=%2Fetc"


def test_an_archive_reads_as_a_file_for_tarfile(fake: FakeEngine, tmp_path: Path) -> None:
    fake.routes["GET /containers/web/export"] = chunks(None, tar_of(a=b"1"))
    with wherry.connect(fake.url) as docker:
        with docker.containers.export("web") as archive, tarfile.open(fileobj=archive, mode="r|") as tar:  # type: ignore[call-overload]
            assert [member.name for member in tar] == ["a"]
        assert docker.containers.export("web").write_to(str(tmp_path / "x.tar")) == len(tar_of(a=b"1"))


def test_archives_go_in_by_file_and_by_writer(fake: FakeEngine, docker: Any) -> None:
    fake.routes["PUT /containers/web/archive"] = (200, b"")
    docker.containers.put_archive("web", "/srv", io.BytesIO(b"tar"), copy_uid_gid=True)
    assert (fake.last().body, fake.last().query) == (b"tar", "path=%2Fsrv&copyUIDGID=1")
    with docker.containers.put_archive_writer("web", "/srv") as upload:
        assert upload.write(b"pie") == 3
        upload.write(b"")
        upload.write(b"ces")
    assert fake.last().body == b"pieces"
    with pytest.raises(wherry.WherryError, match="finished"):
        upload.write(b"more")


def test_an_upload_that_the_caller_breaks_off_is_not_finished(fake: FakeEngine, docker: Any) -> None:
    fake.routes["PUT /containers/web/archive"] = (200, b"")

    def break_off() -> None:
        with docker.containers.put_archive_writer("web", "/srv") as upload:
            upload.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        break_off()
    assert fake.received == []


def test_a_refused_writer_raises_the_engines_reason(fake: FakeEngine, docker: Any) -> None:
    fake.routes["PUT /containers/web/archive"] = (500, {"message": "container rootfs is marked read-only"})
    upload = docker.containers.put_archive_writer("web", "/srv")
    upload.write(b"x")
    with pytest.raises(wherry.ServerError, match="read-only"):
        upload.finish()


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


def test_idle_streams_end_where_a_limit_is_set(fake: FakeEngine, colour: str) -> None:
    def silent(peer: Peer, request: Received) -> None:
        peer.chunked({"Content-Type": MULTIPLEXED})
        peer.chunk(encode_frame(1, b"one"))
        threading.Event().wait(2)

    fake.routes["GET /containers/web/logs"] = silent
    with client_of(colour, fake.url, timeouts=wherry.Timeouts(idle=0.1)) as docker:
        logs = iter(docker.containers.logs("web", follow=True))
        assert next(logs) == (1, b"one")
        with pytest.raises(wherry.Timeout):
            next(logs)


def test_a_cancelled_read_loses_nothing(fake: FakeEngine) -> None:
    """The bytes arrive in the very moment the reader is cancelled, again and again."""
    import anyio

    step = threading.Semaphore(0)
    lines = [b"%d\n" % number for number in range(60)]

    def slow(peer: Peer, request: Received) -> None:
        peer.chunked({"Content-Type": MULTIPLEXED})
        for line in lines:
            step.acquire(timeout=5)
            peer.chunk(encode_frame(1, line))
        peer.chunk(b"")

    fake.routes["GET /containers/web/logs"] = slow

    async def main() -> None:
        got = b""
        async with wherry.connect_async(fake.url) as docker, await docker.containers.logs("web") as logs:
            while len(got) < len(b"".join(lines)):
                step.release()
                with anyio.move_on_after(0.0005):
                    _, data = await anext(logs)
                    got += data
            assert got == b"".join(lines)

    anyio.run(main)


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
        assert (await client.containers.inspect("web")).id == "web"
        assert (await client.containers.inspect("web")).id == "web"

    for _ in range(3):
        anyio.run(main)
    anyio.run(client.close)
    assert fake.connections == 1
