"""Builds as clients ask for them: Wherry's own, docker-py, and both command lines."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

import wherry
from tests.support.builds import context
from tests.support.engines import Engine

DOCKERFILE = """\
FROM busybox AS base
ARG WHO=world
COPY . /files
RUN ls /files && echo hello $WHO
FROM base AS last
CMD cat /files/kept
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / ".dockerignore").write_text("*.log\n")
    (tmp_path / "kept").write_text("kept\n")
    (tmp_path / "left.log").write_text("out")
    return tmp_path


@pytest.fixture(autouse=True)
def only_busybox(engine: Engine) -> Iterator[None]:
    yield
    engine.remove_all()
    for tag in ("built", "other:1"):
        engine.http.delete(f"/images/{tag}?force=1")


def test_wherrys_client(engine: Engine, directory: Path) -> None:
    with wherry.connect(engine.address) as client:
        image = client.images.build(str(directory), t=["built", "other:1"], buildargs={"WHO": "you"}, auth={})
        assert client.images.inspect("built").id == image
        assert client.containers.run("other:1").text == "kept\n"
        with client.images.build_progress(directory, t="built", target="base", auth={}) as progress:
            said = "".join(step.stream or "" for step in progress)
        assert "hello world\n" in said
        assert "left.log" not in said
        with pytest.raises(wherry.StreamError, match="returned a non-zero code: 3"):
            client.images.build(context({}, "FROM busybox\nRUN exit 3\n"), forcerm=True, auth={})
        with pytest.raises(wherry.BadRequest, match="unknown instruction: FOO"):
            client.images.build(context({}, "FROM busybox\nFOO\n"), auth={})
        assert client.images.build_prune(keep_storage=0).space_reclaimed == 0


def test_wherrys_async_client(engine: Engine, directory: Path) -> None:
    """With a context that is an open file; on dockerd without a step that runs, which takes it long."""
    text = DOCKERFILE.replace("RUN ls /files && echo hello $WHO\n", "") if engine.is_dockerd else DOCKERFILE
    (directory / "Dockerfile").write_text(text)

    async def work() -> tuple[str, str]:
        async with wherry.connect_async(engine.address) as client:
            image = await client.images.build(str(directory), t="built", auth={})
            with (directory / "archive.tar").open("wb") as file:
                file.write(context({"kept": "from an archive\n"}, text))
            with (directory / "archive.tar").open("rb") as file:
                assert await client.images.build(file, t="other:1", auth={}) != image
            return (await client.containers.run(image)).text, (await client.containers.run("other:1")).text

    assert asyncio.run(work()) == ("kept\n", "from an archive\n")


def test_docker_py(engine: Engine, directory: Path) -> None:
    client: Any = docker.DockerClient(base_url=engine.address, version="auto", timeout=60)
    try:
        image, said = client.images.build(
            path=str(directory), tag="built", buildargs={"WHO": "py"}, rm=True, pull=False
        )
        assert image.tags == ["built:latest"]
        assert "hello py\n" in "".join(line.get("stream", "") for line in said)
        with pytest.raises(docker.errors.BuildError, match="returned a non-zero code: 4"):
            client.images.build(fileobj=_file(b"FROM busybox\nRUN exit 4\n"), rm=True, forcerm=True)
    finally:
        client.close()


def _file(data: bytes) -> Any:
    import io

    return io.BytesIO(data)


@pytest.mark.parametrize("buildkit", ["0", ""])
def test_the_docker_command(engine: Engine, directory: Path, tmp_path: Path, buildkit: str) -> None:
    """Without buildx and without being told, it finds a classic builder too."""
    env = os.environ | {"DOCKER_HOST": engine.address, "DOCKER_CONFIG": str(tmp_path), "DOCKER_BUILDKIT": buildkit}
    if not buildkit:
        del env["DOCKER_BUILDKIT"]

    def run(*arguments: str, input: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["docker", "build", *arguments], env=env, input=input, capture_output=True, text=True, timeout=120
        )

    done = run("--no-cache", "-t", "built", "--build-arg", "WHO=cli", str(directory))
    assert done.returncode == 0, done.stderr
    assert "hello cli\n" in done.stdout
    assert "Successfully tagged built:latest\n" in done.stdout
    if not buildkit:
        return
    assert run("-q", "-t", "built", str(directory)).stdout.startswith("sha256:")
    done = run("-t", "built", "-f", "-", str(directory), input="FROM busybox\nCOPY kept /\nRUN exit 9\n")
    assert done.returncode == 9
    assert "The command '/bin/sh -c exit 9' returned a non-zero code: 9" in done.stderr
