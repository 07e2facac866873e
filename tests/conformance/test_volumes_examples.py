"""docs/volumes.md: its examples run on the engines, and its tables say what the API and the client say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.engines import Engine
from tests.support.pages import Page, Section
from wherry.client._async.volumes import AsyncVolumes
from wherry.client._sync.volumes import Volumes

PAGE = Page("volumes.md", "Volume")


@pytest.fixture
def docker_host(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setenv("DOCKER_HOST", engine.address)
    engine.remove_volumes()
    yield engine
    engine.remove_volumes()


@pytest.mark.parametrize("section", PAGE.sections, ids=lambda section: section.title)
def test_examples(docker_host: Engine, section: Section) -> None:
    PAGE.run_examples(section)


def test_every_operation_and_parameter_is_on_the_page() -> None:
    PAGE.check_against_description()
    assert len(PAGE.operations) == 6


@pytest.mark.parametrize("volumes", [Volumes, AsyncVolumes])
def test_every_parameter_on_the_page_is_one_of_the_call(volumes: type) -> None:
    PAGE.check_against_calls(volumes)


def test_the_errors_on_the_page_are_classes_of_wherry() -> None:
    PAGE.check_errors()
