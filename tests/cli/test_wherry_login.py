"""``wherry login`` and ``wherry logout``, on Wherry's own engine and Debian's registry, with docker's command beside them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Docker
from tests.cli.test_wherry_cli import Wherry
from tests.conformance.test_image_registry import ANN
from tests.conformance.test_images import remove_others
from tests.support.credential_helper import HELPER
from tests.support.docker_registry import registry
from tests.support.engines import Engine
from tests.support.terminal import Terminal


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.delenv("DOCKER_AUTH_CONFIG", raising=False)
    return tmp_path / "docker" / "config.json"


@pytest.fixture
def cli(wherry: Engine, config: Path) -> Iterator[Wherry]:
    yield Wherry(wherry)
    remove_others(wherry)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[str]:
    """A registry that knows ann, with the password secret, and nobody else."""
    (tmp_path / "htpasswd").write_text(ANN + "\n")
    with registry(more=f"auth: {{htpasswd: {{realm: here, path: {tmp_path}/htpasswd}}}}") as place:
        yield place


def test_login_and_logout(cli: Wherry, config: Path, place: str) -> None:
    cli.ok("tag", "busybox", f"{place}/private")
    done = cli("login", "-u", "ann", "--password-stdin", place, input=b"wrong\n")
    assert (done.returncode, done.stdout, b"401 Unauthorized" in done.stderr) == (1, b"", True), done
    assert not config.exists(), "only what is good is kept"
    done = cli("login", "-u", "ann", "--password-stdin", place, input=b"secret\r\n")
    assert (done.returncode, done.stdout) == (0, b"Login Succeeded\n"), done
    assert f"kept unencrypted in {config}".encode() in done.stderr
    assert b"secret" not in done.stdout + done.stderr
    cli.ok("push", "-q", f"{place}/private")
    assert cli.ok("login", f"http://{place}/v2/") == "Login Succeeded\n", "with what is kept"
    assert cli.ok("logout", place) == f"Removed the login to {place}\n"
    assert json.loads(config.read_text()) == {"auths": {}}
    assert b"no basic auth credentials" in cli("push", f"{place}/private").stderr
    assert cli.ok("logout", place) == f"Not logged in to {place}\n"


def test_docker_reads_what_is_kept_and_the_other_way_round(
    cli: Wherry, wherry: Engine, config: Path, place: str
) -> None:
    docker = Docker(wherry, config.parent)
    cli.ok("tag", "busybox", f"{place}/private")
    cli.ok("login", "-u", "ann", "--password-stdin", place, input=b"secret")
    docker.ok("push", f"{place}/private")
    docker.ok("logout", place)
    assert b"no basic auth credentials" in cli("push", f"{place}/private").stderr
    docker.ok("login", "-u", "ann", "--password-stdin", place, input=b"secret")
    cli.ok("push", "-q", f"{place}/private")
    assert cli.ok("logout", place) == f"Removed the login to {place}\n"
    assert docker("push", f"{place}/private").returncode == 1


def test_a_helper_keeps_it(
    cli: Wherry, config: Path, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "docker-credential-test"
    helper.write_text(HELPER)
    helper.chmod(0o755)
    (tmp_path / "held").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("HELD", str(tmp_path / "held"))
    config.parent.mkdir()
    config.write_text(json.dumps({"credsStore": "test"}))
    done = cli("login", "-u", "ann", "--password-stdin", place, input=b"secret")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"Login Succeeded\n", b"")
    assert json.loads(config.read_text()) == {"credsStore": "test", "auths": {place: {}}}
    cli.ok("tag", "busybox", f"{place}/private")
    cli.ok("push", "-q", f"{place}/private")
    assert cli.ok("logout", place) == f"Removed the login to {place}\n"
    assert os.listdir(tmp_path / "held") == []
    assert b"no basic auth credentials" in cli("push", f"{place}/private").stderr


def test_on_a_terminal_the_password_is_asked_for_and_not_shown(cli: Wherry, config: Path, place: str) -> None:
    with Terminal([*cli.command, "login", place], os.environ) as terminal:
        terminal.expect(b"Username: ")
        terminal.send(b"ann\r")
        terminal.expect(b"Password: ")
        assert not terminal.echoes
        terminal.send(b"wrong\r")
        assert b"wrong" not in terminal.expect(b"401 Unauthorized")
        assert terminal.wait() == 1
    config.parent.mkdir(exist_ok=True)
    config.write_text(json.dumps({"auths": {place: {"username": "ann", "password": "former"}}}))
    with Terminal([*cli.command, "login", place], os.environ) as terminal:
        terminal.expect(b"401 Unauthorized")  # what is kept is no good any more
        terminal.expect(b"Username [ann]: ")
        terminal.send(b"\r")
        terminal.expect(b"Password: ")
        terminal.send(b"secret\r")
        assert b"secret" not in terminal.expect(b"Login Succeeded")
        assert terminal.wait() == 0
    assert cli.ok("login", place) == "Login Succeeded\n"


def test_what_cannot_be_read_is_replaced_by_a_login(cli: Wherry, config: Path, place: str) -> None:
    config.parent.mkdir()
    config.write_text(json.dumps({"auths": {place: {"auth": "%%%"}}}))
    done = cli("login", place)
    assert (done.returncode, b"cannot be read" in done.stderr) == (1, True)
    cli.ok("login", "-u", "ann", "--password-stdin", place, input=b"secret")
    assert cli.ok("login", place) == "Login Succeeded\n"


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("login", "--password-stdin", "r.example"), 2, b"--password-stdin needs --username"),
        (("login", "-u", "ann", "--password-stdin", "r.example"), 1, b"there is no password on stdin"),
        (("login", "-u", "ann", "r.example"), 1, b"stdin is no terminal to ask on"),
        (("login", "r.example"), 1, b"stdin is no terminal to ask on"),
    ],
)
def test_mistakes_are_said(cli: Wherry, config: Path, arguments: tuple[str, ...], status: int, words: bytes) -> None:
    done = cli(*arguments, input=b"\n")
    assert (done.returncode, words in done.stderr, done.stdout) == (status, True, b""), done
    assert not config.exists()


def test_a_login_that_the_surroundings_override_is_said(
    cli: Wherry, config: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", "{}")
    done = cli("login", "-u", "ann", "--password-stdin", place, input=b"secret")
    assert (done.returncode, b"DOCKER_AUTH_CONFIG is set" in done.stderr) == (0, True)
