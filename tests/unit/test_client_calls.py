"""Calls that return a value, over a scripted engine, in both colours."""

from __future__ import annotations

import io
import os
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from client_fake import INSPECT, MULTIPLEXED, FakeEngine, Peer, Received, client_of

import wherry
from wherry.wire.frames import encode_frame


def test_a_value_is_a_model_with_unknown_fields_reachable(fake: FakeEngine, docker: Any) -> None:
    container = docker.containers.inspect("/web")
    assert (container.id, container.name, container.state.status) == ("abc", "/web", "running")
    assert container.extra == {"NewField": 1}
    assert fake.versions == ["1.43"]


def test_one_connection_serves_call_after_call(fake: FakeEngine, docker: Any) -> None:
    for _ in range(5):
        docker.containers.inspect("web")
    assert fake.connections == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, wherry.BadRequest),
        (401, wherry.Unauthorized),
        (403, wherry.Forbidden),
        (404, wherry.NotFound),
        (409, wherry.Conflict),
        (418, wherry.ApiError),
        (500, wherry.ServerError),
        (501, wherry.NotImplementedYet),
        (503, wherry.Unavailable),
    ],
)
def test_E2_an_error_status_is_an_error_of_its_class(
    fake: FakeEngine, docker: Any, status: int, error: type[wherry.ApiError]
) -> None:
    fake.routes["GET /containers/web/json"] = (status, {"message": "so it is"})
    with pytest.raises(error) as caught:
        docker.containers.inspect("web")
    assert type(caught.value) is error
    assert (caught.value.status, caught.value.message, caught.value.method) == (status, "so it is", "GET")
    assert caught.value.path == "/containers/web/json"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"message":"no such file: \xff"}', "no such file: \N{REPLACEMENT CHARACTER}"),
        (b'{"message":3}', "3"),
        (b"[" * 100_000, "[" * 4096),
        (b"<html>502 Bad Gateway</html>", "<html>502 Bad Gateway</html>"),
        (b"", "the engine answered 502 without a word"),
    ],
)
def test_E2_an_error_of_any_form_is_an_api_error(fake: FakeEngine, docker: Any, body: bytes, message: str) -> None:
    fake.routes["GET /containers/web/json"] = (502, body)
    with pytest.raises(wherry.ApiError) as caught:
        docker.containers.inspect("web")
    assert (caught.value.status, caught.value.message) == (502, message)


def test_an_object_that_is_left_out_is_a_protocol_error(fake: FakeEngine, docker: Any) -> None:
    fake.routes |= {"GET /containers/web/json": (200, b""), "GET /containers/json": (200, b"")}
    with pytest.raises(wherry.ProtocolError, match="the answer is empty"):
        docker.containers.inspect("web")
    assert docker.containers.list() == []


def test_ATT3_an_error_in_plain_text_is_read_as_well(fake: FakeEngine, docker: Any) -> None:
    def refuse(peer: Peer, request: Received) -> None:
        peer.send(
            b"HTTP/1.1 404 Not Found\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
            b"No such container: nope\r\n"
        )
        raise ConnectionAbortedError

    fake.routes["POST /containers/nope/attach"] = refuse
    with pytest.raises(wherry.NotFound) as caught:
        docker.containers.attach("nope")
    assert caught.value.message == "No such container: nope"


def test_STA2_304_is_no_error(fake: FakeEngine, docker: Any) -> None:
    fake.routes["POST /containers/web/start"] = lambda peer, request: peer.send(b"HTTP/1.1 304 Not Modified\r\n\r\n")
    assert docker.containers.start("web") is None
    docker.containers.inspect("web")
    assert fake.connections == 1


def test_null_lists_read_as_empty_lists(fake: FakeEngine, docker: Any) -> None:
    fake.routes["GET /containers/web/changes"] = (200, b"null\n")
    fake.routes["GET /containers/json"] = (200, b"null\n")
    assert docker.containers.changes("web") == []
    assert docker.containers.list() == []


def test_parameters_are_sent_under_their_names(fake: FakeEngine, docker: Any) -> None:
    fake.routes["GET /containers/json"] = (200, [])
    docker.containers.list(all=True, limit=3, filters={"status": ["paused"], "label": "a=b c"})
    assert fake.last().query == (
        "all=1&limit=3&filters=%7B%22status%22%3A%5B%22paused%22%5D%2C%22label%22%3A%5B%22a%3Db%20c%22%5D%7D"
    )
    fake.routes["POST /containers/web/stop"] = (204, b"")
    docker.containers.stop("web", t=0)
    assert fake.last().query == "t=0"
    fake.routes["POST /containers/web/kill"] = (204, b"")
    docker.containers.kill("web", signal=15)
    assert fake.last().query == "signal=15"


def test_a_body_is_json_without_what_is_at_its_default(fake: FakeEngine, docker: Any) -> None:
    fake.routes["POST /containers/create"] = (201, {"Id": "abc", "Warnings": ["careful"]})
    created = docker.containers.create("busybox", "echo 'hello world'", name="x", tty=True)
    assert (created.id, created.warnings) == ("abc", ["careful"])
    assert fake.last().query == "name=x"
    assert fake.last().head.headers.get("content-type") == "application/json"
    body = fake.last().json
    assert body["Cmd"] == ["echo", "hello world"]
    assert body["Tty"] is True
    assert "User" not in body


def test_updates_renames_and_the_small_calls(fake: FakeEngine, docker: Any) -> None:
    fake.routes |= {
        "POST /containers/web/update": (200, {"Warnings": None}),
        "POST /containers/web/rename": (204, b""),
        "POST /containers/web/resize": (200, b""),
        "GET /containers/web/top": (200, {"Titles": ["PID"], "Processes": [["1"]]}),
        "POST /containers/prune": (200, {"ContainersDeleted": None, "SpaceReclaimed": 7}),
        "DELETE /images/busybox": (200, [{"Untagged": "busybox:latest"}]),
        "GET /networks": (200, [{"Name": "bridge", "Id": "n"}]),
        "POST /networks/create": (201, {"Id": "n", "Warning": ""}),
        "POST /volumes/create": (201, {"Name": "data"}),
        "GET /info": (200, {"ID": "x", "NCPU": 2}),
        "GET /version": (200, {"Version": "24.0.9", "ApiVersion": "1.43"}),
        "POST /commit": (201, {"Id": "sha256:1"}),
        "GET /distribution/a/b:1/json": (200, {"Descriptor": {"digest": "sha256:2"}}),
        "POST /auth": (200, {"Status": "Login Succeeded"}),
    }
    assert docker.containers.update("web", wherry.ContainerUpdateRequest(memory=1 << 30)).warnings is None
    assert fake.last().json == {"Memory": 1 << 30}
    docker.containers.rename("web", "new")
    assert fake.last().query == "name=new"
    docker.containers.resize("web", h=40, w=100)
    assert fake.last().query == "h=40&w=100"
    assert docker.containers.top("web", ps_args="-o pid").processes == [["1"]]
    assert docker.containers.prune(filters={"until": "10m"}).space_reclaimed == 7
    assert docker.images.delete("busybox", force=True)[0].untagged == "busybox:latest"
    assert docker.networks.list()[0].name == "bridge"
    assert docker.networks.create("n", labels={"a": "b"}).id == "n"
    assert fake.last().json["Labels"] == {"a": "b"}
    assert docker.volumes.create("data").name == "data"
    assert docker.system.info().ncpu == 2
    assert docker.system.version().version == "24.0.9"
    assert docker.images.commit("web", repo="r", changes=["CMD a"]).id == "sha256:1"
    assert docker.distribution.inspect("a/b:1").descriptor.digest == "sha256:2"
    assert fake.last().head.headers.get("x-registry-auth") == "e30="
    assert docker.system.auth(wherry.AuthConfig(username="u")).status == "Login Succeeded"


def test_ping_tells_what_the_engine_is(fake: FakeEngine, docker: Any) -> None:
    ping = docker.system.ping()
    assert (ping.api_version, ping.os_type, ping.server) == ("1.43", "linux", "Docker/24.0.9 (linux)")
    assert docker.system.ping_head() == ping
    assert docker.api_version() == "1.43"


@pytest.mark.parametrize(("theirs", "used"), [("1.41", "1.41"), ("1.43", "1.43"), ("1.51", "1.43")])
def test_the_version_is_agreed_on(fake: FakeEngine, docker: Any, theirs: str, used: str) -> None:
    fake.ping["Api-Version"] = theirs
    docker.containers.inspect("web")
    assert set(fake.versions) == {used}


def test_an_engine_that_has_dropped_our_version_is_spoken_to_in_its_oldest(fake: FakeEngine, docker: Any) -> None:
    fake.ping["Api-Version"] = "1.54"
    words = "client version 1.43 is too old. Minimum supported API version is 1.44, please upgrade your client"
    fake.routes["GET /_ping"] = (400, {"message": words})
    docker.containers.inspect("web")
    assert fake.versions == ["1.43", "1.44"]


def test_an_engine_that_is_too_old_or_none_is_refused(fake: FakeEngine, docker: Any) -> None:
    fake.ping["Api-Version"] = "1.39"
    with pytest.raises(wherry.ConnectError, match=r"1\.39"):
        docker.containers.inspect("web")
    del fake.ping["Api-Version"]
    with pytest.raises(wherry.ConnectError, match="no Docker engine"):
        docker.containers.inspect("web")


def test_a_pinned_version_is_not_negotiated(fake: FakeEngine, colour: str) -> None:
    fake.ping["Api-Version"] = "1.30"
    with client_of(colour, fake.url, version="1.42") as docker:
        docker.containers.inspect("web")
    assert fake.versions == ["1.42"]
    with pytest.raises(wherry.ConnectError, match="no API version"):
        wherry.connect(fake.url, version="new")


def test_no_engine_is_a_connect_error(tmp_path: Path, colour: str) -> None:
    with client_of(colour, f"unix://{tmp_path}/none") as docker, pytest.raises(wherry.ConnectError, match="running"):
        docker.system.ping()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.close()
    with client_of(colour, f"tcp://127.0.0.1:{port}") as docker, pytest.raises(wherry.ConnectError, match="refused"):
        docker.system.ping()


def test_tcp_names_its_host(fake: FakeEngine, colour: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        connection, _ = listener.accept()
        fake.serve(connection)

    threading.Thread(target=accept, daemon=True).start()
    port = listener.getsockname()[1]
    with client_of(colour, f"tcp://127.0.0.1:{port}") as docker:
        docker.containers.inspect("web")
    assert fake.last().head.headers.get("host") == f"127.0.0.1:{port}"
    listener.close()


def test_a_kept_connection_that_ended_is_replaced(fake: FakeEngine, docker: Any) -> None:
    def answer_and_hang_up(peer: Peer, request: Received) -> None:
        peer.reply(200, INSPECT)
        raise ConnectionAbortedError

    fake.routes["GET /containers/once/json"] = answer_and_hang_up
    fake.routes["POST /containers/web/start"] = (204, b"")
    docker.containers.inspect("once")
    time.sleep(0.1)
    docker.containers.start("web")
    assert fake.connections == 2


def test_a_read_is_repeated_on_a_new_connection_but_a_change_is_not(fake: FakeEngine, docker: Any) -> None:
    calls = 0

    def hang_up_on_the_first(peer: Peer, request: Received) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ConnectionAbortedError
        peer.reply(200, INSPECT)

    def hang_up(peer: Peer, request: Received) -> None:
        nonlocal calls
        calls += 1
        raise ConnectionAbortedError

    docker.containers.inspect("web")
    fake.routes["GET /containers/flaky/json"] = hang_up_on_the_first
    docker.containers.inspect("flaky")
    assert calls == 2
    fake.routes["POST /containers/flaky/start"] = hang_up
    with pytest.raises(wherry.ProtocolError, match="closed the connection"):
        docker.containers.start("flaky")
    assert calls == 3


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{]}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70000,
    ],
)
def test_broken_answers_are_protocol_errors(fake: FakeEngine, docker: Any, answer: bytes) -> None:
    def send(peer: Peer, request: Received) -> None:
        peer.send(answer)
        raise ConnectionAbortedError

    fake.routes["GET /containers/bad/json"] = send
    with pytest.raises(wherry.ProtocolError):
        docker.containers.inspect("bad")


def test_an_answer_nobody_asked_for_spoils_its_connection_alone(fake: FakeEngine, docker: Any) -> None:
    def send_twice(peer: Peer, request: Received) -> None:
        once = b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"Id":"abc"}'
        peer.send(once + once.replace(b"abc", b"bad"))

    fake.routes["GET /containers/two/json"] = send_twice
    for _ in range(3):
        assert docker.containers.inspect("two").id == "abc"
        assert docker.containers.inspect("web").id == "abc"


def test_silence_ends_in_a_timeout(fake: FakeEngine, colour: str) -> None:
    gate = threading.Event()
    fake.routes["GET /containers/slow/json"] = lambda peer, request: gate.wait(5) and peer.reply(200, INSPECT)
    fake.routes["POST /containers/slow/stop"] = lambda peer, request: (gate.wait(0.3), peer.reply(204))  # type: ignore[func-returns-value]
    with client_of(colour, fake.url, timeouts=wherry.Timeouts(head=0.1)) as docker:
        with pytest.raises(wherry.Timeout, match="silent"):
            docker.containers.inspect("slow")
        docker.containers.stop("slow")  # takes as long as it takes
        patient = docker.with_timeouts(wherry.Timeouts(head=5))
        gate.set()
        assert patient.containers.inspect("slow").id == "abc"


@pytest.mark.parametrize(
    ("timeouts", "reason"),
    [
        (wherry.Timeouts(head=20, idle=0.2), r"GET /containers/web/json: the engine was silent for 0\.2 s"),
        (wherry.Timeouts(head=0.2), r"GET /containers/web/json: the engine was silent for 0\.2 s"),
        (wherry.Timeouts(head=1, idle=20), None),
    ],
)
def test_silence_within_an_answer_is_idleness(
    fake: FakeEngine, colour: str, timeouts: wherry.Timeouts, reason: str | None
) -> None:
    def halting(peer: Peer, request: Received) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{")
        time.sleep(2)
        peer.send(b"}")

    fake.routes |= {"GET /containers/web/json": halting, "POST /containers/prune": halting}
    with client_of(colour, fake.url, timeouts=timeouts) as docker:
        if reason is None:
            assert docker.containers.inspect("web").id == ""
            assert docker.containers.prune().space_reclaimed == 0
        else:
            with pytest.raises(wherry.Timeout, match=reason):
                docker.containers.inspect("web")


@pytest.mark.parametrize("piece", [b"X: 1\r\n", b"\r\nHTTP/1.1 102 Processing\r\n"], ids=["head", "interim"])
@pytest.mark.parametrize("call", ["inspect", "stats"])
def test_a_head_in_pieces_has_no_more_time(fake: FakeEngine, colour: str, piece: bytes, call: str) -> None:
    def dribbling(peer: Peer, request: Received) -> None:
        peer.send(b"HTTP/1.1 102 Processing\r\n")
        for _ in range(300):
            peer.send(piece)
            time.sleep(0.05)

    fake.routes |= {"GET /containers/web/json": dribbling, "GET /containers/web/stats": dribbling}
    timeouts = wherry.Timeouts(head=0.3, long_head=0.3)
    with (
        client_of(colour, fake.url, timeouts=timeouts) as docker,
        pytest.raises(wherry.Timeout, match=r"not there within 0\.3 s"),
    ):
        getattr(docker.containers, call)("web")


def test_timeouts_are_positive() -> None:
    for bad in (0, -1, float("nan")):
        with pytest.raises(ValueError):
            wherry.Timeouts(head=bad)


def test_a_closed_client_says_so(fake: FakeEngine, docker: Any) -> None:
    docker.close()
    docker.close()
    with pytest.raises(wherry.ConnectError, match="closed"):
        docker.containers.inspect("web")


def test_many_calls_at_once(fake: FakeEngine) -> None:
    with wherry.connect(fake.url) as docker:
        results: list[str] = []

        def work() -> None:
            for _ in range(20):
                results.append(docker.containers.inspect("web").id)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == ["abc"] * 160


def test_many_async_calls_at_once_and_a_cancelled_one_spoils_nothing(fake: FakeEngine) -> None:
    import anyio

    fake.routes["GET /containers/never/json"] = lambda peer, request: threading.Event().wait(1)

    async def main() -> None:
        async with wherry.connect_async(fake.url) as docker:
            ids: list[str] = []

            async def work() -> None:
                for _ in range(20):
                    ids.append((await docker.containers.inspect("web")).id)

            async with anyio.create_task_group() as group:
                for _ in range(8):
                    group.start_soon(work)
            with anyio.move_on_after(0.05) as scope:
                await docker.containers.inspect("never")
            assert scope.cancelled_caught
            assert (await docker.containers.inspect("web")).id == "abc"
            assert ids == ["abc"] * 160

    anyio.run(main)


def test_a_forked_child_takes_connections_of_its_own(fake: FakeEngine) -> None:
    with wherry.connect(fake.url) as docker:
        docker.containers.inspect("web")
        child = os.fork()
        if not child:
            status = 1
            try:
                status = 0 if docker.containers.inspect("web").id == "abc" else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        docker.containers.inspect("web")
        assert fake.connections == 2


def test_a_forked_child_leaves_its_parents_streams_alone(fake: FakeEngine) -> None:
    left = threading.Event()

    def logs(peer: Peer, request: Received) -> None:
        peer.chunked({"Content-Type": MULTIPLEXED})
        peer.chunk(encode_frame(1, b"one"))
        left.wait(5)
        peer.chunk(encode_frame(1, b"two"))
        peer.chunk(b"")

    fake.routes["GET /containers/web/logs"] = logs
    with wherry.connect(fake.url) as docker, docker.containers.logs("web") as stream:
        assert next(stream) == (1, b"one")
        child = os.fork()
        if child == 0:
            try:
                stream.close()
                docker.close()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        left.set()
        assert list(stream) == [(1, b"two")]


def test_E4_an_upload_refused_early_gives_the_engines_reason(fake: FakeEngine, colour: str) -> None:
    """The engine answers, then resets the connection under the client's feet."""
    listener = socket.create_server(("127.0.0.1", 0))

    def refuse() -> None:
        connection, _ = listener.accept()
        connection.recv(65536)
        body = b'{"message":"Could not find the file /nope in container web"}\n'
        connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        connection.shutdown(socket.SHUT_WR)
        threading.Event().wait(0.2)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))

    thread = threading.Thread(target=refuse, daemon=True)
    thread.start()
    address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    with client_of(colour, address, version="1.43") as docker, pytest.raises(wherry.NotFound, match="/nope"):
        docker.containers.put_archive("web", "/nope", io.BytesIO(bytes(64 << 20)))
    thread.join()
    listener.close()
