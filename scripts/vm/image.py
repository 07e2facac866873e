"""The virtual machine's root: a Debian with systemd and what Wherry needs, as one file, made once and kept."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = REPOSITORY / ".setup" / "vm"
SUITES = ("bookworm", "trixie")
PLACE = "srv/wherry"  # of the project inside

PACKAGES = (
    "systemd systemd-sysv systemd-resolved dbus udev kmod initramfs-tools zstd apparmor "
    "python3 python3-venv ca-certificates make git curl crun runc conmon nftables libnftables1 iptables iproute2 busybox-static "
    "procps tar xz-utils util-linux openssl tini skopeo docker-registry docker.io e2fsprogs"
).split()
KERNEL = "linux-image-cloud-amd64"
DRIVERS = ("virtio_pci", "virtio_blk", "ext4")  # what finds the root

# Runs at every boot: takes the project from the second disk and hands over to it.
UNIT = f"""\
[Unit]
Description=Tests of Wherry
After=multi-user.target network-online.target
Wants=network-online.target

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'tar -xf /dev/vdb -C /{PLACE} && cd /{PLACE} && exec .venv/bin/python -m scripts.vm.guest'
ExecStopPost=-/bin/systemctl poweroff --no-block
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
TimeoutStartSec=infinity
TasksMax=infinity
LimitNOFILE=1048576

[Install]
WantedBy=default.target
"""
NETWORK = """\
[Match]
Name=eth0

[Network]
Address=10.0.2.15/24
Gateway=10.0.2.2
DNS=10.0.2.3
LinkLocalAddressing=no
IPv6AcceptRA=no
"""
TRUSTED = "etc/ssl/certs/ca-certificates.crt"
FSTAB = "/dev/vda / ext4 rw,relatime 0 1\n"


@dataclass(frozen=True)
class Image:
    """The files of a machine that boots: its root, a kernel, and the initial file system of that kernel."""

    root: Path
    kernel: Path
    initrd: Path


def image(suite: str) -> Image:
    """The image of a Debian release, made if it is not there or no longer fits. Needs root and Debian's servers.

    Raises ``subprocess.CalledProcessError``.
    """
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    key = hashlib.sha256("\n".join([suite, *PACKAGES, KERNEL, *DRIVERS, UNIT, NETWORK, *wanted]).encode()).hexdigest()[
        :16
    ]
    place = CACHE / f"{suite}-{key}"
    made = Image(place / "root.ext4", place / "vmlinuz", place / "initrd.img")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run may be making it
        if not made.root.exists():
            for old in CACHE.glob(f"{suite}-*"):
                shutil.rmtree(old)
            _make(suite, made)
    return made


def _make(suite: str, made: Image) -> None:
    made.root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="wherry-vm-") as scratch:
        root = Path(scratch, "root")
        print(f"vm: making a Debian {suite} with systemd (some minutes, once)", flush=True)
        subprocess.run(
            [
                "mmdebstrap",
                "--quiet",
                "--mode=root",
                "--variant=minbase",
                f"--include={','.join([*PACKAGES, KERNEL])}",
                suite,
                root,
                "http://deb.debian.org/debian",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        _furnish(root)
        _python(root)
        for name, target in (("vmlinuz", made.kernel), ("initrd.img", made.initrd)):
            shutil.copyfile(next((root / "boot").glob(f"{name}-*")), target)
        unfinished = made.root.with_suffix(".new")
        subprocess.run(["truncate", "--size=12G", unfinished], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "root_owner=0:0", "-d", root, unfinished], check=True)
        unfinished.rename(made.root)


def _furnish(root: Path) -> None:
    """Settings of the machine: what is loaded at boot, its name, its network, the unit that runs the tests."""
    (root / "etc/initramfs-tools/modules").write_text("".join(f"{name}\n" for name in DRIVERS))
    settings = root / "etc/initramfs-tools/initramfs.conf"
    settings.write_text(settings.read_text().replace("MODULES=most", "MODULES=list"))
    subprocess.run(["chroot", root, "update-initramfs", "-u"], check=True, stdout=subprocess.DEVNULL)
    (root / "etc/hostname").write_text("wherry-vm\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n127.0.1.1 wherry-vm\n::1 localhost\n")
    (root / "etc/fstab").write_text(FSTAB)
    (root / "etc/systemd/network/80-any.network").write_text(NETWORK)
    (root / "etc/systemd/system/vm-test.service").write_text(UNIT)
    systemctl = ["systemctl", f"--root={root}"]
    subprocess.run(
        [*systemctl, "--quiet", "enable", "vm-test", "systemd-networkd", "systemd-resolved", "nftables"], check=True
    )
    # The console is the tests' own; /tmp is on the disk as on a Debian before 13, so that the tests need less memory.
    masked = [
        "serial-getty@ttyS0.service",
        "getty@tty1.service",
        "tmp.mount",
        "apt-daily.timer",
        "apt-daily-upgrade.timer",
        "docker-registry.service",
        "docker.service",
        "docker.socket",
        "containerd.service",
    ]
    subprocess.run([*systemctl, "--quiet", "mask", *masked], check=True)


def _python(root: Path) -> None:
    """The virtual environment with all that Wherry and its tests want; Wherry itself is found in the directory."""
    place = root / PLACE
    (place / "wherry").mkdir(parents=True)
    (place / "wherry/__init__.py").touch()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(REPOSITORY / name, place / name)
    subprocess.run(["chroot", root, "python3", "-m", "venv", f"/{PLACE}/.venv"], check=True)
    # For now as this machine has them: the name servers, and the authorities that it trusts.
    theirs = [(root / "etc/resolv.conf", Path("/etc/resolv.conf")), (root / TRUSTED, Path("/", TRUSTED))]
    for path, ours in theirs:
        path.rename(f"{path}.kept")
        shutil.copy(ours, path)
    try:
        pip = [f"/{PLACE}/.venv/bin/pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
        pip += ["--config-settings", "editable_mode=compat"]  # as scripts/lib.sh does
        environment = os.environ | {"SSL_CERT_FILE": f"/{TRUSTED}", "PIP_CERT": f"/{TRUSTED}"}
        environment.pop("PIP_FIND_LINKS", None)  # a directory of this machine's
        subprocess.run(["chroot", root, *pip, "-e", f"/{PLACE}[test]"], check=True, env=environment)
    finally:
        for path, _ in theirs:
            Path(f"{path}.kept").rename(path)
