"""docs/images.md: its examples run on the engines, and its tables say what the API and the client say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.test_images import remove_others
from tests.support.docker_registry import HERE, Machine, registry
from tests.support.engines import Engine
from tests.support.pages import Page, Section
from wherry.client._async.distribution import AsyncDistribution
from wherry.client._async.images import AsyncImages
from wherry.client._sync.distribution import Distribution
from wherry.client._sync.images import Images

ELSEWHERE = {"ImageBuild", "BuildPrune"}
"""Building is told of elsewhere."""


class ImagePage(Page):
    """The page with a registry of the test's in the place of the one that it names."""

    registry = "127.0.0.1:5000"

    def run(self, source: str, names: dict[str, Any]) -> None:
        super().run(source.replace("127.0.0.1:5000", self.registry), names)

    def described(self) -> dict[str, tuple[str, str, list[str]]]:
        found = {name: value for name, value in super().described().items() if name not in ELSEWHERE}
        self.tag = "Distribution"
        found |= super().described()
        self.tag = "Image"
        return found


PAGE = ImagePage("images.md", "Image")


@pytest.fixture(scope="module")
def place(running_engine: Engine) -> Iterator[str]:
    netns = running_engine.netns
    with registry(machine=Machine(["nsenter", f"--net={netns}"]) if netns else HERE) as made:
        yield made


@pytest.fixture
def docker_host(engine: Engine, place: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setenv("DOCKER_HOST", engine.address)
    monkeypatch.setattr(PAGE, "registry", place)
    yield engine
    engine.remove_all()
    remove_others(engine)


@pytest.mark.parametrize("section", PAGE.sections, ids=lambda section: section.title)
def test_examples(docker_host: Engine, section: Section) -> None:
    PAGE.run_examples(section)


def test_every_operation_and_parameter_is_on_the_page() -> None:
    PAGE.check_against_description()
    assert len(PAGE.operations) == 14


@pytest.mark.parametrize(("images", "distribution"), [(Images, Distribution), (AsyncImages, AsyncDistribution)])
def test_every_parameter_on_the_page_is_one_of_the_call(images: type, distribution: type) -> None:
    both = type("Both", (), {**vars(images), **{k: v for k, v in vars(distribution).items() if k == "inspect"}})
    own = [section for section in PAGE.operations if section.entry and section.entry[2] != "DistributionInspect"]
    page = ImagePage("images.md", "Image")
    page.sections = own
    page.check_against_calls(images)
    page.sections = [section for section in PAGE.operations if section not in own]
    page.check_against_calls(both)


def test_the_errors_on_the_page_are_classes_of_wherry() -> None:
    PAGE.check_errors()
