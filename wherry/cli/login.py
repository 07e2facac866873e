"""``wherry login`` and ``wherry logout``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from wherry.cli.common import fail, with_client

if TYPE_CHECKING:
    from wherry.api.models.images import AuthConfig
    from wherry.client._sync.client import Client

SERVER = click.argument("server", default="docker.io", metavar="[SERVER]")


@click.command("login")
@click.option("-u", "--username", metavar="NAME")
@click.option("--password-stdin", is_flag=True, help="The password, or a token, comes from stdin.")
@SERVER
@with_client
def login_command(client: Client, server: str, username: str | None, password_stdin: bool) -> None:
    """Log in to a registry, Docker Hub without SERVER.

    The engine tries the credentials; then the docker configuration keeps them, or the credential helper that it names.
    Without a name, what is kept already is tried first; what is missing is asked for.
    """
    from wherry.api.errors import CredentialsError, Unauthorized
    from wherry.api.models.images import AuthConfig
    from wherry.client.credentials import credentials_for, credentials_key
    from wherry.client.logins import store_credentials

    if password_stdin and not username:
        raise click.UsageError("--password-stdin needs --username")
    known = None
    if username is None:
        try:
            known = credentials_for(server)
            if known is not None and (known.password or known.identitytoken):
                click.echo(client.system.auth(known).status)
                return
        except (CredentialsError, Unauthorized) as error:  # what is kept is no good: it is asked for, and replaced
            click.echo(f"wherry: {error}", err=True)
    given = _asked(username, known, password_stdin)
    given.serveraddress = credentials_key(server)
    answer = client.system.auth(given)
    if answer.identity_token:
        given = AuthConfig(
            username=given.username, identitytoken=answer.identity_token, serveraddress=given.serveraddress
        )
    place = store_credentials(given)
    if os.path.isabs(place):
        click.echo(
            f"wherry: kept unencrypted in {place}; a credential helper (credsStore) there would encrypt", err=True
        )
    if os.environ.get("DOCKER_AUTH_CONFIG"):
        click.echo("wherry: DOCKER_AUTH_CONFIG is set, and counts more than what is kept", err=True)
    click.echo(answer.status)


def _asked(username: str | None, known: AuthConfig | None, password_stdin: bool) -> AuthConfig:
    """A name and a password, from the options, stdin or the terminal, there without echo."""
    from wherry.api.models.images import AuthConfig

    if password_stdin:
        try:
            password = sys.stdin.buffer.read().decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            password = ""
        if not password:
            fail(ValueError("there is no password on stdin"))
        return AuthConfig(username=username or "", password=password)
    if not sys.stdin.isatty():
        fail(ValueError("stdin is no terminal to ask on: give --username and --password-stdin"))
    if username is None:
        username = click.prompt("Username", default=(known.username if known else None) or None, err=True)
    return AuthConfig(username=username, password=click.prompt("Password", hide_input=True, err=True))


@click.command("logout")
@SERVER
def logout_command(server: str) -> None:
    """Remove the login to a registry, Docker Hub without SERVER, from where it is kept."""
    from wherry.api.errors import CredentialsError
    from wherry.client.logins import erase_credentials

    try:
        removed = erase_credentials(server)
    except CredentialsError as error:
        fail(error)
    click.echo(f"Removed the login to {server}" if removed else f"Not logged in to {server}")
