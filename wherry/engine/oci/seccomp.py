"""Which system calls a container may make: the default profile, a client's own, and profiles compiled beforehand.

A profile handed over as JSON costs the runtime some 16 ms of CPU at each start, for compiling it. crun also takes the
compiled filter (an annotation); whatever crun compiled once is kept and given to it ready the next time. No other
runtime knows the annotation: it would silently run the container unfiltered. So it is used only where ``probe`` has
seen it work.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import platform
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wherry.engine.oci import capabilities

if TYPE_CHECKING:
    from wherry.api.models.containers import HostConfig
    from wherry.engine.oci.runtime import Runtime

log = logging.getLogger(__name__)

UNCONFINED = "unconfined"
BUILTIN = "builtin"
ALLOW, ERRNO = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"
ENOSYS = 38
AF_VSOCK = 40
NAMESPACE_FLAGS = 0x7E020000  # CLONE_NEW* except NEWTIME, which clone does not take
PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)  # Linux, Linux32, both with UNAME26, and asking
FILTER_LIMIT = 4096 * 8  # the kernel's: instructions of 8 bytes

# Go's names of machines, as client profiles use them
_GO_MACHINES = {
    "x86_64": "amd64",
    "i686": "x86",
    "aarch64": "arm64",
    "armv7l": "arm",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
}


class InvalidProfile(ValueError):
    """A client's profile that cannot be used; the message says why."""


@lru_cache(maxsize=64)
def _default(granted: frozenset[str], machine: str) -> str:
    known = _known()
    own = known["machines"].get(machine, {"architectures": [], "names": []})
    names = {name for family in known["always"].values() for line in family for name in line.split()}
    names |= {name for line in own["names"] for name in line.split()}
    for capability, lines in known["with_capability"].items():
        if capability in granted:
            names |= {name for line in lines for name in line.split()}
    rules: list[dict[str, Any]] = [
        {"names": sorted(names), "action": ALLOW},
        _rule("socket", ALLOW, 0, AF_VSOCK, "SCMP_CMP_NE"),
    ]
    rules += [_rule("personality", ALLOW, 0, value, "SCMP_CMP_EQ") for value in PERSONALITIES]
    if "CAP_SYS_ADMIN" not in granted:
        flags = 1 if machine == "s390x" else 0
        masked = _rule("clone", ALLOW, flags, NAMESPACE_FLAGS, "SCMP_CMP_MASKED_EQ")
        masked["args"][0]["valueTwo"] = 0
        rules += [masked, {"names": ["clone3"], "action": ERRNO, "errnoRet": ENOSYS}]
    profile = {
        "defaultAction": ERRNO,
        "defaultErrnoRet": 1,
        "architectures": own["architectures"],
        "syscalls": rules,
    }
    return json.dumps(profile)


def default_profile(granted: Collection[str], machine: str = "") -> dict[str, Any]:
    """``linux.seccomp`` of a container with the ``granted`` capabilities: the same effect as moby's default profile."""
    profile: dict[str, Any] = json.loads(_default(frozenset(granted), machine or platform.machine()))
    return profile


@cache
def _known() -> dict[str, Any]:
    text = Path(__file__).with_name("seccomp_default.json").read_text("utf-8")
    known: dict[str, Any] = json.loads(text)
    return known


def _rule(name: str, action: str, index: int, value: int, op: str) -> dict[str, Any]:
    return {"names": [name], "action": action, "args": [{"index": index, "value": value, "op": op}]}


def client_profile(text: str, granted: Collection[str], machine: str = "") -> dict[str, Any]:
    """``linux.seccomp`` of a profile in moby's format, as ``SecurityOpt`` carries it. Raises ``InvalidProfile``."""
    machine = machine or platform.machine()
    go_machine = _GO_MACHINES.get(machine, machine)
    try:
        given = json.loads(text)
        if not isinstance(given, dict) or not isinstance(given.get("defaultAction"), str):
            raise InvalidProfile("Decoding seccomp profile failed: no defaultAction")
        result: dict[str, Any] = {"defaultAction": given["defaultAction"]}
        for name in ("defaultErrnoRet", "flags", "listenerPath", "listenerMetadata"):
            if given.get(name):
                result[name] = given[name]
        architectures = list(given.get("architectures") or [])
        own = _known()["machines"].get(machine, {}).get("architectures", [None])[0]
        for entry in given.get("archMap") or []:
            if entry.get("architecture") == own:
                architectures += [own, *(entry.get("subArchitectures") or [])]
        if architectures:
            result["architectures"] = architectures
        result["syscalls"] = [
            _client_rule(rule)
            for rule in given.get("syscalls") or []
            if _applies(rule.get("includes") or {}, rule.get("excludes") or {}, granted, go_machine)
        ]
    except InvalidProfile:
        raise
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise InvalidProfile(f"Decoding seccomp profile failed: {error}") from None
    return result


def _client_rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    names = list(rule.get("names") or [])
    if rule.get("name"):
        if names:
            raise InvalidProfile(
                "'name' and 'names' were specified in the seccomp profile, use either 'name' or 'names'"
            )
        names = [rule["name"]]
    result: dict[str, Any] = {"names": names, "action": rule["action"]}
    if rule.get("errnoRet") is not None:
        result["errnoRet"] = int(rule["errnoRet"])
    if rule.get("args"):
        result["args"] = [
            {"index": int(a["index"]), "value": int(a["value"]), "valueTwo": int(a.get("valueTwo") or 0), "op": a["op"]}
            for a in rule["args"]
        ]
    return result


def _applies(
    includes: Mapping[str, Any], excludes: Mapping[str, Any], granted: Collection[str], go_machine: str
) -> bool:
    if excludes.get("arches") and go_machine in excludes["arches"]:
        return False
    if any(capability in granted for capability in excludes.get("caps") or ()):
        return False
    if excludes.get("minKernel") and _kernel_is(excludes["minKernel"]):
        return False
    if includes.get("arches") and go_machine not in includes["arches"]:
        return False
    if not all(capability in granted for capability in includes.get("caps") or ()):
        return False
    return not includes.get("minKernel") or _kernel_is(includes["minKernel"])


def _kernel_is(minimum: str) -> bool:
    def numbers(text: str) -> list[int]:
        return [int("".join(c for c in part if c.isdigit()) or 0) for part in text.split("-")[0].split(".")[:2]]

    return numbers(os.uname().release) >= numbers(minimum)


def check_profile(text: str) -> None:
    """Raises ``InvalidProfile`` unless ``text`` is ``unconfined``, ``builtin`` or a profile as JSON."""
    if text not in (UNCONFINED, BUILTIN):
        client_profile(text, ())


def choose(runtime: Runtime, text: str | None, host: HostConfig) -> dict[str, Any] | str:
    """What ``SpecInput.seccomp`` takes for a container; ``text`` is what SecurityOpt says of seccomp, if anything.

    A privileged container is filtered only by a profile of its own. Raises ``InvalidProfile``.
    """
    if text == UNCONFINED or (host.privileged and text in (None, "", BUILTIN)) or not available():
        return {}
    granted = capabilities.granted(host.cap_add, host.cap_drop, host.privileged)
    profile = client_profile(text, granted) if text and text != BUILTIN else default_profile(granted)
    return runtime.filters.ready(profile) if runtime.filters else profile


@cache
def available() -> bool:
    """Whether the kernel filters system calls at all."""
    return os.path.exists("/proc/sys/kernel/seccomp")


class FilterCache:
    """Compiled filters of one proven runtime, in ``directory``, by its version, the kernel's and the profile."""

    def __init__(self, directory: Path, runtime: Runtime) -> None:
        self._directory = directory
        self._runtime = runtime
        self._known: dict[str, str] = {}

    def ready(self, profile: dict[str, Any]) -> dict[str, Any] | str:
        """What ``SpecInput.seccomp`` takes: the compiled filter in base64 where there is one, else the profile."""
        if not _compilable(profile):
            return profile
        key = self._key(profile)
        if key not in self._known:
            try:
                data = (self._directory / key).read_bytes()
            except OSError:
                return profile
            if not _plausible(data):
                return profile
            self._known[key] = base64.b64encode(data).decode()
        return self._known[key]

    def learn(self, container_id: str, config: bytes) -> None:
        """Keep what the runtime compiled for a container that it created from ``config``, the bundle's config.json."""
        if b'"SCMP_ACT_' not in config:
            return
        profile = json.loads(config)["linux"]["seccomp"]
        data = compiled(self._runtime, container_id)
        if data is not None and _compilable(profile):
            self.keep(profile, data)

    def keep(self, profile: dict[str, Any], data: bytes) -> None:
        """Remember the filter that ``profile`` compiles to."""
        key = self._key(profile)
        self._known[key] = base64.b64encode(data).decode()
        temporary = self._directory / f"{key}.{os.getpid()}"
        with suppress(OSError):
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary.write_bytes(data)
            temporary.rename(self._directory / key)

    def _key(self, profile: dict[str, Any]) -> str:
        return digest(self._runtime, profile)


def digest(runtime: Runtime, profile: Mapping[str, Any], *more: str) -> str:
    """Names a profile as this runtime on this kernel compiles it."""
    text = json.dumps([runtime.identity, os.uname().release, platform.machine(), profile, *more], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def compiled(runtime: Runtime, container_id: str) -> bytes | None:
    """The filter that crun compiled for a container it created; None with other runtimes."""
    try:
        data = (runtime.root / container_id / "seccomp.bpf").read_bytes()
    except OSError:
        return None
    return data if _plausible(data) else None


def _compilable(profile: Mapping[str, Any]) -> bool:
    """Whether the filter is all there is to a profile: flags and listeners do not survive its compilation."""
    return not (profile.get("flags") or profile.get("listenerPath") or "SCMP_ACT_NOTIFY" in json.dumps(profile))


def _plausible(data: bytes) -> bool:
    return 0 < len(data) <= FILTER_LIMIT and len(data) % 8 == 0
