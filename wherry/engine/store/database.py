"""The engine's memory: SQLite, one row an object.

A row is (kind, id, name, JSON). Names are unique within a kind, which is what makes a reservation of a container's name
atomic. WAL with ``synchronous=NORMAL``: a commit costs some 30 µs, survives a kill of the process at any instant, and
only a power cut may lose the last few. One connection, used on the engine's loop alone. What waits for the disk, the
checkpoint that moves the write-ahead log into the database, is done by a thread with a connection of its own.

A full disk is often the work of a container, and ends when that is stopped and removed, which must be written too. So
some space is set aside in a file, ``state.db-reserve``, and given up when there is hardly any other.
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    kind TEXT NOT NULL,
    id   TEXT NOT NULL,
    name TEXT,
    body BLOB NOT NULL,
    PRIMARY KEY (kind, id)
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS objects_name ON objects (kind, name) WHERE name IS NOT NULL;
"""
_VERSION = 1

CHECKPOINT_EVERY = 500
"""Changes between checkpoints: some megabytes of log."""

RESERVE = 4 << 20
"""Bytes set aside: for the removal of hundreds of containers."""

LOW = 1 << 20
"""Bytes left on the disk below which the reserve is given up."""

_DISK_ERRORS = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_READONLY: errno.EROFS,
}


class NameTaken(Exception):
    """Another object of the same kind has the name; ``owner`` is its id."""

    def __init__(self, owner: str) -> None:
        super().__init__(owner)
        self.owner = owner


class Database:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._reserve = path.with_name(f"{path.name}-reserve")
        self._reserved = self._reserve.exists()
        self._make_room()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._depth = 0
        self._changes = 0
        self._checkpoint: threading.Thread | None = None
        execute = self._connection.execute
        execute("PRAGMA journal_mode=WAL")
        execute("PRAGMA synchronous=NORMAL")
        execute("PRAGMA wal_autocheckpoint=0")
        (version,) = execute("PRAGMA user_version").fetchone()
        if version not in (0, _VERSION):
            self._connection.close()
            raise RuntimeError(
                f"{path} was written by another version of Wherry (schema {version}, this is {_VERSION})"
            )
        if not version:
            self._connection.executescript(_SCHEMA)
            execute(f"PRAGMA user_version={_VERSION}")
        self._set_aside()

    def put(self, kind: str, id: str, body: bytes, name: str | None = None) -> None:
        """Insert or replace an object. Raises ``NameTaken`` when another object of the kind has the name, ``OSError``."""
        try:
            self._write(
                "INSERT INTO objects (kind, id, name, body) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (kind, id) DO UPDATE SET name = excluded.name, body = excluded.body",
                (kind, id, name, body),
            )
        except sqlite3.IntegrityError:
            owner = self.named(kind, name or "")
            raise NameTaken(owner or "") from None

    def get(self, kind: str, id: str) -> bytes | None:
        row = self._connection.execute("SELECT body FROM objects WHERE kind = ? AND id = ?", (kind, id)).fetchone()
        return None if row is None else row[0]

    def named(self, kind: str, name: str) -> str | None:
        """The id of the object with this name."""
        row = self._connection.execute("SELECT id FROM objects WHERE kind = ? AND name = ?", (kind, name)).fetchone()
        return None if row is None else row[0]

    def delete(self, kind: str, id: str) -> None:
        """Raises ``OSError``."""
        self._write("DELETE FROM objects WHERE kind = ? AND id = ?", (kind, id))

    def all(self, kind: str) -> list[tuple[str, str | None, bytes]]:
        """Every (id, name, body) of a kind."""
        return self._connection.execute("SELECT id, name, body FROM objects WHERE kind = ?", (kind,)).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing for the changes made inside; must not be held over an await. Raises ``OSError`` at its end, too."""
        if self._depth:
            yield
            return
        self._make_room()
        self._connection.execute("BEGIN IMMEDIATE")
        self._depth = 1
        try:
            yield
            with self._as_os_errors():
                self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # a full disk has ended it already
                self._connection.execute("ROLLBACK")
            raise
        finally:
            self._depth = 0

    def close(self) -> None:
        if self._checkpoint is not None:
            self._checkpoint.join()
        self._connection.close()

    def _write(self, statement: str, values: tuple[object, ...]) -> None:
        if not self._depth:
            self._make_room()
        with self._as_os_errors():
            self._connection.execute(statement, values)
        self._changes += 1
        if self._changes >= CHECKPOINT_EVERY and (self._checkpoint is None or not self._checkpoint.is_alive()):
            self._changes = 0
            self._checkpoint = threading.Thread(target=self._write_back, name="wherry-checkpoint")
            self._checkpoint.start()

    @contextmanager
    def _as_os_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            code = _DISK_ERRORS.get(error.sqlite_errorcode & 0xFF)
            if code is None:
                raise
            raise OSError(code, os.strerror(code), str(self._path)) from error

    def _write_back(self) -> None:
        """The thread's work. Holds up neither readers nor writers; what is in use is left to the next one."""
        try:
            connection = sqlite3.connect(self._path, isolation_level=None)
            try:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            finally:
                connection.close()
        except sqlite3.Error as error:
            log.warning("the database's log could not be written back: %s", error)
        self._set_aside()

    def _set_aside(self) -> None:
        """Make the reserve, where there is none and room enough for it."""
        if self._reserved or self._free() < LOW + 2 * RESERVE:
            return
        try:
            fd = os.open(self._reserve, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, RESERVE)
            finally:
                os.close(fd)
        except OSError as error:
            log.info("no space can be set aside for a full disk: %s", error)
        self._reserved = True

    def _make_room(self) -> None:
        """Before every change; a microsecond."""
        if self._reserved and self._free() < LOW:
            log.warning("the disk of %s is full: the space set aside for that is used now", self._path)
            with suppress(OSError):
                self._reserve.unlink()
            self._reserved = False

    def _free(self) -> int:
        """Bytes that root may still write."""
        status = os.statvfs(self._path.parent)
        return status.f_bfree * status.f_frsize
