"""Live output and who listens to it."""

from __future__ import annotations

from wherry.engine.containers.output import Output


class Listener:
    def __init__(self, output: Output, patience: int = 100) -> None:
        self.got = b""
        self._output = output
        self._patience = patience

    def output(self, stream: int, data: bytes, before: int) -> None:
        self.got += data
        self._patience -= 1
        if not self._patience:
            self._output.leave(self)

    def ended(self) -> None:
        self.got += b"."


def test_ATT8_one_that_leaves_amid_a_piece_costs_no_other_that_piece() -> None:
    output = Output()
    first, second, third = Listener(output, patience=1), Listener(output, patience=2), Listener(output)
    for listener in (first, second, third):
        output.listen(listener)
    for piece in (b"a", b"b", b"c"):
        output.feed(1, piece)
    output.leave(first)
    assert output.listeners == 1
    output.end()
    assert (first.got, second.got, third.got) == (b"a", b"ab", b"abc.")
