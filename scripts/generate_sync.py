"""Write wherry/client/_sync from wherry/client/_async: the two colours of the client have one source.

    python scripts/generate_sync.py            write the files
    python scripts/generate_sync.py --check    only tell whether they are as they should be (status 1 if not)

``io.py`` is written by hand in both; everything else is a translation word by word.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).resolve().parent.parent / "wherry" / "client"
SOURCE, TARGET = CLIENT / "_async", CLIENT / "_sync"
BY_HAND = {"io.py", "__init__.py"}
NOTE = "# Made from {name} by scripts/generate_sync.py: change that, and run it.\n"

WORDS = [
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bAwaitable\[([^\[\]]+)\]", r"\1"),
    (r"\b__aenter__\b", "__enter__"),
    (r"\b__aexit__\b", "__exit__"),
    (r"\b__aiter__\b", "__iter__"),
    (r"\b__anext__\b", "__next__"),
    (r"\bStopAsyncIteration\b", "StopIteration"),
    (r"\bAsyncIterator\b", "Iterator"),
    (r"\bAsync([A-Z]\w*)", r"\1"),
    (r"\b_async\b", "_sync"),
    (r"\bconnect_async\b", "connect"),
    (r"\bthe async\b", "the sync"),
    (r"\btasks\b", "threads"),
    (r"\btask\b", "thread"),
    (r"from collections\.abc import (.*?), Awaitable$", r"from collections.abc import \1"),
    (r"from collections\.abc import Awaitable, ", "from collections.abc import "),
]


def translate(text: str) -> str:
    """A module of the async client as one of the sync client, all but its formatting."""
    for pattern, replacement in WORDS:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return text


def generated() -> dict[str, str]:
    """The files that should be there, by name, not yet formatted."""
    return {
        path.name: NOTE.format(name=f"_async/{path.name}") + translate(path.read_text())
        for path in sorted(SOURCE.glob("*.py"))
        if path.name not in BY_HAND
    }


def differences() -> list[str]:
    """The names of the files that are not what they should be; formatting does not count."""
    expected = generated()
    present = {path.name for path in TARGET.glob("*.py")} - BY_HAND
    wrong = sorted(present ^ expected.keys())
    for name in sorted(present & expected.keys()):
        if ast.dump(ast.parse((TARGET / name).read_text())) != ast.dump(ast.parse(expected[name])):
            wrong.append(name)
    return wrong


def main() -> int:
    if "--check" in sys.argv[1:]:
        wrong = differences()
        for name in wrong:
            print(f"wherry/client/_sync/{name} is not what scripts/generate_sync.py makes", file=sys.stderr)
        return 1 if wrong else 0
    files = generated()
    for path in TARGET.glob("*.py"):
        if path.name not in BY_HAND and path.name not in files:
            path.unlink()
    for name, text in files.items():
        (TARGET / name).write_text(text)
    paths = [str(TARGET / name) for name in files]
    subprocess.run([sys.executable, "-m", "ruff", "check", "-q", "--fix", "--select", "I", *paths], check=True)
    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", *paths], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
