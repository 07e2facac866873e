"""ContainerWait: answer when a container has stopped, stops next, or is gone (WAI1 to WAI7)."""

from __future__ import annotations

import asyncio

from wherry.api.errors import BadRequest
from wherry.engine.containers.container import Container


def arm(container: Container, condition: str | None) -> asyncio.Future[int]:
    """A future of the exit code, registered at once, so that a start right after the call is never missed (WAI4).

    Raises ``BadRequest`` for an unknown condition (WAI2).
    """
    match condition or "not-running":
        case "not-running":
            if not container.state.running:  # one that waits for its next run counts as running (WAI3)
                done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
                done.set_result(container.state.exit_code)
                return done
            return container.next_exit()
        case "next-exit":
            return container.next_exit()
        case "removed":
            return container.removal()
    raise BadRequest(f'invalid condition: "{condition}"')
