"""Whole builds by an engine in this process: with overlay mounts and where there can be none, several at once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import wherry
from scripts.make_images import busybox_archive
from tests.support.builds import context
from wherry.engine.store import rootfs

FILES = {"a": "A", "dir": None, "dir/b": "B"}
STAGES = """\
FROM busybox AS one
RUN mkdir /o && echo x > /o/f && rm /bin/vi && rm -r /var/www
WORKDIR /w
COPY a dir/ ./
FROM one
RUN rm /o/f && ls -A /w /o && test ! -e /bin/vi && test ! -e /var/www
COPY --from=one /o /p/
FROM scratch
COPY --from=1 / /
CMD ["ls", "-A", "/p", "/w", "/o"]
"""
OFTEN = "FROM busybox\n" + "".join(f"RUN echo {n} > /f{n}\nCOPY a /a{n}\n" for n in range(2))


@pytest.fixture(params=["overlay", "copies"])
def embedded(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[wherry.Engine]:
    if request.param == "copies":
        monkeypatch.setattr(rootfs, "supports_overlay", lambda _: False)
    with wherry.Engine(data_root=tmp_path / "data", exec_root=tmp_path / "exec", ephemeral=True) as running:
        with running.client() as docker:
            docker.images.load(busybox_archive())
        yield running


def test_a_build_in_stages(embedded: wherry.Engine) -> None:
    with embedded.client() as docker:
        docker.images.build(context(FILES, STAGES), t="staged", auth={})
        assert docker.containers.run("staged").text == "/o:\n\n/p:\nf\n\n/w:\na\nb\n"
        assert [step.size > 0 for step in docker.images.history("staged")] == [False, True]


def test_builds_at_once_do_not_meet(embedded: wherry.Engine) -> None:
    def build(number: int) -> str:
        with embedded.client() as docker:
            return docker.images.build(context(FILES, OFTEN), t=f"at-once:{number}", nocache=True, auth={})

    with ThreadPoolExecutor(3) as pool:
        ids = list(pool.map(build, range(3)))
    assert len(set(ids)) == 3
    with embedded.client() as docker:
        for id in ids:
            assert docker.containers.run(id, "cat /f0 /f1 /a0 /a1").text == "0\n1\nAA"
        assert docker.containers.list(all=True) == []
