"""AppArmor's profiles by name (CRE28), where the kernel has AppArmor. ``make vm-test`` sees one at work."""

from __future__ import annotations

from pathlib import Path

import pytest

from wherry.engine.containers.process import apparmor_profile
from wherry.engine.oci import apparmor


def test_whether_the_kernel_has_it(tmp_path: Path) -> None:
    enabled, policy = tmp_path / "enabled", tmp_path / "policy"
    assert not apparmor.available(enabled, policy)
    enabled.write_text("Y\n")
    assert not apparmor.available(enabled, policy)
    policy.mkdir()
    assert apparmor.available(enabled, policy)
    enabled.write_text("N\n")
    assert not apparmor.available(enabled, policy)


def test_CRE28_a_profile_is_the_one_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apparmor, "available", lambda: True)
    assert apparmor_profile(["no-new-privileges", "apparmor=mine"]) == "mine"
    assert apparmor_profile(["apparmor:mine"]) == "mine"
    assert apparmor_profile(["apparmor=unconfined"]) == apparmor_profile([]) == apparmor_profile(None) == ""
    monkeypatch.setattr(apparmor, "available", lambda: False)
    assert apparmor_profile(["apparmor=mine"]) == ""
