"""tests/rules.json and the tests fit together."""

from __future__ import annotations

import json

from scripts import rules


def data() -> dict[str, dict[str, object]]:
    return json.loads(rules.RULES.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def test_names() -> None:
    assert rules.in_name("test_ATT6a_input") == (["ATT6a"], ["ATT6"])
    assert rules.in_name("test_PAU2abc_STA2a_refused") == (["PAU2a", "PAU2b", "PAU2c", "STA2a"], ["PAU2", "STA2"])
    assert rules.in_name("test_NULcd_lists") == (["NULc", "NULd"], ["NUL"])
    assert rules.in_name("test_CRE5_CRE6_both") == ([], ["CRE5", "CRE6"])
    assert rules.in_name("test_user") == ([], [])


def test_every_clause_has_a_test_and_every_test_a_clause() -> None:
    listed = data()["tests"]
    tests = rules.collect(listed)  # type: ignore[arg-type]
    assert rules.check(data()["rules"], listed, tests) == []  # type: ignore[arg-type]
    held = {clause for test in tests.values() for clause in test.clauses}
    for rule, entry in data()["rules"].items():
        assert isinstance(entry, dict)
        assert entry.get("n/a") or entry.get("clauses"), rule
        missing = [rule + letter for letter in entry.get("clauses", {}) if rule + letter not in held]
        assert not missing


def test_results_are_read_by_engine(tmp_path: object) -> None:
    from pathlib import Path

    results = Path(str(tmp_path)) / "results.xml"
    results.write_text(
        '<testsuites><testsuite><testcase classname="tests.conformance.test_x" name="test_G1a_x[wherry-1]"/>'
        '<testcase classname="tests.conformance.test_x" name="test_G1a_x[dockerd-1]"><failure/></testcase>'
        '<testcase classname="tests.unit.test_y" name="test_G1b_y"><skipped/></testcase></testsuite></testsuites>'
    )
    x = rules.Test("tests/conformance/test_x.py::test_G1a_x", ("G1a",), ("G1",), differs=True)
    y = rules.Test("tests/unit/test_y.py::test_G1b_y", ("G1b",), ("G1",))
    rules.read_results({test.node: test for test in (x, y)}, [results])
    assert (x.verdict("wherry"), x.verdict("dockerd")) == ("holds", "fails")
    assert (y.verdict("wherry"), y.verdict("dockerd")) == ("fails", "")
