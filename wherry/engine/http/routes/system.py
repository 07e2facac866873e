"""The operations on the engine itself: ping, version, info, events, df."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from wherry.api.errors import BadRequest
from wherry.api.json import encode
from wherry.api.models.events import EventActor, EventMessage
from wherry.engine import machine
from wherry.engine.event_filters import matcher, moment
from wherry.engine.events import Event
from wherry.engine.http.call import Call
from wherry.engine.http.respond import Answer

if TYPE_CHECKING:
    from wherry.engine.engine import Engine

_PING = [
    ("Builder-Version", "1"),
    ("Swarm", "inactive"),
    ("Cache-Control", "no-cache, no-store, must-revalidate"),
    ("Pragma", "no-cache"),
    ("Content-Type", "text/plain; charset=utf-8"),
]


async def ping(engine: Engine, call: Call) -> object:
    return Answer(200, b"OK", headers=_PING)


async def ping_head(engine: Engine, call: Call) -> object:
    return Answer(200, b"", headers=[*_PING, ("Content-Length", "0")])


async def version(engine: Engine, call: Call) -> object:
    return machine.version(engine)


async def info(engine: Engine, call: Call) -> object:
    return await machine.info(engine)


async def data_usage(engine: Engine, call: Call) -> object:
    return await machine.data_usage(engine, call.query.type, call.version)


async def events(engine: Engine, call: Call) -> object:
    """EVT1 to EVT6: the buffered events from ``since`` on, then live ones until ``until``."""
    query = call.query
    since, until = moment(query.since), moment(query.until)
    if since is not None and until is not None and since > until:
        raise BadRequest(f"`since` time ({query.since}) cannot be after `until` time ({query.until})")
    keep = matcher(query.filters or {})
    buffered, subscription = engine.events.subscribe()
    try:
        writer = await call.start(200, "application/json")
        if since is not None or until is not None:
            for event in buffered:
                if event.time_nano >= (since or 0) and (until is None or event.time_nano <= until) and keep(event):
                    await writer.write(_line(event))
        gone = asyncio.ensure_future(call.disconnected())
        timer = asyncio.ensure_future(_sleep_until(until)) if until is not None else None
        ends: set[asyncio.Future[Any]] = {gone} | ({timer} if timer else set())
        try:
            while True:
                following = asyncio.ensure_future(subscription.get())
                pending: set[asyncio.Future[Any]] = {following, *ends}
                await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    following.cancel()
                    return None
                latest = following.result()
                if latest is None or (until is not None and latest.time_nano > until):
                    return None
                if keep(latest):
                    await writer.write(_line(latest))
        finally:
            for end in ends:
                end.cancel()
    finally:
        subscription.close()


async def _sleep_until(moment_ns: int) -> None:

    await asyncio.sleep(max(0.0, (moment_ns - time.time_ns()) / 1e9))


def _line(event: Event) -> bytes:
    message = EventMessage(
        type=event.type,
        action=event.action,
        actor=EventActor(id=event.id, attributes=dict(event.attributes)),
        scope="local",
        time=event.time_nano // 1_000_000_000,
        time_nano=event.time_nano,
    )
    if event.type in ("container", "image"):
        message.status = event.action
        message.id = event.id
        if event.type == "container":
            message.from_ = event.attributes.get("image", "")
    return encode(message) + b"\n"


HANDLERS = {
    "SystemPing": ping,
    "SystemPingHead": ping_head,
    "SystemVersion": version,
    "SystemInfo": info,
    "SystemEvents": events,
    "SystemDataUsage": data_usage,
}
