"""What attached clients share: memory for what they have not read, and the loop's time."""

from __future__ import annotations

import asyncio

from wherry.engine.containers.crowd import LEAST, MOST, QUEUED, Crowd


def test_share_of_memory() -> None:
    async def test() -> None:
        crowd = Crowd()
        assert crowd.share == MOST
        for _ in range(100):
            crowd.enter()
        assert crowd.share == QUEUED // 100
        for _ in range(1000):
            crowd.enter()
        assert crowd.share == LEAST
        for _ in range(1099):
            crowd.leave()
        assert crowd.share == MOST

    asyncio.run(test())


def test_one_turn_a_round_of_the_loop() -> None:
    async def test() -> None:
        crowd, order, rounds = Crowd(), [], []
        now = 0

        async def work(name: int) -> None:
            for _ in range(3):
                await crowd.turn()
                order.append(name)
                rounds.append(now)

        tasks = [asyncio.create_task(work(name)) for name in range(5)]
        tasks[2].cancel()  # one that gives up holds up nobody
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            now += 1
        assert order == [0, 1, 3, 4] * 3
        assert len(set(rounds)) == len(rounds), "never two in one round"

    asyncio.run(test())
