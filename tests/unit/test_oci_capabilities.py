"""What CapAdd and CapDrop make of the default set (CRE15)."""

from __future__ import annotations

import pytest

from wherry.api.errors import BadRequest
from wherry.engine.oci import capabilities
from wherry.engine.oci.capabilities import DEFAULT, NAMES, check_capabilities, granted


@pytest.fixture(autouse=True)
def _all_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capabilities, "bounding_set", lambda: frozenset(NAMES))


def test_names_are_in_the_kernels_order() -> None:
    assert len(NAMES) == 41
    assert (NAMES[0], NAMES[21], NAMES[40]) == ("CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_CHECKPOINT_RESTORE")


def test_CRE15_merge() -> None:
    assert set(granted(None, None)) == set(DEFAULT)
    assert len(DEFAULT) == 14
    assert set(granted(["net_admin"], ["CAP_chown"])) == set(DEFAULT) - {"CAP_CHOWN"} | {"CAP_NET_ADMIN"}
    assert granted(["ALL"], ["SYS_ADMIN"]) == [name for name in NAMES if name != "CAP_SYS_ADMIN"]
    assert granted(["NET_RAW"], ["all"]) == ["CAP_NET_RAW"]
    assert granted([], ["ALL"]) == []
    assert granted(None, ["ALL"], privileged=True) == list(NAMES)


def test_CRE15_unknown_names_are_refused_in_mobys_words() -> None:
    with pytest.raises(BadRequest) as raised:
        check_capabilities(["nope"], "CapAdd")
    assert raised.value.message == 'invalid CapAdd: unknown capability: "CAP_NOPE"'
    with pytest.raises(BadRequest, match="invalid CapDrop"):
        check_capabilities(["CAP_ALL"], "CapDrop")


def test_none_beyond_the_engines_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capabilities, "bounding_set", lambda: frozenset({"CAP_CHOWN"}))
    assert granted(["ALL"], None) == ["CAP_CHOWN"]
