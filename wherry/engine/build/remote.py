"""Files by URL: sources of ADD, and contexts (``remote``)."""

from __future__ import annotations

import os
import re
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from email.message import Message as Fields
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from wherry.api.errors import BadRequest, NotImplementedYet, ServerError
from wherry.engine.blocking import in_thread
from wherry.engine.build.progress import BuildProgress
from wherry.engine.images.content import free_space, no_space
from wherry.engine.images.registry.errors import RegistryError
from wherry.engine.images.registry.fetch import opened
from wherry.engine.images.registry.hosts import Registries
from wherry.engine.images.registry.progress import bar
from wherry.engine.images.registry.transport import Answer
from wherry.engine.store.layout import Layout

_EVERY = 0.1
_BATCH = 1 << 20
_GIT = re.compile(r"(?:git://|git@|github\.com/|https?://.*\.git(?:#.+)?$)")
_UNNAMED = "__unnamed__"


def is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def check_context(url: str) -> None:
    """Whether a ``remote`` can be built from. Raises ``BadRequest``, ``NotImplementedYet``."""
    if _GIT.match(url):
        raise NotImplementedYet(f"building from a git repository is not there: clone {url}, and build the directory")
    if not is_url(url):
        raise BadRequest(f"remoteURL ({url}) could not be recognized as URL")


@dataclass(frozen=True, slots=True)
class Fetched:
    """``name`` is empty where neither the URL nor the server gives the file one."""

    directory: Path
    name: str
    content_type: str

    @property
    def path(self) -> Path:
        return self.directory / (self.name or _UNNAMED)


async def fetch(registries: Registries, layout: Layout, url: str, directory: Path, progress: BuildProgress) -> Fetched:
    """Fetch a URL to a file in ``directory``, with its time. Raises ``ServerError``."""
    try:
        async with opened(registries, url) as answer:
            fetched = Fetched(directory, _name(url, answer), (answer.headers.get("content-type") or "").strip())
            await _save(layout, answer, fetched.path, progress)
        os.chmod(fetched.path, 0o600)
        modified = _modified(answer.headers.get("last-modified") or "")
        os.utime(fetched.path, (modified, modified))
        return fetched
    except RegistryError as error:
        raise ServerError(str(error)) from error
    except OSError as error:
        raise ServerError(f"{url} cannot be kept: {error}") from error


async def _save(layout: Layout, answer: Answer, path: Path, progress: BuildProgress) -> None:
    total, current, said = answer.content_length or -1, 0, 0.0
    batch: list[bytes] = []
    held = 0

    def write() -> None:
        if held > free_space(layout):
            raise no_space(layout)
        file.write(b"".join(batch))

    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        async for piece in answer.pieces():
            batch.append(piece)
            held += len(piece)
            current += len(piece)
            if held >= _BATCH:
                await in_thread(write)
                batch, held = [], 0
            if time.monotonic() - said >= _EVERY:
                said = time.monotonic()
                _say(progress, current, total)
                await progress.drain()
        await in_thread(write)
    _say(progress, current, total)
    progress.say("\n")


def _say(progress: BuildProgress, current: int, total: int) -> None:
    detail = {"current": current, "total": total} if total > 0 else {"current": current}
    progress.put({"status": "Downloading", "progressDetail": detail, "progress": bar(current, total)})


def _name(url: str, answer: Answer) -> str:
    path = unquote(urlsplit(url).path)
    if path and not path.endswith("/"):
        return _safe(path)
    fields = Fields()
    fields["Content-Disposition"] = answer.headers.get("content-disposition") or ""
    return _safe(fields.get_filename() or "")


def _safe(path: str) -> str:
    name = path.rstrip("/").rpartition("/")[2]
    return "" if name in (".", "..") or "\0" in name or len(os.fsencode(name)) > 255 else name


def _modified(text: str) -> float:
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp())
    except (ValueError, TypeError, OverflowError):
        return 0.0


async def as_body(path: Path) -> AsyncGenerator[bytes, None]:
    """A file's bytes, as if a client sent them."""
    with open(path, "rb") as file:
        while data := await in_thread(file.read, _BATCH):
            yield data
