"""Registries from the wire: credentials, tokens, redirects, broken downloads, TLS, proxies; against fakes on loopback."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.images import digest
from tests.support.registry import Asked, FakeRegistry, Reply, basic, fake_registry, refusal, sha512
from wherry.api.errors import ApiError, BadRequest, NotFound, ServerError, Unauthorized
from wherry.api.models.images import AuthConfig
from wherry.engine.images.registry import ask, auth
from wherry.engine.images.registry.auth import NOBODY, Credentials
from wherry.engine.images.registry.download import Download
from wherry.engine.images.registry.errors import Interrupted, RegistryError, Unreachable
from wherry.engine.images.registry.hosts import Endpoint, InvalidOption, Registries
from wherry.engine.images.registry.manifest import LARGEST_MANIFEST, Descriptor
from wherry.engine.images.registry.progress import Progress, bar
from wherry.engine.images.registry.repository import Registry, Repository
from wherry.engine.store.layout import Layout

TLS = Path(__file__).parent / "client_tls"
ANN = Credentials("ann", "secret")
SECRET = base64.b64encode(b"ann:secret").decode()


def run(work: Callable[[], Awaitable[Any]]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(20):
            return await work()

    return asyncio.run(bounded())


async def repository(fake: FakeRegistry, credentials: Credentials = NOBODY, actions: str = "pull") -> Repository:
    registry = await Registry.connect(Registries(), Endpoint(fake.url), credentials)
    return Repository(registry, "some/thing", actions)


async def blob(place: Repository, name: str) -> bytes:
    answer, _ = await place.blob(name)
    return await answer.read(1 << 20, "the blob")


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


@pytest.mark.parametrize(
    ("current", "total", "shown"),
    [
        (0, 0, ""),
        (512, 1024, f"[{'=' * 25}>{' ' * 25}]     512B/1.024kB"),
        (1024, 1024, f"[{'=' * 50}>]  1.024kB/1.024kB"),
        (3_500_000, 2, f"[{'=' * 50}>]    3.5MB"),
    ],
)
def test_the_bar_is_moby_s(current: int, total: int, shown: str) -> None:
    assert bar(current, total) == shown


def test_a_slow_reader_gets_the_newest_step_only_and_every_word() -> None:
    async def work() -> None:
        progress = Progress()

        async def busy() -> None:
            for count in range(1000):
                progress.update("Downloading", "a", count, 1000, last=True)
            progress.step("Download complete", "a")
            raise ServerError("at the end")

        messages: list[Any] = []

        async def read() -> None:
            async for message in progress.during(busy):
                messages.append(message)

        with pytest.raises(ServerError, match="at the end"):
            await read()
        assert [message["status"] for message in messages] == ["Downloading", "Download complete"]
        assert messages[0]["progressDetail"] == {"current": 999, "total": 1000}

    run(work)


# --- options --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["ftp://a", "a.example", "http://a/path", "https://u:p@a", "http://", "http://a?b", "http://[::"]
)
def test_a_mirror_that_can_be_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidOption, match="invalid mirror"):
        Registries([text])


@pytest.mark.parametrize("text", ["a b", "a/b/c", "", "-x", "10.0.0.0/99"])
def test_an_insecure_registry_that_can_be_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidOption, match="insecure registry"):
        Registries((), [text])


def test_mirrors_come_first_for_pulls_from_docker_hub_alone() -> None:
    async def work() -> None:
        registries = Registries(["http://127.0.0.1:5000/"], ["plain.example:5000", "10.1.0.0/16"])
        hub = Endpoint("https://registry-1.docker.io")
        assert await registries.endpoints("docker.io", pulling=True) == [
            Endpoint("http://127.0.0.1:5000", own=False),
            hub,
        ]
        assert await registries.endpoints("docker.io", pulling=False) == [hub]
        for domain, both in {
            "127.0.0.1:5000": True,
            "[::1]:5000": True,
            "localhost:5000": True,
            "plain.example:5000": True,
            "10.1.2.3": True,
            "10.2.2.3": False,
        }.items():
            urls = [endpoint.url for endpoint in await registries.endpoints(domain, pulling=True)]
            assert urls == [f"https://{domain}", f"http://{domain}"][: 1 + both], domain
        shown = registries.describe()
        assert shown.mirrors == ["http://127.0.0.1:5000/"]
        assert shown.insecure_registry_cidrs == ["127.0.0.0/8", "10.1.0.0/16"]
        assert shown.index_configs is not None
        assert not shown.index_configs["plain.example:5000"].secure

    run(work)


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

    run(work)


def token_server(fake: FakeRegistry, tokens: FakeRegistry, *, expires: int = 300) -> None:
    """``fake`` wants tokens that ``tokens`` gives to ann."""

    def guard(asked: Asked) -> Reply | None:
        if asked.authorization == "Bearer good":
            return None
        scope = f'Bearer realm="{tokens.url}/token",service="fake"'
        return refusal(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate=scope)

    def give(asked: Asked) -> Reply | None:
        if asked.path != "/token":
            return None
        if asked.authorization == f"Basic {SECRET}" or asked.body.startswith(b"grant_type=refresh_token"):
            answer = {"token": "good", "expires_in": expires, "refresh_token": "again"}
            return Reply(body=json.dumps(answer).encode())
        return refusal(401, "UNAUTHORIZED", "incorrect username or password")

    fake.hooks.append(guard)
    tokens.hooks.append(give)


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

    run(work)


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

    run(work)


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

    run(work)


def test_a_missing_scope_is_access_denied() -> None:
    async def work() -> None:
        async with fake_registry() as fake, fake_registry() as tokens:
            token_server(fake, tokens)
            challenge = f'Bearer realm="{tokens.url}/token",error="insufficient_scope"'
            fake.hooks.insert(0, lambda a: refusal(401, "UNAUTHORIZED", WWW_Authenticate=challenge))
            with pytest.raises(RegistryError, match="denied: requested access to the resource is denied") as caught:
                await (await repository(fake, ANN)).manifest("latest")
            assert caught.value.code == "DENIED"

    run(work)


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

    run(work)


def test_mirrors_get_no_credentials() -> None:
    async def work() -> None:
        async with fake_registry() as fake:
            fake.hooks.append(basic("ann", "secret"))
            registry = await Registry.connect(Registries(), Endpoint(fake.url, own=False), ANN)
            with pytest.raises(RegistryError, match="no basic auth"):
                await Repository(registry, "library/x").manifest("latest")
            assert not any(asked.authorization for asked in fake.asked)

    run(work)


@pytest.mark.parametrize("location", ["", "ftp://127.0.0.1/x", "file:///etc/passwd", "http://[", "//:0", "http://a b/"])
def test_redirects_to_nowhere_are_errors(location: str) -> None:
    async def work() -> None:
        async with fake_registry() as fake:
            fake.hooks.append(lambda a: Reply(307, headers={"Location": location}) if "blobs" in a.path else None)
            with pytest.raises(RegistryError):
                await blob(await repository(fake), digest(b"x"))

    run(work)


def test_redirects_in_a_circle_end() -> None:
    async def work() -> None:
        async with fake_registry() as fake:
            fake.hooks.append(lambda a: Reply(307, headers={"Location": a.path}) if "blobs" in a.path else None)
            with pytest.raises(RegistryError, match="redirects lead nowhere"):
                await blob(await repository(fake), digest(b"x"))
            assert len(fake.asked) == 12

    run(work)


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

    run(work)


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

    run(work)


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

    run(work)


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

    run(work)


# --- content --------------------------------------------------------------------------------------------------------


async def download(
    fake: FakeRegistry, tmp_path: Path, data: bytes, *, size: int | None = None, name: str = ""
) -> bytes:
    layout = Layout(tmp_path / "data", tmp_path / "run")
    layout.tmp.mkdir(parents=True, exist_ok=True)
    wanted = Descriptor(digest=name or digest(data), size=len(data) if size is None else size)
    made = Download(layout, await repository(fake), wanted)
    try:
        await made.run(lambda count: None, lambda seconds: None)
        assert made.path is not None
        return made.path.read_bytes()
    finally:
        made.discard()
        assert list(layout.tmp.iterdir()) == []


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wherry.engine.images.registry.download.retry_delay", lambda attempt: 0.0)


DATA = bytes(range(256)) * 10_000


@pytest.mark.usefixtures("no_waiting")
def test_a_download_goes_on_where_it_broke_off(tmp_path: Path) -> None:
    async def work() -> None:
        async with fake_registry() as fake:
            fake.blobs[digest(DATA)] = DATA

            def breaking(asked: Asked) -> Reply | None:
                if "blobs" not in asked.path:
                    return None
                reply = fake.blob_reply(asked, DATA)
                reply.cut = 700_000
                return reply if len(fake.requests("GET", "blobs")) < 4 else None

            fake.hooks.append(breaking)
            assert await download(fake, tmp_path, DATA) == DATA
            ranges = [asked.headers.get("range") for asked in fake.requests("GET", "blobs")]
            assert ranges == [None, "bytes=700000-", "bytes=1400000-", "bytes=2100000-"]

    run(work)


@pytest.mark.usefixtures("no_waiting")
def test_a_registry_without_ranges_gives_all_of_it_again(tmp_path: Path) -> None:
    async def work() -> None:
        async with fake_registry() as fake:

            def breaking(asked: Asked) -> Reply | None:
                if "blobs" not in asked.path:
                    return None
                return Reply(body=DATA, cut=500_000 if len(fake.requests("GET", "blobs")) == 1 else None)

            fake.hooks.append(breaking)
            assert await download(fake, tmp_path, DATA) == DATA

    run(work)


@pytest.mark.usefixtures("no_waiting")
def test_a_download_that_never_gets_on_is_given_up(tmp_path: Path) -> None:
    async def work() -> None:
        async with fake_registry() as fake:
            fake.hooks.append(lambda a: Reply(body=DATA, cut=0) if "blobs" in a.path else None)
            with pytest.raises(Interrupted):
                await download(fake, tmp_path, DATA)
            assert len(fake.requests("GET", "blobs")) == 5

    run(work)


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(body=b"a" * 100), "verification failed"),
        (Reply(body=b"a" * 101), "has 101 bytes where 100 were announced"),
        (Reply(body=b"a" * 99), "has 99 bytes where 100 were announced"),
        (Reply(body=b"a" * 5000, headers={"Content-Length": ""}), "more than the 100 bytes"),
        (Reply(206, b"a" * 100, {"Content-Range": "bytes 7-106/200"}), "another part"),
        (Reply(204), "unexpected HTTP status: 204"),
        (refusal(404, "BLOB_UNKNOWN", "blob unknown to registry"), "blob unknown: blob unknown to registry"),
        (Reply(404, b"<html>"), "unexpected HTTP status: 404"),
        (Reply(headers={"Content-Length": "99999999999999999999999999"}), "were announced|malformed"),
        (Reply(headers={"Content-Length": "-1"}), "malformed"),
    ],
)
def test_blobs_that_are_not_what_was_announced_are_refused(tmp_path: Path, reply: Reply, message: str) -> None:
    async def work() -> None:
        async with fake_registry() as fake:
            fake.hooks.append(lambda a: reply if "blobs" in a.path else None)
            with pytest.raises(RegistryError, match=message):
                await download(fake, tmp_path, b"b" * 100)

    run(work)


def test_sha512_is_known(tmp_path: Path) -> None:
    async def work() -> None:
        async with fake_registry() as fake:
            fake.blobs[sha512(DATA)] = DATA
            assert await download(fake, tmp_path, DATA, name=sha512(DATA)) == DATA

    run(work)


def test_an_endless_manifest_is_refused() -> None:
    async def work() -> None:
        async with fake_registry() as fake:
            big = b"{" + b" " * LARGEST_MANIFEST
            fake.hooks.append(lambda a: Reply(body=big, headers={"Content-Length": ""}) if "manif" in a.path else None)
            with pytest.raises(RegistryError, match="the manifest is larger than"):
                await (await repository(fake)).manifest("latest")

    run(work)


def test_an_idle_connection_that_was_closed_is_made_anew() -> None:
    async def work() -> None:
        async with fake_registry() as fake:
            fake.blobs[digest(b"x")] = b"x"
            place = await repository(fake)
            fake.hooks.append(lambda a: None)
            for _ in range(3):
                # the server says nothing of closing, and does
                fake.hooks[0] = lambda a: Reply(body=b"x", cut=1) if "blobs" in a.path else None
                assert await blob(place, digest(b"x")) == b"x"
                await asyncio.sleep(0.01)

    run(work)


def test_tags_are_listed_page_by_page() -> None:
    async def work() -> None:
        async with fake_registry() as fake, fake_registry() as other:

            def pages(asked: Asked) -> Reply | None:
                if not asked.path.endswith("/tags/list"):
                    return None
                last = asked.query.get("last", ["0"])[0]
                if last == "2":
                    return Reply(body=b'{"tags": ["d"]}', headers={"Link": f'<{other.url}/x>; rel="next"'})
                link = f'</v2/some/thing/tags/list?last={int(last) + 1}>; rel="next"'
                return Reply(body=json.dumps({"tags": ["abc"[int(last)]]}).encode(), headers={"Link": link})

            fake.hooks.append(pages)
            assert await (await repository(fake)).tags() == ["a", "b", "d"]
            assert other.asked == []

    run(work)


# --- what else registries are asked ---------------------------------------------------------------------------------


def test_login_says_yes_or_no() -> None:
    async def work() -> None:
        async with fake_registry() as fake, fake_registry() as tokens:
            assert await ask.login(Registries(), fake.domain, ANN) == ""
            fake.hooks.append(basic("ann", "secret"))
            assert await ask.login(Registries(), f"http://{fake.domain}/v1/", ANN) == ""
            wrong = Credentials("ann", "wrong")
            with pytest.raises(Unauthorized, match=r"login attempt to http://.* failed with status: 401 Unauthorized"):
                await ask.login(Registries(), fake.domain, wrong)
            fake.hooks.clear()
            token_server(fake, tokens)
            assert await ask.login(Registries(), fake.domain, ANN) == "again"
            with pytest.raises(Unauthorized, match="unauthorized: incorrect username or password"):
                await ask.login(Registries(), fake.domain, wrong)
            gone = fake.domain
        with pytest.raises(ServerError, match="Get "):
            await ask.login(Registries(), gone, ANN)
        with pytest.raises(BadRequest):
            await ask.login(Registries(), "a b", ANN)

    run(work)


def test_search_asks_an_index_and_says_where_there_is_none() -> None:
    async def work() -> None:
        async with fake_registry() as fake:
            with pytest.raises(ServerError, match="has no search"):
                await ask.search(Registries(), f"{fake.domain}/box", None, {}, NOBODY)
            found = [{"name": "a", "star_count": 7, "is_official": True}, {"name": "b", "star_count": "x"}]
            results = json.dumps({"results": found}).encode()
            fake.hooks.append(lambda a: Reply(body=results) if a.path == "/v1/search" else None)
            items = await ask.search(Registries(), f"{fake.domain}/box", 5, {}, NOBODY)
            assert [(item.name, item.star_count) for item in items] == [("a", 7), ("b", 0)]
            assert fake.asked[-1].query == {"q": ["box"], "n": ["5"]}
            for filters in ({"stars": ["3"]}, {"is-official": ["true"]}):
                (item,) = await ask.search(Registries(), f"{fake.domain}/box", 5, filters, NOBODY)
                assert item.name == "a"
            for filters in ({"stars": ["x"]}, {"other": ["x"]}, {"is-official": ["x"]}):
                with pytest.raises(BadRequest, match="invalid filter"):
                    await ask.search(Registries(), f"{fake.domain}/box", 5, filters, NOBODY)
            with pytest.raises(BadRequest, match="outside the range"):
                await ask.search(Registries(), "box", 101, {}, NOBODY)

    run(work)


def test_distribution_inspect_tells_digest_and_platforms() -> None:
    async def work() -> None:
        async with fake_registry() as fake:
            entry = fake.add_image([b""], "one", oci=True)
            index = {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.index.v1+json",
                "manifests": [{**entry, "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}}],
            }
            listed = fake.add_manifest(index, "latest")
            found = await ask.inspect(Registries(), f"{fake.domain}/x", NOBODY)
            assert (found.descriptor.digest, found.descriptor.size) == (listed["digest"], listed["size"])
            assert found.platforms is not None
            assert [(p.os, p.architecture, p.variant) for p in found.platforms] == [("linux", "arm", "v7")]
            found = await ask.inspect(Registries(), f"{fake.domain}/x:one", NOBODY)
            assert found.platforms is not None
            assert [(p.os, p.architecture) for p in found.platforms] == [("linux", "amd64")]
            with pytest.raises(NotFound, match="manifest unknown"):
                await ask.inspect(Registries(), f"{fake.domain}/x:none", NOBODY)
            fake.hooks.append(basic("ann", "secret"))
            with pytest.raises(Unauthorized):
                await ask.inspect(Registries(), f"{fake.domain}/x", NOBODY)
            for text in ("Nope", "a" * 64):
                with pytest.raises(ApiError):
                    await ask.inspect(Registries(), text, NOBODY)

    run(work)
