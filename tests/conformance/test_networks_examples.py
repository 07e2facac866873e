"""docs/networks.md: its examples run on the engines, and its tables say what the API and the client say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.engines import Engine
from tests.support.pages import Page, Section
from wherry.client._async.networks import AsyncNetworks
from wherry.client._sync.networks import Networks

PAGE = Page("networks.md", "Network")


@pytest.fixture
def docker_host(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setenv("DOCKER_HOST", engine.address)
    yield engine
    engine.remove_all()
    for network in engine.http.get("/networks", query={"filters": '{"type":["custom"]}'}).json:
        assert engine.http.delete(f"/networks/{network['Id']}").status == 204


@pytest.mark.parametrize("section", PAGE.sections, ids=lambda section: section.title)
def test_examples(docker_host: Engine, section: Section) -> None:
    PAGE.run_examples(section)


def test_every_operation_and_parameter_is_on_the_page() -> None:
    PAGE.check_against_description()
    assert len(PAGE.operations) == 7


@pytest.mark.parametrize("networks", [Networks, AsyncNetworks])
def test_every_parameter_on_the_page_is_one_of_the_call(networks: type) -> None:
    PAGE.check_against_calls(networks)


def test_the_errors_on_the_page_are_classes_of_wherry() -> None:
    PAGE.check_errors()
