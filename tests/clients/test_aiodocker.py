"""aiodocker (PyPI) against Wherry: its attach, exec and websocket are not docker-py's."""

from __future__ import annotations

import ast
import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiodocker
import pytest
from aiodocker.containers import DockerContainer
from aiodocker.execs import Exec
from aiodocker.stream import Stream

from tests.support.engines import Engine

IDLE = ["sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 3600 & wait; done"]


@asynccontextmanager
async def container_of(client: aiodocker.Docker, *command: str, **config: Any) -> AsyncIterator[Any]:
    """Created, not started; removed in the end."""
    container = await client.containers.create({"Image": "busybox", "Cmd": list(command)} | config)
    try:
        yield container
    finally:
        await container.delete(force=True, v=True)


@pytest.fixture
def run(wherry: Engine) -> Callable[[Callable[[aiodocker.Docker], Awaitable[None]]], None]:
    """Run a coroutine function with a client, for at most 30 seconds; nothing is left in the engine."""

    def run(test: Callable[[aiodocker.Docker], Awaitable[None]]) -> None:
        async def body() -> None:
            async with asyncio.timeout(30), aiodocker.Docker(url=wherry.address) as client:
                await test(client)

        asyncio.run(body())
        assert wherry.containers() == []

    return run


Run = Callable[[Callable[[aiodocker.Docker], Awaitable[None]]], None]


async def read_to_end(stream: Any) -> dict[int, bytes]:
    """What each stream (1 stdout, 2 stderr) gives until its end."""
    seen: dict[int, bytes] = {}
    while (message := await stream.read_out()) is not None:
        seen[message.stream] = seen.get(message.stream, b"") + message.data
    return seen


def test_create_start_logs_wait_delete(run: Run) -> None:
    async def test(client: aiodocker.Docker) -> None:
        version = await client.version()
        assert version["ApiVersion"] == "1.44"
        script = "echo out; echo err >&2; exit 3"
        async with container_of(client, "sh", "-c", script, Labels={"for": "aiodocker"}) as container:
            await container.start()
            assert (await container.wait())["StatusCode"] == 3
            assert await container.log(stdout=True) == ["out\n"]
            assert await container.log(stderr=True) == ["err\n"]
            shown = await container.show()
            assert (shown["State"]["Status"], shown["Config"]["Labels"]) == ("exited", {"for": "aiodocker"})
            listed = await client.containers.list(all=1, filters='{"label": ["for=aiodocker"]}')
            assert [found.id for found in listed] == [container.id]
        with pytest.raises(aiodocker.DockerError) as gone:
            await container.show()
        assert (gone.value.status, gone.value.message) == (404, f"No such container: {container.id}")

    run(test)


def test_logs_follow(run: Run) -> None:
    async def test(client: aiodocker.Docker) -> None:
        script = "for n in 1 2 3; do echo $n; sleep 0.1; done"
        async with container_of(client, "sh", "-c", script) as container:
            await container.start()
            lines = [line async for line in container.log(stdout=True, follow=True)]
            assert "".join(lines) == "1\n2\n3\n"

    run(test)


def test_attach(run: Run) -> None:
    async def test(client: aiodocker.Docker) -> None:
        script = "read line; echo out $line; echo err $line >&2"
        options = {"OpenStdin": True, "StdinOnce": True, "AttachStdin": True}
        async with container_of(client, "sh", "-c", script, **options) as container:
            async with container.attach(stdin=True, stdout=True, stderr=True) as stream:
                await container.start()
                await stream.write_in(b"typed\n")
                assert await read_to_end(stream) == {1: b"out typed\n", 2: b"err typed\n"}
            assert (await container.wait())["StatusCode"] == 0

    run(test)


def test_attach_with_a_terminal_and_earlier_output(run: Run) -> None:
    async def test(client: aiodocker.Docker) -> None:
        script = "stty -echo; echo first; read line; echo got $line"
        async with container_of(client, "sh", "-c", script, OpenStdin=True, Tty=True) as container:
            await container.start()
            async with container.attach(stdin=True, stdout=True, stderr=True, logs=True) as stream:
                seen = b""
                while b"first\r\n" not in seen:
                    seen += (await stream.read_out()).data
                await stream.write_in(b"typed\n")
                assert await read_to_end(stream) == {1: b"got typed\r\n"}

    run(test)


def test_exec(run: Run) -> None:
    async def test(client: aiodocker.Docker) -> None:
        async with container_of(client, *IDLE) as container:
            await container.start()

            script = "read line; echo $COLOUR $line; pwd; echo err >&2; exit 6"
            execution = await container.exec(
                ["sh", "-c", script], stdin=True, environment={"COLOUR": "green"}, workdir="/tmp", user="5"
            )
            async with execution.start() as stream:
                await stream.write_in(b"typed\n")
                assert await read_to_end(stream) == {1: b"green typed\n/tmp\n", 2: b"err\n"}
            shown = await execution.inspect()
            assert (shown["ExitCode"], shown["Running"]) == (6, False)

            terminal = await container.exec("sh -c 'read line; stty size; tty'", stdin=True, tty=True)
            async with terminal.start() as stream:
                assert (await terminal.inspect())["Running"] is True
                await terminal.resize(h=31, w=99)
                await stream.write_in(b"\n")
                seen = (await read_to_end(stream))[1]
            assert b"31 99\r\n/dev/pts/" in seen

            detached = await container.exec("touch /tmp/touched")
            assert await detached.start(detach=True) == b""
            while (await detached.inspect())["Running"]:
                await asyncio.sleep(0.02)
            assert (await detached.inspect())["ExitCode"] == 0

    run(test)


def test_websocket_attach(run: Run) -> None:
    async def test(client: aiodocker.Docker) -> None:
        script = "stty -echo; echo ready; read line; echo got $line; exit 2"
        async with container_of(client, "sh", "-c", script, OpenStdin=True, Tty=True) as container:
            await container.start()
            socket = await container.websocket(stdin=True, stdout=True, stderr=True, stream=True, logs=True)
            seen = b""
            while b"ready\r\n" not in seen:
                seen += await socket.receive_bytes()
            await socket.send_bytes(b"typed\n")
            async for message in socket:
                seen += message.data
            assert seen == b"ready\r\ngot typed\r\n"
            assert socket.closed
            await socket.close()
            assert (await container.wait())["StatusCode"] == 2

    run(test)


def test_detaching_and_resizing(run: Run) -> None:
    async def test(client: aiodocker.Docker) -> None:
        script = "read line; stty size; read line"
        async with container_of(client, "sh", "-c", script, OpenStdin=True, Tty=True) as container:
            await container.start()
            await container.resize(h=12, w=34)
            async with container.attach(
                stdin=True, stdout=True, stderr=False, detach_keys="ctrl-x,y", logs=False, timeout=None
            ) as stream:
                await stream.write_in(b"\n")
                seen = b""
                while b"12 34\r\n" not in seen:
                    seen += (await stream.read_out()).data
                await stream.write_in(b"\x18y")
                assert await stream.read_out() is None
                await stream.close()
            assert (await container.show())["State"]["Running"] is True

            execution = await container.exec(
                "cat", stdin=True, stdout=True, stderr=False, tty=True, privileged=False, detach_keys="ctrl-x,y"
            )
            async with execution.start(timeout=None) as stream:
                await stream.write_in(b"\x18y")
                assert await stream.read_out() is None
            assert (await execution.inspect())["Running"] is True

    run(test)


def test_streams_of_a_websocket_without_a_terminal(run: Run) -> None:
    async def test(client: aiodocker.Docker) -> None:
        script = "read line; echo out $line; echo err $line >&2"
        async with container_of(client, "sh", "-c", script, OpenStdin=True) as container:
            await container.start()
            socket = await container.websocket(stdin=True, stdout=True, stderr=False, stream=True)
            await socket.send_bytes(b"typed\n")
            seen = b"".join([message.data async for message in socket])
            assert seen == b"out typed\n"  # raw, and of the chosen stream alone

    run(test)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (DockerContainer, ("attach", "exec", "websocket", "resize")),
        (Exec, ("inspect", "resize", "start")),
        (Stream, ("read_out", "write_in", "close")),
    ],
)
def test_every_option_of_these_is_used(kind: type, names: tuple[str, ...]) -> None:
    calls = [
        node
        for node in ast.walk(ast.parse(Path(__file__).read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    if kind is not DockerContainer:  # whose other methods are no subject here
        assert set(names) == {n for n, _ in inspect.getmembers(kind, inspect.isfunction) if not n.startswith("_")}
    for name in names:
        used = {keyword.arg for call in calls if call.func.attr == name for keyword in call.keywords}
        assert any(call.func.attr == name for call in calls), name
        parameters = inspect.signature(getattr(kind, name)).parameters.values()
        options = {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
        missing = options - used - {"self", "cmd", "data"}
        assert not missing, name
