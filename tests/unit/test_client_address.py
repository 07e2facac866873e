"""Finding the engine: addresses, the environment, docker contexts."""

from __future__ import annotations

import hashlib
import json
import socket
from pathlib import Path

import pytest

from wherry.api.errors import ConnectError
from wherry.client import address as address_module
from wherry.client.address import find_address, parse_address
from wherry.client.dial import ssh_command


def make_context(home: Path, name: str, host: str, *, tls: bool = False, skip_verify: bool = False) -> None:
    digest = hashlib.sha256(name.encode()).hexdigest()
    meta = home / ".docker" / "contexts" / "meta" / digest
    meta.mkdir(parents=True)
    endpoint = {"Host": host, "SkipTLSVerify": skip_verify}
    (meta / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": {"docker": endpoint}}))
    if tls:
        files = home / ".docker" / "contexts" / "tls" / digest / "docker"
        files.mkdir(parents=True)
        for file in ("ca.pem", "cert.pem", "key.pem"):
            (files / file).write_text("x")


@pytest.mark.parametrize(
    ("url", "kind", "where"),
    [
        ("unix:///run/x.sock", "unix", "/run/x.sock"),
        ("/run/x.sock", "unix", "/run/x.sock"),
        ("tcp://127.0.0.1:4000", "tcp", ("127.0.0.1", 4000)),
        ("tcp://box", "tcp", ("box", 2375)),
        ("tcp://:2375", "tcp", ("localhost", 2375)),
        ("http://box:80/", "tcp", ("box", 80)),
        ("https://box", "tcp", ("box", 2376)),
        ("tcp://[::1]:2375", "tcp", ("::1", 2375)),
        ("ssh://me@box:2222", "ssh", ("box", 2222)),
        ("embedded:", "embedded", ""),
        ("embedded:/var/lib/x", "embedded", "/var/lib/x"),
    ],
)
def test_addresses_are_taken_apart(url: str, kind: str, where: object) -> None:
    address = parse_address(url)
    assert address.kind == kind
    assert where in (address.path, (address.host, address.port))


@pytest.mark.parametrize(
    "url",
    [
        *["", "box:2375", "unix://relative", "tcp://box:port", "tcp://box:99999", "tcp://box/path", "tcp://[::1"],
        *["ftp://box", "ssh://", "ssh://me:secret@box", "ssh://-oProxyCommand=x", "ssh://-l@box"],
    ],
)
def test_bad_addresses_are_refused_with_a_reason(url: str) -> None:
    with pytest.raises(ConnectError) as caught:
        parse_address(url, source="DOCKER_HOST")
    assert "DOCKER_HOST" in str(caught.value)


def test_ssh_runs_the_users_ssh_and_nothing_the_address_could_smuggle_in() -> None:
    address = parse_address("ssh://me@box:2222/run/other.sock")
    assert ssh_command(address, 10) == [
        *["ssh", "-T", "-l", "me", "-p", "2222", "-o", "ConnectTimeout=10", "--", "box"],
        *["docker", "--host", "unix:///run/other.sock", "system", "dial-stdio"],
    ]


def test_the_argument_goes_over_the_environment(tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path), "DOCKER_HOST": "tcp://env:1"}
    assert find_address("tcp://given:1", environ=env).host == "given"
    assert find_address(environ=env).host == "env"


def test_tls_is_asked_for_by_the_environment(tmp_path: Path) -> None:
    for file in ("ca.pem", "cert.pem", "key.pem"):
        (tmp_path / file).write_text("x")
    env = {"DOCKER_HOST": "tcp://box", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path)}
    address = find_address(environ=env)
    assert address.port == 2376
    assert address.tls is not None
    assert (address.tls.ca, address.tls.verify) == (str(tmp_path / "ca.pem"), True)
    env = {"DOCKER_HOST": "tcp://box", "DOCKER_TLS": "1", "DOCKER_CERT_PATH": str(tmp_path)}
    address = find_address(environ=env)
    assert address.tls is not None
    assert not address.tls.verify
    assert find_address(environ={"DOCKER_HOST": "tcp://box", "DOCKER_TLS_VERIFY": ""}).tls is None


def test_the_current_context_is_used_and_docker_context_goes_over_it(tmp_path: Path) -> None:
    make_context(tmp_path, "remote", "tcp://remote:2376", tls=True)
    make_context(tmp_path, "other", "ssh://me@other")
    (tmp_path / ".docker" / "config.json").write_text('{"currentContext": "remote"}')
    env = {"HOME": str(tmp_path)}
    address = find_address(environ=env)
    assert (address.host, address.source) == ("remote", "docker context 'remote'")
    assert address.tls is not None
    assert address.tls.ca is not None
    assert find_address(environ={**env, "DOCKER_CONTEXT": "other"}).kind == "ssh"


def test_a_context_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConnectError, match="'gone' is not there"):
        find_address(environ={"HOME": str(tmp_path), "DOCKER_CONTEXT": "gone"})


def test_broken_configuration_is_an_error_with_its_path(tmp_path: Path) -> None:
    (tmp_path / ".docker").mkdir()
    for broken in (b"{", b"[" * 100_000, b'{"currentContext":"\xff"}'):
        (tmp_path / ".docker" / "config.json").write_bytes(broken)
        with pytest.raises(ConnectError, match=r"config\.json"):
            find_address(environ={"HOME": str(tmp_path)})


def test_wherrys_own_socket_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, docker = tmp_path / "wherry.sock", tmp_path / "docker.sock"
    monkeypatch.setattr(address_module, "WHERRY_SOCKET", str(own))
    monkeypatch.setattr(address_module, "DOCKER_SOCKET", str(docker))
    monkeypatch.setattr(address_module, "PODMAN_SOCKET", str(tmp_path / "none"))
    env = {"HOME": str(tmp_path), "DOCKER_CONTEXT": "default"}
    sockets = []
    for path in (docker, own):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        sockets.append(listener)
        assert find_address(environ=env).path == str(path)
    for listener in sockets:
        listener.close()


def test_with_no_engine_found_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WHERRY_SOCKET", "DOCKER_SOCKET", "PODMAN_SOCKET"):
        monkeypatch.setattr(address_module, name, str(tmp_path / "none"))
    with pytest.raises(ConnectError) as caught:
        find_address(environ={"HOME": str(tmp_path)})
    assert "wherry serve" in str(caught.value)
    assert 'connect("embedded:")' in str(caught.value)
