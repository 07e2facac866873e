"""Health checks."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import pytest

from tests.support.engines import Engine
from tests.support.http import eventually
from tests.support.scenes import actions_so_far


def health(engine: Engine, container: str) -> Any:
    return engine.state(container)["Health"]


def becomes(engine: Engine, container: str, status: str) -> Any:
    return eventually(
        lambda: (h := health(engine, container))["Status"] == status and h, within=15, what=f"health {status}"
    )


MS = 1_000_000


def checked(engine: Engine, test: list[str], *command: str, interval: int = 300 * MS, **more: Any) -> str:
    options: dict[str, Any] = {"Healthcheck": {"Test": test, "Interval": interval, "Retries": 2} | more}
    if command:
        return engine.run(*command, **options)
    return engine.run_idle(**options)


@pytest.mark.parametrize(
    "test", [["CMD", "test", "-e", "/etc/passwd"], ["CMD-SHELL", "test -e /etc/passwd && echo fine"]]
)
def test_HEA1a_forms_of_a_test(engine: Engine, test: list[str]) -> None:
    container = checked(engine, test)
    assert health(engine, container)["Status"] in ("starting", "healthy")
    seen = becomes(engine, container, "healthy")
    assert (seen["FailingStreak"], seen["Log"][-1]["ExitCode"]) == (0, 0)
    if test[0] == "CMD-SHELL":
        assert seen["Log"][-1]["Output"] == "fine\n"
    assert set(seen["Log"][-1]) == {"Start", "End", "ExitCode", "Output"}


def test_HEA1b_none_turns_it_off(engine: Engine) -> None:
    image = {"Cmd": ["true"], "Healthcheck": {"Test": ["CMD", "true"], "Interval": 300 * MS}}
    engine.load_image("checking:latest", image)
    container = engine.run("sleep", "1000", Image="checking", Healthcheck={"Test": ["NONE"]})
    assert "Health" not in engine.state(container)
    inherited = engine.run("sleep", "1000", Image="checking")
    becomes(engine, inherited, "healthy")


def test_HEA2a_failures_up_to_the_retries(engine: Engine) -> None:
    container = checked(engine, ["CMD-SHELL", "test -e /good"])
    seen = becomes(engine, container, "unhealthy")
    assert seen["FailingStreak"] >= 2
    assert seen["Log"][-1]["ExitCode"] == 1
    assert engine.http.get("/containers/json", query={"filters": {"health": ["unhealthy"]}}).json[0]["Id"] == container
    assert engine.exec(container, "touch", "/good")[0] == 0
    seen = becomes(engine, container, "healthy")
    assert seen["FailingStreak"] == 0


def test_HEA2b_failures_of_the_start_period_do_not_count(engine: Engine) -> None:
    container = checked(engine, ["CMD", "false"], StartPeriod=3600 * 1000 * MS)
    seen = eventually(lambda: len((h := health(engine, container))["Log"] or []) >= 3 and h)
    assert (seen["Status"], seen["FailingStreak"]) == ("starting", 0)


def test_HEA3a_time_out(engine: Engine) -> None:
    container = checked(engine, ["CMD-SHELL", "sleep 100"], Timeout=300 * MS)
    seen = becomes(engine, container, "unhealthy")
    last = seen["Log"][-1]
    assert last["ExitCode"] == -1
    assert last["Output"].startswith("Health check exceeded timeout (300ms)")


def test_HEA3b_output_and_log_are_bounded(engine: Engine) -> None:
    container = checked(engine, ["CMD-SHELL", "head -c 9000 /dev/zero | tr '\\0' x"], interval=100 * MS)
    seen = eventually(lambda: len((h := health(engine, container))["Log"] or []) >= 5 and h)
    assert len(seen["Log"]) == 5
    assert len(seen["Log"][0]["Output"]) <= 4096 + 3
    assert seen["Log"][0]["Output"].endswith("x...")


def test_HEA4a_probes_are_told_as_execs(engine: Engine) -> None:
    container = checked(engine, ["CMD", "true"])
    becomes(engine, container, "healthy")
    seen = eventually(lambda: "exec_die" in (a := actions_so_far(engine, container)) and a)
    assert {"exec_create", "exec_start", "exec_die"} <= {action.partition(":")[0] for action in seen}


def test_HEA4b_changes_are_told_once(engine: Engine) -> None:
    container = checked(engine, ["CMD", "true"], interval=150 * MS)
    eventually(lambda: actions_so_far(engine, container).count("exec_die") >= 3)
    assert [a for a in actions_so_far(engine, container) if a.startswith("health")] == ["health_status: healthy"]


def test_HEA4c_PAU2i_no_probes_while_paused(engine: Engine) -> None:
    container = checked(engine, ["CMD", "true"], interval=200 * MS)
    becomes(engine, container, "healthy")
    assert engine.http.post(f"/containers/{container}/pause").status == 204
    time.sleep(0.3)
    before = actions_so_far(engine, container).count("exec_die")
    time.sleep(1.0)
    assert actions_so_far(engine, container).count("exec_die") == before
    assert engine.http.post(f"/containers/{container}/unpause").status == 204
    eventually(lambda: actions_so_far(engine, container).count("exec_die") > before)


def test_HEA4d_after_the_end_and_a_restart(engine: Engine) -> None:
    container = checked(engine, ["CMD", "true"], "sleep", "1000", interval=1000 * MS)
    becomes(engine, container, "healthy")
    assert engine.http.post(f"/containers/{container}/kill").status == 204
    assert health(engine, container)["Status"] == "unhealthy"
    engine.start(container)
    assert health(engine, container)["Status"] == "starting"
    becomes(engine, container, "healthy")


def nanoseconds(text: str) -> int:
    whole, _, fraction = text.rstrip("Z").partition(".")
    return int(datetime.fromisoformat(f"{whole}+00:00").timestamp()) * 10**9 + int(fraction.ljust(9, "0") or 0)


def test_HEA1c_the_first_probe_after_one_interval(engine: Engine) -> None:
    container = checked(engine, ["CMD", "true"], interval=1000 * MS)
    seen = becomes(engine, container, "healthy")
    # "2026-11-29T15:00:00.123456789Z", with an offset in place of the Z where the engine writes local time
    began, started = seen["Log"][0]["Start"], engine.state(container)["StartedAt"]
    if began.endswith("Z"):
        assert nanoseconds(began) - nanoseconds(started) >= 900 * MS


def test_HEA1d_the_shell_of_the_container(engine: Engine) -> None:
    check = {"Test": ["CMD-SHELL", "echo fine"], "Interval": 300 * MS}
    container = engine.run_idle(Healthcheck=check, Shell=["/bin/sh", "-x", "-c"])
    assert "+ echo fine" in becomes(engine, container, "healthy")["Log"][-1]["Output"]


def test_HEA2c_one_success_ends_a_streak(engine: Engine) -> None:
    container = checked(engine, ["CMD", "test", "-e", "/well"], interval=200 * MS)
    assert becomes(engine, container, "unhealthy")["FailingStreak"] >= 2
    engine.exec(container, "touch", "/well")
    assert becomes(engine, container, "healthy")["FailingStreak"] == 0
    engine.exec(container, "rm", "/well")
    assert becomes(engine, container, "unhealthy")["FailingStreak"] >= 2
