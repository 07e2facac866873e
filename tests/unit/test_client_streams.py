"""Streams: logs, JSON values, bytes in and out; in both colours."""

from __future__ import annotations

import io
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest
from client_fake import FRAMES, MULTIPLEXED, RAW, FakeEngine, Peer, Received, chunks, client_of

import wherry
from wherry.wire import pathstat
from wherry.wire.frames import encode_frame


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


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b'{"error":"no space","errorDetail":"no space"}', ("no space", 0)),
        (b'{"error":"no space","errorDetail":null}', ("no space", 0)),
        (b'{"errorDetail":{"message":"no space","code":"7"}}', ("no space", 0)),
        (b'{"errorDetail":{"message":"no space","code":7}}', ("no space", 7)),
        (b'{"error":{"message":"no space"}}', ("no space", 0)),
        (b'{"error":"no space \xff"}', ("no space \N{REPLACEMENT CHARACTER}", 0)),
    ],
)
def test_an_error_inside_a_stream_may_have_any_form(
    fake: FakeEngine, docker: Any, line: bytes, error: tuple[str, int]
) -> None:
    fake.routes["POST /images/create"] = chunks(None, line)
    with pytest.raises(wherry.StreamError) as caught:
        docker.images.pull("busybox", auth=wherry.AuthConfig())
    assert (str(caught.value), caught.value.code) == error


def test_what_only_looks_like_an_error_inside_a_stream_passes(fake: FakeEngine, docker: Any) -> None:
    fake.routes["POST /images/create"] = chunks(
        None, b'{"status":"\\"error","error":""}', b'{"errors":["x"]}', b'"error"'
    )
    progress = docker.images.create(from_image="a", tag="1")
    assert next(progress).status == '"error'
    assert next(progress).extra == {"errors": ["x"]}


def test_a_stream_of_broken_json_is_a_protocol_error(fake: FakeEngine, docker: Any) -> None:
    for broken in (b'{"Type":', b"}", b'{"Type" "x"}', b"[1]"):
        fake.routes["GET /events"] = chunks(None, broken)
        with pytest.raises(wherry.ProtocolError):
            docker.system.events().read_all()


def test_json_nested_too_deeply_is_a_protocol_error(fake: FakeEngine, docker: Any) -> None:
    fake.routes["GET /events"] = chunks(None, b'{"x":' + b"[" * 50_000 + b"]" * 50_000 + b',"error":"x"}')
    with pytest.raises(wherry.ProtocolError, match="nested too deeply"):
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


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("busybox.tar", r"""for a file, give open\('busybox.tar', "rb"\)"""),
        (Path("busybox.tar"), r"""for a file, give open\('busybox.tar', "rb"\)"""),
        (3, "an iterable of bytes, not int"),
    ],
)
def test_what_can_be_no_body_is_refused_before_anything_is_sent(
    fake: FakeEngine, docker: Any, body: Any, message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        docker.images.load(body)
    with pytest.raises(TypeError, match=message):
        docker.containers.put_archive("web", "/srv", body)
    assert fake.received == []


def test_an_archive_goes_from_one_container_into_another(fake: FakeEngine, docker: Any) -> None:
    fake.routes["GET /images/a/get"] = chunks(None, b"x" * 100_000, b"y" * 300_000)
    fake.routes["POST /images/load"] = chunks(None, b'{"stream":"Loaded image: a:1"}')
    with docker.images.get("a") as archive:
        assert docker.images.load(archive) == ["a:1"]
    assert fake.last().body == b"x" * 100_000 + b"y" * 300_000


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
