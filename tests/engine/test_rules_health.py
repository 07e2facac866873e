"""Health checks in running containers."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.support.engines import Engine
from tests.support.http import PATIENCE, eventually

TENTH = 100_000_000  # ns


def checked(engine: Engine, *test: str, **options: Any) -> str:
    """A running container whose health is checked ten times a second."""
    check = {"Test": list(test), "Interval": TENTH, "Retries": 2} | options
    return engine.run_idle(Healthcheck=check)


def health(engine: Engine, container: str) -> Any:
    return engine.state(container)["Health"]


def becomes(engine: Engine, container: str, status: str) -> Any:
    eventually(lambda: health(engine, container)["Status"] == status, what=f"{container} {status}")
    return health(engine, container)


def events(engine: Engine, container: str, **filters: list[str]) -> list[Any]:
    asked = {"container": [container]} | filters
    with engine.http.open(
        "GET", "/events", query={"since": 1, "until": f"{time.time():.9f}", "filters": asked}
    ) as exchange:
        return [json.loads(line) for line in exchange.read().splitlines()]


def test_HEA1_HEA2_starting_healthy_unhealthy(wherry: Engine) -> None:
    container = checked(wherry, "CMD", "test", "!", "-e", "/sick")
    state = health(wherry, container)
    assert (state["Status"], state["FailingStreak"], state["Log"]) == ("starting", 0, [])
    state = becomes(wherry, container, "healthy")
    assert set(state["Log"][0]) == {"Start", "End", "ExitCode", "Output"}
    assert state["Log"][0]["ExitCode"] == 0
    shown = wherry.http.get("/containers/json").json[0]["Status"]
    assert shown.endswith("(healthy)")
    wherry.exec(container, "touch", "/sick")
    state = becomes(wherry, container, "unhealthy")
    assert state["FailingStreak"] >= 2
    eventually(lambda: len(health(wherry, container)["Log"]) == 5)
    wherry.exec(container, "rm", "/sick")
    assert becomes(wherry, container, "healthy")["FailingStreak"] == 0
    time.sleep(0.3)
    words = [event["Action"] for event in events(wherry, container, event=["health_status"])]
    assert words == ["health_status: healthy", "health_status: unhealthy", "health_status: healthy"]


def test_HEA1_by_the_shell_and_its_events(wherry: Engine) -> None:
    container = checked(wherry, "CMD-SHELL", "echo out; echo err >&2; exit 3", Retries=1)
    state = becomes(wherry, container, "unhealthy")
    assert state["Log"][0]["ExitCode"] == 3
    assert sorted(state["Log"][0]["Output"].split()) == ["err", "out"]
    line = "/bin/sh -c echo out; echo err >&2; exit 3"
    first = events(wherry, container, event=["exec_create", "exec_start", "exec_die"])[:3]
    assert [event["Action"] for event in first] == [f"exec_create: {line}", f"exec_start: {line}", "exec_die"]
    assert first[2]["Actor"]["Attributes"]["exitCode"] == "3"
    assert wherry.inspect(container)["ExecIDs"] is None or len(wherry.inspect(container)["ExecIDs"]) <= 1


def test_HEA1_none(wherry: Engine) -> None:
    assert "Health" not in wherry.state(checked(wherry, "NONE"))
    assert "Health" not in wherry.state(wherry.run_idle())
    created = wherry.create("true", Healthcheck={"Test": ["CMD", "true"]})
    assert "Health" not in wherry.state(created)


def test_HEA1_the_images_check_is_inherited(wherry: Engine) -> None:
    config = {"Cmd": ["sleep", "60"], "Healthcheck": {"Test": ["CMD", "true"], "Interval": TENTH}}
    wherry.load_image("checked:latest", config)
    becomes(wherry, wherry.run(Image="checked"), "healthy")
    assert "Health" not in wherry.state(wherry.run(Image="checked", Healthcheck={"Test": ["NONE"]}))


def test_HEA2_the_start_period_forgives(wherry: Engine) -> None:
    container = checked(wherry, "CMD", "false", StartPeriod=60 * 10**9, Retries=1)
    eventually(lambda: len(health(wherry, container)["Log"]) >= 2)
    state = health(wherry, container)
    assert (state["Status"], state["FailingStreak"]) == ("starting", 0)


def test_HEA3_timeout(wherry: Engine) -> None:
    container = checked(wherry, "CMD-SHELL", "echo said; exec sleep 60", Timeout=int(3 * TENTH * PATIENCE), Retries=1)
    entry = becomes(wherry, container, "unhealthy")["Log"][0]
    shown = "300ms" if PATIENCE == 1 else f"{0.3 * PATIENCE:g}s"
    assert (entry["ExitCode"], entry["Output"]) == (-1, f"Health check exceeded timeout ({shown}): said\n")
    wherry.http.post(f"/containers/{container}/kill")
    assert wherry.status(container) == "exited"


def test_HEA3_output_is_cut_and_a_missing_command_is_a_failure(wherry: Engine) -> None:
    container = checked(wherry, "CMD-SHELL", "yes | head -c 100000")
    output = becomes(wherry, container, "healthy")["Log"][0]["Output"]
    assert output == "y\n" * 2048 + "..."
    container = checked(wherry, "CMD", "nosuchcommand", Retries=1)
    entry = becomes(wherry, container, "unhealthy")["Log"][0]
    assert entry["ExitCode"] != 0
    assert "executable file not found" in entry["Output"]


def test_HEA4_pause_suspends_and_exit_ends(wherry: Engine) -> None:
    container = checked(wherry, "CMD", "true")
    becomes(wherry, container, "healthy")
    assert wherry.http.post(f"/containers/{container}/pause").status == 204
    time.sleep(0.3)  # a probe may have been under way
    before = health(wherry, container)["Log"][-1]
    time.sleep(0.5)
    assert health(wherry, container)["Log"][-1] == before
    assert health(wherry, container)["Status"] == "healthy"
    assert wherry.http.post(f"/containers/{container}/unpause").status == 204
    eventually(lambda: health(wherry, container)["Log"][-1] != before)
    wherry.http.post(f"/containers/{container}/kill")
    assert health(wherry, container)["Status"] == "unhealthy"
    assert wherry.http.get("/containers/json", query={"all": 1, "filters": {"health": ["unhealthy"]}}).json
    wherry.start(container)
    assert health(wherry, container) == {"Status": "starting", "FailingStreak": 0, "Log": []}
    becomes(wherry, container, "healthy")


def test_LST7_health_filter(wherry: Engine) -> None:
    sound = checked(wherry, "CMD", "true")
    plain = wherry.run_idle()
    becomes(wherry, sound, "healthy")

    def listed(*words: str) -> set[str]:
        return {c["Id"] for c in wherry.http.get("/containers/json", query={"filters": {"health": list(words)}}).json}

    assert listed("healthy") == {sound}
    assert listed("none") == {plain}
    assert listed("none", "healthy") == {sound, plain}
    assert listed("starting") == set()
