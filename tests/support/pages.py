"""Pages of docs/ that pair a section of the API with its Python calls: their examples run, their tables are checked."""

from __future__ import annotations

import builtins
import inspect
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import wherry
from tests.support.description import description

ROOT = Path(__file__).resolve().parents[2]
ENTRY = re.compile(r"^`([A-Z]+) (/\S+)` · (\w+) · `docker\.\w+\.(\w+)`$", re.MULTILINE)
ROW = re.compile(r"^\| `([^`]+)` \|(?: `([^`]+)`)? +\|", re.MULTILINE)
FENCE = re.compile(r"^```python(?: (\w+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Section(NamedTuple):
    """A heading with its text; of an operation also its method, path, id and call."""

    title: str
    text: str
    entry: tuple[str, str, str, str] | None

    @property
    def options(self) -> list[tuple[str, str]]:
        """(API name, Python name) of its tables."""
        return [(row[1], row[2] or "") for row in ROW.finditer(self.text)]


class Page:
    """A page by its file's name; ``tag`` is the section of the API that it is about."""

    def __init__(self, name: str, tag: str) -> None:
        self.name = name
        self.tag = tag
        self.text = (ROOT / "docs" / name).read_text(encoding="utf-8")
        self.sections = []
        for part in re.split(r"^## ", self.text, flags=re.MULTILINE)[1:]:
            title, _, text = part.partition("\n")
            match = ENTRY.search(text)
            self.sections.append(Section(title, text, match.groups() if match else None))  # type: ignore[arg-type]

    @property
    def operations(self) -> list[Section]:
        return [section for section in self.sections if section.entry is not None]

    def run(self, source: str, names: dict[str, Any]) -> None:
        exec(compile(source, f"docs/{self.name}", "exec"), names)

    def run_examples(self, section: Section) -> None:
        """All examples of a section behind the page's prelude, on the engine of the environment."""
        examples = blocks(section.text)
        assert examples, f"{section.title} has no example"
        names: dict[str, Any] = {}
        self.run(blocks(self.text, "prelude")[0], names)
        try:
            for example in examples:
                self.run(example, names)
        finally:
            names["docker"].close()

    def described(self) -> dict[str, tuple[str, str, list[str]]]:
        """Method, path and parameters (path segments aside) of the tag's operations, by id."""
        paths = description()["paths"]
        return {
            operation["operationId"]: (
                method.upper(),
                path,
                [p["name"] for p in operation.get("parameters", ()) if p["in"] != "path"],
            )
            for path, methods in paths.items()
            for method, operation in methods.items()
            if self.tag in operation["tags"]
        }

    def check_against_description(self) -> None:
        """Every operation and every parameter is on the page."""
        contract = self.described()
        page = {section.entry[2]: section for section in self.operations if section.entry}
        assert set(page) == set(contract)
        for name, (method, path, parameters) in contract.items():
            section = page[name]
            assert section.entry is not None
            assert section.entry[:2] == (method, path)
            missing = set(parameters) - {api for api, _ in section.options}
            assert not missing, f"{name}: {sorted(missing)} are not on the page"

    def check_against_calls(self, group: type, more: dict[str, Collection[str]] | None = None) -> None:
        """Every parameter on the page is one of its call, and the other way round. ``more``: parameters by operation."""
        for section in self.operations:
            assert section.entry is not None
            call = getattr(group, section.entry[3])
            known = set(inspect.signature(call).parameters) | set((more or {}).get(section.entry[2], ()))
            named = {python for _, python in section.options if python}
            for method in [name for name in named if name.endswith("()")]:
                assert hasattr(group, method.removesuffix("()")), method
                named.discard(method)
            assert named <= known, f"{section.title}: {sorted(named - known)}"
            told = re.findall(r"`(\w+)`", section.text)
            options = known - {"self", "id", "name", "options"}
            assert options <= named | set(told), (
                f"{section.title} does not tell of {sorted(options - named - set(told))}"
            )

    def check_errors(self) -> None:
        """The errors that the page names are classes of wherry, or Python's own."""
        general = self.text.partition("\n## ")[0]
        for name in re.findall(r"`(\w+)` \(\d{3}\)", general):
            assert issubclass(getattr(wherry, name), wherry.ApiError), name
        for name in re.findall(r"Raises(.*?)\n\n", self.text, re.DOTALL):
            for error in re.findall(r"`([A-Z]\w+)`", name):
                assert issubclass(getattr(wherry, error, None) or vars(builtins)[error], Exception), error


def blocks(text: str, kind: str | None = None) -> list[str]:
    """The Python examples of a text, of a kind or plain ones."""
    return [match[2] for match in FENCE.finditer(text) if match[1] == kind]
