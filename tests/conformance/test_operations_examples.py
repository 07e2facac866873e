"""docs/operations.md: its examples run on the engines, and its tables say what the API and the client say."""

from __future__ import annotations

import builtins
import inspect
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

import wherry
from tests.support.engines import Engine
from wherry.client._async.containers import AsyncContainers
from wherry.client._sync.containers import Containers
from wherry.client.options import CreateOptions

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
DESCRIPTION = Path(os.environ.get("WHERRY_API_YAML") or ROOT.parent / "shared/api/engine-v1.43.yaml")
ENTRY = re.compile(r"^`([A-Z]+) (/\S+)` · (\w+) · `docker\.containers\.(\w+)`$", re.MULTILINE)
ROW = re.compile(r"^\| `([^`]+)` \| (?:`([^`]+)`)? \|", re.MULTILINE)
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


def sections() -> list[Section]:
    found = []
    for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        title, _, text = part.partition("\n")
        match = ENTRY.search(text)
        found.append(Section(title, text, match.groups() if match else None))  # type: ignore[arg-type]
    return found


def operations() -> list[Section]:
    return [section for section in sections() if section.entry is not None]


def blocks(text: str, kind: str | None = None) -> list[str]:
    return [match[2] for match in FENCE.finditer(text) if match[1] == kind]


@pytest.fixture
def docker_host(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setenv("DOCKER_HOST", engine.address)
    return engine


def run(source: str, names: dict[str, Any]) -> None:
    exec(compile(source, "docs/operations.md", "exec"), names)


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.title)
def test_examples(docker_host: Engine, section: Section) -> None:
    (prelude,) = blocks(PAGE, "prelude")
    examples = blocks(section.text)
    assert examples, f"{section.title} has no example"
    names: dict[str, Any] = {}
    run(prelude, names)
    try:
        for example in examples:
            run(example, names)
    finally:
        names["docker"].close()


def test_the_asynchronous_example(docker_host: Engine) -> None:
    (prelude,), (example,) = blocks(PAGE, "prelude"), blocks(PAGE, "async")
    names: dict[str, Any] = {}
    run(prelude, names)
    names["docker"].close()
    run(example, {})


def described() -> dict[str, tuple[str, str, list[str]]]:
    """Method, path and parameters (path segments aside) of the Container operations, by id."""
    with DESCRIPTION.open(encoding="utf-8") as file:
        paths = yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["paths"]
    return {
        operation["operationId"]: (
            method.upper(),
            path,
            [p["name"] for p in operation.get("parameters", ()) if p["in"] != "path"],
        )
        for path, methods in paths.items()
        for method, operation in methods.items()
        if "Container" in operation["tags"]
    }


def test_every_operation_and_parameter_is_on_the_page() -> None:
    contract = described()
    page = {section.entry[2]: section for section in operations() if section.entry}
    assert set(page) == set(contract)
    assert len(page) == 25
    for name, (method, path, parameters) in contract.items():
        section = page[name]
        assert section.entry is not None
        assert section.entry[:2] == (method, path)
        missing = set(parameters) - {api for api, _ in section.options}
        assert not missing, f"{name}: {sorted(missing)} are not on the page"


@pytest.mark.parametrize("containers", [Containers, AsyncContainers])
def test_every_parameter_on_the_page_is_one_of_the_call(containers: type) -> None:
    for section in operations():
        assert section.entry is not None
        call = getattr(containers, section.entry[3])
        known = set(inspect.signature(call).parameters)
        if section.entry[2] == "ContainerCreate":
            known |= set(CreateOptions.__annotations__)
        named = {python for _, python in section.options if python}
        for method in [name for name in named if name.endswith("()")]:
            assert hasattr(containers, method.removesuffix("()")), method
            named.discard(method)
        assert named <= known, f"{section.title}: {sorted(named - known)}"
        told = re.findall(r"`(\w+)`", section.text)
        options = known - {"self", "id", "options"}
        assert options <= named | set(told), f"{section.title} does not tell of {sorted(options - named - set(told))}"


def test_the_errors_on_the_page_are_classes_of_wherry() -> None:
    general = PAGE.partition("\n## ")[0]
    for name in re.findall(r"`(\w+)` \(\d{3}\)", general):
        assert issubclass(getattr(wherry, name), wherry.ApiError), name
    for name in re.findall(r"Raises(.*?)\n\n", PAGE, re.DOTALL):
        for error in re.findall(r"`([A-Z]\w+)`", name):
            assert issubclass(getattr(wherry, error, None) or vars(builtins)[error], Exception), error
