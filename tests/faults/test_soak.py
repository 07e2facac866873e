"""The trials of ``make soak``, small: nothing is lost, and the engine's memory stays.

Full sizes and times are in docs/performance.md.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks import soak
from tests.support.engines import Engine, prepared


@pytest.fixture(scope="module")
def fresh() -> Iterator[tuple[Engine, int]]:
    with prepared("wherry") as engine:
        yield engine, soak.at_rest(engine)


@pytest.mark.parametrize("name", soak.TRIALS)
def test_trial(fresh: tuple[Engine, int], name: str) -> None:
    engine, rest = fresh
    result = soak.run(engine, name, rest, short=True)
    print(result.row())
    assert result.rise <= soak.PEAK_MIB
    assert "Traceback" not in engine.log
