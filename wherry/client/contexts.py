"""Docker contexts: named addresses in the docker CLI's configuration, read and never written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import msgspec

from wherry.api.errors import ConnectError
from wherry.client.address import Address, TlsFiles, docker_config, parse_address, tls_files


def context_address(env: Mapping[str, str]) -> Address | None:
    """The address of the context in force, None if that is ``default`` or none is set.

    Raises ``ConnectError`` if a context is named that does not exist or has no address.
    """
    root = docker_config(env)
    name = env.get("DOCKER_CONTEXT")
    if not name:
        config = _read_json(os.path.join(root, "config.json"))
        name = config.get("currentContext") if isinstance(config, dict) else None
    if not isinstance(name, str) or name in ("", "default"):
        return None
    return load_context(root, name)


def load_context(root: str, name: str) -> Address:
    """The address that the context ``name`` below the configuration directory ``root`` stands for."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    meta = _read_json(os.path.join(root, "contexts", "meta", digest, "meta.json"))
    if meta is None:
        raise ConnectError(f"docker context {name!r} is not there: {root}/contexts has no such context")
    try:
        endpoint = meta["Endpoints"]["docker"]
        host = endpoint["Host"]
    except (KeyError, TypeError):
        raise ConnectError(f"docker context {name!r} names no docker address") from None
    if not isinstance(host, str):
        raise ConnectError(f"docker context {name!r} names no docker address")
    tls: TlsFiles | None = None
    directory = os.path.join(root, "contexts", "tls", digest, "docker")
    if os.path.isdir(directory):
        tls = tls_files(directory, verify=not endpoint.get("SkipTLSVerify", False))
    return parse_address(host, tls=tls, source=f"docker context {name!r}")


def _read_json(path: str) -> Any:
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read())
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConnectError(f"cannot read {path}: {error}") from None
