"""ImageBuild: from an archive with a Dockerfile in it to an image, step by step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing

from wherry.api.errors import ApiError, BadRequest, ServerError
from wherry.engine.blocking import in_thread
from wherry.engine.build import run as containers_of_steps
from wherry.engine.build.args import BuildArgs
from wherry.engine.build.base import find_image
from wherry.engine.build.cache import Cache
from wherry.engine.build.context import Context
from wherry.engine.build.options import BuildOptions
from wherry.engine.build.progress import BuildProgress, Message
from wherry.engine.build.remote import as_body, check_context, fetch
from wherry.engine.build.state import Build, StageState
from wherry.engine.build.steps import step
from wherry.engine.containers.registry import Containers
from wherry.engine.dockerfile import instructions as i
from wherry.engine.dockerfile.configure import expanded
from wherry.engine.dockerfile.errors import DockerfileError
from wherry.engine.dockerfile.expand import expand
from wherry.engine.dockerfile.parser import Dockerfile
from wherry.engine.images.image import Image
from wherry.engine.images.reference import short_id
from wherry.engine.images.registry.auth import Credentials
from wherry.engine.images.registry.hosts import Registries

SCRATCH = "scratch"


def build(
    containers: Containers,
    registries: Registries,
    body: AsyncIterator[bytes],
    options: BuildOptions,
    credentials: Mapping[str, Credentials],
) -> AsyncGenerator[Message, None]:
    """The messages of a build. Leaving them early gives the build up, with nothing left behind.

    Raises ``ApiError``, before or behind messages.
    """
    progress = BuildProgress(quiet=options.quiet)

    async def work() -> None:
        try:
            id = await _build(containers, registries, body, options, credentials, progress)
        except BaseException:
            progress.speak_up()
            raise
        if options.quiet:
            progress.forget()
            progress.say(f"{id}\n")

    return progress.during(work)


async def _build(
    containers: Containers,
    registries: Registries,
    body: AsyncIterator[bytes],
    options: BuildOptions,
    credentials: Mapping[str, Credentials],
    progress: BuildProgress,
) -> str:
    if options.remote:
        check_context(options.remote)
    images = containers.parts.images
    context = Context(
        containers.layout, containers.parts.trash
    )  # no wait: who cancels it there would leave a directory
    job: Build | None = None
    try:
        if options.remote:
            file, whole = await _fetched(context, registries, options, progress)
        else:
            await context.unpack(body)
            file, whole = await in_thread(context.dockerfile, options.dockerfile), True
        stages, before = i.stages(file)
        job = Build(
            containers=containers,
            registries=registries,
            options=options,
            credentials=credentials,
            progress=progress,
            context=context if whole else None,
            args=BuildArgs(options.build_args),
            cache=Cache(images, enabled=options.use_cache, sources=options.cache_from),
            escape=file.escape,
        )
        id = await _all_stages(job, file, stages, before)
        progress.say(f"Successfully built {short_id(id)}\n")
        for name in options.tags:
            images.name_image(id, name, action="tag")
            progress.say(f"Successfully tagged {name}\n")
    except BaseException as error:
        if job is not None:
            job.cancelled.set()
            await asyncio.shield(_leave(job, error))
        raise
    finally:
        if job is not None:
            job.let_go()
        await asyncio.shield(in_thread(context.close))
    return id


async def _fetched(
    context: Context, registries: Registries, options: BuildOptions, progress: BuildProgress
) -> tuple[Dockerfile, bool]:
    """The Dockerfile of a ``remote``, and whether files came with it."""
    place = await in_thread(context.beside)
    try:
        fetched = await fetch(registries, context.layout, options.remote, place, progress)
    except ServerError as error:
        raise ServerError(f"error downloading remote context {options.remote}: {error.message}") from None
    if fetched.content_type.partition(";")[0].strip().lower() == "text/plain":
        return await in_thread(context.lone_dockerfile, fetched.path), False
    async with aclosing(as_body(fetched.path)) as body:
        await context.unpack(body)
    return await in_thread(context.dockerfile, options.dockerfile), True


async def _leave(job: Build, error: BaseException) -> None:
    """The containers of a build that failed, or that nobody waits for any more."""
    if job.options.force_remove or not isinstance(error, ApiError):
        await containers_of_steps.remove(job, say=isinstance(error, ApiError))
    else:
        containers_of_steps.keep(job)


async def _all_stages(job: Build, file: Dockerfile, stages: list[i.Stage], before: list[i.Arg]) -> str:
    options, progress = job.options, job.progress
    if options.target:
        stages = _until(stages, options.target)
    if not stages:
        raise ServerError("No image was generated. Is your Dockerfile empty?")
    stages[-1].instructions += [i.label(key, value) for key, value in sorted(options.labels.items())]
    if file.warnings:
        progress.complain("\n".join(file.warnings) + "\n")
    total = len(before) + sum(1 + len(stage.instructions) for stage in stages)
    count = 0

    async def announce(code: str) -> None:
        nonlocal count
        count += 1
        progress.say(f"Step {count}/{total} : {code}\n")
        await progress.drain()

    for arg in before:
        await announce(arg.code)
        _declare_before(job, arg)
    state = StageState(name="")
    for stage in stages:
        if stage.name and job.named(stage.name) is not None:
            raise ServerError(f"{stage.name} stage name already used")
        job.args.begin_stage()
        job.cache.begin_stage()
        await announce(stage.code)
        state = await _begin(job, stage)
        progress.say(f" ---> {state.short_id}\n")
        for instruction in stage.instructions:
            await announce(instruction.code)
            await _step(job, state, instruction)
            progress.say(f" ---> {state.short_id}\n")
        if state.image_id and options.version >= (1, 30):
            progress.put({"aux": {"ID": state.image_id}})
        job.done.append(state)
    unused = job.args.unused()
    if unused:
        progress.say(f"[Warning] One or more build-args [{' '.join(unused)}] were not consumed\n")
    if not state.image_id:
        raise ServerError("No image was generated. Is your Dockerfile empty?")
    return state.image_id


def _until(stages: list[i.Stage], target: str) -> list[i.Stage]:
    for number, stage in enumerate(stages):
        if stage.name == target.lower():
            return stages[: number + 1]
    if target.isascii() and target.isdigit() and int(target) < len(stages):
        return stages[: int(target) + 1]
    raise BadRequest(f'target stage "{target}" could not be found')


def _declare_before(job: Build, arg: i.Arg) -> None:
    expanded(arg, job.args.for_from(), job.escape)
    for key, value in arg.pairs:
        job.args.declare_before(key, value)


async def _step(job: Build, state: StageState, instruction: i.Instruction) -> None:
    await step(job, state, instruction)
    job.hold(state.image_id)
    if job.options.remove:
        await containers_of_steps.remove(job, say=True)
    else:
        containers_of_steps.keep(job)


async def _begin(job: Build, stage: i.Stage) -> StageState:
    """FROM, and the triggers that its image brings."""
    platform = expand(stage.platform, job.args.for_from(), job.escape)
    if stage.platform and not platform:
        raise BadRequest(
            'failed to parse platform : "" is an invalid component of "": platform specifier component must match '
            '"^[A-Za-z0-9_-]+$": invalid argument'
        )
    platform = platform or job.options.platform
    name = expand(stage.base, job.args.for_from(), job.escape)
    if not name:
        raise BadRequest(f"base name ({stage.base}) should not be blank")
    base = await _base(job, name, platform)
    state = StageState.begin(stage, base)
    job.hold(state.image_id)
    triggers, state.config.on_build = state.config.on_build or [], None
    if triggers:
        job.progress.say(f"# Executing {len(triggers)} build trigger{'s' if len(triggers) > 1 else ''}\n")
    for text in triggers:
        try:
            instruction = i.trigger(text, job.escape)
        except DockerfileError as error:
            raise ServerError(error.message) from None
        await _step(job, state, instruction)
    return state


async def _base(job: Build, name: str, platform: str) -> Image | None:
    earlier = job.named(name)
    if earlier is not None:
        return job.containers.parts.images.by_id(earlier.image_id) if earlier.image_id else None
    if name == SCRATCH:
        return None
    return await find_image(job, name, platform)
