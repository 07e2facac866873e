"""The engine's memory: SQLite, one row an object.

A row is (kind, id, name, JSON). Names are unique within a kind, which is what makes a reservation of a container's name
atomic. WAL with ``synchronous=NORMAL``: a commit costs some 30 µs, survives a kill of the process at any instant, and
only a power cut may lose the last few. One connection, used on the engine's loop alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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


class NameTaken(Exception):
    """Another object of the same kind has the name; ``owner`` is its id."""

    def __init__(self, owner: str) -> None:
        super().__init__(owner)
        self.owner = owner


class Database:
    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._depth = 0
        execute = self._connection.execute
        execute("PRAGMA journal_mode=WAL")
        execute("PRAGMA synchronous=NORMAL")
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

    def get(self, kind: str, id: str) -> bytes | None:
        row = self._connection.execute("SELECT body FROM objects WHERE kind = ? AND id = ?", (kind, id)).fetchone()
        return None if row is None else row[0]

    def named(self, kind: str, name: str) -> str | None:
        """The id of the object with this name."""
        row = self._connection.execute("SELECT id FROM objects WHERE kind = ? AND name = ?", (kind, name)).fetchone()
        return None if row is None else row[0]

    def delete(self, kind: str, id: str) -> None:
        self._connection.execute("DELETE FROM objects WHERE kind = ? AND id = ?", (kind, id))

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
        self._connection.close()
