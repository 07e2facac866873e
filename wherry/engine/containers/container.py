"""What a container is: its row in the database, and what the running engine holds of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from wherry.api.models.containers import ContainerConfig, Health, HostConfig
from wherry.api.models.networks import EndpointSettings, PortBinding
from wherry.engine.containers.output import Output

if TYPE_CHECKING:
    from wherry.engine.containers.exec import Exec
    from wherry.engine.containers.health import Prober
    from wherry.engine.containers.rotation import LogPlaces
    from wherry.engine.containers.run import Run
    from wherry.engine.containers.stats import Sampler
    from wherry.engine.oci.conmon import Attachment

ZERO_TIME = 0


class State(msgspec.Struct, kw_only=True):
    """The part of a container that changes by itself. Times are nanoseconds since the epoch, 0 for never."""

    running: bool = False
    paused: bool = False
    restarting: bool = False
    removing: bool = False
    dead: bool = False
    oom_killed: bool = False
    pid: int = 0
    pid_start: int = 0  # the process's start time in clock ticks: tells a reused pid
    conmon_pid: int = 0
    exit_code: int = 0
    error: str = ""
    started_at: int = ZERO_TIME
    finished_at: int = ZERO_TIME
    restart_count: int = 0
    manually_stopped: bool = False
    remove_volumes: bool = False  # a removal under way takes the anonymous volumes too
    run_id: str = ""  # of the run that was begun and not yet ended: intent, written before any effect
    sandbox: str = ""  # path of the network namespace
    endpoints: dict[str, EndpointSettings] = msgspec.field(default_factory=dict)  # by network, as they are now
    ports: dict[str, list[PortBinding] | None] = msgspec.field(default_factory=dict)  # published now
    health: Health | None = None  # None without a health check, or before the first start

    @property
    def status(self) -> str:
        """The word that list and inspect show, in moby's order of precedence (INS2)."""
        if self.running:
            if self.paused:
                return "paused"
            return "restarting" if self.restarting else "running"
        if self.removing:
            return "removing"
        if self.dead:
            return "dead"
        return "exited" if self.started_at else "created"


class MountPoint(msgspec.Struct, kw_only=True):
    """A mount of a container, resolved at create. ``source`` is a host path; for a volume the volume's directory."""

    type: str  # bind, volume, tmpfs
    destination: str
    source: str = ""
    name: str = ""  # of a volume
    driver: str = ""
    mode: str = ""  # as given
    rw: bool = True
    propagation: str = ""
    propagation_is_ours: bool = False  # the engine chose it: without it where the source cannot propagate
    anonymous: bool = False
    create_source: bool = False  # a missing bind source is made at start (CRE22)
    no_copy: bool = False
    tmpfs_options: str = ""
    from_mounts: bool = False  # asked for by HostConfig.Mounts, not by Binds or Tmpfs
    from_config: bool = False  # a volume of Config.Volumes, the image's or the request's
    volume_options: dict[str, str] | None = None  # for the volume, should it have to be made
    volume_labels: dict[str, str] | None = None
    recursive: bool = True  # a bind takes the mounts below its source with it
    read_only_below: str = ""  # of a read-only bind, whether the mounts below it are so too: "", no, try, must


class Spec(msgspec.Struct, kw_only=True):
    """A container's row: all that must survive the engine."""

    id: str
    name: str  # without the leading slash
    created: int  # nanoseconds since the epoch
    image_id: str  # sha256:…
    image_reference: str  # as given at create
    path: str
    args: list[str]
    config: ContainerConfig
    host_config: HostConfig
    networks: dict[str, EndpointSettings] = msgspec.field(default_factory=dict)  # as asked for
    links: dict[str, str] = msgspec.field(default_factory=dict)  # on the default bridge: alias to container id
    mounts: list[MountPoint] = msgspec.field(default_factory=list)
    runtime: str = ""
    for_build: bool = False  # a step of a build: gone with it, at the latest when the engine starts
    state: State = msgspec.field(default_factory=State)


class Container:
    """A container as the running engine holds it.

    ``lock`` covers transitions of its state, never a wait. ``run`` is the present run, None while there is none.
    """

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.lock = asyncio.Lock()
        self.run: Run | None = None
        self.output = Output()
        self.attachable = asyncio.Event()  # the present run has its attach connection, or there will be no further run
        self.execs: dict[str, Exec] = {}
        self.sampler: Sampler | None = None
        self.cleaning: asyncio.Task[None] | None = None  # of the run before; a new one waits for it
        self.restart_timer: asyncio.Task[None] | None = None  # the wait before an automatic restart
        self.restart_delay = 0.0
        self.ended_unseen = False  # its run ended while no engine looked
        self.prober: Prober | None = None  # of the present run's health
        self.log_places: LogPlaces | None = None
        self.keep = 0  # restarts by hand under way: the exit in their middle restarts and removes nothing
        self.volumes_told = False  # the event ``mount`` of the present run's volumes was sent
        self.being_removed = False  # by one removal; a second is refused (DEL2)
        self.gone = False
        self._exit_waiters: set[asyncio.Future[int]] = set()
        self._removal_waiters: set[asyncio.Future[int]] = set()

    @property
    def id(self) -> str:
        return self.spec.id

    @property
    def short_id(self) -> str:
        return self.spec.id[:12]

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def state(self) -> State:
        return self.spec.state

    @property
    def health(self) -> Health | None:
        return self.spec.state.health

    @property
    def config(self) -> ContainerConfig:
        return self.spec.config

    @property
    def host_config(self) -> HostConfig:
        return self.spec.host_config

    @property
    def tty(self) -> bool:
        return bool(self.spec.config.tty)

    async def stdin(self) -> Attachment:
        """The way to the present run's stdin; waits for a run while there is none.

        Raises ``ConnectionError`` when the container is removed.
        """
        while True:
            await self.attachable.wait()
            if self.gone:
                raise ConnectionResetError("the container is gone")
            if self.run is not None and self.run.attachment is not None:
                return self.run.attachment
            self.attachable.clear()

    # waiting

    def next_exit(self) -> asyncio.Future[int]:
        """Resolved with the exit code by the next exit, or by removal."""
        return _enlist(self._exit_waiters)

    def removal(self) -> asyncio.Future[int]:
        """Resolved with the last exit code once the container is gone; fails with the error of a failed removal."""
        return _enlist(self._removal_waiters)

    def announce_exit(self) -> None:
        _resolve(self._exit_waiters, self.state.exit_code)

    def announce_removal(self) -> None:
        self.gone = True
        self.attachable.set()
        _resolve(self._exit_waiters, self.state.exit_code)
        _resolve(self._removal_waiters, self.state.exit_code)

    def announce_failed_removal(self, error: Exception) -> None:
        for waiter in self._removal_waiters:
            if not waiter.done():
                waiter.set_exception(error)
        self._removal_waiters.clear()


def _enlist(waiters: set[asyncio.Future[int]]) -> asyncio.Future[int]:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    waiters.add(future)
    future.add_done_callback(waiters.discard)
    return future


def _resolve(waiters: set[asyncio.Future[int]], code: int) -> None:
    for waiter in list(waiters):
        if not waiter.done():
            waiter.set_result(code)
    waiters.clear()
