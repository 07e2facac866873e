"""A host of its own with several engines on it at once: network, mount and process-id namespaces, and a machine outside."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.make_images import busybox_archive
from tests.support.engines import (
    OWN_NAMESPACES,
    Engine,
    _children,
    _remove_cgroups,
    _wait_for_ping,
    dockerd_command,
    wherry_command,
)

HOST, OUTSIDE = "192.0.2.2", "192.0.2.9"
_SETUP = f"""
echo 0 > /proc/sys/net/ipv4/ip_forward
ip link set lo up
ip link add ext type veth peer name ext-peer
ip addr add {HOST}/24 dev ext
ip link set ext up
ip route add default via {OUTSIDE}
touch "$1/outside"
unshare --net="$1/outside" true
ip link set ext-peer netns "$1/outside"
nsenter --net="$1/outside" sh -c 'ip link set lo up; ip addr add {OUTSIDE}/24 dev ext-peer; ip link set ext-peer up'
echo ready
exec sleep infinity
"""


class SharedHost:
    def __init__(self, root: Path, holder: subprocess.Popen[bytes]) -> None:
        self.root = root
        self._holder = holder
        self._init = _children(holder.pid)[0]
        self.netns = f"/proc/{self._init}/ns/net"
        self._cgroup = f"/wherry-tests-shared-{os.getpid()}"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def sh(self, command: str, *, outside: bool = False) -> str:
        """What a command prints on this host, or on the machine outside."""
        words = ["nsenter", f"--target={self._init}", "--net", "--mount", "--pid", "sh", "-c", command]
        if outside:
            words[5:5] = ["nsenter", f"--net={self.root}/outside"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def tables(self) -> dict[str, str]:
        """The nftables rules by table, without counters."""
        text = self.sh("nft --stateless list ruleset")
        found = re.findall(r"^table (\S+ \S+) \{\n(.*?)^\}", text, re.M | re.S)
        return dict(found)

    def engine(self, name: str, *, dockerd: bool = False) -> Engine:
        """Start an engine, Wherry's if not said otherwise, and load busybox."""
        root = self.root / name
        root.mkdir()
        command = dockerd_command(root, self._cgroup) if dockerd else wherry_command(root, "--stop-containers")
        enter = ["nsenter", f"--target={self._init}", "--net", "--mount", "--pid", "--"]
        with (root / "engine.log").open("wb") as log:
            process = subprocess.Popen(
                [*enter, *command],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=os.environ | {"PATH": "/usr/local/sbin:/usr/sbin:/sbin:" + os.environ["PATH"]},
            )
        self._processes[name] = process
        _wait_for_ping(process, root)
        engine = Engine("dockerd" if dockerd else "wherry", root, process, "1.41" if dockerd else "1.43", self.netns)
        engine.load(busybox_archive())
        return engine

    def stop(self, engine: Engine) -> None:
        """End an engine, with its containers."""
        for pid in _children(engine.process.pid):
            os.kill(pid, signal.SIGTERM)
        engine.process.wait(30)

    def close(self) -> None:
        for process in self._processes.values():
            if process.poll() is None:
                for pid in _children(process.pid):
                    os.kill(pid, signal.SIGTERM)
        for process in self._processes.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._holder.kill()
        self._holder.wait()
        _remove_cgroups(self._cgroup)


@contextmanager
def shared_host(root: Path) -> Iterator[SharedHost]:
    """The namespaces end with the block, and everything in them."""
    holder = subprocess.Popen([*OWN_NAMESPACES, "sh", "-ec", _SETUP, "sh", str(root)], stdout=subprocess.PIPE)
    assert holder.stdout
    assert holder.stdout.readline() == b"ready\n"
    host = SharedHost(root, holder)
    try:
        yield host
    finally:
        host.close()
        holder.stdout.close()
