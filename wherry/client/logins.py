"""Logins kept and removed where the docker command has them: with the credential helper that its configuration names for a
registry, else in the configuration itself. Everything here may block.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from wherry.api.errors import CredentialsError
from wherry.api.models.images import AuthConfig
from wherry.client.configuration import configuration_file, read_configuration
from wherry.client.credentials import (
    TOKEN,
    credentials_key,
    helper_for,
    host_of,
    run_helper,
)


def store_credentials(auth: AuthConfig, env: Mapping[str, str] | None = None) -> str:
    """Keep credentials for the registry ``auth.serveraddress``, instead of earlier ones.

    Returns where they are: a helper's program, or the configuration's path, in which they lie unencrypted. Raises
    ``CredentialsError`` for a configuration that cannot be read or written, and for a helper that does not take them.
    """
    path = configuration_file(os.environ if env is None else env)
    key = credentials_key(auth.serveraddress or "")
    username, password, token = auth.username or "", auth.password or "", auth.identitytoken or ""
    if helper := helper_for(read_configuration(path) or {}, key):
        user, secret = (TOKEN, token) if token else (username, password)
        sent = json.dumps({"ServerURL": key, "Username": user, "Secret": secret})
        run_helper(helper, "store", sent, path, about=key)
        entry = {}  # says that there are some, and takes the place of a password
    else:
        entry = {"auth": base64.b64encode(f"{username}:{password}".encode()).decode()}
        if token:
            entry["identitytoken"] = token

    def put(auths: dict[str, Any]) -> bool:
        for name in _names(auths, key):
            del auths[name]
        auths[key] = entry
        return True

    _change(path, put)
    return f"docker-credential-{helper}" if helper else path


def erase_credentials(registry: str, env: Mapping[str, str] | None = None) -> bool:
    """Remove what is kept for a registry; False if the configuration has nothing, and no helper was asked.

    Raises ``CredentialsError``.
    """
    path = configuration_file(os.environ if env is None else env)
    key = credentials_key(registry)
    config = read_configuration(path)
    if config is None:
        return False
    if helper := helper_for(config, key):
        run_helper(helper, "erase", key, path)

    def drop(auths: dict[str, Any]) -> bool:
        names = _names(auths, key)
        for name in names:
            del auths[name]
        return bool(names)

    return _change(path, drop) or bool(helper)


def _names(auths: Mapping[str, Any], key: str) -> list[str]:
    """All ways in which a registry is written there."""
    return [name for name in auths if host_of(name) == host_of(key)]


def _change(path: str, act: Callable[[dict[str, Any]], bool]) -> bool:
    """Have ``act`` change ``auths`` of the configuration; whether it did. All else there stays as it is."""
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with _locked(os.path.dirname(path)):
            config = read_configuration(path) or {}
            auths = config.get("auths")
            config["auths"] = auths = auths if isinstance(auths, dict) else {}
            changed = act(auths)
            if changed:
                _write(os.path.realpath(path), json.dumps(config, indent="\t", ensure_ascii=False) + "\n")
            return changed
    except OSError as error:
        raise CredentialsError(f"cannot write {path}: {error.strerror}") from None


@contextmanager
def _locked(directory: str) -> Iterator[None]:
    """One change at a time, so that none is lost; docker's command heeds no lock."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: str, text: str) -> None:
    """Put a file in another's place at once, with its owner and mode; a new one is for its owner alone."""
    descriptor, part = tempfile.mkstemp(prefix=".config.json.", dir=os.path.dirname(path))
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            with suppress(FileNotFoundError):
                before = os.stat(path)
                if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(descriptor, before.st_uid, before.st_gid)
                os.fchmod(descriptor, before.st_mode & 0o777)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise
