"""A small web application, built in stages upon Debian's own files, run, published, and fetched with curl."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engines import Engine
from tests.support.http import eventually

WANTED = ("base-files", "base-passwd", "coreutils", "dash", "python3", "sed")
LEFT_OUT = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/perl",
    "usr/share/info",
    "usr/share/lintian",
)

DOCKERFILE = """\
FROM debian-here AS build
ARG VERSION=none
WORKDIR /src
COPY app/ .
RUN sed -i "s/@VERSION@/$VERSION/" page.html \\
 && python3 -m compileall -q -b server.py && rm server.py

FROM debian-here
ENV PORT=8080
COPY --from=build --chown=nobody:nogroup /src /app
WORKDIR /app
USER nobody
EXPOSE 8080
HEALTHCHECK --interval=1s CMD ["test", "-e", "/app/page.html"]
ENTRYPOINT ["python3", "server.pyc"]
CMD ["hello"]
"""
SERVER = """\
import http.server, os, sys

class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        page = open("page.html").read().replace("@WORDS@", sys.argv[1]).replace("@UID@", str(os.getuid()))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(page.encode())

http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"""
PAGE = "<h1>@WORDS@ from @VERSION@ as @UID@</h1>\n"


def packages() -> list[str]:
    """What is wanted, and the installed packages that it needs."""
    listed = subprocess.run(
        ["dpkg-query", "-W", "-f=${Package}\t${Pre-Depends}, ${Depends}\t${Provides}\n"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    needs: dict[str, list[list[str]]] = {}
    provides: dict[str, str] = {}
    for line in listed.splitlines():
        name, depends, provided = line.split("\t")
        needs[name] = [
            [choice.split("(")[0].strip().split(":")[0] for choice in group.split("|")]
            for group in depends.split(",")
            if group.strip()
        ]
        for other in provided.split(","):
            provides.setdefault(other.split("(")[0].strip(), name)
    found: list[str] = []
    todo = list(WANTED)
    while todo:
        name = todo.pop()
        name = name if name in needs else provides.get(name, "")
        if name and name not in found:
            found.append(name)
            for choices in needs[name]:
                todo += [choice for choice in choices if choice in needs or choice in provides][:1]
    return sorted(found)


@pytest.fixture(scope="module")
def debian_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of some of this Debian's own packages, as an archive."""
    out = tmp_path_factory.mktemp("debian") / "root.tar"
    listed = subprocess.run(["dpkg", "-L", *packages()], capture_output=True, text=True, check=True).stdout
    paths = {"bin", "sbin", "lib", "lib64", "etc/passwd", "etc/group"}
    for line in listed.splitlines():  # /bin/sh lies in /usr/bin, where /bin is a link
        parent, name = os.path.split(line)
        if line.startswith("/") and name not in ("", "."):
            paths.add(os.path.join(os.path.realpath(parent), name).lstrip("/"))
    with tarfile.open(out, "w") as tar:
        for path in sorted(paths):
            if path.startswith(LEFT_OUT) or not os.path.lexists(f"/{path}"):
                continue
            info = tar.gettarinfo(f"/{path}", path)
            if info.islnk():
                info.type, info.linkname = tarfile.REGTYPE, ""
                info.size = os.stat(f"/{path}").st_size
            if info.isreg():
                with open(f"/{path}", "rb") as file:
                    tar.addfile(info, file)
            else:
                tar.addfile(info)
        for path in ("tmp", "proc", "sys", "dev", "root"):
            info = tarfile.TarInfo(path)
            info.type, info.mode = tarfile.DIRTYPE, 0o1777 if path == "tmp" else 0o755
            tar.addfile(info, io.BytesIO())
    return out


@pytest.fixture
def docker_env(wherry: Engine, tmp_path: Path) -> Iterator[dict[str, str]]:
    yield os.environ | {"DOCKER_HOST": wherry.address, "DOCKER_CONFIG": str(tmp_path), "DOCKER_BUILDKIT": "0"}
    wherry.remove_all()
    for name in ("web", "debian-here"):
        wherry.http.delete(f"/images/{name}?force=1")


def test_a_web_application_in_stages(
    wherry: Engine, docker_env: dict[str, str], debian_files: Path, tmp_path: Path
) -> None:
    def docker(*arguments: str) -> str:
        done = subprocess.run(["docker", *arguments], env=docker_env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    docker("import", str(debian_files), "debian-here")
    application = tmp_path / "application"
    (application / "app").mkdir(parents=True)
    (application / "Dockerfile").write_text(DOCKERFILE)
    (application / "app" / "server.py").write_text(SERVER)
    (application / "app" / "page.html").write_text(PAGE)

    said = docker("build", "-t", "web", "--build-arg", "VERSION=1.2", str(application))
    assert "Successfully tagged web:latest" in said
    docker("run", "-d", "--name", "web", "-p", "127.0.0.1::8080", "web", "good day")
    address = docker("port", "web", "8080").strip()

    def fetched() -> str:
        return subprocess.run(
            ["curl", "-s", "--noproxy", "*", f"http://{address}/"], capture_output=True, text=True, timeout=30
        ).stdout

    eventually(lambda: bool(fetched()), within=30, what=f"the page is served: {docker('logs', 'web')}")
    assert fetched() == "<h1>good day from 1.2 as 65534</h1>\n"
    eventually(lambda: "(healthy)" in docker("ps"), within=30, what="it is healthy")
    assert docker("exec", "web", "sh", "-c", "ls /app; stat -c %U /app/page.html").split() == [
        "page.html",
        "server.pyc",
        "nobody",
    ]
    assert docker("build", "-t", "web", "--build-arg", "VERSION=1.2", str(application)).count("Using cache") == 12
