"""POST wait."""

from __future__ import annotations

import threading
import time

from tests.support.engines import Engine
from tests.support.http import Exchange, eventually


def open_wait(engine: Engine, container: str, condition: str | None = None) -> Exchange:
    query = {"condition": condition} if condition is not None else None
    return engine.http.open("POST", f"/containers/{container}/wait", query=query)


def test_WAI1_headers_come_at_once(engine: Engine) -> None:
    container = engine.create("sh", "-c", "exit 3")
    with open_wait(engine, container, "next-exit") as waiting:
        assert (waiting.status, waiting.headers["content-type"], waiting.chunked) == (200, "application/json", True)
        engine.start(container)
        body = waiting.read()
    expected = b'{"Error":null,"StatusCode":3}\n' if engine.is_dockerd else b'{"StatusCode":3}\n'
    assert body == expected


def test_WAI2_bad_condition(engine: Engine) -> None:
    container = engine.create("true")
    answer = engine.http.post(f"/containers/{container}/wait", query={"condition": "bogus"})
    if engine.is_dockerd:
        assert answer.status == 200  # 20.10 takes any word
    else:
        assert (answer.status, answer.message) == (400, 'invalid condition: "bogus"')


def test_WAI3_not_running_is_met_at_once(engine: Engine) -> None:
    container = engine.create("sh", "-c", "exit 5")
    for condition in ("", "not-running"):
        assert engine.wait(container, condition) == 0
    engine.start(container)
    assert engine.wait(container) == 5
    assert engine.wait(container) == 5


def test_WAI3_resolves_at_every_exit(engine: Engine) -> None:
    policy = {"RestartPolicy": {"Name": "always"}}
    container = engine.run("sh", "-c", "sleep 0.2; exit 6", HostConfig=policy)
    # moby reads the code after it woke the waiter: the pauses must be long enough that the next run has not begun by then.
    eventually(lambda: engine.inspect(container)["RestartCount"] >= 3)
    assert [engine.wait(container), engine.wait(container)] == [6, 6]


def test_WAI4_next_exit_never_misses_a_short_life(engine: Engine) -> None:
    for _ in range(5):
        container = engine.create("true")
        with open_wait(engine, container, "next-exit") as waiting:
            engine.start(container)
            assert next(waiting.json_values())["StatusCode"] == 0


def test_WAI4_next_exit_is_not_met_by_the_present_state(engine: Engine) -> None:
    container = engine.run("sh", "-c", "exit 7")
    engine.wait(container)
    with open_wait(engine, container, "next-exit") as waiting:
        assert not waiting.at_end(within=0.3)
    with open_wait(engine, container, "next-exit") as waiting:
        engine.start(container)
        assert next(waiting.json_values())["StatusCode"] == 7


def test_WAI5_removed(engine: Engine) -> None:
    container = engine.run("sh", "-c", "exit 8")
    with open_wait(engine, container, "removed") as waiting:
        engine.wait(container)
        assert engine.http.delete(f"/containers/{container}").status == 204
        assert next(waiting.json_values())["StatusCode"] == 8


def test_WAI5_removal_of_one_never_started(engine: Engine) -> None:
    container = engine.create("true")
    with open_wait(engine, container, "removed") as removed, open_wait(engine, container, "next-exit") as next_exit:
        assert engine.http.delete(f"/containers/{container}").status == 204
        assert next(removed.json_values())["StatusCode"] == 0
        assert next(next_exit.json_values())["StatusCode"] == 0


def test_WAI5_removed_with_auto_remove(engine: Engine) -> None:
    container = engine.create("sh", "-c", "exit 9", HostConfig={"AutoRemove": True})
    with open_wait(engine, container, "removed") as waiting:
        engine.start(container)
        assert next(waiting.json_values())["StatusCode"] == 9
    assert engine.http.get(f"/containers/{container}/json").status == 404


def test_WAI6_gone_after_removal_and_a_lost_client_harms_nobody(engine: Engine) -> None:
    container = engine.create("sh", "-c", "exit 2")
    open_wait(engine, container, "next-exit").close()
    with open_wait(engine, container, "next-exit") as waiting:
        engine.start(container)
        assert next(waiting.json_values())["StatusCode"] == 2
    engine.http.delete(f"/containers/{container}")
    assert engine.http.post(f"/containers/{container}/wait").status == 404


def test_WAI7_a_rename_does_not_matter(engine: Engine) -> None:
    container = engine.create("sh", "-c", "exit 3", name="before")
    with open_wait(engine, "before", "next-exit") as waiting:
        assert engine.http.post("/containers/before/rename?name=after").status == 204
        engine.start(container)
        assert next(waiting.json_values())["StatusCode"] == 3


def test_WAI_many_waiters(engine: Engine) -> None:
    container = engine.run("sh", "-c", "read line; exit 4", OpenStdin=True)
    codes: list[int] = []
    threads = [threading.Thread(target=lambda: codes.append(engine.wait(container))) for _ in range(10)]
    for thread in threads:
        thread.start()
    with engine.attach(container) as attached:
        attached.send(b"go\n")
    deadline = time.monotonic() + 20
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))
    assert codes == [4] * 10
