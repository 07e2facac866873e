"""ContainerList: a snapshot, filtered (LST1 to LST12). It takes no lock, so one stuck container cannot hold it up."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable

from msgspec import UNSET

from wherry.api.errors import BadRequest, NotFound, ServerError
from wherry.api.models.containers import (
    ContainerSummary,
    Health,
    PortSummary,
    SummaryHostConfig,
    SummaryNetworkSettings,
)
from wherry.engine.blocking import in_thread
from wherry.engine.containers.container import Container
from wherry.engine.containers.inspect import endpoints, mount_points, port_map, sizes
from wherry.engine.containers.links import link_names
from wherry.engine.containers.registry import Containers
from wherry.engine.containers.settings import parse_port
from wherry.engine.containers.times import human_duration
from wherry.engine.filters import check_keys, match_labels
from wherry.engine.regexp import Patterns

KEYS = frozenset(
    "ancestor before exited id isolation label name status health since volume network is-task publish expose".split()
)
STATUSES = frozenset("created restarting running removing paused exited dead".split())
HEALTHS = frozenset("starting healthy unhealthy none".split())
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")

log = logging.getLogger(__name__)

Test = Callable[[Container], bool]


async def list_containers(
    containers: Containers,
    *,
    all: bool = False,
    limit: int = 0,
    size: bool = False,
    filters: dict[str, list[str]] | None,
) -> list[ContainerSummary]:
    """The containers that the filters let through, newest first.

    Raises ``BadRequest`` for a bad filter, ``NotFound`` for an unknown ``before`` or ``since``.
    """
    everything = all or limit > 0 or "status" in (filters or {})
    check_keys(filters or {}, KEYS)
    is_task = _is_task((filters or {}).get("is-task"))
    filters = {key: values for key, values in (filters or {}).items() if values}  # a key without values is no filter
    first, second = _early_tests(containers, filters), _late_tests(containers, filters)
    if is_task:
        return []
    chosen: list[Container] = []
    for container in sorted(_narrowed(containers, filters), key=lambda c: c.spec.created, reverse=True):
        if not (everything or container.state.running) or not first(container):
            continue
        if limit > 0 and len(chosen) >= limit:
            break
        if second(container):
            chosen.append(container)
    others = link_names(containers)
    summaries = [summary(containers, container, others.get(container.id, ())) for container in chosen]
    if size:
        for container, item in zip(chosen, summaries, strict=True):
            own, item.size_root_fs = await in_thread(sizes, containers, container)
            item.size_rw = own or UNSET  # 0 is left out of the list, not of inspect
    return summaries


def summary(containers: Containers, container: Container, links: Iterable[str] = ()) -> ContainerSummary:
    """``links`` are the names that it has by others' links."""
    spec = container.spec
    return ContainerSummary(
        id=spec.id,
        names=sorted([f"/{spec.name}", *links]),
        image=_image_name(containers, container),
        image_id=spec.image_id,
        command=_command(spec.path, spec.args),
        created=spec.created // 1_000_000_000,
        ports=_ports(container),
        labels=spec.config.labels or {},
        state=container.state.status,
        status=status_text(container),
        host_config=SummaryHostConfig(network_mode=spec.host_config.network_mode),
        network_settings=SummaryNetworkSettings(networks=endpoints(container)),
        mounts=mount_points(container),
    )


def _image_name(containers: Containers, container: Container) -> str:
    """The reference as given, or the id where that reference means another image by now (LST8)."""
    spec = container.spec
    try:
        image = containers.parts.images.get(spec.image_reference)
    except (NotFound, BadRequest):
        return spec.image_id
    return spec.image_reference if image.id == spec.image_id else spec.image_id


def _command(path: str, args: list[str]) -> str:
    return " ".join([path, *(f"'{word}'" if " " in word else word for word in args)])


def _ports(container: Container) -> list[PortSummary]:
    """One entry a binding; an exposed port without one has no address (LST9)."""
    result: list[PortSummary] = []
    for name, bindings in port_map(container).items():
        port, _, protocol = name.partition("/")
        if not bindings:
            result.append(PortSummary(private_port=int(port), type=protocol or "tcp"))
        for binding in bindings or []:
            result.append(
                PortSummary(
                    ip=binding.host_ip,
                    private_port=int(port),
                    public_port=int(binding.host_port),
                    type=protocol or "tcp",
                )
            )
    return result


def status_text(container: Container) -> str:
    """The words of ``docker ps`` (LST10)."""
    state = container.state
    now = time.time_ns()

    def ago(moment: int) -> str:
        return human_duration((now - moment) / 1e9)

    if state.running:
        if state.paused:
            return f"Up {ago(state.started_at)} (Paused)"
        if state.restarting:
            return f"Restarting ({state.exit_code}) {ago(state.finished_at)} ago"
        health = container.health
        if isinstance(health, Health) and health.status not in ("", "none"):
            word = "health: starting" if health.status == "starting" else health.status
            return f"Up {ago(state.started_at)} ({word})"
        return f"Up {ago(state.started_at)}"
    if state.removing:
        return "Removal In Progress"
    if state.dead:
        return "Dead"
    if not state.started_at:
        return "Created"
    return f"Exited ({state.exit_code}) {ago(state.finished_at)} ago" if state.finished_at else ""


# filters


def _narrowed(containers: Containers, filters: dict[str, list[str]]) -> list[Container]:
    """The candidates: with ``id`` those of which a value is the unique beginning (LST5)."""
    wanted = filters.get("id")
    if wanted is None:
        return list(containers)
    found: dict[str, Container] = {}
    for prefix in filter(None, wanted):
        matches = [container for container in containers if container.id.startswith(prefix)]
        if len(matches) == 1:
            found[matches[0].id] = matches[0]
    return list(found.values())


def _early_tests(containers: Containers, filters: dict[str, list[str]]) -> Test:
    """Names, labels and the borders in time: tested before the limit counts (LST3)."""
    before, since = _border(containers, filters, "before"), _border(containers, filters, "since")
    names = Patterns(filters["name"]) if "name" in filters else None
    labels = {"label": filters.get("label", [])}

    def test(container: Container) -> bool:
        if names is not None and not names.search(f"/{container.name}", container.name):
            return False
        if not match_labels(container.config.labels or {}, labels):
            return False
        created = container.spec.created
        return (before is None or created < before) and (since is None or created > since)

    return test


def _border(containers: Containers, filters: dict[str, list[str]], key: str) -> int | None:
    values = filters.get(key)
    if not values:
        return None
    return containers.find(values[-1]).spec.created


def _is_task(values: list[str] | None) -> bool:
    """There are no tasks of a swarm here: with a true value nothing is listed."""
    if values is None:
        return False
    yes, no = not {"1", "true"}.isdisjoint(values), not {"0", "false"}.isdisjoint(values)
    if yes == no:
        raise BadRequest(f"invalid filter 'is-task=[{' '.join(values)}]'")
    return yes


def _late_tests(containers: Containers, filters: dict[str, list[str]]) -> Test:
    tests: list[Test] = []
    if (statuses := filters.get("status")) is not None:
        for word in statuses:
            if word not in STATUSES:
                raise BadRequest(f"invalid filter 'status={word}'")
        tests.append(lambda c: c.state.status in statuses)
    if (healths := filters.get("health")) is not None:
        for word in healths:
            if word not in HEALTHS:
                raise BadRequest(f"unrecognized filter value for health: {word}")
        tests.append(lambda c: (c.health.status if isinstance(c.health, Health) else "none") in healths)
    if (exits := filters.get("exited")) is not None:
        codes = {_exit_code(text) for text in exits}
        tests.append(lambda c: not c.state.running and bool(c.state.started_at) and c.state.exit_code in codes)
    if (volumes := filters.get("volume")) is not None:
        wanted = set(volumes) - {""}
        tests.append(lambda c: not wanted.isdisjoint(_mounted(c)))
    if (networks := filters.get("network")) is not None:
        tests.append(lambda c: _in_network(c, networks))
    if (ancestors := filters.get("ancestor")) is not None:
        ids = _ancestors(containers, ancestors)
        tests.append(lambda c: c.spec.image_id in ids)
    ports = [_port_test(key, filters[key]) for key in ("publish", "expose") if key in filters]
    if ports:
        tests.append(lambda c: any(test(c) for test in ports))
    return lambda container: all(test(container) for test in tests)


def _mounted(container: Container) -> set[str]:
    """What a ``volume`` filter can name: volumes, bind sources, destinations."""
    names: set[str] = set()
    for point in mount_points(container):
        names |= {point.destination, point.name or point.source}
    return names


def _exit_code(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise BadRequest(f"invalid filter 'exited={text}': strconv.Atoi: parsing \"{text}\": invalid syntax")
    return int(text)


def _in_network(container: Container, wanted: list[str]) -> bool:
    for name, endpoint in endpoints(container).items():
        for text in wanted:
            if text == name or endpoint.network_id.startswith(text):
                return True
    return False


def _ancestors(containers: Containers, references: list[str]) -> set[str]:
    """The ids of images and of images made from them; an unknown one matches nothing (LST6)."""
    images = containers.parts.images
    ids: set[str] = set()
    for reference in references:
        try:
            ids.add(images.get(reference).id)
        except (NotFound, BadRequest):
            log.warning("the ancestor filter names no image: %s", reference)
            continue
    todo = list(ids)
    while todo:
        fresh = set(images.children(todo.pop())) - ids
        ids |= fresh
        todo += fresh
    return ids


def _port_test(key: str, values: list[str]) -> Test:
    wanted: list[tuple[int, int, str]] = []
    for text in values:
        if ":" in text:
            raise ServerError(f"filter for '{key}' should not contain ':': {text}")
        try:
            wanted.append(parse_port(text))
        except BadRequest as error:
            raise ServerError(f"error while looking up for {key} {text}: {error.message}") from None

    def test(container: Container) -> bool:
        held: list[tuple[int, str]] = []
        if key == "publish":
            held = [(p.public_port, p.type) for p in _ports(container) if p.public_port is not UNSET and p.public_port]
        else:
            for name in container.config.exposed_ports or {}:
                first, last, protocol = parse_port(name)
                held += [(port, protocol) for port in range(first, last + 1)]
        return any(
            first <= port <= last and protocol == kind for port, kind in held for first, last, protocol in wanted
        )

    return test
