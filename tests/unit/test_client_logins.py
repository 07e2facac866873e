"""Logins kept and removed where the docker command has them."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import wherry
from tests.support.credential_helper import HELPER
from wherry.client.credentials import HUB, credentials_for
from wherry.client.logins import erase_credentials, store_credentials


class Home:
    """A docker configuration, and a credential helper that works."""

    def __init__(self, root: Path) -> None:
        self.path = root / "docker" / "config.json"
        self.held = root / "held"
        self.held.mkdir()
        program = root / "docker-credential-test"
        program.write_text(HELPER)
        program.chmod(0o755)
        self.env = {"DOCKER_CONFIG": str(self.path.parent)}

    def write(self, **content: Any) -> None:
        self.path.parent.mkdir(exist_ok=True)
        self.path.write_text(json.dumps(content))

    def read(self) -> Any:
        return json.loads(self.path.read_text())


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    made = Home(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("HELD", str(made.held))
    return made


def auth(server: str, password: str = "se:cret", **more: str) -> wherry.AuthConfig:
    return wherry.AuthConfig(username="ann", password=password, serveraddress=server, **more)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_the_first_login_makes_a_configuration_for_its_owner_alone(home: Home) -> None:
    before = os.umask(0)
    try:
        assert store_credentials(auth("reg.example:5000"), home.env) == str(home.path)
    finally:
        os.umask(before)
    assert home.read() == {"auths": {"reg.example:5000": {"auth": base64.b64encode(b"ann:se:cret").decode()}}}
    assert (mode(home.path), mode(home.path.parent)) == (0o600, 0o700)
    found = credentials_for("reg.example:5000", home.env)
    assert found is not None
    assert (found.username, found.password) == ("ann", "se:cret")


@pytest.mark.parametrize(
    ("server", "key"),
    [("docker.io", HUB), (HUB, HUB), ("index.docker.io", HUB), ("https://reg.example/v2/", "reg.example")],
)
def test_a_registry_has_one_entry_however_it_is_written(home: Home, server: str, key: str) -> None:
    home.write(auths={"https://reg.example/v1/": {"auth": "old"}, "index.docker.io": {"auth": "old"}, "o.example": {}})
    store_credentials(auth(server), home.env)
    entries = home.read()["auths"]
    assert [name for name in entries if (name == "o.example") or "old" not in entries[name].values()] == [
        "o.example",
        key,
    ]
    assert len(entries) == 3
    assert erase_credentials(server, home.env)
    assert key not in home.read()["auths"]
    assert "o.example" in home.read()["auths"]
    assert credentials_for(server, home.env) is None


def test_all_else_in_the_configuration_stays_with_its_owner_and_mode(home: Home) -> None:
    home.write(
        currentContext="far", auths={"o.example": {"auth": "eDp5", "email": "ü"}}, HttpHeaders={"B": "1", "A": "2"}
    )
    home.path.chmod(0o640)
    os.chown(home.path, 1234, 4321)
    store_credentials(auth("r.example"), home.env)
    content = home.read()
    assert list(content) == ["currentContext", "auths", "HttpHeaders"]
    assert list(content["HttpHeaders"]) == ["B", "A"]
    assert content["auths"]["o.example"] == {"auth": "eDp5", "email": "ü"}
    seen = home.path.stat()
    assert (mode(home.path), seen.st_uid, seen.st_gid) == (0o640, 1234, 4321)
    assert os.listdir(home.path.parent) == ["config.json"], "nothing is left beside it"


def test_a_link_stays_one(home: Home, tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text('{"currentContext": "far"}')
    home.path.parent.mkdir()
    home.path.symlink_to(tmp_path / "real.json")
    store_credentials(auth("r.example"), home.env)
    assert home.path.is_symlink()
    assert set(json.loads((tmp_path / "real.json").read_text())) == {"currentContext", "auths"}


def test_an_identity_token_is_kept_instead_of_the_password(home: Home) -> None:
    store_credentials(wherry.AuthConfig(username="ann", identitytoken="refresh", serveraddress="r.example"), home.env)
    assert home.read()["auths"]["r.example"] == {"auth": base64.b64encode(b"ann:").decode(), "identitytoken": "refresh"}
    found = credentials_for("r.example", home.env)
    assert found is not None
    assert found.identitytoken == "refresh"


@pytest.mark.parametrize(
    "config", [{"credsStore": "test"}, {"credHelpers": {"r.example": "test"}, "credsStore": "none"}]
)
def test_a_helper_keeps_it_and_the_configuration_no_secret(home: Home, config: dict[str, Any]) -> None:
    home.write(auths={"r.example": {"auth": "b2xkOm9sZA=="}}, **config)
    assert store_credentials(auth("r.example"), home.env) == "docker-credential-test"
    assert home.read() == {"auths": {"r.example": {}}, **config}
    kept = json.loads((home.held / "r.example").read_text())
    assert kept == {"ServerURL": "r.example", "Username": "ann", "Secret": "se:cret"}
    found = credentials_for("r.example", home.env)
    assert found is not None
    assert found.password == "se:cret"
    token = wherry.AuthConfig(username="ann", identitytoken="refresh", serveraddress="r.example")
    store_credentials(token, home.env)
    kept = json.loads((home.held / "r.example").read_text())
    assert (kept["Username"], kept["Secret"]) == ("<token>", "refresh")
    assert erase_credentials("r.example", home.env)
    assert home.read() == {"auths": {}, **config}
    assert os.listdir(home.held) == []
    erase_credentials("r.example", home.env)  # what is not there is no error


def test_a_helper_that_takes_nothing_is_said_without_the_secret(home: Home) -> None:
    home.write(credsStore="test")
    with pytest.raises(wherry.CredentialsError, match=r"failed for locked.example: the keychain is locked") as caught:
        store_credentials(auth("locked.example"), home.env)
    assert "se:cret" not in str(caught.value)
    assert home.read() == {"credsStore": "test"}
    home.write(credsStore="nowhere")
    with pytest.raises(wherry.CredentialsError, match="is not installed"):
        store_credentials(auth("r.example"), home.env)
    with pytest.raises(wherry.CredentialsError, match="is not installed"):
        erase_credentials("r.example", home.env)


def test_a_configuration_that_cannot_be_read_is_left_as_it_is(home: Home) -> None:
    home.path.parent.mkdir()
    home.path.write_text("{ half")
    for act in (lambda: store_credentials(auth("r.example"), home.env), lambda: erase_credentials("r", home.env)):
        with pytest.raises(wherry.CredentialsError, match="cannot read"):
            act()
    assert home.path.read_text() == "{ half"


def test_a_configuration_that_cannot_be_written_is_said(home: Home, tmp_path: Path) -> None:
    (tmp_path / "docker").write_text("a file")
    with pytest.raises(wherry.CredentialsError, match=r"cannot write .*config.json: "):
        store_credentials(auth("r.example"), home.env)


def test_logging_out_of_nothing_makes_nothing(home: Home) -> None:
    assert erase_credentials("r.example", home.env) is False
    assert not home.path.parent.exists()
    home.write(auths={"o.example": {}})
    before = home.path.stat()
    assert erase_credentials("r.example", home.env) is False
    assert home.path.stat() == before


def test_logins_at_the_same_time_lose_none(home: Home) -> None:
    code = (
        "import sys, wherry; from wherry.client.logins import store_credentials\n"
        "for i in range(10): store_credentials(wherry.AuthConfig(username='a', password='b', "
        "serveraddress=f'{sys.argv[1]}-{i}.example'))"
    )
    env = {**os.environ, **home.env}
    running = [subprocess.Popen([sys.executable, "-c", code, str(number)], env=env) for number in range(4)]
    assert [process.wait(60) for process in running] == [0] * 4
    assert len(home.read()["auths"]) == 40
