"""Build arguments: declared by ARG, given with the call; each stage has its own declarations."""

from __future__ import annotations

from collections.abc import Mapping

PREDEFINED = frozenset(
    "HTTP_PROXY http_proxy HTTPS_PROXY https_proxy FTP_PROXY ftp_proxy NO_PROXY no_proxy ALL_PROXY all_proxy".split()
)
"""May be given without an ARG, and leave no trace in the history unless there is one."""

Declared = dict[str, str | None]


class BuildArgs:
    """``given`` with the call; None for a name without a value. What stages declare is kept for one stage at a time."""

    def __init__(self, given: Mapping[str, str | None]) -> None:
        self._given = given
        self._before: Declared = {}
        self._declared: Declared = {}
        self._used: set[str] = set()

    def begin_stage(self) -> None:
        self._declared = {}

    def declare_before(self, key: str, value: str | None) -> None:
        """An ARG in front of the first FROM."""
        self._before[key] = value

    def declare(self, key: str, value: str | None) -> None:
        """An ARG of the stage."""
        self._declared[key] = value
        self._used.add(key)

    def for_from(self) -> dict[str, str]:
        """What a FROM may use."""
        return self._values(self._before)

    def besides(self, env: Mapping[str, str]) -> dict[str, str]:
        """What the stage's instructions may use, where its environment says nothing."""
        return {key: value for key, value in self._values(self._declared).items() if key not in env}

    def shown(self, key: str) -> bool:
        """Whether the history names it: a predefined one only when it is declared."""
        return key in self._declared or key not in PREDEFINED

    def unused(self) -> list[str]:
        """What was given for nothing."""
        return sorted(key for key in self._given if key not in self._used and key not in PREDEFINED)

    def _values(self, declared: Declared) -> dict[str, str]:
        found = {}
        for key in (*declared, *(PREDEFINED - declared.keys())):
            value = self._given.get(key)
            if value is None:
                value = declared.get(key)
            if value is None:
                value = self._before.get(key)
            if value is not None:
                found[key] = value
        return found
