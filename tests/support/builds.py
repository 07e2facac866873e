"""Builds: contexts as archives, and what came of a build in a form that two engines can agree on."""

from __future__ import annotations

import base64
import io
import json
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from tests.support.engines import Engine, decode_lines

Files = Mapping[str, "bytes | str | tarfile.TarInfo | None"]
_ID = re.compile(r"\b[0-9a-f]{12}\b")
_HASH = re.compile(r"(file|dir|multi):[0-9a-f]{64}")


def context(files: Files, dockerfile: str | None = None, *, mode: str = "w") -> bytes:
    """An archive. A value of None is a directory; a ``TarInfo`` goes in as it is."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:  # type: ignore[call-overload]
        if dockerfile is not None:
            files = {"Dockerfile": dockerfile, **files}
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.mtime = 1_000_000_000
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
                continue
            data = content.encode() if isinstance(content, str) else content
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def symlink(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = tarfile.SYMTYPE, target, 0o777
    return info


@dataclass(slots=True)
class Built:
    """A build's answer. ``error`` is the message of a failure, wherever it was said; ``code`` that of a step."""

    status: int
    lines: list[Any] = field(default_factory=list)
    error: str = ""
    code: int = 0

    @property
    def id(self) -> str:
        return str(next((line["aux"]["ID"] for line in reversed(self.lines) if "aux" in line), ""))

    @property
    def text(self) -> str:
        return "".join(line.get("stream", "") for line in self.lines)

    @property
    def said(self) -> list[str]:
        """The text without what differs from build to build, and without the containers that only moby makes."""
        text = _ID.sub("<id>", self.text)
        lines = [
            line for line in text.splitlines() if not line.startswith((" ---> Running in", "Removing intermediate"))
        ]
        return [line.replace("\x1b[0mRemoving intermediate container <id>", "\x1b[0m") for line in lines]


def build(engine: Engine, body: bytes, *, headers: Mapping[str, str] | None = None, **query: Any) -> Built:
    """POST /build; lists in the query are repeated, maps are JSON."""
    pairs = []
    for key, value in query.items():
        for item in value if isinstance(value, list) else [value]:
            pairs.append((key, json.dumps(item) if isinstance(item, (dict, tuple)) else str(item)))
    answer = engine.http.post(
        f"/build?{urlencode(pairs)}",
        body=body,
        headers={"Content-Type": "application/x-tar", **(headers or {})},
        timeout=120,
    )
    if answer.status != 200:
        return Built(answer.status, error=answer.json["message"])
    lines = decode_lines(answer.body)
    built = Built(200, lines)
    for line in lines:
        if "error" in line:
            built.error = line["error"]
            built.code = line["errorDetail"].get("code", 0)
    return built


def image(engine: Engine, name: str) -> Any:
    answer = engine.http.get(f"/images/{name}/json")
    assert answer.status == 200, answer
    return answer.json


def config(engine: Engine, name: str) -> dict[str, Any]:
    """An image's configuration, without the id in it."""
    found = dict(image(engine, name)["Config"])
    found.pop("Image")
    found.pop("ArgsEscaped", None)
    return {key: value for key, value in found.items() if value not in (None, "", False)}


def history(engine: Engine, name: str) -> list[tuple[str, bool]]:
    """What an image's steps say of themselves, and whether each is of any size."""
    steps = engine.http.get(f"/images/{name}/history").json
    return [(_HASH.sub(r"\1:<hash>", step["CreatedBy"]), step["Size"] > 0) for step in steps]


def registry_config(auths: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    return {"X-Registry-Config": base64.urlsafe_b64encode(json.dumps(auths).encode()).decode()}
