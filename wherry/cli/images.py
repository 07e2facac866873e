"""Commands on images: each by itself, and together as ``wherry image``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.common import age_text, each, fail, filters_from, show_all, size_text, table, with_client

if TYPE_CHECKING:
    from wherry.api.models.images import ImageSummary
    from wherry.client._sync.client import Client

FILTERS = click.option("-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE")
QUIET = click.option("-q", "--quiet", is_flag=True, help="No progress.")
CHANGES = click.option("-c", "--change", "changes", multiple=True, metavar="INSTRUCTION", help='Such as CMD ["sh"].')
MESSAGE = click.option("-m", "--message", metavar="TEXT", help="A comment.")


def short(id: str, whole: bool = False) -> str:
    return id if whole else id.removeprefix("sha256:")[:12]


@click.command("images")
@click.option("-a", "--all", "everything", is_flag=True, help="Also those that others were made from.")
@click.option("-q", "--quiet", is_flag=True, help="Ids alone.")
@click.option("--digests", is_flag=True, help="Names by digest too.")
@click.option("--no-trunc", "whole", is_flag=True, help="Whole ids.")
@FILTERS
@click.argument("reference", required=False)
@with_client
def images_command(
    client: Client,
    everything: bool,
    quiet: bool,
    digests: bool,
    whole: bool,
    filters: tuple[str, ...],
    reference: str | None,
) -> None:
    """List images, all or those whose name fits REFERENCE. Filters: before, dangling, label, reference, since, until."""
    chosen = filters_from(filters) or {}
    if reference:
        chosen.setdefault("reference", []).append(reference)
    images = client.images.list(all=everything or None, filters=chosen or None)
    if quiet:
        for image in images:
            click.echo(short(image.id, whole))
        return
    rows = [
        (name, short(image.id, whole), age_text(image.created), size_text(image.size))
        for image in images
        for name in _names(image, digests)
    ]
    table(("IMAGE", "ID", "CREATED", "SIZE"), rows)


def _names(image: ImageSummary, digests: bool) -> list[str]:
    tags = [tag for tag in image.repo_tags or [] if tag != "<none>:<none>"]
    by_digest = [name for name in image.repo_digests or [] if name != "<none>@<none>"]
    return [*tags, *(by_digest if digests or not tags else [])] or ["<none>"]


@click.command("pull")
@click.option("-a", "--all-tags", is_flag=True, help="All tags of the repository.")
@click.option("--platform", metavar="OS[/ARCH[/VARIANT]]", help="Which of several to take.")
@QUIET
@click.argument("image")
@with_client
def pull_command(client: Client, image: str, all_tags: bool, platform: str | None, quiet: bool) -> None:
    """Fetch IMAGE from its registry, with the docker configuration's credentials; latest without a tag or digest."""
    from wherry.cli.progress import follow
    from wherry.client.references import split_reference

    repository, tag = split_reference(image)
    if all_tags and image != repository:
        raise click.UsageError(f"{image} names a tag: with --all-tags give the name alone")
    with client.images.create(from_image=repository, tag=None if all_tags else tag, platform=platform) as progress:
        follow(progress, quiet=quiet)
    click.echo(image)


@click.command("push")
@click.option("-a", "--all-tags", is_flag=True, help="All tags of the repository.")
@QUIET
@click.argument("image")
@with_client
def push_command(client: Client, image: str, all_tags: bool, quiet: bool) -> None:
    """Send IMAGE to its registry, with the docker configuration's credentials; latest without a tag."""
    from wherry.cli.progress import follow
    from wherry.client.references import split_reference

    if "@" in image:
        raise click.UsageError(f"{image} is a name by digest: give a tag")
    repository, tag = split_reference(image)
    if all_tags and image != repository:
        raise click.UsageError(f"{image} names a tag: with --all-tags give the name alone")
    with client.images.push_progress(repository, tag=None if all_tags else tag) as progress:
        follow(progress, quiet=quiet)
    click.echo(image)


@click.command("load")
@click.option(
    "-i", "--input", "source", type=click.Path(exists=True, dir_okay=False), help="The archive; stdin if not given."
)
@QUIET
@with_client
def load_command(client: Client, source: str | None, quiet: bool) -> None:
    """Load images from a docker archive or an OCI layout; print their names."""
    from wherry.cli.progress import follow
    from wherry.client.references import loaded_names

    if source is None and sys.stdin.isatty():
        raise click.UsageError("an archive does not come from a terminal: give -i FILE, or redirect stdin")
    with ExitStack() as stack:
        archive: Any = stack.enter_context(Path(source).open("rb")) if source is not None else sys.stdin.buffer
        progress = stack.enter_context(client.images.load_progress(archive, quiet=quiet))
        said = list[Any]()
        follow(_noting(progress, said), quiet=quiet)
    for name in loaded_names(said):
        click.echo(name)


def _noting(progress: Any, said: list[Any]) -> Any:
    """The messages of layers; what else is said is noted."""
    for message in progress:
        if message.stream:
            said += message.stream.splitlines()
        else:
            yield message


@click.command("save")
@click.option("-o", "--output", "target", type=click.Path(dir_okay=False), help="The archive; stdout if not given.")
@click.argument("names", nargs=-1, required=True)
@with_client
def save_command(client: Client, names: tuple[str, ...], target: str | None) -> None:
    """Write images to an archive, a docker archive and OCI layout at once."""
    if target is None and sys.stdout.isatty():
        raise click.UsageError("an archive is nothing for a terminal: give -o FILE, or redirect stdout")
    with client.images.get_all(names) as archive:
        archive.write_to(target if target is not None else sys.stdout.buffer)


@click.command("import")
@CHANGES
@MESSAGE
@click.option("--platform", metavar="OS[/ARCH[/VARIANT]]", help="What it is for.")
@click.argument("source", metavar="FILE | URL | -")
@click.argument("name", metavar="[NAME[:TAG]]", required=False)
@with_client
def import_command(
    client: Client, source: str, name: str | None, changes: Sequence[str], message: str | None, platform: str | None
) -> None:
    """Make an image of one layer from a tar archive of a filesystem, compressed or not; print its id."""
    with ExitStack() as stack:
        given: Any = sys.stdin.buffer
        if source.startswith(("http://", "https://")):
            given = source
        elif source != "-":
            try:
                given = stack.enter_context(Path(source).open("rb"))
            except OSError as error:
                fail(error)
        click.echo(
            client.images.import_(
                given, repo=name, changes=list(changes) or None, message=message, platform=platform or None
            )
        )


@click.command("commit")
@CHANGES
@MESSAGE
@click.option("-a", "--author", metavar="NAME")
@click.option("-p/-P", "--pause/--no-pause", default=True, help="Whether the container stands still meanwhile.")
@click.argument("container")
@click.argument("name", metavar="[NAME[:TAG]]", required=False)
@with_client
def commit_command(
    client: Client,
    container: str,
    name: str | None,
    changes: Sequence[str],
    message: str | None,
    author: str | None,
    pause: bool,
) -> None:
    """Make an image of a container's files; print its id."""
    made = client.images.commit(
        container, repo=name, comment=message, author=author, pause=pause, changes=list(changes) or None
    )
    click.echo(made.id)


@click.command("history")
@click.option("-q", "--quiet", is_flag=True, help="Ids alone.")
@click.option("--no-trunc", "whole", is_flag=True, help="Whole ids and commands.")
@click.argument("image")
@with_client
def history_command(client: Client, image: str, quiet: bool, whole: bool) -> None:
    """Show how IMAGE was made, the newest step first."""
    steps = client.images.history(image)
    if quiet:
        for step in steps:
            click.echo(short(step.id, whole))
        return
    rows = []
    for step in steps:
        made_by = " ".join(step.created_by.split())
        made_by = made_by if whole or len(made_by) <= 45 else f"{made_by[:44]}…"
        rows.append((short(step.id, whole), age_text(step.created), made_by, size_text(step.size), step.comment))
    table(("ID", "CREATED", "BY", "SIZE", "COMMENT"), rows)


@click.command("tag")
@click.argument("image")
@click.argument("name")
@with_client
def tag_command(client: Client, image: str, name: str) -> None:
    """Give IMAGE the name NAME[:TAG] too."""
    repo, separator, tag = name.rpartition(":")
    if not separator or "/" in tag:
        repo, tag = name, ""
    client.images.tag(image, repo, tag or None)


@click.command("rmi")
@click.option("-f", "--force", is_flag=True, help="Also those of stopped containers, and with several names.")
@click.option("--no-prune", is_flag=True, help="Leave the nameless ones that they were made from.")
@click.argument("images", nargs=-1, required=True)
@with_client
def rmi_command(client: Client, images: tuple[str, ...], force: bool, no_prune: bool) -> None:
    """Remove images, or names of theirs."""

    def remove(name: str) -> None:
        for item in client.images.delete(name, force=force or None, noprune=no_prune or None):
            click.echo(f"untagged {item.untagged}" if item.untagged else f"deleted {item.deleted}")

    each(images, remove, show=False, may_be_gone=force)


@click.command("search")
@click.option("--limit", type=click.IntRange(1, 100))
@FILTERS
@click.argument("term")
@with_client
def search_command(client: Client, term: str, limit: int | None, filters: tuple[str, ...]) -> None:
    """Look for repositories on Docker Hub, or in HOST with HOST/TERM. Filters: is-official, stars."""
    found = client.images.search(term, limit=limit, filters=filters_from(filters))
    rows = [
        (item.name, str(item.star_count), "yes" if item.is_official else "", " ".join(item.description.split())[:60])
        for item in found
    ]
    table(("NAME", "STARS", "OFFICIAL", "DESCRIPTION"), rows)


@click.group("image")
def image_command() -> None:
    """List, fetch, send, show and remove images."""


@image_command.command("inspect")
@click.argument("names", nargs=-1, required=True)
@with_client
def inspect_command(client: Client, names: tuple[str, ...]) -> None:
    """Show all about images, as the API's JSON."""
    show_all(names, client.images.inspect)


@image_command.command("prune")
@click.option("-a", "--all", "everything", is_flag=True, help="Also those with names that no container uses.")
@FILTERS
@with_client
def prune_command(client: Client, everything: bool, filters: tuple[str, ...]) -> None:
    """Remove images without a name that no container uses. Filters: label, label!, until."""
    chosen = filters_from(filters) or {}
    if everything:
        chosen["dangling"] = ["false"]
    pruned = client.images.prune(filters=chosen or None)
    for item in pruned.images_deleted or []:
        click.echo(f"untagged {item.untagged}" if item.untagged else f"deleted {item.deleted}")
    click.echo(f"{size_text(pruned.space_reclaimed)} are free again", err=True)


def _gather() -> None:
    from wherry.cli.build import build_command

    image_command.add_command(images_command, "ls")
    image_command.add_command(rmi_command, "rm")
    image_command.add_command(build_command)
    for command in (
        history_command,
        import_command,
        load_command,
        pull_command,
        push_command,
        save_command,
        search_command,
        tag_command,
    ):
        image_command.add_command(command)


_gather()
