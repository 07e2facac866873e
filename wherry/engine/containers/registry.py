"""The containers of an engine: found by id, name or prefix, saved to the database, announced as events.

``Containers`` is what the verbs beside this file work on: it owns the table of containers and knows the parts below
(images, networks, the OCI runtimes). It holds no verb of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from wherry.api.errors import BadRequest, Conflict, NotFound, WherryError
from wherry.api.json import decode
from wherry.engine.containers.container import Container, Spec
from wherry.engine.containers.crowd import Crowd
from wherry.engine.containers.stats import Sampler
from wherry.engine.events import Events
from wherry.engine.images.store import Images
from wherry.engine.networks.networks import Networks
from wherry.engine.oci.cgroups import Cgroup, CgroupSetup
from wherry.engine.oci.conmon import ExitWatcher
from wherry.engine.oci.errors import RuntimeFailure
from wherry.engine.oci.runtime import Runtime
from wherry.engine.store.database import Database, NameTaken
from wherry.engine.store.layout import Layout
from wherry.engine.store.rootfs import Rootfs
from wherry.engine.store.trash import Trash
from wherry.engine.volumes.volumes import Volumes

if TYPE_CHECKING:
    from wherry.engine.containers.exec import Exec

log = logging.getLogger(__name__)

KIND = "container"


@dataclass(slots=True, kw_only=True)
class Parts:
    """What the verbs stand on, made once by the engine. ``runtimes`` is by the name that HostConfig.Runtime uses."""

    layout: Layout
    database: Database
    events: Events
    images: Images
    networks: Networks
    volumes: Volumes
    rootfs: Rootfs
    trash: Trash
    runtimes: dict[str, Runtime]
    default_runtime: str
    cgroups: CgroupSetup
    hostname: str
    conmon: str  # the monitor's path


class Containers:
    """Every container of the engine, and the look-up rules of the API."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.layout = parts.layout
        self.events = parts.events
        self.exits: ExitWatcher | None = None
        self.after_exit: Callable[[Container], None] = lambda container: (
            None
        )  # what follows from an exit (aftermath.py)
        self.closing = False
        self.pruning = False
        self.crowd = Crowd()
        self.execs: dict[str, Exec] = {}
        self._by_id: dict[str, Container] = {}
        self._by_name: dict[str, str] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._waits: set[asyncio.Task[Any]] = set()

    # look-up

    def __iter__(self) -> Iterator[Container]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def by_id(self, container_id: str) -> Container | None:
        return self._by_id.get(container_id)

    def find(self, reference: str) -> Container:
        """A container by full id, exact name or id prefix, in this order (N1).

        Raises ``NotFound`` with the reference as typed (E3), ``BadRequest`` for a prefix of several ids.
        """
        container = self._by_id.get(reference)
        if container is not None:
            return container
        container_id = self._by_name.get(reference.removeprefix("/"))
        if container_id is not None:
            return self._by_id[container_id]
        parent, _, alias = reference.removeprefix("/").partition("/")
        if alias and (parent_id := self._by_name.get(parent)) is not None:  # a name by a link
            linked = self._by_id.get(self._by_id[parent_id].spec.links.get(alias, ""))
            if linked is not None:
                return linked
        matches = [key for key in self._by_id if reference and key.startswith(reference)]
        if len(matches) > 1:
            raise BadRequest(f"multiple IDs found with provided prefix: {reference}")
        if not matches:
            raise NotFound(f"No such container: {reference}")
        return self._by_id[matches[0]]

    # the table

    def load(self) -> list[Container]:
        """Read every row; called once, before anything else."""
        for container_id, name, body in self.parts.database.all(KIND):
            spec = decode(Spec, body)
            self._by_id[container_id] = Container(spec)
            self._by_name[name or spec.name] = container_id
        return list(self)

    def add(self, container: Container) -> None:
        """Write the row of a new container, which reserves its name (CRE4). Raises ``Conflict``."""
        self._write(container)
        self._by_id[container.id] = container
        self._by_name[container.name] = container.id

    def save(self, container: Container) -> None:
        """Persist the container as it stands; nothing once it is gone. Raises ``OSError``: it is not written down."""
        if container.id in self._by_id:
            self._write(container)

    def note(self, container: Container) -> None:
        """``save`` for what has happened already, or must happen on a full disk too: a failure is told and passed over.

        The next change writes it down; until then an engine that dies goes by what it finds in the kernel.
        """
        try:
            self.save(container)
        except OSError as error:
            log.error("the present state of %s could not be written down: %s", container.short_id, error)

    def rename(self, container: Container, name: str) -> None:
        """Give the container another name, or raise ``Conflict`` or ``OSError`` and leave it as it was."""
        old, container.spec.name = container.spec.name, name
        try:
            self._write(container)
        except BaseException:
            container.spec.name = old
            raise
        del self._by_name[old]
        self._by_name[name] = container.id

    def forget(self, container: Container) -> None:
        """The row is deleted: the id and the name are free."""
        self._by_id.pop(container.id, None)
        self._by_name.pop(container.name, None)
        for exec_id in container.execs:
            self.execs.pop(exec_id, None)
        if container.sampler is not None:
            container.sampler.close()

    def name_taken(self, name: str) -> bool:
        return name in self._by_name

    def _write(self, container: Container) -> None:
        body = msgspec.json.encode(container.spec)
        try:
            self.parts.database.put(KIND, container.id, body, container.name)
        except NameTaken as taken:
            raise Conflict(
                f'Conflict. The container name "/{container.name}" is already in use by container "{taken.owner}". '
                "You have to remove (or rename) that container to be able to reuse that name."
            ) from None

    # announcing, and work that outlives a call

    def emit(self, container: Container, action: str, **attributes: str) -> None:
        """A container event: its labels, image and name, and the action's own attributes (EVT2)."""
        labels = container.config.labels or {}
        self.events.emit(
            "container",
            action,
            container.id,
            {**labels, "image": container.spec.image_reference, "name": container.name, **attributes},
        )

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str, *, waits: bool = False) -> asyncio.Task[Any]:
        """Run work that no client's disconnect may cancel (STP4); its failure is logged.

        ``waits``: it only waits for something, and nobody has to wait for it when the engine is left.
        """
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        (self._waits if waits else self._tasks).add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._waits.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, WherryError):
            log.error("%s failed", task.get_name(), exc_info=error)

    async def shielded(self, task: asyncio.Task[Any]) -> Any:
        """Wait for spawned work and take its result or error; it goes on when the waiting caller is cancelled."""
        return await asyncio.shield(task)

    async def settle(self, seconds: float) -> None:
        """Wait for work under way, ``seconds`` at most, then cancel what is left."""
        for task in self._waits:
            task.cancel()
        current = asyncio.current_task()
        tasks = {task for task in self._tasks if task is not current}
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=seconds)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=1)

    def using_image(self, image_id: str) -> list[Container]:
        """The containers made from an image, running or not."""
        return [container for container in self if container.spec.image_id == image_id]

    def volume_users(self, name: str) -> list[str]:
        """The ids of the containers that a volume is mounted in, running or not."""
        return [container.id for container in self if any(point.name == name for point in container.spec.mounts)]

    # the parts of one container

    def runtime(self, container: Container) -> Runtime:
        """Raises ``RuntimeFailure`` when it is no longer installed."""
        runtime = self.parts.runtimes.get(container.spec.runtime)
        if runtime is None:
            raise RuntimeFailure(f"unknown or invalid runtime name: {container.spec.runtime}")
        return runtime

    def sampler(self, container: Container) -> Sampler:
        """The one loop that reads a container's statistics, however many watch (STT6)."""
        if container.sampler is None:
            container.sampler = Sampler(container, self.parts.cgroups)
        return container.sampler

    def cgroup(self, container: Container) -> Cgroup:
        return self.parts.cgroups.container(container.id, container.host_config.cgroup_parent)
