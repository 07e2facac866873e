"""The group of all commands. A command's module is imported when the command is asked for."""

from __future__ import annotations

import importlib
from typing import Any

import click

from wherry import __version__

COMMANDS = {
    "serve": ("wherry.cli.serve", "Run an engine."),
    "doctor": ("wherry.cli.doctor", "What this machine gives, and what to install."),
    "fsck": ("wherry.cli.fsck", "Rebuild an engine's database from its data root."),
    "run": ("wherry.cli.run", "Run a command in a new container."),
    "create": ("wherry.cli.run", "Make a container without starting it."),
    "exec": ("wherry.cli.exec", "Run a command in a running container."),
    "ps": ("wherry.cli.containers", "List containers."),
    "start": ("wherry.cli.containers", "Start containers."),
    "stop": ("wherry.cli.containers", "Stop containers."),
    "restart": ("wherry.cli.containers", "Restart containers."),
    "kill": ("wherry.cli.containers", "Send a signal to containers."),
    "rm": ("wherry.cli.containers", "Remove containers."),
    "wait": ("wherry.cli.containers", "Wait until containers stop; print their exit codes."),
    "logs": ("wherry.cli.output", "Show what a container wrote."),
    "inspect": ("wherry.cli.output", "Show all there is to know of a container or an image."),
    "rename": ("wherry.cli.containers", "Give a container another name."),
    "stats": ("wherry.cli.output", "Show what containers use."),
    "attach": ("wherry.cli.attach", "Take part in what a container reads and writes."),
    "top": ("wherry.cli.output", "Show the processes of a container."),
    "diff": ("wherry.cli.output", "Show which files differ from the image's."),
    "port": ("wherry.cli.output", "Show where ports are published."),
    "export": ("wherry.cli.output", "Write all files of a container as an archive."),
    "pause": ("wherry.cli.containers", "Freeze containers."),
    "unpause": ("wherry.cli.containers", "Let frozen containers go on."),
    "update": ("wherry.cli.containers", "Change limits and the restart policy."),
    "container": ("wherry.cli.container", "All commands on containers, list and prune among them."),
    "cp": ("wherry.cli.copy", "Copy files between a container and this machine."),
    "build": ("wherry.cli.build", "Build an image from a Dockerfile."),
    "images": ("wherry.cli.images", "List images."),
    "pull": ("wherry.cli.images", "Fetch an image from its registry."),
    "push": ("wherry.cli.images", "Send an image to its registry."),
    "login": ("wherry.cli.login", "Log in to a registry."),
    "logout": ("wherry.cli.login", "Remove the login to a registry."),
    "search": ("wherry.cli.images", "Look for images in a registry."),
    "load": ("wherry.cli.images", "Load images from an archive."),
    "save": ("wherry.cli.images", "Write images to an archive."),
    "import": ("wherry.cli.images", "Make an image from an archive of a filesystem."),
    "commit": ("wherry.cli.images", "Make an image of a container's files."),
    "history": ("wherry.cli.images", "Show how an image was made."),
    "tag": ("wherry.cli.images", "Give an image another name."),
    "rmi": ("wherry.cli.images", "Remove images."),
    "image": ("wherry.cli.images", "List, fetch, send, show and remove images."),
    "network": ("wherry.cli.networks", "Make, list, show and remove networks, and put containers into them."),
    "volume": ("wherry.cli.volumes", "Make, list, show and remove volumes."),
    "system": ("wherry.cli.usage", "What uses space, remove what nothing uses, and more of the engine."),
    "version": ("wherry.cli.system", "The versions of the client and the engine."),
    "info": ("wherry.cli.system", "What the engine says of itself."),
    "events": ("wherry.cli.system", "Follow what happens."),
}


class Commands(click.Group):
    """A group that knows its commands by name only."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        command = getattr(module, f"{cmd_name}_command")
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(130)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-H", "--host", metavar="ADDRESS", help="The engine: unix://…, tcp://…, ssh://…, embedded:")
@click.version_option(__version__, prog_name="wherry")
@click.pass_context
def wherry(ctx: click.Context, host: str | None) -> None:
    """Containers from Python: an engine that serves the Docker Engine API, and a client for any engine that speaks it."""
    ctx.obj = host
