"""The engine inside a program (docs/embedding.md), and that it leaves nothing: refused, failed, or ephemeral."""

from __future__ import annotations

import inspect
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import wherry
from scripts.make_images import busybox_archive
from tests.support.engines import REPOSITORY, wherry_command
from tests.support.pages import Page, blocks
from wherry.embed import roots
from wherry.engine.networks.bridge import link_names
from wherry.engine.store.layout import Layout

PAGE = Page("embedding.md", "")
README = blocks((REPOSITORY / "README.md").read_text(encoding="utf-8"))
EXAMPLES = {section.title: blocks(section.text) for section in PAGE.sections}
EXAMPLES["README"] = [example for example in README if "embedded:" in example]
CGROUPS = Path("/sys/fs/cgroup")


@pytest.fixture
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="wherry-embedded-") as directory:
        yield Path(directory)


def left(data: Path, exec_root: Path) -> list[str]:
    """What of an engine with these roots is on the machine, its data root aside."""
    tag = Layout(data, exec_root).tag
    links = [name for name in link_names("wh-") if tag in name] + link_names(f"v{tag}")
    tables = [line for line in _output("nft", "list", "tables").splitlines() if tag in line]
    groups = [str(path) for pattern in ("", "*/") for path in CGROUPS.glob(f"{pattern}wherry-{tag}")]
    return links + tables + groups + ([str(exec_root)] if exec_root.exists() else [])


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


def test_leaving_an_ephemeral_engine_leaves_nothing_but_the_data_root(scratch: Path) -> None:
    data, exec_root = roots(scratch / "w", None)
    with wherry.Engine(data, ephemeral=True) as engine, engine.client() as docker:
        docker.images.load(busybox_archive())
        docker.containers.create("busybox", ["sleep", "60"], name="sleeper", stop_signal="SIGKILL")
        docker.containers.start("sleeper")
        assert left(data, exec_root)
    assert not left(data, exec_root)
    with wherry.Engine(data, ephemeral=True) as engine, engine.client() as docker:
        assert [image.repo_tags for image in docker.images.list()] == [["busybox:latest"]]
        assert not docker.containers.list(all=True)
    assert not left(data, exec_root)


def test_an_ephemeral_engine_removes_what_an_earlier_one_left_running_but_no_directory_of_others(scratch: Path) -> None:
    data, given = scratch / "data", scratch / "run"
    given.mkdir()
    with wherry.Engine(data, given) as engine, engine.client() as docker:
        docker.images.load(busybox_archive())
        docker.containers.create("busybox", ["sleep", "60"], name="sleeper", stop_signal="SIGKILL")
        docker.containers.start("sleeper")
    assert any("cgroup" in path for path in left(data, given))  # it runs on
    with wherry.Engine(data, given, ephemeral=True):
        pass
    assert left(data, given) == [str(given)]


def test_what_ran_on_is_removed_with_the_exec_root_that_the_first_engine_made(scratch: Path) -> None:
    data, exec_root = roots(scratch / "w", None)
    with wherry.connect(f"embedded:{data}") as docker:
        docker.images.load(busybox_archive())
        docker.containers.create("busybox", ["sleep", "60"], name="sleeper", stop_signal="SIGKILL")
        docker.containers.start("sleeper")
    assert left(data, exec_root)
    with wherry.Engine(data, ephemeral=True):
        pass
    assert not left(data, exec_root)


def test_a_client_closes_an_engine_that_clients_started_and_no_other(scratch: Path) -> None:
    data = scratch / "w"
    with wherry.connect(f"embedded:{data}") as first, wherry.connect(f"embedded:{data}") as second:
        first.system.ping()
        second.system.ping()
        first.close()
        second.system.ping()
    with wherry.Engine(data) as engine:  # though clients had one on these roots before
        with engine.client() as docker:
            docker.system.ping()
        engine.dial().close()


def test_a_forked_child_is_told_that_the_engine_is_its_parents(scratch: Path) -> None:
    code = f"""
import os, wherry
with wherry.Engine({str(scratch / "w")!r}) as engine, engine.client() as docker:
    docker.system.ping()
    child = os.fork()
    if child == 0:
        try:
            docker.system.ping()
        except wherry.ConnectError as error:
            print(error, flush=True)
        engine.close()
        os._exit(0)
    os.waitpid(child, 0)
    print(docker.system.ping().os_type)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=REPOSITORY)
    first, second = done.stdout.splitlines()
    assert "forked from" in first
    assert second == "linux"


def test_a_refused_engine_leaves_nothing(scratch: Path) -> None:
    data, other = scratch / "data", roots(scratch / "data", None)[1]
    with wherry.Engine(data, scratch / "run", ephemeral=True):
        # as another process does: only there is the root taken and not shared
        code = f"import wherry; wherry.connect('embedded:{data}').system.ping()"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=REPOSITORY)
        assert "another engine uses" in done.stderr
        assert not other.exists()
        with pytest.raises(wherry.ConnectError, match="another engine uses"):
            wherry.Engine(scratch / "new" / "data", scratch / "run").start()
        assert not (scratch / "new").exists()
    assert not left(data, scratch / "run")


@pytest.mark.parametrize("why", ["runtime", "taken", "relative", "long"])
def test_an_engine_that_cannot_serve_leaves_nothing(scratch: Path, why: str) -> None:
    root = scratch / "root"
    taken = scratch / "taken.sock"
    options = {
        "runtime": ["--runtime", "/bin/false"],
        "taken": ["--host", f"unix://{taken}"],
        "relative": ["--host", "unix://relative.sock"],
        "long": ["--host", f"unix://{scratch}/directory/{'x' * 120}.sock"],
    }[why]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(taken))
        listener.listen()
        done = subprocess.run(
            [*wherry_command(root), *options], capture_output=True, text=True, timeout=60, cwd=REPOSITORY
        )
    assert done.returncode == 1, done.stderr
    assert "\nwherry serve: " in f"\n{done.stderr}"
    assert not left(root / "data", root / "exec")
    assert sorted(os.listdir(scratch)) == ["taken.sock"]


@pytest.mark.parametrize("title", EXAMPLES)
def test_examples(scratch: Path, monkeypatch: pytest.MonkeyPatch, title: str) -> None:
    """A section's examples, on a scratch root in place of /tmp/w."""
    (scratch / "busybox.tar").write_bytes(busybox_archive())
    monkeypatch.chdir(scratch)
    names: dict[str, object] = {}
    assert EXAMPLES[title]
    try:
        for example in EXAMPLES[title]:
            PAGE.run(example.replace("/tmp/w", str(scratch / "w")), names)
    finally:
        for data, given in (("w", None), ("w/data", scratch / "w/run")):
            data_root, exec_root = roots(scratch / data, given)
            if left(data_root, exec_root):
                with wherry.Engine(data_root, given, ephemeral=True):
                    pass
            assert not left(data_root, exec_root)


def test_the_page_has_every_parameter_of_the_engine() -> None:
    (section,) = (section for section in PAGE.sections if section.title == "By a class")
    for name in inspect.signature(wherry.Engine).parameters:
        assert f"| `{name}` |" in section.text, name
    PAGE.check_errors()


def test_the_package_is_found_above_a_clone_of_its_name(scratch: Path) -> None:
    """As make setup installs it (scripts/lib.sh): a directory named wherry without __init__.py does not hide it."""
    (scratch / "wherry").mkdir()
    code = "import wherry; print(wherry.connect.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=scratch)
    assert done.stdout == "connect\n", done.stderr
