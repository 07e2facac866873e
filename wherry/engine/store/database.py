"""The engine's memory: SQLite, one row an object.

A row is (kind, id, name, JSON). Names are unique within a kind, which is what makes a reservation of a container's name
atomic. WAL with ``synchronous=NORMAL``: a commit costs some 30 µs, survives a kill of the process at any instant, and
only a power cut may lose the last few. One connection, used on the engine's loop alone. What waits for the disk, the
checkpoint that moves the write-ahead log into the database, is done by a thread with a connection of its own.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
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


class NameTaken(Exception):
    """Another object of the same kind has the name; ``owner`` is its id."""

    def __init__(self, owner: str) -> None:
        super().__init__(owner)
        self.owner = owner


class Database:
    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._path = path
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
        self._connection.executescript(_SCHEMA)
        execute(f"PRAGMA user_version={_VERSION}")

    def put(self, kind: str, id: str, body: bytes, name: str | None = None) -> None:
        """Insert or replace an object. Raises ``NameTaken`` when another object of the kind has the name."""
        try:
            self._connection.execute(
                "INSERT INTO objects (kind, id, name, body) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (kind, id) DO UPDATE SET name = excluded.name, body = excluded.body",
                (kind, id, name, body),
            )
        except sqlite3.IntegrityError:
            owner = self.named(kind, name or "")
            raise NameTaken(owner or "") from None
        self._changed()

    def get(self, kind: str, id: str) -> bytes | None:
        row = self._connection.execute("SELECT body FROM objects WHERE kind = ? AND id = ?", (kind, id)).fetchone()
        return None if row is None else row[0]

    def named(self, kind: str, name: str) -> str | None:
        """The id of the object with this name."""
        row = self._connection.execute("SELECT id FROM objects WHERE kind = ? AND name = ?", (kind, name)).fetchone()
        return None if row is None else row[0]

    def delete(self, kind: str, id: str) -> None:
        self._connection.execute("DELETE FROM objects WHERE kind = ? AND id = ?", (kind, id))
        self._changed()

    def all(self, kind: str) -> list[tuple[str, str | None, bytes]]:
        """Every (id, name, body) of a kind."""
        return self._connection.execute("SELECT id, name, body FROM objects WHERE kind = ?", (kind,)).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing for the changes made inside; must not be held over an await."""
        if self._depth:
            yield
            return
        self._connection.execute("BEGIN IMMEDIATE")
        self._depth = 1
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        else:
            self._connection.execute("COMMIT")
        finally:
            self._depth = 0

    def close(self) -> None:
        if self._checkpoint is not None:
            self._checkpoint.join()
        self._connection.close()

    def _changed(self) -> None:
        self._changes += 1
        if self._changes >= CHECKPOINT_EVERY and (self._checkpoint is None or not self._checkpoint.is_alive()):
            self._changes = 0
            self._checkpoint = threading.Thread(target=_checkpoint, args=(self._path,), name="wherry-checkpoint")
            self._checkpoint.start()


def _checkpoint(path: Path) -> None:
    """Holds up neither readers nor writers; what is in use is left to the next one."""
    try:
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        finally:
            connection.close()
    except sqlite3.Error as error:
        log.warning("the database's log could not be written back: %s", error)
