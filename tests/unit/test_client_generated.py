"""The two colours are one source, every operation has its method, and nothing is imported before it is needed."""

from __future__ import annotations

import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import wherry
from wherry.api.operations.catalog import ALL

ROOT = Path(wherry.__file__).parent.parent


def test_the_sync_client_is_what_the_generator_makes() -> None:
    spec = importlib.util.spec_from_file_location("generate_sync", ROOT / "scripts" / "generate_sync.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.differences() == [], "run python scripts/generate_sync.py"


def test_every_operation_has_its_counterpart() -> None:
    source = "".join(path.read_text() for path in (ROOT / "wherry" / "client" / "_async").glob("*.py"))
    used = set(re.findall(r"\b(?:build_)?ops\.([A-Z]\w+)", source))
    assert {operation.id for operation in ALL} - used == set()


def test_every_query_parameter_has_its_argument() -> None:
    source = "".join(path.read_text() for path in (ROOT / "wherry" / "client" / "_async").glob("*.py"))
    missing = []
    for operation in ALL:
        if operation.query is None:
            continue
        calls = re.findall(rf"\b{operation.query.__name__}\((.*?)\n?\s*\)\n", source, re.DOTALL)
        given = " ".join(calls)
        missing += [
            f"{operation.id}.{name}"
            for name in operation.query.__struct_fields__
            if not re.search(rf"\b{name}=", given)
        ]
    assert missing == []


@pytest.mark.parametrize("group", ["containers", "exec", "images", "networks", "volumes", "system", "distribution"])
def test_public_methods_are_documented_and_annotated(group: str) -> None:
    client = wherry.connect("unix:///nowhere")
    for name, method in inspect.getmembers(type(getattr(client, group)), inspect.isfunction):
        if name.startswith("_"):
            continue
        assert method.__doc__, name
        assert "return" in method.__annotations__, name


def test_importing_the_sync_client_brings_no_async_machinery() -> None:
    code = (
        "import sys, wherry; wherry.connect('unix:///nowhere').containers; "
        "print(sorted({'asyncio', 'anyio', 'ssl', 'websockets', 'subprocess', 'wherry.engine', 'wherry.embed', "
        "'zstandard', 'click', 'rich'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_names_what_it_exports() -> None:
    for name in wherry.__all__:
        assert getattr(wherry, name) is not None
    assert wherry.errors.NotFound is wherry.NotFound
    with pytest.raises(AttributeError):
        getattr(wherry, "nothing_of_that_name")  # noqa: B009
