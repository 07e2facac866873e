"""What a build is, and where one of its stages stands."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from wherry.api.errors import ServerError
from wherry.api.models.containers import ContainerConfig
from wherry.engine.build.args import BuildArgs
from wherry.engine.build.cache import Cache
from wherry.engine.build.context import Context
from wherry.engine.build.options import BuildOptions
from wherry.engine.build.progress import BuildProgress
from wherry.engine.containers.merge import DEFAULT_PATH
from wherry.engine.containers.registry import Containers
from wherry.engine.dockerfile.configure import environment
from wherry.engine.dockerfile.instructions import Stage
from wherry.engine.images.image import Image
from wherry.engine.images.reference import short_id
from wherry.engine.images.registry.auth import Credentials
from wherry.engine.images.registry.hosts import Registries


@dataclass(slots=True, kw_only=True)
class Build:
    """One build. ``stages`` that are done are there by number and by name; ``kept`` are containers of steps."""

    containers: Containers
    registries: Registries
    options: BuildOptions
    credentials: Mapping[str, Credentials]
    progress: BuildProgress
    context: Context | None
    args: BuildArgs
    cache: Cache
    escape: str = "\\"
    cancelled: threading.Event = field(default_factory=threading.Event)
    done: list[StageState] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    _held: list[str] = field(default_factory=list)

    def hold(self, image_id: str) -> None:
        """No prune takes this image while the build goes on."""
        if image_id:
            self._held.append(image_id)
            self.containers.parts.images.held[image_id] += 1

    def let_go(self) -> None:
        """The build is over."""
        held = self.containers.parts.images.held
        while self._held:
            image_id = self._held.pop()
            held[image_id] -= 1
            if not held[image_id]:
                del held[image_id]

    def named(self, name: str) -> StageState | None:
        return next((stage for stage in self.done if stage.name and stage.name == name.lower()), None)

    def stage(self, name_or_number: str) -> StageState | None:
        """A stage that is done; None for the name of none. Raises ``ServerError`` for a number that is none."""
        found = self.named(name_or_number)
        if found is not None:
            return found
        if not name_or_number.isascii() or not name_or_number.lstrip("+-").isdigit():
            return None
        number = int(name_or_number)
        if number == len(self.done):
            raise ServerError("refers to current build stage")
        if not 0 <= number < len(self.done):
            raise ServerError("index out of bounds")
        return self.done[number]


@dataclass(slots=True, kw_only=True)
class StageState:
    """``image_id`` is the last step's image, empty for nothing at all yet (``FROM scratch``)."""

    name: str
    image_id: str = ""
    config: ContainerConfig = field(default_factory=ContainerConfig)
    author: str = ""
    cmd_set: bool = False

    @classmethod
    def begin(cls, stage: Stage, base: Image | None) -> StageState:
        config = copy.deepcopy(base.config) if base is not None else ContainerConfig()
        if "PATH" not in environment(config):
            config.env = [*(config.env or []), f"PATH={DEFAULT_PATH}"]
        config.open_stdin = config.stdin_once = False
        state = cls(name=stage.name, image_id=base.id if base is not None else "", config=config)
        config.image = state.image_id
        return state

    @property
    def short_id(self) -> str:
        return short_id(self.image_id)

    def with_command(self, command: list[str]) -> ContainerConfig:
        """The stage's configuration with another command: what a step is known by."""
        config = copy.deepcopy(self.config)
        config.cmd = command
        return config
