"""The same build on both engines: what it says, what it leaves, and in which words it is refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import tarfile
from typing import Any

import pytest

from tests.support.builds import Built, build, config, context, history, symlink
from tests.support.engines import Engine

FILES: dict[str, Any] = {
    "a.txt": "A\n",
    "b.txt": "B\n",
    "dir": None,
    "dir/c": "C",
    "dir/sub": None,
    "dir/sub/d": "D",
    "dir/l": symlink("dir/l", "c"),
    "link": symlink("link", "dir/c"),
    "linked": symlink("linked", "dir"),
    "in.tgz": gzip.compress(context({"in/x": "1", "y": "2", "z": symlink("z", "/in")}), mtime=0),
    "with space": "s",
    "[x]": "brackets",
}
GIVEN = {"B": "bee", "HTTP_PROXY": "proxy"}
BUILDS = {
    "files and directories": """
        COPY a.txt b.txt /x/
        COPY a.txt /y
        COPY dir /z
        COPY dir/ /deep/er/
        COPY link linked /links/
        COPY linked /directory
        COPY . /all/
        COPY --chown=user:staff a.txt /new/parents/c
        COPY --chown=7 dir /e/f
        COPY --chown=1000:9 a.txt /owned/
    """,
    "wildcards": """
        COPY *.txt /x/
        COPY d* /y/
        COPY dir/? /z/
        COPY dir/s* /w/
        COPY ["with space", "/sp ace"]
        COPY [[]x] /b
    """,
    "places relative to the working directory": """
        WORKDIR /w
        WORKDIR v
        COPY a.txt .
        COPY a.txt q
        COPY dir r/
        COPY a.txt ./n/
        WORKDIR /abs/
        WORKDIR ../up
    """,
    "archives": """
        ADD in.tgz /t
        ADD in.tgz /u/
        COPY in.tgz /v
        ADD a.txt /w/
        ADD --chown=1:2 in.tgz /x/
        ADD --chown=1:2 a.txt dir /y/
    """,
    "files and links in the way": """
        RUN mkdir -p /e/f && echo 1 > /e/g && ln -s /e/f /e/s && ln -s /e/g /e/t && ln -s nowhere /e/d
        RUN mkdir -p /r/x && echo 1 > /r/f && ln -s r/x /s && ln -s ../z /r/x/b && ln -s ../../../../up /r/x/c
        COPY a.txt /e/g
        COPY a.txt /s/b
        COPY a.txt /s/c
        COPY a.txt /e/s
        COPY b.txt /e/t
        COPY b.txt /e/d
        COPY dir /e/s/
        COPY . /e/
        RUN rm -r /e/f/sub && rm /e/g
    """,
    "variables": """
        ARG A=1
        ARG B
        ARG C=$A-${B:-none} D
        ENV D=$C E="$A $B" F=${nope:+x} G=${A:+y} H=\\$A I='$A'
        ENV old form  value with $A
        LABEL l=$A m="n $B"
        WORKDIR /w$A
        EXPOSE $A 80-82 53/udp
        VOLUME /v$A /vv
        VOLUME ["/q","/r s"]
        USER us${nope}er
        STOPSIGNAL SIG${A:+INT}
        RUN echo $A $B $C $D "$E" $F $G $H $I $old $HTTP_PROXY
    """,
    "commands and continued lines": """
        CMD ["a","b \\"c\\""]
        ENTRYPOINT exec top -b
        CMD x y
        SHELL ["/bin/sh","-c"]
        CMD foo \\
          # between

          bar
        HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=1h --retries=9 CMD ["x","y"]
        maintainer me <me@there>
        Env a=b
        EXPOSE $nothing
        RUN ['no','json'] || true
    """,
}
REFUSED = [
    "FOO bar",
    "FROM a b",
    "FROM busybox AS 1x",
    "FROM $nope",
    "FROM Bad:Ref",
    "FROM --platform=$X busybox",
    "CMD [1]",
    "ENV a",
    "ENV a=1 b",
    "ENV A=${x:?gone}",
    'LABEL a="b',
    "LABEL",
    "COPY a",
    "COPY nope /x",
    "COPY ../x /x",
    "COPY nope* /x",
    "COPY a.txt b.txt /x",
    "COPY http://host/y /x",
    "COPY --from=9 /x /x",
    "COPY --from=0 /x /x",
    "COPY --foo=1 a.txt /x",
    "COPY --chown a.txt /x",
    "COPY --chown=1 --chown=2 a.txt /x",
    "COPY --chown=nobody9 a.txt /x",
    "COPY --chown=:staff a.txt /x",
    "COPY --chown=root:nogrp9 a.txt /x",
    "COPY --chown=1:2:3 a.txt /x",
    "COPY --chmod=1 a.txt /x",
    "RUN --mount=type=cache,target=/x true",
    "ONBUILD ONBUILD RUN x",
    "ONBUILD FROM x",
    "ONBUILD",
    "EXPOSE abc",
    "EXPOSE 80/foo",
    "HEALTHCHECK FOO x",
    "HEALTHCHECK --interval=1x CMD x",
    "HEALTHCHECK --retries=0 CMD x",
    "HEALTHCHECK --retries=x CMD x",
    "HEALTHCHECK CMD",
    "HEALTHCHECK NONE x",
    "SHELL foo",
    "SHELL []",
    'VOLUME [""]',
    "ARG =1",
    "ARG",
    "USER",
    "WORKDIR",
    "WORKDIR $nope",
    "WORKDIR /etc/passwd",
    "MAINTAINER",
    "ADD nope /",
]


def tree(engine: Engine, name: str) -> dict[str, tuple[object, ...]]:
    """What lies in an image: type, mode, owners, link and content of every path but the engine's own."""
    container = engine.create("true", Image=name)
    archive = engine.http.get(f"/containers/{container}/export").body
    engine.remove_all()
    found = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for entry in tar:
            top = entry.name.split("/")[0]
            if top in ("bin", "dev", "proc", "sys", ".dockerenv") or entry.name in ("etc/hosts", "etc/resolv.conf"):
                continue
            content = tar.extractfile(entry) if entry.isreg() else None
            digest = hashlib.sha256(content.read()).hexdigest() if content is not None else ""
            modified = entry.mtime if entry.isreg() and entry.mtime <= 1_000_000_000 else 0
            found[entry.name] = (
                entry.type,
                entry.mode & 0o7777,
                entry.uid,
                entry.gid,
                entry.linkname,
                digest,
                modified,
            )
    return found


@pytest.mark.parametrize("name", BUILDS)
def test_a_build_comes_out_alike(wherry: Engine, dockerd: Engine, name: str) -> None:
    body = context(FILES, f"ARG T=latest\nFROM busybox:$T\n{BUILDS[name]}")
    labels = {"z": "1", "a": "2"} if name == "variables" else {}
    ours, theirs = (build(engine, body, t="compared", buildargs=GIVEN, labels=labels) for engine in (wherry, dockerd))
    assert (ours.error, theirs.error) == ("", "")
    assert ours.said == theirs.said
    assert config(wherry, "compared") == config(dockerd, "compared")
    assert history(wherry, "compared")[:-1] == history(dockerd, "compared")[:-1]
    assert tree(wherry, "compared") == tree(dockerd, "compared")


@pytest.mark.parametrize("line", REFUSED)
def test_a_build_is_refused_alike(wherry: Engine, dockerd: Engine, line: str) -> None:
    body = context(FILES, line if line.startswith("FROM") else f"FROM busybox\n{line}\n")
    ours, theirs = build(wherry, body), build(dockerd, body)
    assert words_of(ours) == words_of(theirs)
    assert ours.said == theirs.said


def words_of(built: Built) -> tuple[int, str, int]:
    """The older engine has another way of naming the line."""
    return built.status, re.sub(r"parse error (on )?line", "parse error line", built.error), built.code
