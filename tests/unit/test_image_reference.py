"""Names of images."""

from __future__ import annotations

import pytest

from wherry.engine.images.reference import InvalidReference, Reference, image_id, matches, parse, parse_key, short_id

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "key", "shown"),
    [
        ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("docker.io/me/app", "docker.io/me/app:latest", "me/app:latest"),
        ("me/app:v1", "docker.io/me/app:v1", "me/app:v1"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/a/b__c:x", "localhost:5000/a/b__c:x", "localhost:5000/a/b__c:x"),
        ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
        ("Registry/app", "Registry/app:latest", "Registry/app:latest"),
        (f"app@sha256:{HEX}", f"docker.io/library/app@sha256:{HEX}", f"app@sha256:{HEX}"),
        (f"app:v1@sha256:{HEX}", f"docker.io/library/app:v1@sha256:{HEX}", f"app:v1@sha256:{HEX}"),
    ],
)
def test_names_are_made_whole_and_shown_as_people_write_them(text: str, key: str, shown: str) -> None:
    found = parse(text).tagged()
    assert found.key == key
    assert str(found) == shown
    assert parse_key(key) == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "invalid reference format"),
        ("a:", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("../etc", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("-a", "invalid reference format"),
        ("a@sha256:12", "invalid reference format"),
        ("a:b\n", "invalid reference format"),
        ("bad_.host/x:y/z", "invalid reference format"),
        ("BusyBox", "invalid reference format: repository name must be lowercase"),
        ("me/App", "invalid reference format: repository name must be lowercase"),
        (HEX, f"invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings"),
        ("a" * 256, "repository name must not be more than 255 characters"),
        ("a:" + "t" * 129, "invalid reference format"),
    ],
)
def test_what_is_no_name_is_refused(text: str, words: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        parse(text)
    assert caught.value.message == words
    assert caught.value.status == 400


def test_a_tag_given_apart_is_checked() -> None:
    assert parse("a").with_tag("v1") == Reference("docker.io/library/a", "v1")
    with pytest.raises(InvalidReference, match="invalid tag format"):
        parse("a").with_tag("-v")


def test_whole_ids_are_told_from_names() -> None:
    assert image_id(HEX) == image_id(f"sha256:{HEX}") == f"sha256:{HEX}"
    assert image_id(HEX[:12]) is None
    assert image_id("sha256:12") is None
    assert short_id(f"sha256:{HEX}") == HEX[:12]


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("busybox", True),
        ("busy*", True),
        ("busybox:l*", True),
        ("*:latest", True),
        ("*/busybox", False),
        ("[^x]usy*", True),
    ],
)
def test_patterns_fit_the_name_with_or_without_its_tag(pattern: str, fits: bool) -> None:
    assert matches(pattern, parse("busybox").tagged()) is fits


def test_a_star_of_a_pattern_does_not_cross_a_slash() -> None:
    assert not matches("*", parse("me/app").tagged())
    assert matches("*/*", parse("me/app").tagged())


def test_a_hostile_pattern_takes_no_time() -> None:
    assert not matches("*a" * 200 + "b", parse("a" * 200).tagged())
