"""The write-ahead log is written back by a thread: the engine's loop does not wait for the disk."""

from __future__ import annotations

from pathlib import Path

from wherry.engine.store.database import CHECKPOINT_EVERY, Database


def test_log_is_written_back_beside_the_loop(tmp_path: Path) -> None:
    path = tmp_path / "db"
    database = Database(path)
    empty = path.stat().st_size
    sizes = []
    for round_ in range(6):
        for number in range(CHECKPOINT_EVERY):
            database.put("container", str(number), b"x" * 3000)
        assert database._checkpoint is not None, round_
        database._checkpoint.join()
        sizes.append(path.with_name("db-wal").stat().st_size)
    assert path.stat().st_size > empty + CHECKPOINT_EVERY * 3000, "it has reached the database itself"
    assert max(sizes) < 2 * sizes[0], "and the log begins anew"
    with database.transaction():
        database.delete("container", "0")
    database.close()
    again = Database(path)
    assert len(again.all("container")) == CHECKPOINT_EVERY - 1
    again.close()
