"""The client is typed for its users: tests/typing/user_code.py, which ``make check`` type-checks, leaves no call out."""

from __future__ import annotations

import ast
import inspect
from importlib.resources import files
from pathlib import Path

import pytest

import wherry
from wherry.client._async.containers import AsyncContainers
from wherry.client._sync.containers import Containers

USER_CODE = Path(__file__).parents[1] / "typing" / "user_code.py"


@pytest.mark.parametrize("group", [Containers, AsyncContainers])
def test_every_call_on_containers_is_in_the_checked_code(group: type) -> None:
    asynchronous = group is AsyncContainers
    functions = [
        node
        for node in ast.parse(USER_CODE.read_text()).body
        if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)
    ]
    used = {
        node.func.attr
        for function in functions
        if isinstance(function, ast.AsyncFunctionDef) is asynchronous
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func.value) == "docker.containers"
    }
    calls = {name for name, _ in inspect.getmembers(group, inspect.isfunction) if not name.startswith("_")}
    assert calls - used == (set() if not asynchronous else {"open_channel"})


@pytest.mark.parametrize("group", [Containers, AsyncContainers])
def test_every_parameter_and_result_has_a_type(group: type) -> None:
    for name, call in inspect.getmembers(group, inspect.isfunction):
        signature = inspect.signature(call)
        assert signature.return_annotation is not inspect.Signature.empty, name
        untyped = [p.name for p in signature.parameters.values() if p.annotation is p.empty and p.name != "self"]
        assert not untyped, name


def test_the_package_says_that_it_is_typed_and_all_its_names_are_there() -> None:
    assert files("wherry").joinpath("py.typed").is_file()
    for name in wherry.__all__:
        assert getattr(wherry, name) is not None
