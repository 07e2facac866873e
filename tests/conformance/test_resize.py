"""POST resize."""

from __future__ import annotations

from tests.support.engines import Engine
from tests.support.scenes import last_event


def test_RES1d_event(engine: Engine) -> None:
    container = engine.run("sleep", "1000", Tty=True)
    assert engine.http.post(f"/containers/{container}/resize?h=33&w=77").status == 200
    attributes = last_event(engine, "resize", container=[container])["Actor"]["Attributes"]
    assert (attributes["height"], attributes["width"]) == ("33", "77")


def test_RES1_bad_sizes_and_not_running(engine: Engine) -> None:
    container = engine.create("sh", Tty=True, OpenStdin=True)
    for query in ("", "?h=abc&w=1", "?h=1"):
        answer = engine.http.post(f"/containers/{container}/resize{query}")
        assert (answer.status, "strconv.Atoi: parsing" in answer.message) == (400, True)
    answer = engine.http.post(f"/containers/{container}/resize?h=10&w=20")
    assert (answer.status, answer.message.lower()) == (409, f"container {container} is not running")


def test_RES1_resize(engine: Engine) -> None:
    command = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done"
    container = engine.run("sh", "-c", command, Tty=True, OpenStdin=True)
    with engine.open_logs(container, follow=1) as logs:
        logs.read_until(b"ready")
        assert engine.http.post(f"/containers/{container}/resize?h=33&w=77").status == 200
        logs.read_until(b"33 77")


def test_RES1_without_a_terminal(engine: Engine) -> None:
    container = engine.run_idle()
    assert engine.http.post(f"/containers/{container}/resize?h=10&w=20").status == 200
    assert engine.status(container) == "running"
