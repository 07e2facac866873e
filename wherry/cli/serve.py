"""``wherry serve``: an engine as a daemon, with dockerd's flag names."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import click

DATA_ROOT = "/var/lib/wherry"
EXEC_ROOT = "/run/wherry"


def tls_context(ca: str, certificate: str, key: str) -> ssl.SSLContext:
    """A server's context that asks every client for a certificate signed by ``ca``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def service_manager() -> Callable[[str], None]:
    """How to tell systemd of a change of state (sd_notify(3)); does nothing where no service manager asks.

    The variable that names the socket goes: the runtimes would hand it on into containers.
    """
    address = os.environ.pop("NOTIFY_SOCKET", "")

    def tell(state: str) -> None:
        if not address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel, suppress(OSError):
            channel.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)

    return tell


@click.command("serve")
@click.option("-H", "--host", "hosts", multiple=True, metavar="ADDRESS", help="unix://PATH or tcp://HOST:PORT; several")
@click.option("--data-root", default=DATA_ROOT, show_default=True, type=click.Path(path_type=Path))
@click.option(
    "--exec-root",
    type=click.Path(path_type=Path),
    help=f"{EXEC_ROOT}; with another data root than the default, one of its own beside it.",
)
@click.option("--stop-containers", is_flag=True, help="Stop and remove all containers at the end; else they run on.")
@click.option(
    "--runtime", default="", help="The OCI runtime to use: crun, runc or a path; the best there is by default."
)
@click.option("--registry-mirror", "mirrors", multiple=True, metavar="URL", help="Pull Docker Hub's images from here.")
@click.option(
    "--insecure-registry",
    "insecure_registries",
    multiple=True,
    metavar="HOST[:PORT]",
    help="A registry, or a network of them, whose certificate is not checked and that needs no TLS; several.",
)
@click.option("--fixed-cidr-v6", default="", metavar="CIDR", help="Give the default bridge IPv6, with this subnet.")
@click.option("--insecure", is_flag=True, help="Serve TCP without TLS: whoever reaches the port is root here.")
@click.option("--tlscacert", type=click.Path(exists=True), help="Trust clients with certificates signed by this one.")
@click.option("--tlscert", type=click.Path(exists=True))
@click.option("--tlskey", type=click.Path(exists=True))
@click.option(
    "--log-level", default="warning", type=click.Choice(["debug", "info", "warning", "error"]), show_default=True
)
def serve_command(
    hosts: tuple[str, ...],
    data_root: Path,
    exec_root: Path | None,
    stop_containers: bool,
    runtime: str,
    mirrors: tuple[str, ...],
    insecure_registries: tuple[str, ...],
    fixed_cidr_v6: str,
    insecure: bool,
    tlscacert: str | None,
    tlscert: str | None,
    tlskey: str | None,
    log_level: str,
) -> None:
    """Run an engine until SIGTERM. Its containers run on after it, and the next one finds them again."""
    from wherry.embed import roots, serve

    tell_systemd = service_manager()
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    data_root, exec_root = roots(data_root, exec_root)
    addresses = hosts or (f"unix://{exec_root / 'wherry.sock'}",)
    tls = None
    if tlscacert or tlscert or tlskey:
        if not (tlscacert and tlscert and tlskey):
            raise click.UsageError("TLS needs all three: --tlscacert, --tlscert and --tlskey")
        tls = tls_context(tlscacert, tlscert, tlskey)

    def say_ready() -> None:
        click.echo(f"wherry serves on {', '.join(addresses)}", err=True)
        tell_systemd("READY=1")

    status = serve(
        list(addresses),
        data_root,
        exec_root,
        stop_containers=stop_containers,
        insecure=insecure,
        tls=tls,
        runtime=runtime,
        registry_mirrors=mirrors,
        insecure_registries=insecure_registries,
        fixed_cidr_v6=fixed_cidr_v6,
        ready=say_ready,
    )
    sys.exit(status)
