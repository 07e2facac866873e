"""Reading ahead in a thread: the same bytes, the same errors, and no thread left."""

from __future__ import annotations

import io
import threading

import pytest

from wherry.engine.store.ahead import ReadAhead


def _left() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "wherry-ahead"]


@pytest.mark.parametrize("size", [1, 511, 1 << 20, 3 << 20, -1])
def test_gives_what_the_source_gives(size: int) -> None:
    data = bytes(range(256)) * (10 if size == 1 else 30_000)
    with ReadAhead(io.BytesIO(data)) as ahead:
        pieces = []
        while piece := ahead.read(size):
            assert size < 0 or len(piece) <= size
            pieces.append(piece)
        assert ahead.read(size) == b""
    assert b"".join(pieces) == data
    assert not _left()


def test_an_error_comes_in_its_place() -> None:
    class Broken:
        def __init__(self) -> None:
            self.pieces = [b"one", b"two"]

        def read(self, size: int = -1, /) -> bytes:
            if not self.pieces:
                raise ValueError("broken")
            return self.pieces.pop(0)

    with ReadAhead(Broken()) as ahead:
        assert [ahead.read(), ahead.read()] == [b"one", b"two"]
        for _ in range(2):
            with pytest.raises(ValueError, match="broken"):
                ahead.read()
    assert not _left()


def test_left_early_it_reads_no_more_than_its_bound() -> None:
    class Endless:
        count = 0

        def read(self, size: int = -1, /) -> bytes:
            self.count += 1
            return bytes(size)

    source = Endless()
    with ReadAhead(source) as ahead:
        assert ahead.read(10) == bytes(10)
    assert source.count <= 7
    assert not _left()
