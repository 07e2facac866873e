"""Platforms, security options, names and ids."""

from __future__ import annotations

import re

import pytest

from wherry.api.errors import BadRequest
from wherry.engine.containers import names, settings
from wherry.engine.containers.platform import fits
from wherry.engine.images.platform import Platform


def test_CRE3_platforms_that_fit() -> None:
    amd64, arm = Platform("linux", "amd64"), Platform("linux", "arm", "v7")
    assert fits(amd64, Platform("linux", "amd64", "v3"))
    assert fits(Platform("linux", "386"), amd64)
    assert fits(Platform("linux", "arm", "v6"), arm)
    assert not fits(Platform("linux", "arm", "v7"), Platform("linux", "arm", "v6"))
    assert not fits(Platform("windows", "amd64"), amd64)
    assert not fits(Platform("linux", "arm64"), amd64)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("nonsense", 'invalid --security-opt 1: "nonsense"'),
        ("nonsense=1", 'invalid --security-opt 2: "nonsense=1"'),
        ("no-new-privileges=maybe", 'invalid --security-opt 2: "no-new-privileges=maybe"'),
        ("seccomp={", "invalid --security-opt 2: "),
    ],
)
def test_CRE28_security_options(option: str, message: str) -> None:
    with pytest.raises(BadRequest, match=re.escape(message)):
        settings.check_security_opts([option])


def test_CRE28_good_security_options() -> None:
    settings.check_security_opts(
        ["no-new-privileges", "no-new-privileges:false", "seccomp=unconfined", "apparmor:x", "label=disable"]
    )


def test_N2_names() -> None:
    for name in ("ab", "/ab", "a_", "0.-"):
        names.check_name(name)
    for name in ("a", "", "-ab", "a b", "ab\n", "äb", "//ab", "a/b"):
        with pytest.raises(BadRequest, match=r"only \[a-zA-Z0-9\]\[a-zA-Z0-9_.-\] are allowed"):
            names.check_name(name)


def test_N3_N4_generated_names_and_ids() -> None:
    container_id = names.new_id()
    assert re.fullmatch("[0-9a-f]{64}", container_id)
    assert not container_id[:12].isdecimal()
    assert re.fullmatch("[a-z]+_[a-z]+", names.generate_name(container_id, lambda name: False))
    assert names.generate_name(container_id, lambda name: True) == container_id[:12]
