"""The engine: its parts put together, started by recovering, and stopped without taking anything down.

Starting *is* recovering: whatever an earlier engine on the same roots left, running or half done, is taken over, finished
or cleaned away (containers/recover.py). Leaving is letting go: containers run on.
"""

from __future__ import annotations

import logging
import os
import socket
import ssl
import uuid
from collections.abc import Sequence
from pathlib import Path

import wherry
from wherry.api.errors import BadRequest
from wherry.engine.blocking import in_thread
from wherry.engine.containers import aftermath, recover
from wherry.engine.containers.exit import exited
from wherry.engine.containers.registry import Containers, Parts
from wherry.engine.containers.stop import stop_all
from wherry.engine.events import Events
from wherry.engine.http.router import Router
from wherry.engine.http.routes import handlers
from wherry.engine.http.server import HttpServer
from wherry.engine.images.registry.hosts import InvalidOption, Registries
from wherry.engine.images.store import Images
from wherry.engine.networks.definition import default_pool6
from wherry.engine.networks.networks import Networks
from wherry.engine.oci.cgroups import CgroupSetup, detect
from wherry.engine.oci.conmon import ExitWatcher
from wherry.engine.oci.errors import RuntimeFailure
from wherry.engine.oci.probe import probe
from wherry.engine.oci.runtime import KNOWN, Runtime, find_conmon
from wherry.engine.store.layout import Layout
from wherry.engine.store.rootfs import Rootfs
from wherry.engine.store.roots import RootInUse, Roots
from wherry.engine.store.trash import Trash
from wherry.engine.volumes.volumes import Volumes

log = logging.getLogger(__name__)

DATA_ROOT = Path("/var/lib/wherry")
EXEC_ROOT = Path("/run/wherry")
SETTLE = 5.0  # seconds for work under way when the engine is left


class EngineError(Exception):
    """The engine cannot start; the text says why and what to do."""


class RootTaken(EngineError):
    """Another engine holds one of the roots."""


class Engine:
    """One engine on a pair of roots.

    ``runtime`` names the default OCI runtime (crun, else runc, when empty). ``ephemeral``: leaving stops and removes
    every container. ``registry_mirrors`` (URLs) stand in for Docker Hub; ``insecure_registries`` (``host[:port]`` or
    networks) need no valid certificate, nor TLS; ``fixed_cidr_v6`` gives the default bridge IPv6, with this subnet;
    ``EngineError`` for one that can be none. All methods belong to the loop on which ``start`` ran.
    """

    def __init__(
        self,
        data_root: Path | str = DATA_ROOT,
        exec_root: Path | str = EXEC_ROOT,
        *,
        runtime: str = "",
        ephemeral: bool = False,
        registry_mirrors: Sequence[str] = (),
        insecure_registries: Sequence[str] = (),
        fixed_cidr_v6: str = "",
    ) -> None:
        try:
            self.registries = Registries(registry_mirrors, insecure_registries)
            self._default_pool6 = default_pool6(fixed_cidr_v6) if fixed_cidr_v6 else None
        except (InvalidOption, BadRequest) as error:
            raise EngineError(str(error)) from None
        self.layout = Layout(Path(data_root), Path(exec_root))
        self.ephemeral = ephemeral
        self.warnings: list[str] = []
        self._wanted_runtime = runtime
        self._roots = Roots(self.layout)
        self.events = Events()
        self._cgroups = CgroupSetup()

    # life

    async def start(self) -> None:
        """Find out what the machine gives, take over what an earlier engine left, and be ready for calls.

        Raises ``EngineError`` when something indispensable is missing or another engine holds the data root.
        """
        if os.geteuid() != 0:
            raise EngineError("the engine needs root: run it with sudo")
        try:
            self._roots.take()
        except RootInUse as error:
            raise RootTaken(str(error)) from None
        except OSError as error:
            raise EngineError(
                f"{error.filename}: {error.strerror}: the roots must be directories that can be written"
            ) from error
        try:
            await self._assemble()
        except BaseException:
            self._cgroups.remove_parent()  # the runtimes were tried in it
            self._roots.release(undo=True)
            raise
        try:
            await recover.recover(self.containers)
        except BaseException:
            self._cgroups.remove_parent()
            self._roots.release()
            raise

    async def _assemble(self) -> None:
        layout = self.layout
        try:
            conmon = find_conmon()
        except RuntimeFailure as error:
            raise EngineError(error.message) from None
        cgroups = self._cgroups = await in_thread(detect, layout.tag)
        self.warnings += cgroups.warnings
        runtimes = await self._find_runtimes(cgroups)
        self.database = recover.open_database(layout)
        trash = Trash(layout)
        rootfs = Rootfs(layout, trash)
        networks = Networks(layout, self.database, self.events, self._default_pool6)
        self.containers = Containers(
            Parts(
                layout=layout,
                database=self.database,
                events=self.events,
                images=Images(layout, self.database, self.events, rootfs, trash),
                networks=networks,
                volumes=Volumes(layout, self.database, self.events, trash),
                rootfs=rootfs,
                trash=trash,
                runtimes=runtimes,
                default_runtime=next(iter(runtimes)),
                cgroups=cgroups,
                hostname=socket.gethostname(),
                conmon=conmon,
            )
        )
        self.containers.exits = ExitWatcher(layout.exits, lambda id, code: exited(self.containers, id, code))
        self.containers.exits.start()
        self.containers.after_exit = lambda container: aftermath.follow(self.containers, container)
        self.images = self.containers.parts.images
        self.networks = networks
        self.volumes = self.containers.parts.volumes
        self.id = self._identity()
        self.http = HttpServer(Router(handlers(self), engine_version=wherry.__version__).handle)

    async def _find_runtimes(self, cgroups: CgroupSetup) -> dict[str, Runtime]:
        """The default first. Each was tried here before its shortcuts are used, and before it is used at all."""
        found: dict[str, Runtime] = {}
        reasons: list[str] = []
        for name in dict.fromkeys(filter(None, (self._wanted_runtime, *KNOWN))):
            try:
                runtime = await Runtime.find(self.layout.runtime_root, name)
                await probe(runtime, cache=self.layout.data_root / "runtimes", cgroup_parent=cgroups.parent)
            except RuntimeFailure as error:
                if name == self._wanted_runtime:
                    raise EngineError(error.message) from None
                reasons.append(error.message)
                continue
            found.setdefault(runtime.name, runtime)  # the wanted one may be another file of a known name
        if not found:
            raise EngineError(f"no OCI runtime works here (on Debian: apt-get install crun): {'; '.join(reasons)}")
        return found

    def _identity(self) -> str:
        """A name for this data root that outlives the engine."""
        path = self.layout.data_root / "engine-id"
        if not path.exists():
            path.write_text(str(uuid.uuid4()))
        return path.read_text().strip()

    async def close(self, *, stop_containers: bool = False, in_vain: bool = False) -> None:
        """Stop serving. Containers run on; with ``stop_containers``, or an ephemeral engine, all are removed, and with
        them what the engine made on the host. ``in_vain``: it never served anybody, so roots that it made go too.
        """
        if not self._roots.taken:
            return
        remove = stop_containers or self.ephemeral
        await self.http.close()
        if remove:
            await stop_all(self.containers)
        self.containers.closing = True
        await self.containers.settle(SETTLE)
        if self.containers.exits is not None:
            self.containers.exits.close()
        for container in self.containers:
            if container.run is not None:
                container.run.close()
        await self.containers.parts.networks.close(remove=remove)
        self._cgroups.remove_parent()  # where nothing runs
        self.containers.parts.trash.close()
        self.database.close()
        self._roots.release(remove=remove and not any(self.containers), undo=in_vain)

    async def __aenter__(self) -> Engine:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # serving

    async def serve(self, host: str, *, insecure: bool = False, tls: ssl.SSLContext | None = None) -> None:
        """Listen on ``unix:///path`` or ``tcp://address:port``; several calls, several addresses.

        Raises ``EngineError`` for an address that cannot be used, and for plain tcp without ``insecure``.
        """
        scheme, _, rest = host.partition("://")
        try:
            if scheme == "unix" and rest.startswith("/"):
                await self.http.listen_unix(rest, mode=0o660)
                return
            if scheme == "tcp":
                address, _, port = rest.rpartition(":")
                if tls is None and not insecure:
                    raise EngineError(
                        f"{host}: whoever reaches this port is root here. Give TLS certificates that clients must match "
                        "(--tlscacert, --tlscert, --tlskey), or say --insecure"
                    )
                await self.http.listen_tcp(address.strip("[]") or "127.0.0.1", int(port), tls)
                return
        except (OSError, ValueError) as error:
            raise EngineError(f"cannot listen on {host}: {error}") from error
        raise EngineError(f"cannot listen on {host}: use unix:///path/to.sock or tcp://address:port")

    def connect(self) -> socket.socket:
        """A connected socket to this engine: the client's end of a pair, no file or port involved."""
        ours, theirs = socket.socketpair()
        self.http.adopt(ours)
        return theirs
