"""``wherry image`` and its shorter forms, on Wherry's own engine and Debian's registry."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.make_images import busybox_layer
from tests.cli.test_wherry_cli import Wherry
from tests.conformance.test_image_registry import ANN
from tests.conformance.test_images import remove_others
from tests.support.docker_registry import registry
from tests.support.engines import Engine
from tests.support.images import tar
from tests.support.terminal import Terminal
from wherry.api.models.images import ProgressDetail, ProgressMessage
from wherry.cli.progress import follow, printable

HELPER = '#!/bin/sh\necho \'{"Username": "ann", "Secret": "secret"}\'\n'


@pytest.fixture
def cli(wherry: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wherry]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    (tmp_path / "docker").mkdir()
    remove_others(wherry)
    yield Wherry(wherry)
    wherry.remove_all()
    remove_others(wherry)


def test_names_history_and_removal(cli: Wherry) -> None:
    cli.ok("tag", "busybox", "other:v1")
    cli.ok("image", "tag", "busybox", "example.org:5000/team/other")
    title, *rows = cli.ok("images").splitlines()
    assert title.split() == ["IMAGE", "ID", "CREATED", "SIZE"]
    assert {row.split()[0] for row in rows} == {"busybox:latest", "other:v1", "example.org:5000/team/other:latest"}
    assert cli.ok("image", "ls", "-q", "--no-trunc", "other").startswith("sha256:")
    assert len(cli.ok("images", "-f", "reference=example.org:*/*/*").splitlines()) == 2
    assert cli.ok("images", "-q", "-f", "label=nosuch") == ""
    assert cli.ok("history", "-q", "other:v1") == cli.ok("images", "-q", "busybox")
    title, step = cli.ok("image", "history", "busybox").splitlines()
    assert title.split() == ["ID", "CREATED", "BY", "SIZE", "COMMENT"]
    assert "make_images.py" in step
    (seen,) = json.loads(cli.ok("image", "inspect", "other:v1"))
    assert "other:v1" in seen["RepoTags"]
    done = cli("image", "inspect", "nosuch", "busybox")
    assert (done.returncode, done.stderr) == (1, b"wherry: No such image: nosuch:latest\n")
    assert cli.ok("rmi", "other:v1") == "untagged other:v1\n"
    done = cli("image", "rm", "nosuch", "example.org:5000/team/other")
    assert (done.returncode, done.stderr) == (1, b"wherry: No such image: nosuch:latest\n")
    assert done.stdout == b"untagged example.org:5000/team/other:latest\n"


def test_commit_import_save_load_and_prune(cli: Wherry, tmp_path: Path) -> None:
    cli.ok("run", "--name", "maker", "busybox", "sh", "-c", "echo made > /made")
    id = cli.ok("commit", "-a", "Ann", "-m", "a note", "-c", 'CMD ["cat", "/made"]', "maker", "made:1").strip()
    assert cli.ok("run", "--rm", "made:1") == "made\n"
    assert json.loads(cli.ok("image", "inspect", id))[0]["Author"] == "Ann"
    (tmp_path / "root.tar").write_bytes(busybox_layer())
    made = cli.ok(
        "import", "-c", "CMD echo imported", "-m", "by hand", str(tmp_path / "root.tar"), "imported:1"
    ).strip()
    assert cli.ok("run", "--rm", "imported:1") == "imported\n"
    nameless = cli.ok("image", "import", "-m", "else", "-", input=busybox_layer()).strip()
    assert nameless.startswith("sha256:")
    assert nameless != made
    done = cli("import", str(tmp_path / "nosuch"))
    assert (done.returncode, b"No such file" in done.stderr) == (1, True)
    assert cli.ok("image", "prune", "-f", "until=24h") == ""
    assert cli.ok("image", "prune").splitlines()[0] == f"deleted {nameless}"
    archive = str(tmp_path / "a.tar")
    cli.ok("save", "-o", archive, "made:1", "imported")
    cli.ok("rm", "maker")
    cli.ok("run", "--name", "keeper", "busybox", "true")
    removed = cli.ok("image", "prune", "-a").splitlines()
    assert {"untagged made:1", "untagged imported:1", f"deleted {id}"} <= set(removed)
    done = cli("load", "-i", archive)
    assert done.stdout == b"made:1\nimported:1\n"
    assert b"Loading layer" in done.stderr
    cli.ok("rmi", "made:1", "imported:1")
    done = cli("image", "load", "-q", input=Path(archive).read_bytes())
    assert (done.stdout, done.stderr) == (b"made:1\nimported:1\n", b"")
    done = cli("load", input=b"no archive" * 1000)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"wherry: ")


def test_push_pull_and_search(cli: Wherry) -> None:
    with registry() as place:
        name = f"{place}/tools"
        for tag in ("1", "2"):
            cli.ok("tag", "busybox", f"{name}:{tag}")
        done = cli("push", f"{name}:1")
        assert done.stdout.decode() == f"{name}:1\n"
        assert b": Pushed" in done.stderr
        assert b"1: digest: sha256:" in done.stderr
        assert cli.ok("push", "-q", "-a", name) == f"{name}\n"
        cli.ok("rmi", f"{name}:1", f"{name}:2")
        done = cli("pull", f"{name}:1")
        assert (done.returncode, done.stdout.decode()) == (0, f"{name}:1\n")
        assert f"Status: Downloaded newer image for {name}:1" in done.stderr.decode()
        done = cli("image", "pull", "-q", "--all-tags", name)
        assert (done.stdout.decode(), done.stderr) == (f"{name}\n", b"")
        assert len(cli.ok("images", name).splitlines()) == 3
        digest = json.loads(cli.ok("image", "inspect", f"{name}:1"))[0]["RepoDigests"][0]
        assert cli.ok("pull", "-q", digest) == f"{digest}\n"
        assert digest in cli.ok("images", "--digests", name)
        done = cli("pull", "--platform", "linux/s390x", f"{name}:1")
        assert b"does not match the specified platform" in done.stderr
        for command in (("pull", f"{name}:none"), ("push", f"{name}:none"), ("search", f"{name}")):
            done = cli(*command)
            assert (done.returncode, done.stdout, done.stderr.splitlines()[-1][:8]) == (1, b"", b"wherry: "), done
        for command in (("pull", "-a", f"{name}:1"), ("push", "-a", f"{name}:1"), ("push", digest)):
            assert cli(*command).returncode == 2


def test_run_fetches_what_is_missing(cli: Wherry) -> None:
    with registry() as place:
        cli.ok("tag", "busybox", f"{place}/tools")
        cli.ok("push", "-q", f"{place}/tools")
        cli.ok("rmi", f"{place}/tools")
        done = cli("run", "--rm", "--pull", "never", f"{place}/tools", "true")
        assert (done.returncode, done.stderr) == (125, f"wherry: No such image: {place}/tools:latest\n".encode())
        done = cli("run", "--rm", f"{place}/tools", "echo", "fetched")
        assert (done.returncode, done.stdout) == (0, b"fetched\n")
        assert f"Downloaded newer image for {place}/tools:latest" in done.stderr.decode()
        assert b"up to date" in cli("create", "--pull", "always", f"{place}/tools", "true").stderr
        done = cli("run", "--rm", f"{place}/nosuch", "true")
        assert (done.returncode, b"manifest unknown" in done.stderr) == (125, True)


def test_credentials_come_from_the_docker_configuration(
    cli: Wherry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "docker/config.json"
    (tmp_path / "htpasswd").write_text(ANN + "\n")
    with registry(more=f"auth: {{htpasswd: {{realm: here, path: {tmp_path}/htpasswd}}}}") as place:
        name = f"{place}/private"
        cli.ok("tag", "busybox", name)
        assert b"no basic auth credentials" in cli("push", name).stderr
        config.write_text(json.dumps({"auths": {place: {"auth": base64.b64encode(b"ann:secret").decode()}}}))
        cli.ok("push", name)
        helper = tmp_path / "docker-credential-test"
        helper.write_text(HELPER)
        helper.chmod(0o755)
        config.write_text(json.dumps({"credHelpers": {place: "test"}}))
        done = cli("pull", name)
        assert (done.returncode, b"docker-credential-test" in done.stderr) == (1, True)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        cli.ok("pull", name)


def test_on_a_terminal_each_layer_has_its_line(cli: Wherry) -> None:
    with registry() as place:
        cli.ok("import", "-", f"{place}/tools", input=tar([("file", b"content")]))
        cli.ok("push", f"{place}/tools")
        cli.ok("rmi", f"{place}/tools")
        with Terminal([*cli.command, "pull", f"{place}/tools"], os.environ) as terminal:
            terminal.expect(b"Pulling fs layer")
            terminal.expect(b"\x1b[1A\r\x1b[2K")
            terminal.expect(b"Pull complete\x1b[1B\r")
            assert terminal.wait() == 0


def test_progress_says_each_word_once_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    def step(status: str, current: int = 0) -> ProgressMessage:
        detail = ProgressDetail(current=current, total=2000) if current else ProgressDetail()
        return ProgressMessage(status=status, id="abc", progress_detail=detail)

    messages = [
        ProgressMessage(status="Pulling from x", id="latest"),
        step("Downloading", 500),
        step("Downloading", 1500),
        step("Pull complete"),
        ProgressMessage(status="Status: done\x1b[2J"),
        ProgressMessage(aux={"Digest": "d"}),
    ]
    follow(messages)
    assert capsys.readouterr().err == "latest: Pulling from x\nabc: Downloading\nabc: Pull complete\nStatus: done [2J\n"
    follow(messages, quiet=True)
    assert capsys.readouterr().err == ""
    assert printable(messages[2]) == "abc: Downloading 1.5kB of 2kB"
