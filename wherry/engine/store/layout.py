"""Where the engine keeps things: every path below the two roots is made here and nowhere else.

The data root holds what must outlive a reboot, the exec root what only lives while the kernel does.
"""

from __future__ import annotations

import hashlib
from pathlib import Path


class Layout:
    """The paths of one engine.

    ``tag`` is the engine's 8-hex id, derived from its data root: the name of every kernel object carries it, so that
    engines with different roots tell their own from others'.
    """

    def __init__(self, data_root: Path, exec_root: Path) -> None:
        self.data_root = data_root.absolute()
        self.exec_root = exec_root.absolute()
        self.tag = hashlib.sha256(str(self.data_root).encode()).hexdigest()[:8]

    # data root

    @property
    def database(self) -> Path:
        return self.data_root / "state.db"

    @property
    def lock(self) -> Path:
        return self.data_root / "lock"

    @property
    def containers(self) -> Path:
        return self.data_root / "containers"

    def container(self, container_id: str) -> Path:
        """``container.json``, the log, ``hosts``, ``hostname``, ``resolv.conf``."""
        return self.containers / container_id

    def log(self, container_id: str) -> Path:
        """The container's log in the monitor's format; rotated files have ``.1``, ``.2`` … appended."""
        return self.container(container_id) / f"{container_id}-json.log"

    @property
    def layers(self) -> Path:
        """One directory an unpacked image layer: ``layers/<chain id>/diff``."""
        return self.data_root / "layers"

    @property
    def rootfs(self) -> Path:
        """One directory a container: ``upper``, ``work``, ``init`` and the mount point ``merged``."""
        return self.data_root / "rootfs"

    @property
    def blobs(self) -> Path:
        """Content by digest: ``blobs/sha256/<hex>``."""
        return self.data_root / "blobs"

    @property
    def partial(self) -> Path:
        """Blobs that have not come whole, ``<algorithm>-<hex>``."""
        return self.data_root / "partial"

    @property
    def volumes(self) -> Path:
        return self.data_root / "volumes"

    @property
    def trash(self) -> Path:
        """What is no longer owned and only waits to be deleted; on the same filesystem, so that a rename moves it."""
        return self.data_root / "trash"

    @property
    def lost_and_found(self) -> Path:
        return self.data_root / "lost+found"

    @property
    def tmp(self) -> Path:
        """Work under way; emptied at every start of the engine."""
        return self.data_root / "tmp"

    # exec root

    @property
    def socket(self) -> Path:
        return self.exec_root / "wherry.sock"

    @property
    def exec_lock(self) -> Path:
        return self.exec_root / "lock"

    @property
    def bundles(self) -> Path:
        return self.exec_root / "bundles"

    def bundle(self, container_id: str) -> Path:
        """The OCI bundle of the container's present run: ``config.json``, ``pid``, ``attach``, ``ctl``, ``oom``."""
        return self.bundles / container_id

    @property
    def exits(self) -> Path:
        """Where monitors leave exit codes, one file a container."""
        return self.exec_root / "exits"

    @property
    def runtime_root(self) -> Path:
        """The OCI runtime's own ``--root``."""
        return self.exec_root / "runtime"

    @property
    def netns(self) -> Path:
        """Mount points of network namespaces, one file a container."""
        return self.exec_root / "netns"

    @property
    def exec_entries(self) -> list[str]:
        """The names of all that the engine itself keeps in the exec root."""
        paths = (self.bundles, self.exits, self.runtime_root, self.netns, self.exec_lock, self.socket)
        return [path.name for path in paths]

    def make(self) -> None:
        """Create what is missing below both roots."""
        for path in (
            self.containers,
            self.layers,
            self.rootfs,
            self.blobs / "sha256",
            self.partial,
            self.volumes,
            self.trash,
            self.tmp,
            self.bundles,
            self.exits,
            self.runtime_root,
            self.netns,
        ):
            path.mkdir(parents=True, exist_ok=True, mode=0o711)
        # Layers hold setuid programs at guessable paths: nobody but root may look into the data root. The socket below
        # the exec root is for whoever its own mode lets in.
        self.data_root.chmod(0o710)
        self.exec_root.chmod(0o711)
