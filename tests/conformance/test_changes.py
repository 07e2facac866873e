"""GET changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.engines import Engine
from tests.support.scenes import finished


def changed(engine: Engine, container: str) -> Any:
    answer = engine.http.get(f"/containers/{container}/changes")
    assert answer.status == 200, answer
    return None if answer.json is None else [(c["Path"], c["Kind"]) for c in answer.json]


def test_CHG1a_no_changes_are_null(engine: Engine) -> None:
    assert changed(engine, engine.create("true")) is None


def test_CHG2a_CHG4a_CHG5a_kinds_of_change(engine: Engine) -> None:
    script = "mkdir -p /new/sub; echo x > /new/sub/f; echo more >> /etc/passwd; rm -r /var/www; chmod 700 /home"
    container = finished(engine, script)
    expected = [
        ("/etc", 0),
        ("/etc/passwd", 0),
        ("/home", 0),
        ("/new", 1),
        ("/new/sub", 1),
        ("/new/sub/f", 1),
        ("/var", 0),
        ("/var/www", 2),
    ]
    seen = changed(engine, container)
    assert sorted(seen) == expected
    assert seen.index(("/new", 1)) < seen.index(("/new/sub", 1)) < seen.index(("/new/sub/f", 1))
    if not engine.is_dockerd:  # in no order
        assert seen == expected


def test_CHG3a_nothing_of_the_engines_own(engine: Engine, tmp_path: Path) -> None:
    host = {"Binds": [f"{tmp_path}:/bound/here"], "Tmpfs": {"/scratch": ""}}
    container = finished(engine, "cat /etc/hosts /etc/hostname /etc/resolv.conf; touch /scratch/x", HostConfig=host)
    seen = [path for path, _ in changed(engine, container) or []]
    own = {"/dev", "/proc", "/sys", "/etc", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/.dockerenv"}
    assert not own & set(seen)
    if not engine.is_dockerd:  # 20.10 shows the mount points it made at start
        assert seen == []


def test_CHG5b_of_a_running_container(engine: Engine) -> None:
    container = engine.run_idle()
    engine.exec(container, "touch", "/made")
    assert changed(engine, container) == [("/made", 1)]
