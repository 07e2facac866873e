"""What a build is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from wherry.api.errors import BadRequest
from wherry.api.models.host import HostConfig, Ulimit
from wherry.api.operations.build import ImageBuildQuery
from wherry.engine.images import reference
from wherry.engine.images.platform import parse_platform
from wherry.engine.images.reference import Reference

DOCKERFILE = "Dockerfile"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """Checked. ``build_args`` with None for a value: a name without one.

    ``remove``: the containers of steps go when the step succeeded, with ``force_remove`` always. ``quiet``: nothing but
    the image's id is said. ``pull``: base images are asked for at their registry though they are here.
    """

    dockerfile: str = DOCKERFILE
    tags: Sequence[Reference] = ()
    remote: str = ""
    quiet: bool = False
    use_cache: bool = True
    cache_from: Sequence[str] = ()
    pull: bool = False
    remove: bool = True
    force_remove: bool = False
    build_args: Mapping[str, str | None] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    platform: str = ""
    target: str = ""
    host_config: HostConfig = field(default_factory=HostConfig)
    version: tuple[int, int] = (1, 43)


def from_query(query: ImageBuildQuery, version: tuple[int, int]) -> BuildOptions:
    """Raises ``BadRequest`` for what cannot be done."""
    if query.squash:
        raise BadRequest("squash is only supported with experimental mode")
    if query.version == "2":
        raise BadRequest("BuildKit is not there: this engine has the classic builder only (version=1)")
    if query.version not in (None, "", "1"):
        raise BadRequest(f'invalid version "{query.version}"')
    if query.outputs:
        raise BadRequest(
            "outputs are BuildKit's: the classic builder makes an image in this engine, save it from there"
        )
    if query.securityopt:
        raise BadRequest("The daemon on this platform does not support setting security options on build")
    if query.platform:
        parse_platform(query.platform)
    shm_size = query.shmsize or 0
    if shm_size < 0:
        raise BadRequest("SHM size can not be less than 0")
    host = HostConfig(
        network_mode=query.networkmode or "default",
        memory=query.memory or 0,
        memory_swap=query.memswap or 0,
        cpu_shares=query.cpushares or 0,
        cpuset_cpus=query.cpusetcpus or "",
        cpuset_mems=query.cpusetmems or "",
        cpu_period=query.cpuperiod or 0,
        cpu_quota=query.cpuquota or 0,
        cgroup_parent=query.cgroupparent or "",
        shm_size=shm_size,
        extra_hosts=[host for host in query.extrahosts or [] if host] or None,
        ulimits=_json(query.ulimits, list[Ulimit] | None, "ulimit settings") or None,
    )
    args = _json(query.buildargs, dict[str, str | None] | None, "build args") or {}
    labels = _json(query.labels, dict[str, str] | None, "labels") or {}
    return BuildOptions(
        dockerfile=query.dockerfile or DOCKERFILE,
        tags=_tags(query.t or ()),
        remote=query.remote or "",
        quiet=bool(query.q),
        use_cache=not query.nocache,
        cache_from=_json(query.cachefrom, list[str] | None, "images for the cache") or (),
        pull=(query.pull or "").strip().lower() not in ("", "0", "no", "false", "none"),
        remove=bool(query.forcerm) or query.rm is not False,
        force_remove=bool(query.forcerm),
        build_args=args,
        labels=labels,
        platform=query.platform or "",
        target=query.target or "",
        host_config=host,
        version=version,
    )


def _tags(texts: Sequence[str]) -> list[Reference]:
    found: dict[Reference, None] = {}
    for text in texts:
        if not text:
            continue
        name = reference.parse(text)
        if name.digest:
            raise BadRequest("build tag cannot contain a digest")
        found[name.tagged()] = None
    return list(found)


def _json(text: str | None, type_: Any, what: str) -> Any:
    if not text:
        return None
    try:
        return msgspec.json.decode(text, type=type_)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise BadRequest(f"error reading {what}: {error}") from None
