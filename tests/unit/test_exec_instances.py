"""Exec instances outlive their commands by minutes, but not what the commands held."""

from __future__ import annotations

from typing import Any, cast

from wherry.api.models.exec import ExecConfig
from wherry.engine.containers.exec import Exec, _end


def test_an_ended_instance_lets_go_of_its_process_and_so_of_the_clients_connection() -> None:
    instance = Exec(cast(Any, object()), ExecConfig(cmd=["true"]))
    instance.process = cast(Any, object())
    instance.running = True
    _end(instance, 3)
    assert instance.process is None
    assert (instance.running, instance.exit_code, instance.pid) == (False, 3, 0)
    assert instance.ready.is_set()
