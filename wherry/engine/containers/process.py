"""What a run is made of: the container's row and its mounted root become the runtime's specification."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wherry.api.errors import BadRequest, Conflict, ServerError, in_words
from wherry.api.models.containers import HostConfig
from wherry.engine.containers.container import Container, MountPoint
from wherry.engine.containers.links import environment
from wherry.engine.containers.merge import process_env
from wherry.engine.containers.places import make_places
from wherry.engine.containers.propagation import check_propagation
from wherry.engine.containers.registry import Containers
from wherry.engine.containers.shm import shared_memory
from wherry.engine.oci import apparmor
from wherry.engine.oci.runtime import find_init
from wherry.engine.oci.seccomp import choose
from wherry.engine.oci.spec import OciMount, SpecInput, build_spec, tmpfs_options
from wherry.engine.oci.users import resolve_user

_RESTRICTIONS = {os.ST_RDONLY: "ro", os.ST_NOSUID: "nosuid", os.ST_NODEV: "nodev", os.ST_NOEXEC: "noexec"}
_FILES = ("resolv.conf", "hostname", "hosts")


@dataclass(slots=True)
class Prepared:
    spec: dict[str, Any]
    warnings: list[str] = field(default_factory=list)


def prepare(containers: Containers, container: Container, root: Path) -> Prepared:
    """The specification of a run on the mounted ``root``. Blocks for a moment: call it in a thread.

    Raises ``ServerError`` (an unknown user, a bind source that cannot be made), ``BadRequest``.
    """
    parts = containers.parts
    config, host = container.config, container.host_config
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        user = resolve_user(root_fd, config.user, host.group_add or [])
        mounts = _mounts(container)
        make_places(root_fd, container.spec.mounts)
    except ValueError as error:
        raise ServerError(in_words(error)) from error
    finally:
        os.close(root_fd)
    for request in host.device_requests or []:
        wanted = " ".join(f"[{' '.join(names)}]" for names in request.capabilities or [])
        raise ServerError(f'could not select device driver "{request.driver}" with capabilities: [{wanted}]')
    security = _security(host.security_opt)
    warnings: list[str] = []
    spec = build_spec(
        SpecInput(
            id=container.id,
            args=[container.spec.path, *container.spec.args],
            env=process_env(config, config.hostname, environment(containers, container)),
            rootfs=root,
            host_config=host,
            cgroup_path=parts.cgroups.path(container.id, host.cgroup_parent),
            cwd=config.working_dir or "/",
            uid=user.uid,
            gid=user.gid,
            groups=user.groups,
            home=user.home,
            tty=container.tty,
            console_size=tuple(host.console_size) if container.tty and any(host.console_size) else None,  # type: ignore[arg-type]
            hostname=config.hostname,
            domainname=config.domainname,
            mounts=[*mounts, *_files(containers, container)],
            shm_path=shared_memory(containers, container),
            init=_init(host),
            netns=container.state.sandbox if host.network_mode != "host" or config.network_disabled else None,
            ipcns=_namespace(containers, host.ipc_mode, "ipc"),
            pidns=_namespace(containers, host.pid_mode, "pid"),
            utsns=None if host.uts_mode == "host" else "",
            cgroupns=None if host.cgroupns_mode == "host" else "",
            seccomp=choose(containers.runtime(container), security.get("seccomp"), host),
            no_new_privileges=no_new_privileges(host.security_opt),
            apparmor=apparmor_profile(host.security_opt),
        ),
        warnings,
    )
    return Prepared(spec, warnings)


def _init(host: HostConfig) -> str:
    """The host's path of the small init that goes in front of the command, where ``Init`` asks for one."""
    if not host.init:
        return ""
    return find_init()


def _security(options: list[str] | None) -> dict[str, str]:
    result: dict[str, str] = {}
    for option in options or []:
        separator = "=" if "=" in option else ":"
        key, _, value = option.partition(separator)
        result[key] = value
    return result


def apparmor_profile(options: list[str] | None) -> str:
    """What ``SecurityOpt`` has the container confined by; empty for nothing."""
    return apparmor.profile(_security(options).get("apparmor"))


def no_new_privileges(options: list[str] | None) -> bool:
    """Whether ``SecurityOpt`` asks for it."""
    return _security(options).get("no-new-privileges", "false").lower() in ("true", "1", "")


def _namespace(containers: Containers, mode: str, kind: str) -> str | None:
    """None for the host's namespace, "" for a new one, else the path of another container's."""
    if mode == "host":
        return None
    if not mode.startswith("container:"):
        return ""
    other = containers.find(mode.removeprefix("container:"))
    if kind == "ipc" and other.host_config.ipc_mode not in ("shareable", "host"):
        raise Conflict(
            f"can't join IPC of container {other.id}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
        )
    return namespace_of(other, kind)


def namespace_of(container: Container, kind: str) -> str:
    """The path of a running container's namespace. Raises ``Conflict`` when it does not run."""
    if not container.state.pid:
        raise Conflict(f"cannot join {kind.upper()} of a non running container: {container.id}")
    return f"/proc/{container.state.pid}/ns/{kind}"


def _mounts(container: Container) -> list[OciMount]:
    # HostConfig.Tmpfs is read by the specification itself
    return [_mount(point) for point in container.spec.mounts if point.type != "tmpfs" or point.from_mounts]


def _mount(point: MountPoint) -> OciMount:
    if point.type == "tmpfs":
        options = tmpfs_options(point.tmpfs_options)
        return OciMount("tmpfs", point.destination, "tmpfs", options if point.rw else [*options, "ro"])
    if point.type == "bind":
        _make_source(point)
        return _bind(point)
    if not os.path.isdir(point.source):
        raise ServerError(f"the volume {point.name} is gone: {point.source}")
    return OciMount(point.source, point.destination, "bind", ["rbind", *_restrictions(point), "rprivate"])


def _bind(point: MountPoint) -> OciMount:
    propagation = point.propagation or "rprivate"
    try:
        check_propagation(point.source, propagation)
    except ServerError:
        if not point.propagation_is_ours:
            raise
        propagation = "rprivate"
    if point.recursive:
        options = ["rbind", *_restrictions(point), propagation]
    else:  # the "r" of "rprivate" would make crun's bind recursive
        options = ["bind", *_restrictions(point), propagation.removeprefix("r")]
    if not point.rw and point.recursive and point.read_only_below in ("try", "must"):
        options.append("rro")
    return OciMount(point.source, point.destination, "bind", options)


def _restrictions(point: MountPoint) -> list[str]:
    """What the mount forbids: also what the one that its source is on does, which crun would take off."""
    try:
        flags = os.statvfs(point.source).f_flag
    except OSError:
        flags = 0
    if not point.rw:
        flags |= os.ST_RDONLY
    return [word for flag, word in _RESTRICTIONS.items() if flags & flag]


def _make_source(point: MountPoint) -> None:
    """CRE22: a missing source of ``Binds`` is made as a directory."""
    if os.path.exists(point.source):
        return
    if not point.create_source:
        raise BadRequest(f'invalid mount config for type "bind": bind source path does not exist: {point.source}')
    try:
        os.makedirs(point.source, mode=0o755, exist_ok=True)
    except OSError as error:
        raise ServerError(
            f"error while creating mount source path '{point.source}': mkdir {error.filename}: {error.strerror}"
        ) from error


def _files(containers: Containers, container: Container) -> list[OciMount]:
    """The engine's own files over the container's: names and resolvers. A mount of the user's goes before them."""
    taken = {point.destination for point in container.spec.mounts}
    directory = containers.layout.container(container.id)
    mounts = []
    for name in _FILES:
        destination = f"/etc/{name}"
        if destination not in taken and (directory / name).exists():
            access = "ro" if container.host_config.readonly_rootfs else "rw"
            mounts.append(OciMount(str(directory / name), destination, "bind", ["bind", access, "rprivate"]))
    return mounts
