"""docs/operations.md: its examples run on the engines, and its tables say what the API and the client say."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.engines import Engine
from tests.support.pages import Page, Section, blocks
from wherry.client._async.containers import AsyncContainers
from wherry.client._sync.containers import Containers
from wherry.client.options import CreateOptions

PAGE = Page("operations.md", "Container")


@pytest.fixture
def docker_host(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setenv("DOCKER_HOST", engine.address)
    return engine


@pytest.mark.parametrize("section", PAGE.sections, ids=lambda section: section.title)
def test_examples(docker_host: Engine, section: Section) -> None:
    PAGE.run_examples(section)


def test_the_asynchronous_example(docker_host: Engine) -> None:
    (prelude,), (example,) = blocks(PAGE.text, "prelude"), blocks(PAGE.text, "async")
    names: dict[str, Any] = {}
    PAGE.run(prelude, names)
    names["docker"].close()
    PAGE.run(example, {})


def test_every_operation_and_parameter_is_on_the_page() -> None:
    PAGE.check_against_description()
    assert len(PAGE.operations) == 25


@pytest.mark.parametrize("containers", [Containers, AsyncContainers])
def test_every_parameter_on_the_page_is_one_of_the_call(containers: type) -> None:
    PAGE.check_against_calls(containers, {"ContainerCreate": set(CreateOptions.__annotations__)})


def test_the_errors_on_the_page_are_classes_of_wherry() -> None:
    PAGE.check_errors()
