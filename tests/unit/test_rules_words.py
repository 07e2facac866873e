"""Durations, times, filters and the matching of events, without a machine."""

from __future__ import annotations

import time
from typing import Any

import pytest

from wherry.api.errors import BadRequest
from wherry.api.models.containers import Health, HealthcheckResult, HostConfig, Resources, RestartPolicy
from wherry.engine.containers import health, update
from wherry.engine.containers.container import Container, Spec, State
from wherry.engine.containers.list import status_text
from wherry.engine.containers.times import ZERO, human_duration, rfc3339nano
from wherry.engine.durations import format_duration, parse_duration
from wherry.engine.event_filters import matcher, moment
from wherry.engine.events import Event
from wherry.engine.filters import match_labels, parse_until

SECOND = 10**9


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "Less than a second"),
        (0.9, "Less than a second"),
        (1, "1 second"),
        (47, "47 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (180, "3 minutes"),
        (3599, "59 minutes"),
        (3600, "About an hour"),
        (3600 * 1.5, "2 hours"),
        (3600 * 47, "47 hours"),
        (3600 * 48, "2 days"),
        (86400 * 13, "13 days"),
        (86400 * 14, "2 weeks"),
        (86400 * 60, "2 months"),
        (86400 * 365 * 2, "2 years"),
    ],
)
def test_LST10_durations(seconds: float, words: str) -> None:
    assert human_duration(seconds) == words


def shown(code: int = 0, health_status: str = "", **state: Any) -> str:
    spec = Spec(
        id="a" * 64, name="n", created=0, image_id="", image_reference="", path="", args=[], config=None, host_config=None,  # type: ignore[arg-type]
        state=State(**state, exit_code=code, health=Health(status=health_status) if health_status else None),
    )  # fmt: skip
    container = Container.__new__(Container)
    container.spec = spec
    return status_text(container)


def test_LST10_status_words() -> None:
    ago = time.time_ns() - 180 * SECOND
    up = {"running": True, "started_at": ago}
    assert shown(**up) == "Up 3 minutes"
    assert shown(**up, paused=True) == "Up 3 minutes (Paused)"
    assert shown(**up, health_status="starting") == "Up 3 minutes (health: starting)"
    assert shown(**up, health_status="healthy") == "Up 3 minutes (healthy)"
    assert shown(**up, health_status="unhealthy") == "Up 3 minutes (unhealthy)"
    assert shown(1, **up, restarting=True, finished_at=ago) == "Restarting (1) 3 minutes ago"
    assert shown(3, started_at=ago, finished_at=ago, health_status="unhealthy") == "Exited (3) 3 minutes ago"
    assert shown() == "Created"
    assert shown(dead=True, started_at=ago) == "Dead"
    assert shown(removing=True, dead=True) == "Removal In Progress"


def test_N5_times() -> None:
    assert rfc3339nano(0) == ZERO == "0001-01-01T00:00:00Z"
    assert rfc3339nano(1_600_000_000_500_000_000) == "2020-09-13T12:26:40.5Z"
    assert rfc3339nano(1_600_000_000_000_000_001) == "2020-09-13T12:26:40.000000001Z"
    assert rfc3339nano(1_600_000_000_000_000_000) == "2020-09-13T12:26:40Z"


@pytest.mark.parametrize(
    ("nanoseconds", "words"),
    [
        (0, "0s"),
        (5, "5ns"),
        (1_500, "1.5µs"),
        (100_000_000, "100ms"),
        (1_500_000_000, "1.5s"),
        (30 * SECOND, "30s"),
        (90 * SECOND, "1m30s"),
        (3600 * SECOND, "1h0m0s"),
        (3661 * SECOND + 5, "1h1m1.000000005s"),
        (-90 * SECOND, "-1m30s"),
    ],
)
def test_HEA3_durations_as_go_prints_them(nanoseconds: int, words: str) -> None:
    assert format_duration(nanoseconds) == words
    assert parse_duration(words) == nanoseconds


@pytest.mark.parametrize("text", ["", "5", "s", "5x", "--5s", "+-5s", "5s ", "1e3s", "9" * 300 + "h", "٣s"])
def test_PRU1_no_durations(text: str) -> None:
    with pytest.raises(ValueError):
        parse_duration(text)


def test_PRU1_until() -> None:
    now = time.time_ns()
    assert abs(parse_until("10m") - (now - 600 * SECOND)) < SECOND
    assert abs(parse_until("1h30m") - (now - 5400 * SECOND)) < SECOND
    assert parse_until("1600000000") == 1_600_000_000 * SECOND
    assert parse_until("1600000000.5") == 1_600_000_000_500_000_000
    assert parse_until("2020-09-13T12:26:40Z") == 1_600_000_000 * SECOND
    assert parse_until("2020-09-13T14:26:40+02:00") == 1_600_000_000 * SECOND
    assert parse_until("0") == 0
    parse_until("2020-09-13")
    for bad in ("abc", "", "-5", "1.2.3", "9" * 40, "2020-13-01", "2020-09-13T12:26:40+99:00"):
        with pytest.raises(BadRequest) as caught:
            parse_until(bad)
        assert caught.value.message == f'failed to parse value as time or duration: "{bad}"'


def test_LST6_PRU3_labels() -> None:
    labels = {"a": "1", "b": ""}
    assert match_labels(labels, {"label": ["a", "b", "a=1", "b="]})
    assert not match_labels(labels, {"label": ["a", "c"]})
    assert not match_labels(labels, {"label": ["a=2"]})
    assert match_labels(labels, {"label!": ["c", "a=2"]})
    assert not match_labels(labels, {"label!": ["a=1"]})
    assert not match_labels(labels, {"label!": ["a=1", "b"]})
    assert match_labels(labels, {"label!": ["a", "c"]})  # not all of them, as moby


# events


def passes(happened: Event, /, **filters: list[str]) -> bool:
    return matcher(filters)(happened)


START = Event("container", "start", "abcd", {"name": "web-1", "image": "docker.io/library/busybox:1.36", "k": "v"}, 1)
CHECK = Event("container", "exec_start: true ", "abcd", {"name": "web-1"}, 1)
HEALTHY = Event("container", "health_status: healthy", "abcd", {"name": "web-1"}, 1)
IMAGE = Event("image", "tag", "sha256:12", {"name": "busybox:latest"}, 1)


def test_EVT4_filters() -> None:
    assert passes(START)
    assert passes(START, zzz=["1"])
    assert passes(START, type=[])
    assert passes(START, type=["container", "image"], event=["start", "stop"], scope=["local"])
    assert not passes(START, type=["image"])
    assert not passes(START, scope=["swarm"])
    assert passes(START, container=["web"])
    assert passes(START, container=["abc"])
    assert not passes(START, container=["eb-1"])
    assert not passes(IMAGE, container=["sha256"])
    assert passes(START, label=["k", "k=v"])
    assert not passes(START, label=["k=w"])


def test_EVT4_event_names() -> None:
    assert not passes(START, event=["sta"])
    assert passes(START, event=["exec_start", "sta"]), "one of the three words makes all of them prefixes"
    assert passes(CHECK, event=["exec_start"])
    assert passes(CHECK, event=["exec_start: true "])
    assert not passes(CHECK, event=["start"])
    assert passes(HEALTHY, event=["health_status"])
    assert passes(HEALTHY, event=["health_status: healthy"])
    assert not passes(HEALTHY, event=["health_status: unhealthy"])


@pytest.mark.parametrize("name", ["busybox", "docker.io/library/busybox:1.36"])
def test_EVT4_images_by_name_with_and_without_tag(name: str) -> None:
    assert passes(START, image=[name])


def test_EVT4_images() -> None:
    assert passes(IMAGE, image=["sha256:12"])
    assert passes(IMAGE, image=["busybox"])
    assert not passes(IMAGE, image=["busy"])
    assert not passes(Event("volume", "create", "busybox", {}, 1), image=["busybox"])


def test_EVT3_moments() -> None:
    assert moment(None) is moment("") is None
    assert moment("5") == 5 * SECOND
    assert moment("5.000000001") == 5 * SECOND + 1
    assert moment("1.5") == 1_500_000_000
    for bad in ("abc", "5.", "1.1234567890", "2020-09-13T12:26:40Z", "٣"):
        with pytest.raises(BadRequest, match=r'strconv\.ParseInt: parsing ".*": invalid syntax'):
            moment(bad)


# health


def result(code: int) -> HealthcheckResult:
    return HealthcheckResult(exit_code=code)


def test_HEA2_streaks_and_start_period() -> None:
    state = Health(status="starting", log=[])

    def judge(code: int, *, in_start_period: bool = False) -> tuple[bool, str, int]:
        changed = health.judge(state, result(code), retries=2, in_start_period=in_start_period)
        return changed, state.status, state.failing_streak

    assert judge(1, in_start_period=True) == (False, "starting", 0)
    assert judge(0, in_start_period=True) == (True, "healthy", 0)
    assert judge(7, in_start_period=True) == (False, "healthy", 1)
    assert judge(-1) == (True, "unhealthy", 2)
    assert judge(1) == (False, "unhealthy", 3)
    assert judge(0) == (True, "healthy", 0)
    assert [entry.exit_code for entry in state.log or []] == [0, 7, -1, 1, 0], "the last five"


def test_HEA3_output_is_cut() -> None:
    output = health.Output()
    output.feed(1, b"x" * 4000)
    assert str(output) == "x" * 4000
    output.feed(2, b"y" * 96)
    assert len(str(output)) == 4096
    output.feed(1, b"z")
    assert str(output) == "x" * 4000 + "y" * 96 + "..."
    broken = health.Output()
    broken.feed(1, b"\xff")
    assert str(broken) == "\ufffd"


# update


@pytest.mark.parametrize(
    ("stored", "wanted", "message"),
    [
        ({"cpu_period": 1000}, {"nano_cpus": 10**9}, "Nano CPUs cannot be updated as CPU Period has already been set"),
        ({"cpu_quota": 1000}, {"nano_cpus": 10**9}, "Nano CPUs cannot be updated as CPU Quota has already been set"),
        ({"nano_cpus": 10**9}, {"cpu_quota": 5000}, "CPU Quota cannot be updated as NanoCPUs has already been set"),
        (
            {"memory_swap": 1 << 26},
            {"memory": 1 << 27},
            "Memory limit should be smaller than already set memoryswap limit",
        ),
    ],
)
def test_UPD1_conflicts(stored: dict[str, int], wanted: dict[str, int], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        update.merged(HostConfig(**stored), Resources(**wanted), None)  # type: ignore[arg-type]


def test_UPD1_no_policy_beside_auto_remove() -> None:
    host = HostConfig(auto_remove=True)
    with pytest.raises(BadRequest, match="Restart policy cannot be updated because AutoRemove is enabled"):
        update.merged(host, Resources(), RestartPolicy(name="always"))
    assert update.merged(host, Resources(), RestartPolicy(name="no")).restart_policy.name == "no"


def test_UPD2_zero_stays_and_no_limit_is_null() -> None:
    host = HostConfig(memory=1 << 26, memory_swap=1 << 27, cpu_shares=5, pids_limit=7)
    assert update.merged(host, Resources(), None) == host
    changed = update.merged(host, Resources(cpu_shares=9, pids_limit=-1, memory=1 << 25), None)
    assert (changed.cpu_shares, changed.pids_limit, changed.memory, changed.memory_swap) == (9, None, 1 << 25, 1 << 27)
    assert (host.cpu_shares, host.pids_limit) == (5, 7), "the settings of now are whole until the update is done"
