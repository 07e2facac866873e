"""POST attach."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.support.engines import Engine
from tests.support.http import Exchange, eventually

MULTIPLEXED = "application/vnd.docker.multiplexed-stream"


RAW = "application/vnd.docker.raw-stream"


def content_type(engine: Engine, *, tty: bool, upgrade: bool) -> str:
    """ATT1; before API 1.42 always raw."""
    return MULTIPLEXED if upgrade and not tty and not engine.is_dockerd else RAW


def output(exchange: Exchange) -> dict[int, bytes]:
    """All that is still to come, by stream."""
    streams = {1: b"", 2: b""}
    for stream, data in exchange.frames():
        streams[stream] += data
    return streams


STDIN: dict[str, Any] = {"OpenStdin": True, "StdinOnce": True, "AttachStdin": True}


def tty_cat(engine: Engine) -> str:
    return engine.run("sh", "-c", "stty -echo; echo ready; cat", Tty=True, OpenStdin=True)


@pytest.mark.parametrize("tty", [False, True])
def test_ATT1_with_upgrade(engine: Engine, tty: bool) -> None:
    container = engine.create("true", Tty=tty)
    with engine.attach(container) as attached:
        assert (attached.version, attached.status, attached.reason) == ("HTTP/1.1", 101, "UPGRADED")
        expected = {
            "content-type": content_type(engine, tty=tty, upgrade=True),
            "connection": "Upgrade",
            "upgrade": "tcp",
        }
        assert dict(attached.headers) == expected


def test_ATT1_without_upgrade(engine: Engine) -> None:
    container = engine.create("true")
    with engine.attach(container, upgrade=False) as attached:
        assert (attached.status, attached.reason) == (200, "OK")
        assert dict(attached.headers) == {"content-type": RAW}


def test_ATT1_below_1_42_is_always_raw(engine: Engine) -> None:
    container = engine.create("true")
    query = {"stream": 1, "stdout": 1}
    with engine.http.open(
        "POST", f"/containers/{container}/attach", query=query, upgrade=True, prefix="/v1.41"
    ) as attached:
        assert attached.headers["content-type"] == RAW


@pytest.mark.parametrize("upgrade", [False, True])
def test_ATT2_frames(engine: Engine, upgrade: bool) -> None:
    container = engine.create("sh", "-c", "echo out; echo err >&2")
    with engine.attach(container, upgrade=upgrade) as attached:
        engine.start(container)
        assert output(attached) == {1: b"out\n", 2: b"err\n"}


def test_ATT2_chosen_streams(engine: Engine) -> None:
    container = engine.create("sh", "-c", "echo out; echo err >&2")
    with engine.attach(container, stdout=0) as only_err, engine.attach(container, stderr=0) as only_out:
        engine.start(container)
        assert output(only_err) == {1: b"", 2: b"err\n"}
        assert output(only_out) == {1: b"out\n", 2: b""}


def test_ATT2_tty_is_raw(engine: Engine) -> None:
    container = engine.create("sh", "-c", "echo out; echo err >&2", Tty=True)
    with engine.attach(container) as attached:
        engine.start(container)
        assert attached.read() == b"out\r\nerr\r\n"


def test_ATT2_large_output_is_whole(engine: Engine) -> None:
    container = engine.create("sh", "-c", "dd if=/dev/zero bs=65536 count=160 2>/dev/null; echo end >&2")
    with engine.attach(container) as attached:
        engine.start(container)
        seen = output(attached)
    assert (len(seen[1]), seen[1].strip(b"\0"), seen[2]) == (160 * 65536, b"", b"end\n")


def test_ATT2c_frames_are_small_and_in_the_order_written(engine: Engine) -> None:
    script = "read go; head -c 100000 /dev/zero; usleep 100000; echo err >&2; usleep 100000; echo out"
    container = engine.run("sh", "-c", script, OpenStdin=True)
    with engine.attach(container) as attached:
        attached.send(b"go\n")
        seen = list(attached.frames())
    assert max(len(data) for _, data in seen) <= 32 << 10
    assert sum(len(data) for stream, data in seen if stream == 1) == 100004
    assert seen[-2:] == [(2, b"err\n"), (1, b"out\n")]


def test_ATT3_errors_are_plain_text(engine: Engine) -> None:
    with engine.attach("nope") as refused:
        assert refused.status == 404
        assert refused.headers["content-type"] == RAW
        assert refused.read() == b"No such container: nope\r\n"


def test_ATT3b_other_errors_are_plain_text_too(engine: Engine) -> None:
    container = engine.run("cat", Tty=True, OpenStdin=True, name="frozen")
    with engine.attach(container, detachKeys="ctrl-foo") as refused:
        assert (refused.status, refused.read()[-2:]) == (400, b"\r\n")
    assert engine.http.post(f"/containers/{container}/pause").status == 204
    with engine.attach("frozen") as refused:
        assert refused.status == 409
        assert refused.headers["content-type"] == "application/vnd.docker.raw-stream"
        assert refused.read() == b"container frozen is paused, unpause the container before attach\r\n"


def test_ATT4_nothing_is_lost_before_the_start(engine: Engine) -> None:
    for _ in range(5):
        container = engine.create("echo", "first")
        with engine.attach(container) as attached:
            engine.start(container)
            assert output(attached)[1] == b"first\n"


def test_ATT4_attach_to_an_exited_container_holds_until_the_next_run(engine: Engine) -> None:
    container = engine.run("echo", "again")
    engine.wait(container)
    with engine.attach(container) as attached:
        assert attached.status == 101
        engine.start(container)
        assert output(attached)[1] == b"again\n"


def test_ATT4b_attach_to_an_ended_container_holds(engine: Engine) -> None:
    container = engine.run("true")
    engine.wait(container)
    with engine.attach(container) as attached:
        assert attached.status == 101
        assert not attached.at_end(within=0.5)


def test_ATT5_logs_and_stream(engine: Engine) -> None:
    container = engine.run("sh", "-c", "echo before; read line; echo after $line", **STDIN)
    eventually(lambda: engine.logs(container)[0])
    with engine.attach(container, logs=1, stream=0) as replayed:
        assert output(replayed)[1] == b"before\n"
    with engine.attach(container, logs=0, stream=0) as nothing:
        assert output(nothing)[1] == b""
    with engine.attach(container, logs=1) as both:
        both.send(b"that\n")
        assert output(both)[1] == b"before\nafter that\n"


def test_ATT5_logs_and_stream_before_the_first_start(engine: Engine) -> None:
    container = engine.create("echo", "first")
    with engine.attach(container, logs=1) as both:
        engine.start(container)
        assert output(both)[1] == b"first\n"


def test_ATT6_half_close_ends_stdin_and_output_goes_on(engine: Engine) -> None:
    container = engine.create("sort", **STDIN)
    with engine.attach(container) as attached:
        engine.start(container)
        attached.send(b"b\na\n")
        attached.send_eof()
        assert output(attached)[1] == b"a\nb\n"
    # With StdinOnce the stream ends after the container did.
    assert engine.status(container) == "exited"
    assert engine.wait(container) == 0


def test_ATT6_input_before_the_start(engine: Engine) -> None:
    container = engine.create("cat", **STDIN)
    with engine.attach(container) as attached:
        attached.send(b"early\n")
        attached.send_eof()
        engine.start(container)
        assert output(attached)[1] == b"early\n"


def test_ATT6_input_with_the_request(engine: Engine) -> None:
    container = engine.create("cat", **STDIN)
    target = f"/v{engine.version}/containers/{container}/attach?stream=1&stdin=1&stdout=1"
    head = f"POST {target} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    with engine.http.connect() as sock:
        sock.sendall(head.encode() + b"same segment\n")
        with Exchange(sock, "POST") as attached:
            assert attached.status == 101
            engine.start(container)
            attached.send_eof()
            # moby drops what arrives in the segment of the request.
            assert output(attached)[1] == (b"" if engine.is_dockerd else b"same segment\n")


def test_ATT6_much_input(engine: Engine) -> None:
    container = engine.create("wc", "-c", **STDIN)
    with engine.attach(container) as attached:
        engine.start(container)
        for _ in range(64):
            attached.send(bytes(65536))
        attached.send_eof()
        assert output(attached)[1].strip() == b"4194304"


def test_ATT6_input_is_swallowed_unless_open(engine: Engine) -> None:
    container = engine.create("sh", "-c", "cat; echo end")
    with engine.attach(container) as attached:
        engine.start(container)
        try:
            attached.send(b"ignored\n")
        except OSError:
            pass
        assert output(attached)[1] == b"end\n"


def test_ATT6_stdin_stays_open_without_stdin_once(engine: Engine) -> None:
    container = engine.run("cat", OpenStdin=True)
    with engine.attach(container) as first:
        first.send(b"one\n")
        assert next(first.frames()) == (1, b"one\n")
        first.send_eof()
        assert first.at_end(within=5)
    assert engine.status(container) == "running"
    with engine.attach(container) as second:
        second.send(b"two\n")
        assert next(second.frames()) == (1, b"two\n")


def test_ATT6_abrupt_close_ends_stdin_once(engine: Engine) -> None:
    container = engine.run("sh", "-c", "cat; exit 3", **STDIN)
    attached = engine.attach(container)
    attached.send(b"x\n")
    next(attached.frames())
    attached.close()
    assert engine.wait(container) == 3


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        ({}, b"\x10\x11"),
        ({"detachKeys": "ctrl-x,y"}, b"\x18y"),
        ({"detachKeys": "ctrl-@"}, b"\0"),
        ({"detachKeys": "a"}, b"a"),
    ],
)
def test_ATT7_detach_keys(engine: Engine, query: dict[str, Any], keys: bytes) -> None:
    container = tty_cat(engine)
    with engine.attach(container, logs=1, **query) as attached:
        attached.read_until(b"ready\r\n")
        attached.send(b"line\r")
        attached.read_until(b"line\r\n")
        attached.send(keys)
        assert attached.at_end(within=5)
    assert engine.status(container) == "running"
    with engine.http.open(
        "GET", "/events", query={"since": 1, "filters": {"container": [container], "event": ["detach"]}}
    ) as events:
        assert next(events.json_values())["Action"] == "detach"


def test_ATT7_a_broken_sequence_is_passed_on(engine: Engine) -> None:
    container = tty_cat(engine)
    with engine.attach(container, logs=1, detachKeys="x,y") as attached:
        attached.read_until(b"ready\r\n")
        attached.send(b"x")
        attached.send(b"z\r")
        attached.read_until(b"xz\r\n")


def test_ATT7_bad_detach_keys(engine: Engine) -> None:
    container = engine.run("cat", Tty=True, OpenStdin=True)
    with engine.attach(container, detachKeys="ctrl-foo") as refused:
        assert refused.status == 400
        assert b"Invalid detach keys (ctrl-foo) provided" in refused.read()


def test_ATT7_no_detection_without_a_terminal(engine: Engine) -> None:
    container = engine.run("cat", OpenStdin=True)
    with engine.attach(container) as attached:
        attached.send(b"\x10\x11\n")
        assert next(attached.frames()) == (1, b"\x10\x11\n")


def test_ATT8_several_at_once(engine: Engine) -> None:
    container = engine.run("cat", OpenStdin=True)
    with engine.attach(container) as first, engine.attach(container) as second:
        first.send(b"from first\n")
        assert next(first.frames()) == next(second.frames()) == (1, b"from first\n")
        second.send(b"from second\n")
        assert next(first.frames()) == next(second.frames()) == (1, b"from second\n")


def test_ATT8_one_that_does_not_read_holds_up_nobody(engine: Engine) -> None:
    if engine.is_dockerd:
        return  # 20.10 stops the container, and with it the other reader
    container = engine.create("sh", "-c", "dd if=/dev/zero bs=65536 count=320 2>/dev/null; exit 5")
    with engine.attach(container) as stuck, engine.attach(container) as reader:
        engine.start(container)
        assert len(output(reader)[1]) == 320 * 65536
        assert engine.wait(container) == 5
        assert len(output(stuck)[1]) == 320 * 65536


def test_ATT10_a_lost_client_leaves_the_container_alone(engine: Engine) -> None:
    container = engine.run("sh", "-c", "while read line; do echo got $line; done", OpenStdin=True)
    engine.attach(container).close()
    with engine.attach(container) as attached:
        attached.send(b"it\n")
        assert next(attached.frames()) == (1, b"got it\n")


def test_ATT10a_many_lost_clients_leave_nothing(wherry: Engine) -> None:
    container = wherry.run("sh", "-c", "while read line; do echo got $line; done", OpenStdin=True)
    open_files = f"/proc/{wherry.pid}/fd"
    with wherry.attach(container) as attached:
        attached.send(b"warm\n")
        next(attached.frames())
    before = len(os.listdir(open_files))
    for _ in range(20):
        wherry.attach(container).close()
    with wherry.attach(container) as attached:
        attached.send(b"it\n")
        assert next(attached.frames()) == (1, b"got it\n")
    eventually(lambda: len(os.listdir(open_files)) <= before + 2, what="connections given back")


def test_ATT11_event(engine: Engine) -> None:
    container = engine.create("true")
    with engine.attach(container):
        engine.start(container)
        filters = {"container": [container], "type": ["container"]}
        with engine.http.open("GET", "/events", query={"since": 1, "filters": filters}) as events:
            seen = events.json_values()
            assert [next(seen)["Action"] for _ in range(3)] == ["create", "attach", "start"]
