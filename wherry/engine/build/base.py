"""Images that a build stands on or copies from: here already, or fetched."""

from __future__ import annotations

from wherry.api.errors import NotFound
from wherry.engine.build.state import Build
from wherry.engine.containers.platform import check_platform
from wherry.engine.images import reference
from wherry.engine.images.image import Image
from wherry.engine.images.registry.auth import NOBODY, Credentials
from wherry.engine.images.registry.pull import pull, wanted

_HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "docker.io", "https://docker.io")


async def find_image(build: Build, name: str, platform: str) -> Image:
    """The image of a name or id; fetched when it is not here, or ``--pull`` asks for it. Raises ``ApiError``."""
    images = build.containers.parts.images
    if not build.options.pull:
        found = images.find(name)
        if found is not None:
            try:
                check_platform(found, name, platform)
                return found
            except NotFound:
                pass
    elif reference.image_id(name) is not None:
        return images.get(name)
    target = wanted(name, "").tagged()
    domain = target.name.partition("/")[0]
    messages = pull(images, build.registries, target, platform, _credentials(build, domain))
    try:
        async for message in messages:
            build.progress.put(message)
            await build.progress.drain()
    finally:
        close = getattr(messages, "aclose", None)
        if close is not None:
            await close()
    return images.get(name)


def _credentials(build: Build, domain: str) -> Credentials:
    known = build.credentials
    keys = _HUB_KEYS if domain == "docker.io" else (domain, f"https://{domain}", f"http://{domain}")
    for key in keys:
        for given in (key, f"{key}/", f"{key}/v1/", f"{key}/v2/"):
            if given in known:
                return known[given]
    return NOBODY
