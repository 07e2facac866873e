"""The steps of a stage, one function an instruction: looked up in the cache, else done, each with an image for its result."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from wherry.api.errors import ApiError, BadRequest, ServerError
from wherry.api.models.containers import ContainerConfig
from wherry.engine import inroot
from wherry.engine.blocking import in_thread, in_thread_until
from wherry.engine.build import copying
from wherry.engine.build import run as containers_of_steps
from wherry.engine.build.base import find_image
from wherry.engine.build.remote import fetch, is_url
from wherry.engine.build.sources import Source, SourceError, Tree, combined
from wherry.engine.build.state import Build, StageState
from wherry.engine.containers.commit import STAGING_ERRORS, child_content, parent_content, stage_changes
from wherry.engine.dockerfile import instructions as i
from wherry.engine.dockerfile.configure import configure, environment, expanded, shell_of, working_directory
from wherry.engine.images.config import InvalidConfig
from wherry.engine.images.content import ContentError, digest_of, free_space, temporary
from wherry.engine.images.layers import StagedLayer
from wherry.engine.store.rootfs import BUILD

_LONG = 1 << 14  # characters of an instruction that the loop does not wait for


async def step(build: Build, state: StageState, instruction: i.Instruction) -> None:
    """One instruction; afterwards ``state`` is what it made. Raises ``ApiError``."""
    env = environment(state.config)
    env = {**build.args.besides(env), **env}
    if len(instruction.code) > _LONG:
        await in_thread(expanded, instruction, env, build.escape)
    else:
        expanded(instruction, env, build.escape)
    match instruction:
        case i.Run():
            await _run(build, state, instruction)
        case i.Copy():
            await _copy(build, state, instruction)
        case i.Workdir():
            await _workdir(build, state, instruction)
        case i.Arg():
            await _arg(build, state, instruction)
        case _:
            await _configure(build, state, instruction)
    state.config.image = state.image_id


# configuration alone


async def _configure(build: Build, state: StageState, instruction: i.Instruction) -> None:
    if isinstance(instruction, i.Healthcheck):
        old = (state.config.healthcheck or None) and state.config.healthcheck.test
        if old and old[0] != "NONE":
            build.progress.say(f"Note: overriding previous HEALTHCHECK: [{' '.join(old)}]\n")
    if isinstance(instruction, i.Maintainer):
        state.author = instruction.name
    said = configure(state.config, instruction, cmd_set=state.cmd_set)
    if isinstance(instruction, i.Cmd):
        state.cmd_set = state.cmd_set or bool(instruction.command)
    await _note(build, state, said)


async def _arg(build: Build, state: StageState, instruction: i.Arg) -> None:
    for key, value in instruction.pairs:
        build.args.declare(key, value)
    said = " ".join(key if value is None else f"{key}={value}" for key, value in instruction.pairs)
    await _note(build, state, f"ARG {said}")


async def _note(build: Build, state: StageState, said: str) -> None:
    """A step that only its place in the history tells."""
    config = state.with_command([*shell_of(state.config), "#(nop) ", said])
    if not await _cached(build, state, config):
        await _commit(build, state, config, ())


# files


async def _workdir(build: Build, state: StageState, instruction: i.Workdir) -> None:
    state.config.working_dir = working_directory(state.config.working_dir, instruction.path)
    config = state.with_command([*shell_of(state.config), f"#(nop) WORKDIR {state.config.working_dir}"])
    if await _cached(build, state, config):
        return
    async with _changed(build, state) as tree:
        await in_thread(_make_directory, tree.root, state.config.working_dir)
        await _commit(build, state, config, await tree.staged())


def _make_directory(root: Path, path: str) -> None:
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(inroot.make_directories(fd, inroot.clean(os.fsencode(path))))
    except OSError as error:
        raise ServerError(f"Cannot mkdir: {path} is not a directory") from error
    finally:
        os.close(fd)


async def _copy(build: Build, state: StageState, instruction: i.Copy) -> None:
    if instruction.refusal:
        raise BadRequest(instruction.refusal)
    async with AsyncExitStack() as stack:
        sources = await _sources(build, instruction, stack)
        owner = f"--chown={instruction.chown}" if instruction.chown else ""
        said = f"#(nop) {instruction.name} {owner}{combined(sources)} in {instruction.target} "
        config = state.with_command([*shell_of(state.config), said])
        if await _cached(build, state, config):
            return
        async with _changed(build, state) as changed:
            await in_thread_until(build.cancelled, _copy_all, build, state, instruction, sources, changed.root)
            await _commit(build, state, config, await changed.staged())


async def _sources(build: Build, instruction: i.Copy, stack: AsyncExitStack) -> list[Source]:
    """Everything that a COPY or ADD names; what it lies in is there until the stack ends."""
    name = instruction.name
    tree: Tree | None = None
    found: list[Source] = []
    try:
        for wanted in instruction.sources:
            if is_url(wanted):
                found.append(await _fetched(build, instruction, wanted, stack))
                continue
            if tree is None:
                tree = await _tree(build, instruction, stack)
            found += await in_thread_until(build.cancelled, tree.find, wanted)
    except OSError as error:
        raise ServerError(f"{name} failed: {error}") from error
    except SourceError as error:
        raise BadRequest(f"{name} failed: {error.message}") from None
    if not found:
        raise BadRequest(f"{name} failed: no source files were specified")
    if len(found) > 1 and not instruction.target.endswith("/"):
        raise BadRequest(
            f"When using {name} with more than one source file, the destination must be a directory and end with a /"
        )
    return found


async def _fetched(build: Build, instruction: i.Copy, url: str, stack: AsyncExitStack) -> Source:
    if not instruction.add:
        raise SourceError("source can't be a URL for COPY")
    parts = build.containers.parts
    directory = temporary(parts.layout, "fetched")
    directory.mkdir(mode=0o700)
    stack.callback(parts.trash.discard, directory)
    try:
        fetched = await fetch(build.registries, parts.layout, url, directory, build.progress)
    except ServerError as error:
        raise SourceError(error.message) from None
    if not fetched.name and instruction.target.endswith("/"):
        raise SourceError(f"cannot determine filename for source {url}")
    tree = Tree(directory, owners=False, context=False, cancelled=build.cancelled, fetched=True)
    stack.callback(tree.close)
    return await in_thread_until(build.cancelled, tree.source, fetched.path.name)


async def _tree(build: Build, instruction: i.Copy, stack: AsyncExitStack) -> Tree:
    """Where a COPY takes its files from."""
    if not instruction.source_image:
        if build.context is None:
            raise SourceError("missing build context")
        root, owners = build.context.root, False
    else:
        image_id = await _source_image(build, instruction.source_image)
        _, root = await stack.enter_async_context(_mounted(build, image_id))
        owners = not instruction.chown
    tree = Tree(root, owners=owners, context=not instruction.source_image, cancelled=build.cancelled)
    stack.callback(tree.close)
    return tree


async def _source_image(build: Build, name: str) -> str:
    """The image of a stage or a name; empty for a stage without files."""
    try:
        stage = build.stage(name)
        if stage is not None:
            return stage.image_id
        return (await find_image(build, name, build.options.platform)).id
    except ApiError as error:
        raise type(error)(f"invalid from flag value {name}: {error.message}", status=error.status) from None


def _copy_all(build: Build, state: StageState, instruction: i.Copy, sources: Sequence[Source], root: Path) -> None:
    owner: copying.Owner | None = (0, 0)
    if instruction.chown:
        owner = copying.parse_owner(root, instruction.chown)
    elif instruction.source_image:
        owner = None
    plan = copying.CopyPlan(
        sources=sources,
        target=copying.target_path(state.config.working_dir, instruction.target),
        owner=owner,
        unpack=instruction.add,
        max_bytes=free_space(build.containers.layout),
    )
    copying.copy(root, plan, build.cancelled)


class _Changed:
    """A tree above an image, to be changed."""

    def __init__(self, build: Build, name: str, root: Path) -> None:
        self._build = build
        self._name = name
        self.root = root

    async def staged(self) -> list[StagedLayer]:
        """What was changed, as a layer; the tree is of no use afterwards."""
        try:
            await in_thread(self._build.containers.parts.rootfs.unmount, self._name)
            return await stage_changes(self._build.containers, self._name, (), take=True)
        except STAGING_ERRORS as error:
            raise ServerError(f"failed to export image: {error}") from error


@asynccontextmanager
async def _changed(build: Build, state: StageState) -> AsyncIterator[_Changed]:
    async with _mounted(build, state.image_id) as (name, root):
        yield _Changed(build, name, root)


@asynccontextmanager
async def _mounted(build: Build, image_id: str) -> AsyncIterator[tuple[str, Path]]:
    """(name, path) of an image's files, which may be changed; gone at the end of the block."""
    parts = build.containers.parts
    layers = parts.images.by_id(image_id).layer_ids if image_id else ()
    name = BUILD + uuid.uuid4().hex
    with parts.images.using(layers):
        try:
            await in_thread_until(build.cancelled, parts.rootfs.prepare, name, layers)
            yield name, await in_thread_until(build.cancelled, parts.rootfs.mount, name)
        except FileNotFoundError as error:
            raise ServerError(f"the files of {image_id} cannot be mounted: {error}") from error
        finally:
            await in_thread(parts.rootfs.remove, name)


# commands


async def _run(build: Build, state: StageState, instruction: i.Run) -> None:
    if instruction.refusal:
        raise BadRequest(instruction.refusal)
    command = instruction.resolved(shell_of(state.config))
    args = build.args.besides(environment(state.config))
    known_by = command
    if args:
        shown = sorted(f"{key}={value}" for key, value in args.items() if build.args.shown(key))
        known_by = [f"|{len(shown)}", *shown, *command]
    config = state.with_command(known_by)
    if known_by:
        config.entrypoint = None
    if await _cached(build, state, config):
        return
    if not state.image_id:
        shown_command = json.dumps(command[0] if command else "")
        raise ServerError(f"exec: {shown_command}: executable file not found in $PATH: FROM scratch holds no files yet")
    env = [*(state.config.env or []), *(f"{key}={value}" for key, value in args.items())]
    # without a command, and nothing else to be known by, moby runs what the image runs
    container = await containers_of_steps.run(build, state.config, command, env, plain=bool(known_by))
    try:
        destinations = [point.destination for point in build.containers.find(container).spec.mounts]
        staged = await stage_changes(build.containers, container, destinations, take=build.options.remove)
    except STAGING_ERRORS as error:
        raise ServerError(f"cannot commit container {container}: {error}") from error
    await _commit(build, state, config, staged, container=container)


# results


async def _cached(build: Build, state: StageState, config: ContainerConfig) -> bool:
    found = await build.cache.find(state.image_id, config)
    if found is None:
        return False
    build.progress.say(" ---> Using cache\n")
    state.image_id = found
    return True


async def _commit(
    build: Build, state: StageState, known_by: ContainerConfig, staged: Sequence[StagedLayer], *, container: str = ""
) -> None:
    """The step's image becomes the stage's. It is made to its end though the build is given up meanwhile."""
    containers = build.containers
    making = containers.spawn(_make_image(build, state, known_by, staged, container), "image of a build's step")
    state.image_id = await containers.shielded(making)


async def _make_image(
    build: Build,
    state: StageState,
    known_by: ContainerConfig,
    staged: Sequence[StagedLayer],
    container: str,
) -> str:
    images = build.containers.parts.images
    try:
        base = await parent_content(images, state.image_id)
        if state.image_id and not base:
            raise ServerError(f"the image {state.short_id} of the step before was removed meanwhile")
        below = images.by_id(state.image_id).file.diff_ids if state.image_id else []
        data = child_content(
            base,
            container=container,
            author=state.author,
            comment="",
            config=state.config,
            container_config=known_by,
            diff_ids=[*below, *(layer.row.diff_id for layer in staged)],
            empty=not staged,
        )
        build.hold(digest_of(data))  # before a prune can see it
        return await images.commit(data, staged, parent=state.image_id, built=True)
    except (InvalidConfig, ContentError, OSError) as error:
        raise ServerError(f"failed to export image: {error}") from error
    finally:
        if build.cancelled.is_set():  # the build is over, and has let go already
            build.let_go()
        for layer in staged:  # what is used up is no longer there
            await in_thread(layer.discard)
