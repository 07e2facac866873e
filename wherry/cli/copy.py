"""``wherry cp``."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import click

from wherry.cli.common import fail, with_client

if TYPE_CHECKING:
    from wherry.client._sync.client import Client
    from wherry.client._sync.streams import Archive


@click.command("cp")
@click.argument("source")
@click.argument("target")
@with_client
def cp_command(client: Client, source: str, target: str) -> None:
    """Copy CONTAINER:PATH to PATH, or PATH to CONTAINER:PATH; ``-`` is a tar archive on stdin or stdout."""
    from_container, to_container = _container_of(source), _container_of(target)
    if bool(from_container) == bool(to_container):
        raise click.UsageError("one of the two, and not both, is CONTAINER:PATH")
    if from_container:
        _copy_out(client, from_container, source.partition(":")[2], target)
    else:
        _copy_in(client, source, to_container, target.partition(":")[2])


def _container_of(text: str) -> str:
    """The container of CONTAINER:PATH; nothing for a path of this machine."""
    name, separator, _ = text.partition(":")
    return name if separator and not name.startswith((".", "/")) else ""


def _copy_out(client: Client, container: str, path: str, target: str) -> None:
    with client.containers.archive(container, path) as archive:
        if target == "-":
            archive.write_to(sys.stdout.buffer)
            return
        into = Path(target)
        if into.is_dir():
            _extract(archive, into)
            return
        # A target that is not there names the copy itself, as cp has it.
        if not into.parent.is_dir():
            fail(FileNotFoundError(f"{into.parent} is no directory"))
        with tempfile.TemporaryDirectory(prefix=".wherry-cp-", dir=into.parent) as scratch:
            content = Path(scratch, "content")
            content.mkdir()
            _extract(archive, content)
            copied = content if path.endswith("/.") else next(content.iterdir())
            copied.replace(into)


def _extract(archive: Archive, directory: Path) -> None:
    """By GNU tar, which keeps hostile names and links inside the directory."""
    command = ["tar", "--extract", "--no-same-owner", "--directory", str(directory), "--file", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as tar:
        assert tar.stdin is not None
        with suppress(BrokenPipeError):
            archive.write_to(cast(BinaryIO, tar.stdin))
        tar.stdin.close()
    if tar.returncode:
        sys.exit(tar.returncode)


def _copy_in(client: Client, source: str, container: str, path: str) -> None:
    if source == "-":
        client.containers.put_archive(container, path, sys.stdin.buffer)
        return
    local = Path(source)
    if not local.exists():
        fail(FileNotFoundError(f"{source} is not there"))
    directory, name = path, local.resolve().name
    if source.endswith("/."):
        name = "."
    elif not _is_directory(client, container, path):
        directory, name = os.path.split(path.rstrip("/"))
    with (
        client.containers.put_archive_writer(container, directory or "/", no_overwrite_dir_non_dir=True) as upload,
        tarfile.open(fileobj=cast(BinaryIO, upload), mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        tar.add(local, arcname=name)


def _is_directory(client: Client, container: str, path: str) -> bool:
    from wherry.api.errors import NotFound

    try:
        stat = client.containers.archive_info(container, path)
        return bool(stat.mode & 1 << 31) or _leads_to_directory(client, container, stat.link_target)
    except NotFound:
        return path.endswith("/")


def _leads_to_directory(client: Client, container: str, target: str) -> bool:
    return bool(target) and bool(client.containers.archive_info(container, target).mode & 1 << 31)
