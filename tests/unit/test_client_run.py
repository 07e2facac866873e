"""``run`` when something comes between: cancellation, deadlines, input that is none."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from client_fake import MULTIPLEXED, FakeEngine, Peer, Received
from test_client_channels import Job

import wherry


def test_run_leaves_no_container_wherever_it_is_cancelled(fake: FakeEngine) -> None:
    """Cancelled after one turn of the loop, after two, …, up to its end."""
    job = Job(fake)

    async def cancel_after(docker: wherry.AsyncClient, turns: int) -> bool:
        task = asyncio.ensure_future(docker.containers.run("busybox"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return False
        return True

    async def main() -> None:
        async with wherry.connect_async(fake.url) as docker:
            await docker.api_version()
            for turns in range(500):
                job.steps.clear()
                job.ended.clear()
                finished = await cancel_after(docker, turns)
                assert ("create" in job.steps) == ("delete" in job.steps), (turns, job.steps)
                if finished:
                    return
        pytest.fail("it never came to its end")

    asyncio.run(main())


def test_run_cancelled_by_a_scope_leaves_no_container(fake: FakeEngine) -> None:
    import anyio

    job = Job(fake)
    creating = threading.Event()

    def create(peer: Peer, request: Received) -> None:
        creating.wait(5)
        peer.reply(201, {"Id": "job", "Warnings": []})

    fake.routes["POST /containers/create"] = create

    async def main() -> None:
        async with wherry.connect_async(fake.url) as docker:
            await docker.api_version()
            timer = threading.Timer(0.3, creating.set)
            timer.start()
            with anyio.move_on_after(0.1) as scope:
                await docker.containers.run("busybox")
            assert scope.cancelled_caught

    anyio.run(main)
    assert job.steps == ["delete"]


@pytest.mark.parametrize("slow", ["attach", "wait", "start"])
def test_run_ends_at_its_deadline_wherever_the_engine_hangs(fake: FakeEngine, docker: Any, slow: str) -> None:
    job = Job(fake, sleeps=True)
    released = threading.Event()

    def hang(peer: Peer, request: Received) -> None:
        released.wait(20)

    fake.routes[f"POST /containers/job/{slow}"] = hang
    began = time.monotonic()
    with pytest.raises(wherry.Timeout, match=r"did not end within 0\.2 s"):
        docker.containers.run("busybox", timeout=0.2)
    released.set()
    assert time.monotonic() - began < 15
    assert job.steps[-1] == "delete"


def exec_routes(fake: FakeEngine, process: dict[str, Any]) -> None:
    fake.routes["POST /containers/web/exec"] = (201, {"Id": "e1"})
    fake.routes["POST /exec/e1/start"] = lambda peer, request: peer.hijack(MULTIPLEXED)
    fake.routes["GET /exec/e1/json"] = (200, process)


def test_the_deadline_of_an_exec_holds_after_its_output_has_ended(fake: FakeEngine, docker: Any) -> None:
    exec_routes(fake, {"ID": "e1", "Running": True, "ExitCode": None})
    with pytest.raises(wherry.Timeout, match=r"did not end within 0\.2 s"):
        docker.exec.run("web", ["sh", "-c", "exec >&- 2>&-; sleep 60"], timeout=0.2)


@pytest.mark.parametrize("group", ["containers", "exec"])
def test_input_that_is_no_bytes_is_refused_before_anything_is_begun(fake: FakeEngine, docker: Any, group: str) -> None:
    with pytest.raises(TypeError, match=r"input must be bytes, not str; a text goes as text\.encode\(\)"):
        getattr(docker, group).run("web", "sort", input="b\na\n")
    assert fake.received == []
