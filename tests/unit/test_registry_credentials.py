"""Whom registries believe: credentials, tokens, redirects, TLS, proxies; against fakes on loopback."""

from __future__ import annotations

import base64
import json
import os
import ssl
from pathlib import Path
from typing import Any

import pytest

from tests.support.images import digest
from tests.support.registry import (
    ANN,
    Reply,
    basic,
    blob,
    bounded,
    fake_registry,
    refusal,
    repository,
    token_server,
)
from wherry.api.errors import ServerError
from wherry.api.models.images import AuthConfig
from wherry.engine.build.progress import BuildProgress
from wherry.engine.build.remote import fetch
from wherry.engine.images.registry import auth
from wherry.engine.images.registry.auth import NOBODY, Credentials
from wherry.engine.images.registry.errors import RegistryError, Unreachable
from wherry.engine.images.registry.hosts import Endpoint, Registries
from wherry.engine.images.registry.repository import Registry, Repository
from wherry.engine.store.layout import Layout

TLS = Path(__file__).parent / "client_tls"
SECRET = base64.b64encode(b"ann:secret").decode()


# --- what is read ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('Basic realm="Registry"', [("basic", {"realm": "Registry"})]),
        (
            'Bearer realm="https://a/token",service="a, b" , scope="x:y:z", Basic realm=plain',
            [
                ("bearer", {"realm": "https://a/token", "service": "a, b", "scope": "x:y:z"}),
                ("basic", {"realm": "plain"}),
            ],
        ),
        (r'Bearer realm="a\"b"', [("bearer", {"realm": 'a"b'})]),
        ("Negotiate", [("negotiate", {})]),
        ("", []),
        ('="', []),
    ],
)
def test_challenges_are_read(text: str, found: list[Any]) -> None:
    assert auth.read_challenges(text) == found


def test_a_hostile_challenge_is_read_in_no_time() -> None:
    auth.read_challenges('Bearer a="' + "\\" * 60_000)
    auth.read_challenges("a = " * 15_000)


def header(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (header({"username": "ann", "password": "secret", "serveraddress": "x"}), ANN),
        (header({"username": "ann", "password": "secret"}).rstrip("="), ANN),
        (header({"auth": SECRET}), ANN),
        (header({"identitytoken": "t"}), Credentials(identity_token="t")),
        (header({"registrytoken": "t"}), Credentials(registry_token="t")),
        (header({"username": 7, "password": None}), NOBODY),
        (header([1]), NOBODY),
        ("{}", NOBODY),
        ("", NOBODY),
        ("%%%", NOBODY),
    ],
)
def test_x_registry_auth_is_read_and_a_broken_one_counts_as_none(text: str, found: Credentials) -> None:
    assert auth.read_header(text) == found


def test_credentials_do_not_show_their_secrets() -> None:
    assert "secret" not in repr(Credentials("ann", "secret", "secret", "secret"))
    assert auth.from_model(AuthConfig(username="ann", password="secret")) == ANN


# --- credentials ----------------------------------------------------------------------------------------------------


def test_basic_credentials_are_given_only_when_asked_for() -> None:
    async def work() -> None:
        async with fake_registry() as fake:
            fake.blobs[digest(b"x")] = b"x"
            assert await blob(await repository(fake, ANN), digest(b"x")) == b"x"
            assert not any(asked.authorization for asked in fake.asked)
            fake.hooks.append(basic("ann", "secret"))
            assert await blob(await repository(fake, ANN), digest(b"x")) == b"x"
            with pytest.raises(RegistryError, match="no basic auth credentials"):
                await (await repository(fake)).has_blob(digest(b"x"))
            with pytest.raises(RegistryError, match="unauthorized: authentication required") as caught:
                await blob(await repository(fake, Credentials("ann", "wrong")), digest(b"x"))
            assert caught.value.status == 401

    bounded(work)


def test_tokens_are_asked_for_once_with_the_scope_and_never_given_to_others() -> None:
    async def work() -> None:
        async with fake_registry() as fake, fake_registry() as tokens:
            token_server(fake, tokens)
            fake.blobs[digest(b"x")] = b"x"
            place = await repository(fake, ANN, "pull,push")
            for _ in range(3):
                assert await blob(place, digest(b"x")) == b"x"
            (asked,) = tokens.asked
            assert asked.query["scope"] == ["repository:some/thing:pull,push"]
            assert asked.query["service"] == ["fake"]
            assert asked.authorization == f"Basic {SECRET}"
            assert {entry.authorization for entry in fake.asked} == {"", "Bearer good"}

    bounded(work)


def test_an_identity_token_is_exchanged_and_a_registry_token_goes_as_it_is() -> None:
    async def work() -> None:
        async with fake_registry() as fake, fake_registry() as tokens:
            token_server(fake, tokens)
            fake.blobs[digest(b"x")] = b"x"
            assert await blob(await repository(fake, Credentials(identity_token="i")), digest(b"x")) == b"x"
            assert tokens.asked[0].method == "POST"
            assert b"refresh_token=i" in tokens.asked[0].body
            assert await blob(await repository(fake, Credentials(registry_token="good")), digest(b"x")) == b"x"
            assert len(tokens.asked) == 1

    bounded(work)


def test_a_token_that_is_refused_is_asked_for_anew_once() -> None:
    async def work() -> None:
        async with fake_registry() as fake, fake_registry() as tokens:
            token_server(fake, tokens)
            fake.blobs[digest(b"x")] = b"x"
            place = await repository(fake, ANN)
            await blob(place, digest(b"x"))
            challenge = f'Bearer realm="{tokens.url}/token",service="fake",error="invalid_token"'
            once = [refusal(401, "X", WWW_Authenticate=challenge)]
            fake.hooks.insert(0, lambda asked: once.pop() if once else None)
            assert await blob(place, digest(b"x")) == b"x"
            assert len(tokens.asked) == 2
            fake.hooks.insert(0, lambda asked: refusal(401, "X", WWW_Authenticate=challenge))
            with pytest.raises(RegistryError, match="unauthorized"):
                await blob(place, digest(b"x"))
            assert len(tokens.asked) == 3

    bounded(work)


def test_a_missing_scope_is_access_denied() -> None:
    async def work() -> None:
        async with fake_registry() as fake, fake_registry() as tokens:
            token_server(fake, tokens)
            challenge = f'Bearer realm="{tokens.url}/token",error="insufficient_scope"'
            fake.hooks.insert(0, lambda a: refusal(401, "UNAUTHORIZED", WWW_Authenticate=challenge))
            with pytest.raises(RegistryError, match="denied: requested access to the resource is denied") as caught:
                await (await repository(fake, ANN)).manifest("latest")
            assert caught.value.code == "DENIED"

    bounded(work)


def test_credentials_stay_with_the_registry_on_redirects() -> None:
    """Neither a blob's nor an upload's other host sees them, nor may it ask for them."""

    async def work() -> None:
        async with fake_registry() as fake, fake_registry() as thief:
            name = digest(b"x")
            fake.hooks.append(basic("ann", "secret"))
            fake.hooks.append(
                lambda a: (
                    Reply(307, headers={"Location": f"{thief.url}/take/{name}"}) if "blobs/sha" in a.path else None
                )
            )
            fake.hooks.append(
                lambda a: Reply(202, headers={"Location": f"{thief.url}/up"}) if a.path.endswith("uploads/") else None
            )
            thief.hooks.append(
                lambda a: Reply(202, headers={"Location": f"{thief.url}/up"}) if a.path == "/up" else None
            )
            thief.hooks.append(lambda a: Reply(body=b"x") if a.path.startswith("/take") else None)
            place = await repository(fake, ANN, "pull,push")
            assert await blob(place, name) == b"x"
            assert await place.has_blob(name) == 1
            location = await place.begin_upload()
            assert location == f"{thief.url}/up"

            async def pieces() -> Any:
                yield b"x"

            await place.upload(location, name, 1, pieces)
            assert [asked.method for asked in thief.asked] == ["GET", "HEAD", "PATCH", "PUT"]
            assert not any(asked.authorization for asked in thief.asked)
            thief.hooks.insert(0, basic("ann", "secret"))
            with pytest.raises(RegistryError):
                await blob(place, name)
            assert not any(asked.authorization for asked in thief.asked)

    bounded(work)


def test_mirrors_get_no_credentials() -> None:
    async def work() -> None:
        async with fake_registry() as fake:
            fake.hooks.append(basic("ann", "secret"))
            registry = await Registry.connect(Registries(), Endpoint(fake.url, own=False), ANN)
            with pytest.raises(RegistryError, match="no basic auth"):
                await Repository(registry, "library/x").manifest("latest")
            assert not any(asked.authorization for asked in fake.asked)

    bounded(work)


@pytest.mark.parametrize("location", ["", "ftp://127.0.0.1/x", "file:///etc/passwd", "http://[", "//:0", "http://a b/"])
def test_redirects_to_nowhere_are_errors(location: str) -> None:
    async def work() -> None:
        async with fake_registry() as fake:
            fake.hooks.append(lambda a: Reply(307, headers={"Location": location}) if "blobs" in a.path else None)
            with pytest.raises(RegistryError):
                await blob(await repository(fake), digest(b"x"))

    bounded(work)


def test_redirects_in_a_circle_end() -> None:
    async def work() -> None:
        async with fake_registry() as fake:
            fake.hooks.append(lambda a: Reply(307, headers={"Location": a.path}) if "blobs" in a.path else None)
            with pytest.raises(RegistryError, match="redirects lead nowhere"):
                await blob(await repository(fake), digest(b"x"))
            assert len(fake.asked) == 12

    bounded(work)


# --- TLS and proxies ------------------------------------------------------------------------------------------------


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "server.pem", TLS / "server-key.pem")
    return context


def strict(certificates: Path) -> Registries:
    """For which this machine is as foreign as any other."""
    registries = Registries(certificates=certificates)
    registries._networks.clear()
    return registries


def test_tls_is_verified_by_the_authorities_of_certs_d(tmp_path: Path) -> None:
    async def work() -> None:
        async with fake_registry(server_context()) as fake:
            with pytest.raises(Unreachable, match="tls: failed to verify certificate"):
                await Registry.connect(strict(tmp_path), Endpoint(fake.url), NOBODY)
            await Registry.connect(Registries(), Endpoint(fake.url), NOBODY)  # of this machine: not verified
            (tmp_path / fake.domain).mkdir()
            (tmp_path / fake.domain / "ca.crt").write_bytes((TLS / "ca.pem").read_bytes())
            registry = await Registry.connect(strict(tmp_path), Endpoint(fake.url), NOBODY)
            registry.close()

    bounded(work)


def test_what_began_with_tls_is_not_led_away_from_it() -> None:
    async def work() -> None:
        async with fake_registry(server_context()) as fake, fake_registry() as plain:
            place = await repository(fake, ANN)
            fake.hooks.append(
                lambda a: Reply(307, headers={"Location": f"{plain.url}/x"}) if "blobs" in a.path else None
            )
            with pytest.raises(RegistryError, match="leads away from TLS"):
                await blob(place, digest(b"x"))
            challenge = f'Bearer realm="{plain.url}/token"'
            fake.hooks.insert(0, lambda a: refusal(401, "UNAUTHORIZED", WWW_Authenticate=challenge))
            with pytest.raises(RegistryError, match="without TLS"):
                await blob(await repository(fake, ANN), digest(b"x"))
            assert plain.asked == []

    bounded(work)


def test_what_a_build_fetches_is_not_led_away_from_tls(tmp_path: Path) -> None:
    async def work() -> None:
        async with fake_registry(server_context()) as fake, fake_registry() as plain:
            fake.hooks.append(lambda a: Reply(302, headers={"Location": f"{plain.url}/x"}))
            with pytest.raises(ServerError, match=f'^Get "{fake.url}/x": {fake.url}/x leads away from TLS'):
                await fetch(Registries(), Layout(tmp_path, tmp_path), f"{fake.url}/x", tmp_path, BuildProgress())
            assert plain.asked == []

    bounded(work)


def test_a_plain_registry_and_none_at_all_are_told() -> None:
    async def work() -> None:
        async with fake_registry() as fake:
            https = fake.url.replace("http:", "https:")
            with pytest.raises(Unreachable, match="server gave HTTP response to HTTPS client"):
                await Registry.connect(Registries(), Endpoint(https), NOBODY)
            fake.hooks.append(lambda a: Reply(503))
            with pytest.raises(Unreachable, match="unexpected HTTP status: 503"):
                await Registry.connect(Registries(), Endpoint(fake.url), NOBODY)
            gone = fake.url
        with pytest.raises(Unreachable, match=f'Get "{gone}/v2/": '):
            await Registry.connect(Registries(), Endpoint(gone), NOBODY)

    bounded(work)


def test_proxies_of_the_environment_are_used_but_never_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with fake_registry() as fake, fake_registry() as proxy:
            for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
                monkeypatch.delenv(name)
            monkeypatch.setenv("HTTP_PROXY", f"http://u%20:p@127.0.0.1:{proxy.port}")
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
            monkeypatch.setenv("NO_PROXY", "left.invalid")
            proxy.hooks.append(lambda a: Reply(body=b"{}") if a.target.startswith("http://") else None)
            await Registry.connect(Registries(), Endpoint(fake.url), NOBODY)
            assert proxy.asked == []
            await Registry.connect(Registries(), Endpoint("http://some.invalid"), ANN)
            assert proxy.asked[0].target == "http://some.invalid/v2/"
            assert proxy.asked[0].headers["proxy-authorization"] == f"Basic {base64.b64encode(b'u :p').decode()}"
            with pytest.raises(Unreachable, match=r"the proxy .* refused"):
                await Registry.connect(Registries(), Endpoint("https://some.invalid"), ANN)
            assert proxy.asked[1].method == "CONNECT"
            with pytest.raises(Unreachable):
                await Registry.connect(Registries(), Endpoint("http://left.invalid"), ANN)
            assert len(proxy.asked) == 2

    bounded(work)
