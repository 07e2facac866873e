"""Exec: create, start, inspect."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.engines import Engine
from tests.support.http import Exchange, eventually
from tests.support.scenes import actions_so_far


def create(engine: Engine, container: str, *command: str, **body: Any) -> str:
    fields = {"AttachStdout": True, "AttachStderr": True, "Cmd": list(command)} | body
    answer = engine.http.post(f"/containers/{container}/exec", json=fields)
    assert answer.status == 201, answer
    assert set(answer.json) == {"Id"}
    return str(answer.json["Id"])


def inspect(engine: Engine, exec_id: str) -> Any:
    answer = engine.http.get(f"/exec/{exec_id}/json")
    assert answer.status == 200, answer
    return answer.json


def start(engine: Engine, exec_id: str, *, upgrade: bool = True, **body: Any) -> Exchange:
    return engine.http.open("POST", f"/exec/{exec_id}/start", json=body, upgrade=upgrade)


def own_capabilities() -> int:
    """The capabilities that this machine has to give."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("CapBnd:")[1].split()[0], 16)


def test_EXE1cd_paused_and_restarting(engine: Engine) -> None:
    container = engine.run("sh", "-c", "exit 3", HostConfig={"RestartPolicy": {"Name": "always"}})
    eventually(lambda: engine.inspect(container)["RestartCount"] >= 3)
    eventually(lambda: engine.status(container) == "restarting")
    answer = engine.http.post(f"/containers/{container}/exec", json={"Cmd": ["true"]})
    assert answer.status == 409
    idle = engine.run_idle()
    assert engine.http.post(f"/containers/{idle}/pause").status == 204
    assert engine.http.post(f"/containers/{idle}/exec", json={"Cmd": ["true"]}).status == 409


def test_EXE1_refusals(engine: Engine) -> None:
    container = engine.create("true")
    answer = engine.http.post(f"/containers/{container}/exec", json={"Cmd": ["true"]})
    assert (answer.status, answer.message) == (409, f"Container {container} is not running")
    assert engine.http.post("/containers/nope/exec", json={"Cmd": ["true"]}).status == 404
    running = engine.run_idle()
    answer = engine.http.post(f"/containers/{running}/exec", json={"Cmd": []})
    assert (answer.status, answer.message) == (400, "No exec command specified")


def test_EXE2e_headers_of_the_hijack(engine: Engine) -> None:
    container = engine.run_idle()
    made = engine.http.post(f"/containers/{container}/exec", json={"Cmd": ["true"], "AttachStdout": True}).json["Id"]
    with engine.http.open("POST", f"/exec/{made}/start", json={}, upgrade=True) as running:
        names = list(running.headers)
    assert running.status == 101
    assert names[:3] == ["content-type", "connection", "upgrade"]
    assert {"api-version", "docker-experimental", "ostype", "server"} <= set(names)


def test_EXE2_not_found(engine: Engine) -> None:
    answer = engine.http.post("/exec/nope/start", json={})
    assert (answer.status, "No such exec instance: nope" in answer.message) == (404, True)
    answer = engine.http.get("/exec/nope/json")
    assert (answer.status, "No such exec instance: nope" in answer.message) == (404, True)


@pytest.mark.parametrize("upgrade", [False, True])
def test_EXE2_hijack(engine: Engine, upgrade: bool) -> None:
    container = engine.run_idle()
    exec_id = create(engine, container, "sh", "-c", "echo out; echo err >&2; exit 7")
    with start(engine, exec_id, upgrade=upgrade) as running:
        assert running.status == (101 if upgrade else 200)
        assert "api-version" in running.headers
        assert sorted(running.frames()) == [(1, b"out\n"), (2, b"err\n")]
    assert inspect(engine, exec_id)["ExitCode"] == 7


def test_EXE2_detached(engine: Engine) -> None:
    container = engine.run_idle()
    exec_id = create(engine, container, "sh", "-c", "echo done > /tmp/mark; exit 3")
    answer = engine.http.post(f"/exec/{exec_id}/start", json={"Detach": True})
    assert (answer.status, answer.body) == (200, b"")
    eventually(lambda: inspect(engine, exec_id)["ExitCode"] == 3)
    assert engine.exec(container, "cat", "/tmp/mark")[1] == b"done\n"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"Cmd": ["nosuchcommand"]}, b"executable file not found"),
        ({"Cmd": ["/etc/passwd"]}, b"permission denied"),
        ({"Cmd": ["true"], "WorkingDir": "/no/such"}, b"no such file or directory"),
        ({"Cmd": ["true"], "User": "nosuchuser"}, b"unable to find user nosuchuser"),
    ],
)
def test_EXE2_failures_come_inside_the_stream(engine: Engine, body: dict[str, Any], words: bytes) -> None:
    container = engine.run_idle()
    exec_id = create(engine, container, **body)
    with start(engine, exec_id) as running:
        assert running.status == 101
        said = b"".join(data for _, data in running.frames())
    assert (words in said, said.endswith(b"\r\n")) == (True, True), said
    eventually(lambda: inspect(engine, exec_id)["ExitCode"] == 126)
    assert engine.status(container) == "running"


def test_EXE2_failure_of_a_detached_one(engine: Engine) -> None:
    container = engine.run_idle()
    exec_id = create(engine, container, "nosuchcommand")
    answer = engine.http.post(f"/exec/{exec_id}/start", json={"Detach": True})
    assert answer.status in (400, 500)
    assert "executable file not found" in answer.message


def test_EXE3_started_twice(engine: Engine) -> None:
    container = engine.run_idle()
    exec_id = create(engine, container, "true")
    with start(engine, exec_id) as first:
        first.read()
    with start(engine, exec_id) as second:
        status, said = second.status, second.read()
    assert f"xec command {exec_id} has already run".encode() in said
    assert status == 101


def test_EXE4_terminal(engine: Engine) -> None:
    container = engine.run_idle()
    exec_id = create(engine, container, "sh", "-c", "test -t 0 && echo tty", Tty=True, AttachStdin=True)
    with start(engine, exec_id, Tty=True) as running:
        assert running.read() == b"tty\r\n"


def test_EXE4_console_size_and_resize(engine: Engine) -> None:
    container = engine.run_idle()
    # crun may set the size a moment after the command has begun
    sized = "" if engine.is_dockerd else "until [ \"$(stty size 2>/dev/null)\" = '31 71' ]; do sleep 0.02; done; "
    command = sized + "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done"
    exec_id = create(engine, container, "sh", "-c", command, Tty=True, AttachStdin=True)
    size: dict[str, Any] = {} if engine.is_dockerd else {"ConsoleSize": [31, 71]}  # since API 1.42
    with start(engine, exec_id, Tty=True, **size) as running:
        running.read_until(b"ready\r\n")
        assert engine.http.post(f"/exec/{exec_id}/resize?h=33&w=77").status in (200, 201)
        running.read_until(b"33 77\r\n")


def test_EXE4_no_stream_asked(engine: Engine) -> None:
    container = engine.run_idle()
    exec_id = create(engine, container, "sh", "-c", "echo x; exit 4", AttachStdout=False, AttachStderr=False)
    with start(engine, exec_id) as running:
        assert running.read() == b""
    eventually(lambda: inspect(engine, exec_id)["ExitCode"] == 4)


def test_EXE5_environment_user_and_directory(engine: Engine) -> None:
    container = engine.run_idle(Env=["OUTER=1", "BOTH=outer"], WorkingDir="/tmp")
    _, out, _ = engine.exec(
        container, "sh", "-c", "echo $OUTER $BOTH $INNER; pwd; id -u", Env=["BOTH=inner", "INNER=2"]
    )
    assert out == b"1 inner 2\n/tmp\n0\n"
    _, out, _ = engine.exec(container, "sh", "-c", "pwd; id -u; echo $HOME", WorkingDir="/etc", User="user")
    assert out == b"/etc\n1000\n/home/user\n"


def test_EXE5_users_of_the_container(engine: Engine) -> None:
    container = engine.run_idle(User="user")
    assert engine.exec(container, "id", "-u")[1] == b"1000\n"
    assert engine.exec(container, "id", "-u", User="0:0")[1] == b"0\n"
    assert engine.exec(container, "id", "-g", User="1234:50")[1] == b"50\n"


@pytest.mark.parametrize("asked", [{}, {"AttachStdout": True}], ids=["nothing attached", "stdin is not"])
def test_EXE5_a_user_gets_nothing_of_the_machines(engine: Engine, asked: dict[str, bool]) -> None:
    """Runtimes give a command's stdio to its user: it must not be the machine's own null device."""
    container = engine.run("sleep", "1000", User="1000")
    try:
        for user in "1000", "0":
            body = {"Cmd": ["sh", "-c", "echo out; cat; echo err >&2"], "User": user, **asked}
            made = engine.http.post(f"/containers/{container}/exec", json=body).json["Id"]
            engine.http.post(f"/exec/{made}/start", json={"Detach": not asked})
            eventually(lambda id=made: engine.http.get(f"/exec/{id}/json").json["Running"] is False)
            assert engine.http.get(f"/exec/{made}/json").json["ExitCode"] == 0
            found = os.stat("/dev/null")
            assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (0, 0, 0o666)
    finally:
        os.chown("/dev/null", 0, 0)


def test_EXE5_privileged(engine: Engine) -> None:
    container = engine.run_idle()

    def capabilities(**body: Any) -> int:
        return int(engine.exec(container, "grep", "CapEff", "/proc/self/status", **body)[1].split()[1], 16)

    assert capabilities() == 0xA80425FB
    # runc gives up where the machine itself lacks one of the capabilities; Wherry gives those that there are.
    if not engine.is_dockerd or own_capabilities() == 2**41 - 1:
        assert capabilities(Privileged=True) == own_capabilities()


def test_EXE5_half_close_ends_stdin(engine: Engine) -> None:
    container = engine.run_idle()
    exec_id = create(engine, container, "sort", AttachStdin=True)
    with start(engine, exec_id) as running:
        running.send(b"b\na\n")
        running.send_eof()
        assert b"".join(data for _, data in running.frames()) == b"a\nb\n"
    assert inspect(engine, exec_id)["ExitCode"] == 0


def test_EXE5_much_input_and_output(engine: Engine) -> None:
    container = engine.run_idle()
    exec_id = create(engine, container, "wc", "-c", AttachStdin=True)
    with start(engine, exec_id) as running:
        for _ in range(64):
            running.send(bytes(65536))
        running.send_eof()
        assert b"".join(data for _, data in running.frames()).strip() == b"4194304"
    _, out, _ = engine.exec(container, "dd", "if=/dev/zero", "bs=65536", "count=100")
    assert len(out) == 6553600


def test_EXE6_inspect(engine: Engine) -> None:
    container = engine.run_idle()
    exec_id = create(engine, container, "sleep", "1000", User="user", AttachStdin=True)
    before = inspect(engine, exec_id)
    assert (before["Running"], before["ExitCode"], before["ContainerID"]) == (False, None, container)
    assert (before["OpenStdin"], before["OpenStdout"], before["OpenStderr"]) == (True, True, True)
    process = before["ProcessConfig"]
    assert (process["entrypoint"], process["arguments"], process["user"]) == ("sleep", ["1000"], "user")
    assert (process["tty"], process["privileged"], before["DetachKeys"]) == (False, False, "")
    assert before["CanRemove"] is False
    with start(engine, exec_id):
        running = eventually(lambda: (i := inspect(engine, exec_id))["Pid"] and i)
        assert (running["ExitCode"], running["Running"]) == (None, True)


def test_EXE6_exit_code_is_there_at_the_end_of_the_stream(engine: Engine) -> None:
    container = engine.run_idle()
    for code in range(1, 6):
        assert engine.exec(container, "sh", "-c", f"echo x; exit {code}")[:2] == (code, b"x\n")


def test_EXE7c_an_event_without_arguments(engine: Engine) -> None:
    container = engine.run_idle()
    engine.exec(container, "true")
    seen = [a for a in actions_so_far(engine, container) if a.startswith("exec_")]
    assert seen == ["exec_create: true ", "exec_start: true ", "exec_die"]


def test_EXE7_a_lost_client_does_not_end_the_process(engine: Engine) -> None:
    container = engine.run_idle()
    exec_id = create(engine, container, "sh", "-c", "echo started; sleep 0.5; echo late > /tmp/late")
    running = start(engine, exec_id)
    next(running.frames())
    running.close()
    eventually(lambda: engine.exec(container, "cat", "/tmp/late")[0] == 0)


def test_EXE7_events(engine: Engine) -> None:
    container = engine.run_idle()
    exec_id = create(engine, container, "sh", "-c", "exit 3")
    with start(engine, exec_id) as running:
        running.read()
    filters = {"container": [container], "event": ["exec_create", "exec_start", "exec_die"]}
    with engine.http.open("GET", "/events", query={"since": 1, "filters": filters}) as events:
        source = events.json_values()
        seen = [next(source) for _ in range(3)]
    assert [e["Action"] for e in seen] == ["exec_create: sh -c exit 3", "exec_start: sh -c exit 3", "exec_die"]
    attributes = seen[-1]["Actor"]["Attributes"]
    assert (attributes["exitCode"], attributes["execID"]) == ("3", exec_id)


def test_EXE_ends_with_its_container(engine: Engine) -> None:
    container = engine.run_idle()
    exec_id = create(engine, container, "sleep", "1000")
    with start(engine, exec_id) as running:
        eventually(lambda: inspect(engine, exec_id)["Running"])
        engine.http.post(f"/containers/{container}/kill")
        assert running.at_end(within=10)


def test_EXE_has_the_containers_oom_score(engine: Engine) -> None:
    """And not the engine's: a service manager gives that one of its own."""
    container = engine.run_idle(HostConfig={"OomScoreAdj": 500})
    assert engine.exec(container, "cat", "/proc/self/oom_score_adj") == (0, b"500\n", b"")
