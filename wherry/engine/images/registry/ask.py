"""What registries are asked beside images themselves: what an image is (DistributionInspect), whether credentials are good
(SystemAuth), which repositories there are (ImageSearch)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

import msgspec

from wherry.api.errors import BadRequest, ServerError, Unauthorized
from wherry.api.models.common import UNSET
from wherry.api.models.images import DistributionInspect, ImageSearchResponseItem, OCIDescriptor, OCIPlatform
from wherry.engine.images import reference
from wherry.engine.images.registry.auth import Credentials
from wherry.engine.images.registry.errors import RegistryError, Unreachable, registry_error
from wherry.engine.images.registry.hosts import HUB, HUB_INDEX, HUB_URL, Endpoint, Registries
from wherry.engine.images.registry.manifest import Document, PlatformOf, check_image
from wherry.engine.images.registry.repository import Registry, Repository, digest_matches

_LARGEST_RESULT = 4 << 20
_MOST_RESULTS = 100
_SEARCH_FILTERS = frozenset({"is-automated", "is-official", "stars"})
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


async def inspect(registries: Registries, text: str, credentials: Credentials) -> DistributionInspect:
    """DistributionInspect. Raises ``BadRequest``, and the registry's refusals with its own status."""
    if reference.image_id(text) is not None:
        raise ServerError("no manifest found for full image ID")
    name = reference.parse(text).tagged()
    domain, _, path = name.name.partition("/")
    last: RegistryError = RegistryError(f"no endpoints found for {name}")
    for endpoint in await registries.endpoints(domain, pulling=True):
        registry = None
        try:
            registry = await Registry.connect(registries, endpoint, credentials)
            repository = Repository(registry, path)
            document = await repository.manifest(name.digest or name.tag)
            return DistributionInspect(
                descriptor=OCIDescriptor(
                    media_type=document.media_type, digest=document.digest, size=len(document.data)
                ),
                platforms=await _platforms(repository, document),
            )
        except RegistryError as error:
            if endpoint.own and not isinstance(error, Unreachable):
                raise registry_error(error) from error
            last = error
        finally:
            if registry is not None:
                registry.close()
    raise registry_error(last) from last


async def _platforms(repository: Repository, document: Document) -> list[OCIPlatform]:
    if document.manifests is not None:
        return [_platform(entry.platform) for entry in document.manifests if entry.platform is not None]
    config = check_image(document)
    answer, _ = await repository.blob(config.digest)
    data = await answer.read(config.size, "the image's configuration")
    if not digest_matches(data, config.digest):
        raise RegistryError(f"image config verification failed for digest {config.digest}")
    try:
        return [_platform(msgspec.json.decode(data, type=PlatformOf))]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RegistryError("the image's configuration cannot be read") from None


def _platform(of: PlatformOf) -> OCIPlatform:
    return OCIPlatform(
        architecture=of.architecture,
        os=of.os,
        os_version=of.os_version or UNSET,
        os_features=of.os_features or UNSET,
        variant=of.variant or UNSET,
    )


async def login(registries: Registries, address: str, credentials: Credentials) -> str:
    """SystemAuth: whether a registry takes these credentials; returns a token to use instead of them, or "".

    ``address`` is as ``docker login`` has it, empty or the index's URL for Docker Hub. Raises ``Unauthorized``,
    ``BadRequest``, ``ServerError``.
    """
    host = address.removeprefix("https://").removeprefix("http://").partition("/")[0]
    if host in ("", HUB, "index.docker.io", "registry-1.docker.io"):
        endpoints = [Endpoint(HUB_URL)]
    else:
        reference.parse(f"{host}/x")
        endpoints = await registries.endpoints(host, pulling=False)
    last: RegistryError | None = None
    for endpoint in endpoints:
        registry = None
        try:
            registry = await Registry.connect(registries, endpoint, credentials)
            answer = await registry.call("GET", "/v2/")
            await answer.drain()
            return registry.authorizer.identity_token
        except RegistryError as error:
            if error.status == 401:
                attempt = f"login attempt to {endpoint.url}/v2/ failed with status: 401 Unauthorized"
                raise Unauthorized(f'Get "{endpoint.url}/v2/": {error}' if _by_token(registry) else attempt) from error
            last = error
            if not isinstance(error, Unreachable):
                break
        finally:
            if registry is not None:
                registry.close()
    raise ServerError(str(last)) from last


def _by_token(registry: Registry | None) -> bool:
    return registry is not None and any(scheme == "bearer" for scheme, _ in registry.authorizer.challenges)


class _Results(msgspec.Struct):
    results: list[dict[str, object]] | None = None


async def search(
    registries: Registries, term: str, limit: int | None, filters: Mapping[str, Sequence[str]], credentials: Credentials
) -> list[ImageSearchResponseItem]:
    """ImageSearch, which only registries with Docker Hub's old index have. Raises ``BadRequest``, ``ServerError``."""
    for key in filters:
        if key not in _SEARCH_FILTERS:
            raise BadRequest(f"invalid filter '{key}'")
    if limit is not None and not 0 <= limit <= _MOST_RESULTS:
        raise BadRequest(f"limit {limit} is outside the range of [1, {_MOST_RESULTS}]")
    if "://" in term:
        raise BadRequest(f"invalid repository name: repository name ({term}) should not have a scheme")
    first, slash, rest = term.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        domain, words = first, rest
        endpoints = await registries.endpoints(domain, pulling=False) if domain != HUB else [Endpoint(_hub_index())]
    else:
        words, endpoints = term, [Endpoint(_hub_index())]
    last = RegistryError(f"no endpoints found for {term}")
    for endpoint in endpoints:
        registry = Registry(registries, endpoint, credentials)
        try:
            query = urlencode({"q": words.removeprefix("library/"), "n": limit or 25})
            answer = await registry.call("GET", f"/v1/search?{query}")
            data = await answer.read(_LARGEST_RESULT, "the list of repositories")
            found = msgspec.json.decode(data, type=_Results).results or []
            return _matching([_item(entry) for entry in found[: limit or 25]], filters)
        except Unreachable as error:
            last = RegistryError(f'Get "{endpoint.url}/v1/search": {error}')
        except RegistryError as error:
            raise ServerError(_refusal(endpoint, error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ServerError(f"the registry {endpoint.url} has no search: its answer cannot be read") from error
        finally:
            registry.close()
    raise ServerError(str(last)) from last


def _hub_index() -> str:
    return HUB_INDEX.removesuffix("/v1/")


def _refusal(endpoint: Endpoint, error: RegistryError) -> str:
    if error.status == 404:
        return f"the registry {endpoint.url} has no search: look for images on its own pages"
    return f"the registry {endpoint.url} did not search: {error}"


def _item(entry: Mapping[str, object]) -> ImageSearchResponseItem:
    def text(key: str) -> str:
        value = entry.get(key)
        return value if isinstance(value, str) else ""

    stars = entry.get("star_count")
    return ImageSearchResponseItem(
        name=text("name"),
        description=text("description"),
        star_count=stars if isinstance(stars, int) else 0,
        is_official=entry.get("is_official") is True,
        is_automated=entry.get("is_automated") is True,
    )


def _matching(
    items: Sequence[ImageSearchResponseItem], filters: Mapping[str, Sequence[str]]
) -> list[ImageSearchResponseItem]:
    kept = list(items)
    for key, values in filters.items():
        for value in values:
            if key == "stars":
                if not value.isdecimal():
                    raise BadRequest(f"invalid filter 'stars=[{value}]'")
                kept = [item for item in kept if item.star_count >= int(value)]
                continue
            if value not in _BOOLEANS:
                raise BadRequest(f"invalid filter '{key}=[{value}]'")
            wanted = _BOOLEANS[value]
            official = key == "is-official"
            kept = [item for item in kept if (item.is_official if official else item.is_automated) is wanted]
    return kept
