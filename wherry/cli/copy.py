"""``wherry cp``."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

import click

from wherry.cli.common import fail, with_client

if TYPE_CHECKING:
    from wherry.client._sync.client import Client
    from wherry.client._sync.streams import Archive

# the API has a file's mode as Go has it
DIRECTORY, SYMLINK = 1 << 31, 1 << 27

# how a path asks for a directory, and for what is in one
WANTS_DIRECTORY, WANTS_CONTENT = ("/", "/."), ("/.",)


@click.command("cp")
@click.option("-a", "--archive", "owned", is_flag=True, help="What goes into a container belongs to its user.")
@click.option("-L", "--follow-link", "follow", is_flag=True, help="Of a link SOURCE, what it leads to.")
@click.argument("source")
@click.argument("target")
@with_client
def cp_command(client: Client, source: str, target: str, owned: bool, follow: bool) -> None:
    """Copy CONTAINER:PATH to PATH, or PATH to CONTAINER:PATH; ``-`` is a tar archive on stdin or stdout."""
    from_container, to_container = _container_of(source), _container_of(target)
    if bool(from_container) == bool(to_container):
        raise click.UsageError("one of the two, and not both, is CONTAINER:PATH")
    if from_container:
        _copy_out(client, from_container, source.partition(":")[2], target, follow)
    else:
        _copy_in(client, source, to_container, target.partition(":")[2] or "/", follow, owned)


def _container_of(text: str) -> str:
    """The container of CONTAINER:PATH; nothing for a path of this machine."""
    name, separator, _ = text.partition(":")
    return name if separator and not name.startswith((".", "/")) else ""


class Place(NamedTuple):
    """A path that a copy goes to, links followed."""

    path: str
    exists: bool
    is_directory: bool


def _within(target: Place, *, as_given: str, directory: bool) -> bool:
    """Whether a copy goes into the target; otherwise it is to be the target. ``directory``: what is copied is one."""
    if target.is_directory:
        return True
    if target.exists and directory:
        fail(ValueError(f"cannot copy a directory over the file {as_given}"))
    if not target.exists and not directory and as_given.endswith(WANTS_DIRECTORY):
        fail(ValueError(f"no such directory: {as_given}"))
    return False


def _copy_out(client: Client, container: str, path: str, target: str, follow: bool) -> None:
    name = os.path.basename(_absolute(path))
    content = path.endswith(WANTS_CONTENT) or not name
    if follow:
        path = _place(client, container, path).path
    with client.containers.archive(container, path) as archive:
        if target == "-":
            archive.write_to(sys.stdout.buffer)
            return
        into = Path(os.path.realpath(target))
        if into.exists() and not into.is_dir() and not into.is_file():
            fail(ValueError(f"{target} is neither a directory nor a regular file"))
        place = Place(str(into), into.exists(), into.is_dir())
        directory = bool(archive.stat.mode & DIRECTORY)
        within = _within(place, as_given=target, directory=directory)
        if within and (content or name == archive.stat.name):
            _extract(archive, into)
            return
        if within and directory and (into / name).is_dir():  # of a link that was followed: the archive has its own name
            _extract(archive, into / name, "--strip-components=1")
            return
        beside = into if within else into.parent
        if not beside.is_dir():
            fail(ValueError(f"no such directory: {beside}"))
        with tempfile.TemporaryDirectory(prefix=".wherry-cp-", dir=beside) as scratch:
            extracted = Path(scratch, "content")
            extracted.mkdir()
            _extract(archive, extracted)
            copied = extracted if content else next(extracted.iterdir())
            copied.replace(into / name if within else into)


def _extract(archive: Archive, directory: Path, *options: str) -> None:
    """By GNU tar, which keeps hostile names and links inside the directory."""
    command = ["tar", "--extract", "--no-same-owner", "--directory", str(directory), "--file", "-", *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as tar:
        assert tar.stdin is not None
        with suppress(BrokenPipeError):
            archive.write_to(cast(BinaryIO, tar.stdin))
        tar.stdin.close()
    if tar.returncode:
        sys.exit(tar.returncode)


def _copy_in(client: Client, source: str, container: str, path: str, follow: bool, owned: bool) -> None:
    place = _place(client, container, path)
    if source == "-":
        if not place.is_directory:
            fail(ValueError(f"{container}:{path} is no directory"))
        client.containers.put_archive(container, place.path, sys.stdin.buffer, copy_uid_gid=owned or None)
        return
    local = os.path.realpath(source) if follow or source.endswith(WANTS_DIRECTORY) else source
    if not os.path.lexists(local):
        fail(ValueError(f"{source} is not there"))
    directory = os.path.isdir(local) and not os.path.islink(local)
    if _within(place, as_given=path, directory=directory):
        into = place.path
        name = "." if source.endswith(WANTS_CONTENT) else os.path.basename(os.path.abspath(source))
    else:
        into, name = os.path.split(_absolute(place.path))
    with (
        client.containers.put_archive_writer(
            container, into, no_overwrite_dir_non_dir=True, copy_uid_gid=owned or None
        ) as upload,
        tarfile.open(fileobj=cast(BinaryIO, upload), mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        tar.add(local, arcname=name)


def _absolute(path: str) -> str:
    """A path in a container without what says nothing, such as a slash at its end."""
    return os.path.normpath("/" + path.lstrip("/"))


def _place(client: Client, container: str, path: str) -> Place:
    """A path in a container, and what it leads to if it is a link. One that cannot be looked at is as if not there."""
    from wherry.api.errors import ApiError

    try:
        stat = client.containers.archive_info(container, path)
        if stat.mode & SYMLINK:
            path = os.path.join(os.path.dirname(path.rstrip("/")), stat.link_target)
            stat = client.containers.archive_info(container, path)
    except ApiError:
        return Place(path, exists=False, is_directory=False)
    return Place(path, exists=True, is_directory=bool(stat.mode & DIRECTORY))
