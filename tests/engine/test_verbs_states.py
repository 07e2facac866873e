"""What each verb says and does in each state of a container."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from tests.faults.machine import CrashEngine
from tests.support.engines import Engine
from tests.support.http import PATIENCE, eventually

TRAPPED = ("sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 3600 & wait $!; done")
DEAF = ("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 3600 & wait $!; done")
FAILING = ("sh", "-c", "exit 3")
ALWAYS = {"HostConfig": {"RestartPolicy": {"Name": "always"}}}


def post(engine: Engine, container: str, verb: str, **query: Any) -> tuple[int, str]:
    answer = engine.http.post(f"/containers/{container}/{verb}", query=query)
    return answer.status, answer.message if answer.status >= 400 else ""


def ready(engine: Engine, *command: str, **options: Any) -> str:
    """A running container that has set its traps."""
    container = engine.run(*command, **options)
    eventually(lambda: b"ready" in engine.logs(container)[0], what="ready")
    return container


def restarting(engine: Engine) -> str:
    """A container within a pause before an automatic start that is long enough to look: 0.8 s, or 3.2 on a slow machine."""
    container = engine.run(*FAILING, **ALWAYS)
    eventually(lambda: engine.inspect(container)["RestartCount"] >= (3 if PATIENCE == 1 else 5))
    eventually(lambda: engine.status(container) == "restarting")
    return container


def events(engine: Engine, container: str, since: float = 1) -> list[str]:
    """What has happened to a container so far, with the networks' part in it."""
    found = []
    with engine.http.open("GET", "/events", query={"since": f"{since:.9f}", "until": f"{time.time():.9f}"}) as stream:
        for event in stream.json_values():
            attributes = event["Actor"]["Attributes"]
            if container in (event["Actor"]["ID"], attributes.get("container")):
                kind = "" if event["Type"] == "container" else f"{event['Type']} "
                found.append(
                    f"{kind}{event['Action']}" + (f" {attributes['signal']}" if "signal" in attributes else "")
                )
    return found


# start


def test_STA2_removing_and_paused_refuse_a_start(verbs: CrashEngine) -> None:
    container = ready(verbs, *TRAPPED)
    assert post(verbs, container, "pause")[0] == 204
    assert post(verbs, container, "start") == (409, "cannot start a paused container, try unpause instead")


def test_STA5_a_start_by_hand_begins_anew(verbs: CrashEngine) -> None:
    container = restarting(verbs)
    assert post(verbs, container, "stop")[0] == 204
    count = verbs.inspect(container)["RestartCount"]
    assert count >= 3
    verbs.start(container)
    assert verbs.inspect(container)["RestartCount"] < count
    since = time.time()
    eventually(lambda: verbs.inspect(container)["RestartCount"] >= 2, within=2)
    assert time.time() - since < 1.5 * PATIENCE, "the delays are the first ones again"


# stop, kill


def test_STP1_stop_of_a_paused_one_is_a_stop(verbs: CrashEngine) -> None:
    """STP7: it is resumed, so that it can act on the signal."""
    container = ready(verbs, *TRAPPED)
    assert post(verbs, container, "pause")[0] == 204
    since = time.time()
    assert post(verbs, container, "stop", t=20)[0] == 204
    assert time.time() - since < 5
    assert verbs.state(container)["ExitCode"] == 7
    assert events(verbs, container, since)[:2] == ["kill 15", "unpause"]


def test_STP2_another_signal_is_no_reason_to_resume(verbs: CrashEngine) -> None:
    container = ready(verbs, *TRAPPED)
    assert post(verbs, container, "pause")[0] == 204
    assert post(verbs, container, "stop", t=1, signal="USR1")[0] == 204
    assert verbs.state(container)["ExitCode"] == 137


def test_STP3_bad_signals_are_refused(verbs: CrashEngine) -> None:
    container = ready(verbs, *TRAPPED)
    for verb in ("stop", "restart"):
        assert post(verbs, container, verb, signal="NOPE") == (400, "invalid signal: NOPE")
    assert verbs.status(container) == "running"


def test_STP8_order_with_the_network(verbs: CrashEngine) -> None:
    container = ready(verbs, *DEAF)
    since = time.time()
    assert post(verbs, container, "stop", t=0)[0] == 204
    assert events(verbs, container, since) == ["kill 15", "kill 9", "network disconnect", "die", "stop"]


def test_STP9_order_of_a_restart(verbs: CrashEngine) -> None:
    container = ready(verbs, *TRAPPED)
    since = time.time()
    assert post(verbs, container, "restart", t=5)[0] == 204
    expected = ["kill 15", "network disconnect", "die", "stop", "network connect", "start", "restart"]
    assert events(verbs, container, since) == expected


def test_STP6_stop_of_a_restarting_one_has_no_signal(verbs: CrashEngine) -> None:
    container = restarting(verbs)
    since = time.time()
    assert post(verbs, container, "stop")[0] == 204
    assert (verbs.status(container), events(verbs, container, since)) == ("exited", ["stop"])
    time.sleep(1)
    assert verbs.status(container) == "exited"


@pytest.mark.parametrize(("sent", "status"), [("KILL", "exited"), ("TERM", "exited"), ("USR1", "restarting")])
def test_KIL1_kill_of_a_restarting_one(verbs: CrashEngine, sent: str, status: str) -> None:
    """KIL4: what stops a container also ends its restarting; another signal has nobody to go to."""
    container = restarting(verbs)
    since = time.time()
    assert post(verbs, container, "kill", signal=sent)[0] == 204
    assert verbs.status(container) in (status, "running" if status == "restarting" else status)
    assert "kill" not in " ".join(events(verbs, container, since))


def test_KIL5_kill_of_a_paused_one(verbs: CrashEngine) -> None:
    container = ready(verbs, *DEAF)
    assert post(verbs, container, "pause")[0] == 204
    assert post(verbs, container, "kill")[0] == 204
    assert verbs.state(container)["ExitCode"] == 137


def test_KIL4_usr1_does_not_end_the_policy(verbs: CrashEngine) -> None:
    """A deliberate difference: docs/differences.md."""
    command = "trap 'echo usr1' USR1; echo ready; sleep 0.5 & wait $!; wait $!; exit 4"
    container = ready(verbs, "sh", "-c", command, **ALWAYS)
    assert post(verbs, container, "kill", signal="USR1")[0] == 204
    eventually(lambda: verbs.inspect(container)["RestartCount"] >= 1)


# pause


def test_PAU1_refusals(verbs: CrashEngine) -> None:
    created = verbs.create("true")
    assert post(verbs, created, "pause") == (409, f"container {created} is not running")
    assert post(verbs, created, "unpause") == (500, f"Container {created} is not paused")
    assert post(verbs, "nope", "pause") == (404, "No such container: nope")
    container = ready(verbs, *TRAPPED)
    assert post(verbs, container, "unpause") == (500, f"Container {container} is not paused")
    assert post(verbs, container, "pause") == (204, "")
    assert post(verbs, container, "pause") == (409, f"container {container} is already paused")
    assert post(verbs, container, "unpause") == (204, "")
    waiting = restarting(verbs)
    words = f"Container {waiting} is restarting, wait until the container is running"
    assert post(verbs, waiting, "pause") == (409, words)


def test_PAU2_what_works_while_paused(verbs: CrashEngine) -> None:
    container = ready(verbs, *TRAPPED, name="frozen")
    assert post(verbs, container, "pause")[0] == 204
    state = verbs.state(container)
    assert (state["Status"], state["Running"], state["Paused"]) == ("paused", True, True)
    answer = verbs.http.post("/containers/frozen/exec", json={"Cmd": ["true"]})
    words = "Container frozen is paused, unpause the container before exec"
    assert (answer.status, answer.message) == (409, words)
    with verbs.attach("frozen") as attached:
        body = attached.read()
    assert (attached.status, body) == (409, b"container frozen is paused, unpause the container before attach\r\n")
    assert verbs.http.delete(f"/containers/{container}").message == (
        f"You cannot remove a paused container {container}. Unpause and then stop the container before attempting removal "
        "or force remove"
    )
    assert verbs.http.get(f"/containers/{container}/top").status == 200
    assert verbs.http.get(f"/containers/{container}/stats?stream=0&one-shot=1").status == 200
    assert verbs.logs(container)[0] == b"ready\n"
    assert verbs.http.get(f"/containers/{container}/changes").status == 200
    assert verbs.http.get(f"/containers/{container}/archive?path=/etc/passwd").status == 200
    assert verbs.http.post(f"/containers/{container}/resize?h=1&w=1").status == 200
    assert verbs.http.post(f"/containers/{container}/update", json={}).status == 200
    assert verbs.http.post(f"/containers/{container}/start").status == 409
    assert verbs.http.get(f"/containers/{container}/json").json["State"]["Paused"]
    assert post(verbs, container, "restart", t=5)[0] == 204
    assert verbs.status(container) == "running"


# wait


def test_WAI3_a_restarting_one_counts_as_running(verbs: CrashEngine) -> None:
    container = restarting(verbs)
    with verbs.http.open("POST", f"/containers/{container}/wait") as waiting:
        assert post(verbs, container, "stop")[0] == 204
        assert waiting.read() == b'{"StatusCode":3}\n'


# delete


def test_DEL1_words_for_each_state(verbs: CrashEngine) -> None:
    running = ready(verbs, *TRAPPED)
    waiting = restarting(verbs)
    for container, state in ((running, "running"), (waiting, "restarting")):
        answer = verbs.http.delete(f"/containers/{container}")
        words = f"You cannot remove a {state} container {container}. Stop the container before attempting removal or force remove"
        assert (answer.status, answer.message) == (409, words)
        assert verbs.status(container) in ("running", "restarting")


def test_DEL3_order_of_a_forced_removal(verbs: CrashEngine) -> None:
    container = ready(verbs, *DEAF)
    since = time.time()
    assert verbs.http.delete(f"/containers/{container}?force=1").status == 204
    assert events(verbs, container, since) == ["kill 9", "network disconnect", "die", "destroy"]


def test_DEL4_a_container_that_removes_itself_takes_its_volumes(verbs: CrashEngine) -> None:
    container = verbs.create("sleep", "60", Volumes={"/data": {}}, HostConfig={"AutoRemove": True})
    verbs.start(container)
    volume = verbs.inspect(container)["Mounts"][0]["Name"]
    assert verbs.http.delete(f"/containers/{container}?force=1").status == 204
    assert verbs.http.get(f"/volumes/{volume}").status == 404


# exit


def test_AUT1_order_of_run_rm(verbs: CrashEngine) -> None:
    """STA8 too."""
    container = verbs.create("true", HostConfig={"AutoRemove": True})
    with (
        verbs.attach(container) as attached,
        verbs.http.open("POST", f"/containers/{container}/wait?condition=removed") as removed,
    ):
        verbs.start(container)
        assert removed.read() == b'{"StatusCode":0}\n'
        attached.read()
    expected = ["create", "attach", "network connect", "start", "network disconnect", "die", "destroy"]
    assert events(verbs, container) == expected


def test_AUT4_a_failed_restart_ends_the_restarting(verbs: CrashEngine) -> None:
    command = "if [ -e /bin/once ]; then rm /bin/sh; fi; touch /bin/once; sleep 0.1; exit 5"
    container = verbs.run("/bin/sh", "-c", command, **ALWAYS)
    with verbs.http.open("POST", f"/containers/{container}/wait?condition=next-exit") as waiting:
        assert waiting.status == 200
    state = eventually(lambda: (s := verbs.state(container))["Status"] == "exited" and s)
    assert (state["Running"], state["Restarting"], state["ExitCode"]) == (False, False, 127)
    assert "no such file or directory" in state["Error"]


def test_AUT6_update_during_the_pause_cancels(verbs: CrashEngine) -> None:
    container = restarting(verbs)
    since = time.time()
    answer = verbs.http.post(f"/containers/{container}/update", json={"RestartPolicy": {"Name": "no"}})
    assert answer.status == 200
    assert verbs.status(container) == "exited"
    assert events(verbs, container, since) == ["update"]
    time.sleep(1)
    assert verbs.status(container) == "exited"


def test_leaving_the_engine_does_not_wait_for_what_runs(verbs: CrashEngine) -> None:
    container = ready(verbs, *TRAPPED)
    waiting = restarting(verbs)
    started = time.monotonic()
    verbs.process.send_signal(signal.SIGTERM)
    verbs.process.wait(10)
    took = time.monotonic() - started
    verbs.boot()
    assert took < 4
    assert verbs.status(container) == "running"
    assert verbs.status(waiting) in ("restarting", "running"), "its policy holds"


# exec


def create_exec(engine: Engine, container: str, *command: str, **body: Any) -> str:
    fields = {"AttachStdout": True, "AttachStderr": True, "Cmd": list(command)} | body
    answer = engine.http.post(f"/containers/{container}/exec", json=fields)
    assert answer.status == 201, answer
    return str(answer.json["Id"])


def exec_state(engine: Engine, exec_id: str) -> Any:
    return engine.http.get(f"/exec/{exec_id}/json").json


def test_EXE1_the_command_is_looked_at_first(verbs: CrashEngine) -> None:
    answer = verbs.http.post("/containers/nope/exec", json={"Cmd": []})
    assert (answer.status, answer.message) == (400, "No exec command specified")


def test_EXE5_a_lost_client_closes_stdin(verbs: CrashEngine) -> None:
    container = ready(verbs, *TRAPPED)
    exec_id = create_exec(verbs, container, "cat", AttachStdin=True)
    running = verbs.http.open("POST", f"/exec/{exec_id}/start", json={})
    running.send(b"hello\n")
    assert next(running.frames()) == (1, b"hello\n")
    running.close()
    state = eventually(lambda: not (s := exec_state(verbs, exec_id))["Running"] and s, within=5)
    assert state["ExitCode"] == 0


def test_EXE7_events_of_a_bare_command_and_of_a_failure(verbs: CrashEngine) -> None:
    container = ready(verbs, *TRAPPED)
    since = time.time()
    for command in ("true", "nosuch"):
        with verbs.http.open("POST", f"/exec/{create_exec(verbs, container, command)}/start", json={}) as running:
            running.read()
    eventually(lambda: len(events(verbs, container, since)) >= 5)
    assert events(verbs, container, since) == [
        "exec_create: true ",
        "exec_start: true ",
        "exec_die",
        "exec_create: nosuch ",
        "exec_start: nosuch ",
    ]


def test_EXE_resize(verbs: CrashEngine) -> None:
    container = ready(verbs, *TRAPPED)
    exec_id = create_exec(verbs, container, "sh", "-c", "sleep 0.2; stty size", Tty=True)
    assert verbs.http.post(f"/exec/{exec_id}/resize?h=20&w=50").status == 409, "it does not run yet"
    with verbs.http.open("POST", f"/exec/{exec_id}/start", json={"Tty": True}) as running:
        assert verbs.http.post(f"/exec/{exec_id}/resize?h=20&w=50").status == 200, "right behind the head of the answer"
        assert running.read() == b"20 50\r\n"
    assert verbs.http.post("/exec/nope/resize?h=20&w=50").status == 404


def test_EXE_a_stopped_or_paused_container_refuses_a_start(verbs: CrashEngine) -> None:
    container = ready(verbs, *TRAPPED)
    exec_id = create_exec(verbs, container, "true")
    assert post(verbs, container, "pause")[0] == 204
    assert verbs.http.post(f"/exec/{exec_id}/start", json={}).status == 409
    assert post(verbs, container, "kill")[0] == 204
    answer = verbs.http.post(f"/exec/{exec_id}/start", json={})
    assert (answer.status, answer.message) == (409, f"Container {container} is not running")
    assert verbs.http.delete(f"/containers/{container}").status == 204
    assert verbs.http.post(f"/exec/{exec_id}/start", json={}).status == 404
