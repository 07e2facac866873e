"""Credentials from the docker configuration and its helpers, and that calls on registries send them by themselves."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from client_fake import FakeEngine, client_of

import wherry
from wherry.client import credentials
from wherry.client.credentials import HUB, all_credentials, credentials_for

ANN = base64.b64encode(b"ann:se:cret").decode()
HELPER = r"""#!/bin/sh
read -r server
case "$1:$server" in
  list:*) echo '{"listed.example": "ann"}' ;;
  get:token.example) echo '{"ServerURL": "x", "Username": "<token>", "Secret": "refresh"}' ;;
  get:broken.example) echo 'the keychain is locked'; exit 1 ;;
  get:silent.example) exit 7 ;;
  get:text.example) echo 'welcome' ;;
  get:slow.example) sleep 60 & wait ;;
  get:absent.example) echo 'credentials not found in native keychain'; exit 1 ;;
  *) echo "{\"Username\": \"helped\", \"Secret\": \"for $server\"}" ;;
esac
"""


class Home:
    """A docker configuration, and a directory for programs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.env = {"DOCKER_CONFIG": str(root), "PATH": f"{root}:{os.environ['PATH']}"}

    def config(self, **content: Any) -> None:
        (self.root / "config.json").write_text(json.dumps(content))

    def helper(self, name: str = "test") -> None:
        program = self.root / f"docker-credential-{name}"
        program.write_text(HELPER)
        program.chmod(0o755)

    def find(self, registry: str) -> dict[str, str] | None:
        found = credentials_for(registry, self.env)
        return None if found is None else json.loads(wherry_json(found))


def wherry_json(value: Any) -> bytes:
    import msgspec

    return msgspec.json.encode(value)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    made = Home(tmp_path)
    for name, value in made.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("DOCKER_AUTH_CONFIG", raising=False)
    return made


def test_nothing_is_there(home: Home) -> None:
    assert home.find("docker.io") is None
    home.config()
    assert home.find("docker.io") is None
    assert all_credentials(home.env) == {}
    (home.root / "config.json").write_text("")
    assert home.find("docker.io") is None
    assert credentials_for("docker.io", {"HOME": str(home.root)}) is None


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        (HUB, "docker.io"),
        ("index.docker.io", "docker.io"),
        ("reg.example:5000", "reg.example:5000"),
        ("https://reg.example:5000/v2/", "reg.example:5000"),
    ],
)
def test_a_registry_is_found_by_the_ways_it_is_written(home: Home, key: str, registry: str) -> None:
    home.config(auths={"other.example": {"auth": "x"}, key: {"auth": ANN}})
    found = home.find(registry)
    assert found is not None
    assert (found["username"], found["password"]) == ("ann", "se:cret")
    assert found["serveraddress"] == (HUB if registry == "docker.io" else registry)
    assert home.find("reg.example") is None


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ({"identitytoken": "refresh", "auth": ANN}, {"identitytoken": "refresh"}),
        ({"registrytoken": "bearer"}, {"registrytoken": "bearer"}),
        ({"username": "ann", "password": "b"}, {"username": "ann", "password": "b"}),
        ({}, None),
        ([], None),
        ({"auth": ""}, None),
    ],
)
def test_every_kind_of_entry(home: Home, entry: Any, found: Any) -> None:
    home.config(auths={"r.example": entry})
    assert home.find("r.example") == (None if found is None else {"serveraddress": "r.example", **found})


@pytest.mark.parametrize("content", ["{", "[]", '"x"', "\xff", "{" * 5000])
def test_a_configuration_that_cannot_be_read_is_said(home: Home, content: str) -> None:
    (home.root / "config.json").write_text(content, "latin-1")
    with pytest.raises(wherry.CredentialsError, match=r"cannot read .*config.json"):
        home.find("r.example")


def test_an_entry_that_cannot_be_read_is_said(home: Home) -> None:
    home.config(auths={"r.example": {"auth": "%%%"}, "s.example": {"auth": "YW5u"}})
    for registry in ("r.example", "s.example"):
        with pytest.raises(wherry.CredentialsError, match=f"run docker login {registry} again"):
            home.find(registry)


def test_a_helper_is_asked_and_counts_more_than_the_store_and_the_file(home: Home) -> None:
    home.helper()
    home.helper("store")
    home.config(
        credHelpers={"r.example": "test", "token.example": "test"},
        credsStore="store",
        auths={"r.example": {"auth": ANN}, "absent.example": {}},
    )
    assert home.find("r.example") == {"serveraddress": "r.example", "username": "helped", "password": "for r.example"}
    assert home.find("token.example") == {"serveraddress": "token.example", "identitytoken": "refresh"}
    assert home.find("docker.io") == {"serveraddress": HUB, "username": "helped", "password": f"for {HUB}"}
    assert home.find("absent.example") is None
    assert set(all_credentials(home.env)) == {"r.example", "listed.example", "token.example"}


def test_a_build_does_not_fail_for_credentials_that_it_may_not_need(home: Home) -> None:
    home.helper()
    home.config(credHelpers={"broken.example": "test", "r.example": "test", "missing.example": "missing"})
    assert set(all_credentials(home.env)) == {"r.example"}
    home.config(credsStore="missing", auths={"r.example": {"auth": ANN}})
    assert all_credentials(home.env) == {}
    (home.root / "config.json").write_text("{")
    with pytest.raises(wherry.CredentialsError):
        all_credentials(home.env)


@pytest.mark.parametrize(
    ("registry", "why"),
    [
        (
            "broken.example",
            r"docker-credential-test, named by .*config.json, failed for broken.example: the keychain is locked",
        ),
        ("silent.example", "failed for silent.example: exit code 7"),
        ("text.example", "cannot read the answer of docker-credential-test for text.example"),
        ("missing.example", "docker-credential-missing, named by .*, is not installed: install it, or give auth="),
        ("climbing.example", "names a credential helper that can be none: '../../bin/sh'"),
    ],
)
def test_a_helper_that_fails_is_named(home: Home, registry: str, why: str) -> None:
    home.helper()
    home.config(credsStore="test", credHelpers={"missing.example": "missing", "climbing.example": "../../bin/sh"})
    with pytest.raises(wherry.CredentialsError, match=why):
        home.find(registry)


def test_a_helper_that_hangs_is_given_up(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one whose children keep its output open."""
    home.helper()
    home.config(credsStore="test")
    monkeypatch.setattr(credentials, "HELPER_DEADLINE", 0.3)
    begun = time.monotonic()
    with pytest.raises(wherry.CredentialsError, match=r"no answer within 0\.3 seconds"):
        home.find("slow.example")
    assert time.monotonic() - begun < 30


def test_the_environment_s_configuration_counts_first(home: Home) -> None:
    home.config(auths={"r.example": {"auth": ANN}, "s.example": {"auth": ANN}})
    own = {"auths": {"r.example": {"username": "env", "password": "p"}}}
    home.env["DOCKER_AUTH_CONFIG"] = json.dumps(own)
    assert home.find("r.example") == {"serveraddress": "r.example", "username": "env", "password": "p"}
    assert home.find("s.example") is not None
    assert all_credentials(home.env)["r.example"].username == "env"
    home.env["DOCKER_AUTH_CONFIG"] = "no"
    with pytest.raises(wherry.CredentialsError, match="cannot read DOCKER_AUTH_CONFIG"):
        home.find("r.example")


def test_credentials_do_not_show_their_secrets() -> None:
    made = wherry.AuthConfig(username="ann", password="hush", identitytoken="hush", auth="hush", registrytoken="hush")
    assert "ann" in repr(made)
    assert "hush" not in repr(made) + str(made)


# --- the calls ------------------------------------------------------------------------------------------------------


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeEngine]:
    fake = FakeEngine(tmp_path / "engine.sock")
    fake.routes["POST /images/create"] = fake.routes["POST /images/r.example/x/push"] = (200, b"")
    fake.routes["GET /distribution/r.example/x/json"] = (200, {})
    fake.routes["GET /images/search"] = (200, [])
    yield fake
    fake.close()


@pytest.fixture(params=["sync", "async"])
def docker(fake: FakeEngine, request: pytest.FixtureRequest) -> Iterator[Any]:
    with client_of(request.param, fake.url) as client:
        yield client


def sent(fake: FakeEngine) -> Any:
    return json.loads(base64.urlsafe_b64decode(fake.last().head.headers.get("X-Registry-Auth")))


CALLS = {
    "pull": lambda docker, **auth: docker.images.pull("r.example/x:1", **auth),
    "push": lambda docker, **auth: docker.images.push("r.example/x", tag="1", **auth),
    "inspect": lambda docker, **auth: docker.distribution.inspect("r.example/x", **auth),
    "search": lambda docker, **auth: docker.images.search("r.example/x", **auth),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_calls_on_registries_send_what_the_configuration_has(
    home: Home, fake: FakeEngine, docker: Any, call: Any
) -> None:
    home.config(auths={"r.example": {"auth": ANN}})
    call(docker)
    assert sent(fake) == {"serveraddress": "r.example", "username": "ann", "password": "se:cret"}
    call(docker, auth=wherry.AuthConfig(username="given"))
    assert sent(fake) == {"username": "given"}
    call(docker, auth=wherry.AuthConfig())
    assert sent(fake) == {}
    home.config(credsStore="nowhere")
    with pytest.raises(wherry.CredentialsError, match="is not installed"):
        call(docker)
    home.config()
    call(docker)
    assert sent(fake) == {}
