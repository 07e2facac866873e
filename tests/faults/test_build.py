"""Builds that are cut off: by the engine's end, by the client's, in the middle of anything; nothing of them is left."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.faults.machine import CrashEngine, leavings, rows
from tests.support.builds import build, context
from tests.support.http import Exchange, eventually

BUSY = "FROM busybox\nENV A=1\nCOPY a /a\nRUN echo begun; sleep 600\n"
MANY = "".join(
    (
        "FROM busybox AS one\n",
        *(f"RUN mkdir /d{n} && echo {n} > /d{n}/f\nCOPY a /a{n}\nENV N{n}=1\n" for n in range(4)),
        "FROM busybox\n",
        "COPY --from=one / /all/\n",
    )
)


def begin(engine: CrashEngine, text: str, **query: Any) -> Exchange:
    return engine.http.open(
        "POST",
        "/build",
        query={"nocache": 1} | query,
        body=context({"a": "A" * 100_000}, text),
        headers={"Content-Type": "application/x-tar"},
        timeout=120,
    )


def read_until(exchange: Exchange, word: str) -> Iterator[bytes]:
    """Read until a message begins so; what follows it is given back."""
    lines = exchange.lines()
    for line in lines:
        if json.loads(line).get("stream", "").startswith(word):
            return lines
    raise AssertionError(f"the build ended without {word}")


def all_gone(engine: CrashEngine) -> Callable[[], bool]:
    return lambda: not engine.containers() and not leavings(engine)


def test_a_kill_in_the_middle_of_a_step_leaves_nothing(crashable: CrashEngine) -> None:
    with begin(crashable, BUSY) as exchange:
        read_until(exchange, "begun")
        assert len(crashable.containers()) == 1
        crashable.crash()
    assert leavings(crashable)["processes"], "the step runs on while no engine is there"
    crashable.boot()
    eventually(all_gone(crashable), within=15, what=f"nothing left: {leavings(crashable)}")
    assert build(crashable, context({"a": "A"}, BUSY.replace("sleep 600", "true"))).error == ""


def test_kills_at_any_instant_leave_whole_images_alone(crashable: CrashEngine) -> None:
    randomness = random.Random(11)
    for _ in range(6):
        with begin(crashable, MANY, t="many"):
            time.sleep(randomness.uniform(0.0, 0.5))
            crashable.crash()
        crashable.boot()
        eventually(all_gone(crashable), within=15, what=f"nothing left: {leavings(crashable)}")
        known = {id for kind, id in rows(crashable.layout) if kind == "image"}
        listed = {found["Id"] for found in crashable.http.get("/images/json?all=1").json}
        assert known == listed
    built = build(crashable, context({"a": "A" * 100_000}, MANY), t="many")
    assert built.error == ""
    code, out, _ = crashable.run_to_end("sh", "-c", "cat /all/d?/f && wc -c < /all/a3", Image="many")
    assert (code, out.decode().split()) == (0, ["0", "1", "2", "3", "100000"])


def test_a_client_that_leaves_ends_its_build(crashable: CrashEngine) -> None:
    with begin(crashable, BUSY) as exchange:
        read_until(exchange, "begun")
    eventually(all_gone(crashable), within=15, what=f"nothing left: {leavings(crashable)}")
    before = len(crashable.http.get("/images/json?all=1").json)
    with begin(crashable, MANY) as exchange:
        read_until(exchange, "Step 9/")
    eventually(all_gone(crashable), within=15, what=f"nothing left: {leavings(crashable)}")
    after = len(crashable.http.get("/images/json?all=1").json)
    time.sleep(0.5)
    assert len(crashable.http.get("/images/json?all=1").json) == after > before


@pytest.mark.parametrize("how", ["kill", "remove"])
def test_the_step_of_a_build_may_be_ended_from_outside(crashable: CrashEngine, how: str) -> None:
    with begin(crashable, "FROM busybox\nRUN echo begun; exec sleep 600\n", forcerm=1) as exchange:
        lines = read_until(exchange, "begun")
        (container,) = crashable.containers()
        if how == "remove":
            assert crashable.http.delete(f"/containers/{container}?force=1").status == 204
        else:
            assert crashable.http.post(f"/containers/{container}/kill?signal=KILL").status == 204
        last = json.loads(list(lines)[-1])
    assert last["error"] == "The command '/bin/sh -c echo begun; exec sleep 600' returned a non-zero code: 137"
    eventually(all_gone(crashable), within=15, what="nothing left")


def test_a_client_that_leaves_while_it_sends_leaves_nothing(crashable: CrashEngine) -> None:
    body = context({"big": bytes(4 << 20)}, "FROM busybox\n")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(crashable.socket_path)
        head = f"POST /v1.43/build HTTP/1.1\r\nHost: d\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body[: 3 << 20])
        eventually(lambda: bool(leavings(crashable).get("tmp")), what="the context arrives")
    eventually(all_gone(crashable), what=f"nothing left: {leavings(crashable)}")


def test_clients_that_leave_at_once_leave_nothing(crashable: CrashEngine) -> None:
    for _ in range(40):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(crashable.socket_path)
            connection.sendall(b"POST /v1.43/build HTTP/1.1\r\nHost: d\r\nContent-Length: 100000\r\n\r\n")
    assert crashable.http.get("/_ping").status == 200
    eventually(all_gone(crashable), what=f"nothing left: {leavings(crashable)}")


def test_a_client_that_does_not_read_costs_no_memory_and_loses_nothing(crashable: CrashEngine) -> None:
    megabytes = 40
    line = "x" * 1023
    text = f"FROM busybox\nRUN echo begun; yes {line} | head -c {megabytes << 20}; echo; echo done\n"
    before = crashable.memory()
    with begin(crashable, text) as exchange:
        eventually(
            lambda: any(state["State"] == "exited" for state in crashable.http.get("/containers/json?all=1").json),
            within=60,
            what="the step ends though nobody reads",
        )
        assert crashable.memory() - before < 24 << 20
        total = 0
        for message in exchange.lines():
            total += json.loads(message).get("stream", "").count("x")
    assert total >= (megabytes << 20) * 1023 // 1024
    assert total < ((megabytes << 20) * 1023 // 1024) + 3000


def test_a_prune_meanwhile_takes_nothing_from_a_build(crashable: CrashEngine) -> None:
    with begin(crashable, "FROM busybox\nENV A=1\nRUN echo begun; sleep 1\nENV B=1\n", t="pruned") as exchange:
        lines = read_until(exchange, "begun")
        crashable.http.post("/images/prune")
        assert crashable.http.post("/images/prune", query={"filters": {"dangling": ["false"]}}).status == 200
        assert any(b"Successfully tagged pruned:latest" in line for line in lines)
    crashable.http.delete("/images/pruned")


def test_the_engines_own_end_takes_the_build_along(crashable: CrashEngine) -> None:
    with begin(crashable, BUSY) as exchange:
        read_until(exchange, "begun")
        crashable.process.terminate()
        crashable.process.wait(30)
    assert not leavings(crashable).get("processes")
    crashable.boot()
    eventually(all_gone(crashable), within=15, what=f"nothing left: {leavings(crashable)}")
