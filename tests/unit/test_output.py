"""Live output and who listens to it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

from wherry.engine.containers.container import Container
from wherry.engine.containers.follow import Follower
from wherry.engine.containers.output import Output
from wherry.engine.containers.rotation import LogPlaces


class Listener:
    def __init__(self, output: Output, patience: int = 100) -> None:
        self.got = b""
        self._output = output
        self._patience = patience

    def output(self, stream: int, data: bytes, before: int) -> None:
        self.got += data
        self._patience -= 1
        if not self._patience:
            self._output.leave(self)

    def ended(self) -> None:
        self.got += b"."


def test_ATT8_one_that_leaves_amid_a_piece_costs_no_other_that_piece() -> None:
    output = Output()
    first, second, third = Listener(output, patience=1), Listener(output, patience=2), Listener(output)
    for listener in (first, second, third):
        output.listen(listener)
    for piece in (b"a", b"b", b"c"):
        output.feed(1, piece)
    output.leave(first)
    assert output.listeners == 1
    output.end()
    assert (first.got, second.got, third.got) == (b"a", b"ab", b"abc.")


def test_LOG8_a_run_is_not_over_for_a_follower_before_its_rotation_is() -> None:
    async def main() -> None:
        places = LogPlaces(rotating=True)
        run = SimpleNamespace(over=asyncio.Event())
        container = SimpleNamespace(output=Output(), run=run, log_places=places)
        follower = Follower(cast(Container, container))
        run.over.set()
        waiting = asyncio.ensure_future(follower.wait(0))
        await asyncio.sleep(0)
        container.output.wake()
        assert await waiting is True, "there is more to read"
        waiting = asyncio.ensure_future(follower.wait(0))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        places.rotating = False
        container.output.wake()
        assert await waiting is False
        assert await follower.wait(0) is False

    asyncio.run(main())
