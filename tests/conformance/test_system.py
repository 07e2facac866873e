"""The System operations: docs/system.md with its examples, and what a client meets beyond them."""

from __future__ import annotations

import pytest

from tests.support.engines import Engine
from tests.support.pages import Page, Section
from wherry.client._async.system import AsyncSystem
from wherry.client._sync.system import System

PAGE = Page("system.md", "System")


@pytest.fixture
def docker_host(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setenv("DOCKER_HOST", engine.address)
    return engine


@pytest.mark.parametrize("section", PAGE.sections, ids=lambda section: section.title)
def test_examples(docker_host: Engine, section: Section) -> None:
    PAGE.run_examples(section)


def test_every_operation_and_parameter_is_on_the_page() -> None:
    PAGE.check_against_description()
    assert len(PAGE.operations) == 7


@pytest.mark.parametrize("system", [System, AsyncSystem])
def test_every_parameter_on_the_page_is_one_of_the_call(system: type) -> None:
    PAGE.check_against_calls(system)


def test_the_errors_on_the_page_are_classes_of_wherry() -> None:
    PAGE.check_errors()


def test_only_some_kinds_use_space(wherry: Engine) -> None:
    wherry.remove_volumes()
    wherry.create("true", HostConfig={"Binds": ["used:/x"]})
    try:
        both = wherry.http.get("/system/df?type=volume&type=container").json
        assert (both["LayersSize"], both["Images"], both["BuildCache"]) == (0, None, None)
        assert [volume["Name"] for volume in both["Volumes"]] == ["used"]
        assert len(both["Containers"]) == 1
        answer = wherry.http.get("/system/df?type=volume&type=network")
        assert (answer.status, answer.message) == (400, "unknown object type: network")
        older = type(wherry.http)(wherry.socket_path, "/v1.41")
        assert older.get("/system/df?type=network").json["Images"]
    finally:
        wherry.remove_volumes()
