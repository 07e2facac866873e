"""Where both ends meet: an engine in this process, and a way for a client to reach it over memory.

The engine runs on an event loop of its own in a thread of its own, whatever loop or thread the caller has: a slow caller
never slows it, and the client's sync and async sides reach it alike, through a socket pair.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from wherry.api.errors import ConnectError

if TYPE_CHECKING:
    import wherry.engine.engine as core
    from wherry.client._async.client import AsyncClient
    from wherry.client._sync.client import Client

log = logging.getLogger(__name__)

T = TypeVar("T")


class Engine:
    """An engine inside this process, on a thread of its own.

        with wherry.Engine(data_root="/tmp/w/data", exec_root="/tmp/w/run") as engine, engine.client() as docker:
            docker.containers.run("busybox", "echo hello")

    Works the same under ``async with``, with ``engine.async_client()``. ``ephemeral``: at the end every container is
    stopped and removed; else they run on, and the next engine on the same roots finds them. ``runtime``: crun, runc or a
    path. Installs no signal handler and changes nothing of the process.
    """

    def __init__(
        self,
        data_root: Path | str | None = None,
        exec_root: Path | str | None = None,
        *,
        runtime: str = "",
        ephemeral: bool = False,
        registry_mirrors: Sequence[str] = (),
        insecure_registries: Sequence[str] = (),
        fixed_cidr_v6: str = "",
    ) -> None:
        self.data_root, self.exec_root = roots(data_root, exec_root)
        self._options: dict[str, Any] = {
            "runtime": runtime,
            "ephemeral": ephemeral,
            "registry_mirrors": registry_mirrors,
            "insecure_registries": insecure_registries,
            "fixed_cidr_v6": fixed_cidr_v6,
        }
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._core: core.Engine | None = None
        self._pid = os.getpid()
        self._holders: int | None = None  # clients, of an engine that the first of them started and the last closes

    def start(self) -> Engine:
        """Start it, recovering what an earlier engine left. Raises ``ConnectError`` that says why it cannot."""
        from wherry.engine.engine import Engine as Core
        from wherry.engine.engine import EngineError, RootTaken

        if self._loop is not None:
            return self
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name="wherry-engine", daemon=True)
        self._thread.start()
        try:
            engine = Core(self.data_root, self.exec_root, **self._options)
            self._run(engine.start())
        except BaseException as error:
            self._stop_loop()
            if isinstance(error, RootTaken):
                raise ConnectError(
                    f"another engine uses {self.data_root} or {self.exec_root}: connect to that one, or give this one roots of "
                    'its own, as in wherry.connect("embedded:/other/root")'
                ) from None
            if isinstance(error, EngineError):
                raise ConnectError(f"no engine could be started in this process: {error}") from error
            raise
        self._core = engine
        with _running_lock:
            _running[self.data_root] = self
        return self

    def close(self) -> None:
        """Leave it; see ``ephemeral`` for what becomes of the containers."""
        engine, self._core = self._core, None
        if engine is None or self._pid != os.getpid():
            return
        with _running_lock:
            _running.pop(self.data_root, None)
        try:
            self._run(engine.close())
        finally:
            self._stop_loop()

    def dial(self) -> socket.socket:
        """A new connection to the engine: the client's end of a socket pair. Raises ``ConnectError`` once it is closed."""
        engine = self._core
        if engine is None:
            raise ConnectError("the engine in this process is closed")

        async def connect() -> socket.socket:
            return engine.connect()

        return self._run(connect())

    def serve(self, host: str) -> None:
        """Listen on ``unix:///path`` too, for other programs. Raises ``ConnectError`` for an address it cannot use."""
        from wherry.engine.engine import EngineError

        if self._core is None:
            raise ConnectError("the engine in this process is not started")
        try:
            self._run(self._core.serve(host))
        except EngineError as error:
            raise ConnectError(str(error)) from error

    def client(self) -> Client:
        """A client on this engine, over memory."""
        from wherry.client._sync.client import connect

        return connect(f"embedded:{self.data_root}")

    def async_client(self) -> AsyncClient:
        """An async client on this engine, over memory."""
        from wherry.client._async.client import connect_async

        return connect_async(f"embedded:{self.data_root}")

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None
        if self._pid != os.getpid():
            coroutine.close()
            raise ConnectError(
                "the engine runs in the process that this one was forked from: have it serve a unix socket there "
                "(Engine.serve), and connect to that here"
            )
        future: concurrent.futures.Future[T] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return future.result()

    def _stop_loop(self) -> None:
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def __enter__(self) -> Engine:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Engine:
        return await asyncio.to_thread(self.start)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)


_running: dict[Path, Engine] = {}
_running_lock = threading.RLock()


class _Joined:
    """A client's hold on an engine that a client started; the end of the last one closes it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        engine._holders = (engine._holders or 0) + 1

    def __call__(self) -> socket.socket:
        return self._engine.dial()

    def close(self) -> None:
        with _joining:
            assert self._engine._holders is not None
            self._engine._holders -= 1
            if self._engine._holders == 0:
                self._engine.close()


def connect_embedded(data_root: str | None = None) -> Callable[[], socket.socket]:
    """What ``connect("embedded:")`` calls: start an engine on the root, or join the one in this process.

    Each call of the result is a new connection. Raises ``ConnectError``.
    """
    root, _ = roots(data_root, None)
    with _joining:
        engine = _running.get(root)
        if engine is None:
            engine = Engine(root).start()
        elif engine._holders is None:
            return engine.dial  # somebody else's, who closes it
        return _Joined(engine)


_joining = threading.Lock()


def roots(data_root: Path | str | None, exec_root: Path | str | None) -> tuple[Path, Path]:
    """Both roots; another data root than the default has an exec root of its own beside the default one."""
    from wherry.engine.engine import DATA_ROOT, EXEC_ROOT
    from wherry.engine.store.layout import Layout

    data = Path(data_root or DATA_ROOT).absolute()
    if exec_root:
        return data, Path(exec_root).absolute()
    if data == DATA_ROOT:
        return data, EXEC_ROOT
    return data, EXEC_ROOT.with_name(f"wherry-{Layout(data, EXEC_ROOT).tag}")


def fsck(data_root: Path) -> list[str]:
    """Rebuild an engine's rows from its data root; what was done, a line each. Raises ``RuntimeError``."""
    from wherry.engine.fsck import fsck as rebuild

    return rebuild(data_root)


def serve(
    hosts: Sequence[str],
    data_root: Path,
    exec_root: Path,
    *,
    stop_containers: bool = False,
    insecure: bool = False,
    tls: Any = None,
    ready: Callable[[], None] | None = None,
    **options: Any,
) -> int:
    """Run an engine until SIGTERM or SIGINT and return the exit status; ``wherry serve``.

    Containers run on after it, unless ``stop_containers``. ``ready`` is called once every address is being listened on.
    ``options``: ``runtime``, ``registry_mirrors``, ``insecure_registries``, ``fixed_cidr_v6``, as ``Engine`` has them.
    """
    return asyncio.run(
        _serve(hosts, data_root, exec_root, stop_containers, insecure, tls, ready or (lambda: None), options)
    )


async def _serve(
    hosts: Sequence[str],
    data_root: Path,
    exec_root: Path,
    stop_containers: bool,
    insecure: bool,
    tls: Any,
    ready: Callable[[], None],
    options: dict[str, Any],
) -> int:
    from wherry.engine.engine import Engine as Core
    from wherry.engine.engine import EngineError
    from wherry.engine.memory import release_memory_soon, share_memory
    from wherry.engine.oci.limits import raise_open_files

    share_memory()
    raise_open_files()
    try:
        engine = Core(data_root, exec_root, **options)
    except EngineError as error:
        print(f"wherry serve: {error}", file=sys.stderr)
        return 1
    try:
        await engine.start()
        for host in hosts:
            await engine.serve(host, insecure=insecure, tls=tls)
    except (EngineError, RuntimeError) as error:
        print(f"wherry serve: {error}", file=sys.stderr)
        await engine.close(in_vain=True)
        return 1
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    for warning in engine.warnings:
        log.warning("%s", warning)
    ready()
    release_memory_soon()
    await stop.wait()
    await engine.close(stop_containers=stop_containers)
    return 0
