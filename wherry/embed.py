"""Where both ends meet: an engine in this process, and a way for a client to reach it over memory.

The engine runs on an event loop of its own in a thread of its own, whatever loop or thread the caller has: a slow caller
never slows it, and the client's sync and async sides reach it alike, through a socket pair.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from wherry.api.errors import ConnectError

if TYPE_CHECKING:
    from wherry.engine.engine import Engine

log = logging.getLogger(__name__)

T = TypeVar("T")


class EmbeddedEngine:
    """An engine on a thread of its own.

    >>> with EmbeddedEngine(data_root="/tmp/w/data", exec_root="/tmp/w/run") as engine:   # doctest: +SKIP
    ...     client = engine.client()
    """

    def __init__(self, **options: Any) -> None:
        """Starts it; ``options`` are ``Engine``'s. Raises ``ConnectError`` when it cannot start, saying why."""
        from wherry.engine.engine import Engine, EngineError

        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wherry-engine", daemon=True)
        self._thread.start()
        self._closed = False
        try:
            self.engine: Engine = self.run(self._start(Engine, options))
        except EngineError as error:
            self._stop_loop()
            raise ConnectError(f"no engine could be started in this process: {error}") from error
        except BaseException:
            self._stop_loop()
            raise

    @staticmethod
    async def _start(make: Callable[..., Engine], options: dict[str, Any]) -> Engine:
        engine = make(**options)
        await engine.start()
        return engine

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the engine's loop and return its result."""
        future: concurrent.futures.Future[T] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return future.result()

    def dial(self) -> socket.socket:
        """A new connection to the engine: the client's end of a socket pair."""

        async def connect() -> socket.socket:
            return self.engine.connect()

        return self.run(connect())

    def close(self, *, stop_containers: bool = False) -> None:
        """Leave the engine; containers run on unless ``stop_containers`` or an ephemeral engine."""
        if not self._closed:
            self._closed = True
            try:
                self.run(self.engine.close(stop_containers=stop_containers))
            finally:
                self._stop_loop()

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> EmbeddedEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve(
    hosts: Sequence[str],
    data_root: Path,
    exec_root: Path,
    *,
    stop_containers: bool = False,
    insecure: bool = False,
    tls: Any = None,
    runtime: str = "",
    ready: Callable[[], None] | None = None,
) -> int:
    """Run an engine until SIGTERM or SIGINT and return the exit status; ``wherry serve``.

    Containers run on after it, unless ``stop_containers``. ``ready`` is called once every address is being listened on.
    """
    return asyncio.run(
        _serve(hosts, data_root, exec_root, stop_containers, insecure, tls, runtime, ready or (lambda: None))
    )


async def _serve(
    hosts: Sequence[str],
    data_root: Path,
    exec_root: Path,
    stop_containers: bool,
    insecure: bool,
    tls: Any,
    runtime: str,
    ready: Callable[[], None],
) -> int:
    from wherry.engine.engine import Engine, EngineError

    engine = Engine(data_root, exec_root, runtime=runtime)
    try:
        await engine.start()
        for host in hosts:
            await engine.serve(host, insecure=insecure, tls=tls)
    except (EngineError, RuntimeError) as error:
        print(f"wherry serve: {error}", file=sys.stderr)
        await engine.close()
        return 1
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    for warning in engine.warnings:
        log.warning("%s", warning)
    ready()
    await stop.wait()
    await engine.close(stop_containers=stop_containers)
    return 0
