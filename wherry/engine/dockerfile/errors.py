"""What is wrong with a Dockerfile."""

from __future__ import annotations

from wherry.api.errors import BadRequest


class DockerfileError(BadRequest):
    """The text is no Dockerfile, or an instruction is not as it must be; the words are moby's."""


def needs_buildkit(what: str) -> str:
    """moby's words for what its classic builder does not have."""
    return (
        f"the {what} requires BuildKit. Refer to https://docs.docker.com/go/buildkit/ to learn how to build images with "
        "BuildKit enabled"
    )
