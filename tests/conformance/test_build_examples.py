"""docs/build.md: its examples run on the engines, and its tables say what the API and the client say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.test_images import remove_others
from tests.support.engines import Engine
from tests.support.pages import Page, Section
from wherry.client._async.images import AsyncImages
from wherry.client._sync.images import Images
from wherry.client.context import BUILD_OPTIONS
from wherry.client.options import BuildOptions

BUILDING = {"ImageBuild", "BuildPrune"}


class BuildPage(Page):
    def described(self) -> dict[str, tuple[str, str, list[str]]]:
        return {name: value for name, value in super().described().items() if name in BUILDING}


PAGE = BuildPage("build.md", "Image")


@pytest.fixture
def docker_host(engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Engine]:
    monkeypatch.setenv("DOCKER_HOST", engine.address)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield engine
    engine.remove_all()
    remove_others(engine)


@pytest.mark.parametrize("section", PAGE.sections, ids=lambda section: section.title)
def test_examples(docker_host: Engine, section: Section) -> None:
    PAGE.run_examples(section)


def test_every_operation_and_parameter_is_on_the_page() -> None:
    PAGE.check_against_description()
    assert len(PAGE.operations) == 2


@pytest.mark.parametrize("images", [Images, AsyncImages])
def test_every_parameter_on_the_page_is_one_of_the_call(images: type) -> None:
    PAGE.check_against_calls(images, {"ImageBuild": set(BuildOptions.__annotations__)})
    assert set(BuildOptions.__annotations__) == BUILD_OPTIONS


def test_the_errors_on_the_page_are_classes_of_wherry() -> None:
    PAGE.check_errors()
