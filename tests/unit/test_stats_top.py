"""Stats shared by many readers, and the table of processes."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wherry.api.errors import BadRequest, Conflict, ServerError
from wherry.api.json import encode
from wherry.api.models.stats import ContainerStatsResponse, CpuStats, CpuUsage
from wherry.engine.containers import stats, top
from wherry.engine.containers.stats import Sampler, check, network_stats
from wherry.engine.containers.times import ZERO
from wherry.engine.oci.cgroup_stats import CgroupStats


class Group:
    """A control group whose CPU time is the number of readings."""

    def __init__(self) -> None:
        self.readings = 0

    def stats(self) -> CgroupStats:
        self.readings += 1
        return CgroupStats(cpu=CpuStats(cpu_usage=CpuUsage(total_usage=self.readings)))


def sampler(*, running: bool = True, network: str = "none") -> tuple[Sampler, Any, Group]:
    group = Group()
    container: Any = SimpleNamespace(
        id="c" * 64,
        short_id="c" * 12,
        name="demo",
        state=SimpleNamespace(running=running, pid=os.getpid() if running else 0),
        host_config=SimpleNamespace(network_mode=network, cgroup_parent=""),
        config=SimpleNamespace(network_disabled=False),
    )
    setup: Any = SimpleNamespace(container=lambda container_id, parent: group)
    return Sampler(container, setup), container, group


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "INTERVAL", 0.02)


def test_STT1_stream_and_one_shot_exclude_each_other() -> None:
    with pytest.raises(BadRequest, match=r"^cannot have stream=true and one-shot=true$"):
        check(stream=True, one_shot=True)
    check(stream=False, one_shot=True)


def test_STT2_a_single_answer_has_two_readings() -> None:
    answer = asyncio.run(sampler()[0].once())
    assert answer.cpu_stats.cpu_usage.total_usage == 2
    assert answer.precpu_stats.cpu_usage.total_usage == 1
    assert answer.read > answer.preread > ZERO
    assert (answer.name, answer.id) == ("/demo", "c" * 64)


def test_STT2_one_shot_has_one_and_no_name() -> None:
    answer = asyncio.run(sampler()[0].once(one_shot=True))
    assert answer.cpu_stats.cpu_usage.total_usage == 1
    assert answer.preread == ZERO
    assert b'"name"' not in encode(answer)


def test_STT3_a_stopped_container_answers_with_nothing() -> None:
    answer = asyncio.run(sampler(running=False)[0].once())
    assert answer == ContainerStatsResponse(read=ZERO, preread=ZERO, name="/demo", id="c" * 64)


def test_STT3_STT6_STT7_a_stream_for_many() -> None:
    async def main() -> None:
        source, container, group = sampler()

        async def read(count: int) -> list[ContainerStatsResponse]:
            answers: list[ContainerStatsResponse] = []
            stream = source.stream()
            async for answer in stream:
                answers.append(answer)
                if len(answers) == count:
                    break
            await stream.aclose()  # type: ignore[attr-defined]
            return answers

        results = await asyncio.gather(*(read(5) for _ in range(20)))
        assert group.readings <= 7  # one loop for all
        for answers in results:
            assert answers[0].preread == ZERO
            assert [answer.preread for answer in answers[1:]] == [answer.read for answer in answers[:-1]]
        readings = group.readings
        await asyncio.sleep(0.06)
        assert group.readings == readings  # nobody subscribes: nothing is read

        container.state.running = False
        assert (await read(2))[1].read == ZERO
        endless = asyncio.get_running_loop().create_task(read(10_000))
        await asyncio.sleep(0.03)
        source.close()
        assert await asyncio.wait_for(endless, 5)
        assert await read(1) == []

    asyncio.run(main())


def test_STT6_a_reading_that_fails_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where no descriptor is left: neither who reads then nor who comes later waits for ever."""
    source, _, group = sampler()
    stats_of = group.stats

    def stats_at_times() -> CgroupStats:
        reading = stats_of()
        if group.readings % 2:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return reading

    monkeypatch.setattr(group, "stats", stats_at_times)

    async def main() -> None:
        for expected in ([2, 4], [6]):
            async with asyncio.timeout(10), aclosing(source.stream()) as stream:
                seen = [(await anext(stream)).cpu_stats.cpu_usage.total_usage for _ in expected]
                assert seen == expected

    asyncio.run(main())


def test_STT5_networks() -> None:
    answer = asyncio.run(sampler(network="host")[0].once(one_shot=True))
    assert b'"networks"' not in encode(answer)
    assert "lo" not in network_stats(os.getpid())
    assert network_stats(2**22 + 1) == {}


# top


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture
def process() -> Iterator[int]:
    child = subprocess.Popen(["sleep", "1000"])
    while _state(child.pid) != "S" or not Path(f"/proc/{child.pid}/cmdline").read_bytes().startswith(b"sleep"):
        time.sleep(0.001)
    yield child.pid
    child.kill()
    child.wait()


def table(pids: list[int], args: str | None) -> tuple[list[str], list[list[str]]]:
    answer = asyncio.run(top.processes(pids, args))
    return answer.titles or [], answer.processes or []


def test_TOP1_the_default_is_ef(process: int) -> None:
    titles, rows = table([process], None)
    assert titles == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert [(row[1], row[2], row[-1]) for row in rows] == [(str(process), str(os.getpid()), "sleep 1000")]


@pytest.mark.parametrize(
    "args", ["-ef", "aux", "-o pid,ppid,pgid,sid,comm,user,uid,gid,tty,stat,state,vsz,ni,nlwp,args", "-eo pid,cmd"]
)
def test_TOP4_our_own_table_is_that_of_ps(process: int, args: str) -> None:
    own = table([process], args)
    text = asyncio.run(top._ask_ps(args.split(), [process]))
    asked = top.parse(text, [process])
    assert own[0] == asked.titles
    moving = {"C", "%CPU", "TIME", "RSS", "STIME", "START", "%MEM"}
    for title, mine, theirs in zip(own[0], own[1][0], (asked.processes or [[]])[0], strict=True):
        if title not in moving:
            assert mine == theirs, title


def test_TOP1_other_options_are_ps_own(process: int) -> None:
    titles, rows = table([process], "-el")
    assert titles[:2] == ["F", "S"]
    assert [row[titles.index("PID")] for row in rows] == [str(process)]
    _, rows = table([process], "axf")  # does not go with -q
    assert len(rows) == 1


def test_TOP1_no_column_may_pose_as_the_pid(process: int) -> None:
    with pytest.raises(ServerError, match=r'^specifying "comm=PID" is not allowed$'):
        table([process], "-o comm=PID")


def test_TOP2_errors(process: int) -> None:
    with pytest.raises(ServerError, match=r"^Couldn't find PID field in ps output$"):
        table([process], "-o comm")
    with pytest.raises(ServerError, match=r"^ps: error: unsupported option \(BSD syntax\)$"):
        table([process], "zz")


def test_TOP3_threads_follow_their_process() -> None:
    text = "PID TTY CMD\n1 ? init\n- - -\n22 ? a  b c\n- - -\n- - -\n"
    answer = top.parse(text, [22])
    assert answer.processes == [["22", "?", "a b c"], ["-", "-", "-"], ["-", "-", "-"]]


def test_TOP4_only_running_containers_have_processes() -> None:
    container: Any = SimpleNamespace(id="c", state=SimpleNamespace(running=False, restarting=False))
    setup: Any = None
    with pytest.raises(Conflict, match=r"^container c is not running$"):
        asyncio.run(top.of_container(container, setup, None))
