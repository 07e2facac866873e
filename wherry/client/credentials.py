"""Credentials for registries, from where the docker command keeps them: its configuration, and the credential helpers that
this names. Nothing is kept here; ``logins`` writes there.

For a registry counts, in this order: ``DOCKER_AUTH_CONFIG`` (a configuration's text), its helper of ``credHelpers``, the
``credsStore``, and ``auths``. Everything here may block.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

from wherry.api.errors import CredentialsError
from wherry.api.models.images import AuthConfig
from wherry.client.configuration import configuration_file, decoded, read_configuration

log = logging.getLogger(__name__)

HELPER_DEADLINE = 60.0
"""Seconds for a credential helper, which may ask its user for a password."""
HUB = "https://index.docker.io/v1/"
"""Docker Hub's name among credentials."""
_HELPER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")
_ABSENT = "credentials not found"
TOKEN = "<token>"
"""The user name of a secret that is an identity token."""


def credentials_for(registry: str, env: Mapping[str, str] | None = None) -> AuthConfig | None:
    """What the docker configuration has for ``registry`` (``docker.io``, ``host:port``); None if it has nothing.

    Raises ``CredentialsError`` for a configuration that cannot be read, and a helper that is missing, fails or takes longer
    than ``HELPER_DEADLINE``.
    """
    env = os.environ if env is None else env
    key = credentials_key(registry)
    for where, config in _configurations(env):
        helper = helper_for(config, key)
        found = _ask(helper, key, where) if helper else _stored(config, key, where)
        if found is not None:
            return found
    return None


def credentials_key(registry: str) -> str:
    """The name of a registry among credentials: its host and port, or ``HUB``.

    >>> credentials_key("docker.io"), credentials_key("https://reg.example:5000/v2/")
    ('https://index.docker.io/v1/', 'reg.example:5000')
    """
    host = host_of(registry)
    return HUB if host in ("docker.io", "index.docker.io", "registry-1.docker.io") else host


def all_credentials(env: Mapping[str, str] | None = None) -> dict[str, AuthConfig]:
    """Everything that the docker configuration has, by registry: what a build may need, or not.

    Credentials that cannot be had are left out with a word in the log. Raises ``CredentialsError`` for a configuration that
    cannot be read.
    """
    env = os.environ if env is None else env
    found: dict[str, AuthConfig] = {}
    for where, config in _configurations(env):
        keys = dict.fromkeys(_section(config, "auths"))
        if store := _text(config, "credsStore"):
            try:
                keys |= dict.fromkeys(decoded(run_helper(store, "list", "", where), f"docker-credential-{store} list"))
            except CredentialsError as error:
                log.warning("%s", error)
                continue
        keys |= dict.fromkeys(_section(config, "credHelpers"))
        for key in keys:
            helper = helper_for(config, key)
            try:
                one = _ask(helper, key, where) if helper else _stored(config, key, where)
            except CredentialsError as error:
                log.warning("%s", error)
                continue
            if one is not None:
                found.setdefault(key, one)
    return found


def _configurations(env: Mapping[str, str]) -> list[tuple[str, dict[str, Any]]]:
    """(where it is from, its content) of each configuration, the first counting most."""
    found = []
    text = env.get("DOCKER_AUTH_CONFIG")
    if text:
        found.append(("DOCKER_AUTH_CONFIG", decoded(text.encode(), "DOCKER_AUTH_CONFIG")))
    path = configuration_file(env)
    if (config := read_configuration(path)) is not None:
        found.append((path, config))
    return found


def _section(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = config.get(name)
    return section if isinstance(section, dict) else {}


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    return value if isinstance(value, str) else ""


# kept in the configuration itself


def _stored(config: Mapping[str, Any], key: str, where: str) -> AuthConfig | None:
    auths = _section(config, "auths")
    entry = auths.get(key)
    if entry is None:  # people and old versions write an address with a scheme and a path
        entry = next((auths[name] for name in auths if host_of(name) == host_of(key)), None)
    if not isinstance(entry, dict):
        return None
    username, password = _text(entry, "username"), _text(entry, "password")
    if packed := _text(entry, "auth"):
        try:
            username, colon, password = base64.b64decode(packed, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            colon = ""
        if not colon:
            raise CredentialsError(f"the credentials for {key} in {where} cannot be read: run docker login {key} again")
        password = password.rstrip("\0")
    return _auth(key, username, password, _text(entry, "identitytoken"), _text(entry, "registrytoken"))


def host_of(name: str) -> str:
    """The host and port of a registry's name among credentials, which may have a scheme and a path."""
    return name.removeprefix("https://").removeprefix("http://").partition("/")[0]


def _auth(key: str, username: str, password: str, identity_token: str, registry_token: str = "") -> AuthConfig | None:
    if not (username or identity_token or registry_token):
        return None
    made = AuthConfig(serveraddress=key)
    if identity_token:
        made.identitytoken = identity_token
    if registry_token:
        made.registrytoken = registry_token
    if username and not identity_token:
        made.username, made.password = username, password
    return made


# kept by a helper


def helper_for(config: Mapping[str, Any], key: str) -> str:
    """The name of the helper that a registry's credentials are with; empty for none."""
    return _text(_section(config, "credHelpers"), key) or _text(config, "credsStore")


def _ask(helper: str, key: str, where: str) -> AuthConfig | None:
    data = run_helper(helper, "get", key, where)
    if not data:
        return None
    answer = decoded(data, f"the answer of docker-credential-{helper} for {key}")
    username, secret = _text(answer, "Username"), _text(answer, "Secret")
    if username == TOKEN:
        return _auth(key, "", "", secret)
    return _auth(key, username, secret, "")


def run_helper(helper: str, action: str, sent: str, where: str, *, about: str = "") -> bytes:
    """What a helper says to an action (get, store, erase, list); nothing where it knows no such registry.

    ``where`` names it, ``about`` is the registry where ``sent`` is more than that. Raises ``CredentialsError``.
    """
    program = f"docker-credential-{helper}"
    named = f"the credential helper {program}, named by {where}"
    if not _HELPER.fullmatch(helper):
        raise CredentialsError(f"{where} names a credential helper that can be none: {helper[:100]!r}")
    path = shutil.which(program)
    if path is None:
        raise CredentialsError(f"{named}, is not installed: install it, or give auth=")
    try:
        process = subprocess.Popen(
            [path, action], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except OSError as error:
        raise CredentialsError(f"{named}, cannot be run: {error.strerror}") from None
    with process:
        try:
            out, err = process.communicate(sent.encode(), HELPER_DEADLINE)
        except BaseException as error:
            process.kill()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()  # whoever else holds its other end is not waited for
            if isinstance(error, subprocess.TimeoutExpired):
                raise CredentialsError(f"{named}, gave no answer within {HELPER_DEADLINE:g} seconds") from None
            raise
    if process.returncode == 0:
        return out
    said = (out.strip() or err.strip()).decode(errors="replace")
    if said.startswith(_ABSENT):
        return b""
    raise CredentialsError(
        f"{named}, failed for {about or sent or 'its list'}: {said[:300] or f'exit code {process.returncode}'}"
    )
