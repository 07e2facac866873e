"""A virtual machine under QEMU: with the kernel's help (KVM) where that works, else by translation (TCG)."""

from __future__ import annotations

import os
import selectors
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.vm.image import Image

QEMU = "qemu-system-x86_64"
PROBE_SECONDS = 8.0
_HOST_CPUS = ("host", "host,-arch-capabilities")  # the second for hosts that are virtual machines themselves


@dataclass(frozen=True)
class Accelerator:
    """How the machine is run. ``patience`` is what deadlines of tests are multiplied by."""

    name: str
    arguments: Sequence[str]
    patience: float


def translation() -> Accelerator:
    return Accelerator("TCG", ("-accel", "tcg,thread=multi", "-cpu", "max"), 6.0)


def choose(image: Image) -> Accelerator:
    """KVM if the image's kernel says something under it within seconds; what is chosen, and why, is printed."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        print(
            "vm: /dev/kvm is missing or not permitted; QEMU translates instead, which is many times slower", flush=True
        )
        return translation()
    said = ""
    for cpu in _HOST_CPUS:
        kvm = Accelerator("KVM", ("-accel", "kvm", "-cpu", cpu), 1.0)
        heard, said = _speaks(image, kvm)
        if heard:
            print("vm: KVM works", flush=True)
            return kvm
    why = f" ({said})" if said else ""
    print(f"vm: /dev/kvm is there, but no kernel boots with it{why}; QEMU translates, many times slower", flush=True)
    return translation()


def _speaks(image: Image, accelerator: Accelerator) -> tuple[bool, str]:
    heard: list[bytes] = []
    boot = [*_command(image, accelerator, memory=512, cpus=1), "-append", "console=ttyS0 panic=-1 rdinit=/nothing"]
    with subprocess.Popen(boot, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            _read(process, heard.append, PROBE_SECONDS, until=lambda: b"Linux version" in b"".join(heard))
        finally:
            process.kill()
    text = b"".join(heard)
    errors = [line for line in text.decode(errors="replace").splitlines() if "error" in line]
    return b"Linux version" in text, errors[0].strip() if errors else ""


def run(image: Image, accelerator: Accelerator, *, disk: Path, console: Path, told: Path, seconds: float) -> float:
    """Boot with a second disk that is only read, and wait until the machine goes off, ``seconds`` at most.

    What it writes to its console is shown and kept, what it tells by its second serial port goes to the file ``told``, and
    what it writes to its root is forgotten. Returns how long it took.
    """
    cpus = min(4, len(os.sched_getaffinity(0)))
    command = [
        *_command(image, accelerator, memory=3072, cpus=cpus),
        "-append",
        "console=ttyS0 root=/dev/vda rw quiet mitigations=off panic=-1 systemd.show_status=0 net.ifnames=0 "
        "rcupdate.rcu_cpu_stall_suppress=1",  # on a busy host, processors that are translated do stall
        *_disk(image.root, "snapshot=on"),
        *_disk(disk, "readonly=on"),
        *("-serial", f"file:{told}"),
        # A name server's address, and nothing behind it: the tests need no network.
        *("-netdev", "user,id=net,restrict=on", "-device", "virtio-net-pci,netdev=net"),
    ]
    start = time.monotonic()
    with console.open("wb") as file:

        def keep(data: bytes) -> None:
            file.write(data)
            sys.stdout.buffer.write(data.replace(b"\r", b""))
            sys.stdout.flush()

        environment = os.environ | {"TMPDIR": str(image.root.parent)}  # what it writes to its root may be gigabytes
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
        ) as process:
            try:
                _read(process, keep, seconds)
            finally:
                process.kill()
    return time.monotonic() - start


def _command(image: Image, accelerator: Accelerator, *, memory: int, cpus: int) -> list[str]:
    return [
        shutil.which(QEMU) or QEMU,
        *accelerator.arguments,
        *("-machine", "q35", "-smp", str(cpus), "-m", str(memory)),
        *("-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot"),
        *("-device", "virtio-rng-pci"),
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd)),
    ]


def _disk(path: Path, options: str) -> list[str]:
    return ["-drive", f"file={path},if=virtio,format=raw,{options}"]


def _read(
    process: subprocess.Popen[bytes],
    take: Callable[[bytes], object],
    seconds: float,
    until: Callable[[], bool] = lambda: False,
) -> None:
    """Read its output till the end, the deadline, or ``until``."""
    assert process.stdout is not None
    end = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not until() and (left := end - time.monotonic()) > 0:
            if selector.select(left):
                data = os.read(process.stdout.fileno(), 1 << 16)
                if not data:
                    process.wait()
                    return
                take(data)
