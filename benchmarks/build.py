"""Building images, beside dockerd: steps that change the configuration, copy, run, and are found in the cache.

python -m benchmarks.build [--short] [--wherry-only]
"""

from __future__ import annotations

import time

from benchmarks.common import arguments, engines, interleaved, median_ratio, show_times, verdict
from tests.support.builds import build, context
from tests.support.engines import Engine

FILES = {"a": "A" * 10_000, "dir": None, "dir/b": "B"}
BUILDS = {
    "20 steps of ENV": "".join(f"ENV A{number}=1\n" for number in range(20)),
    "10 steps of COPY": "".join(f"COPY a dir /to{number}/\n" for number in range(10)),
    "5 steps of RUN": "".join(f"RUN echo {number} > /f{number}\n" for number in range(5)),
    "RUN that writes 2,000 files": "RUN mkdir /d && cd /d && for i in $(seq 2000); do : > $i; done\n",
    "20 steps from the cache": "".join(f"ENV B{number}=1\n" for number in range(19)) + "COPY dir /to/\n",
}


def main() -> None:
    options = arguments(__doc__)
    rounds = 3 if options.short else 7
    with engines(options.engines) as sides:

        def once(engine: Engine, title: str) -> float:
            body = context(FILES, "FROM busybox\n" + BUILDS[title])
            query = {} if "cache" in title else {"nocache": 1}
            begin = time.perf_counter()
            built = build(engine, body, **query)
            spent = time.perf_counter() - begin
            assert not built.error, built.error
            return spent

        for title in BUILDS:
            times = interleaved(rounds, {side.name: (lambda s=side, t=title: once(s, t)) for side in sides})
            show_times(title, times)
            if "dockerd" in times:
                verdict("dockerd / wherry", median_ratio(times, "dockerd", "wherry"), least=1)


if __name__ == "__main__":
    main()
