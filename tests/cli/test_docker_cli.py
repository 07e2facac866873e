"""What people type: the docker command line through pipes."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.make_images import busybox_layer
from tests.cli.conftest import Docker
from tests.support.http import eventually

Idle = Callable[..., str]


def test_version_and_info(docker: Docker) -> None:
    version = json.loads(docker.ok("version", "--format", "{{json .}}"))
    assert version["Server"]["ApiVersion"] == ("1.41" if docker.engine.is_dockerd else "1.44")
    assert "Server:" in docker.ok("info")


def test_run_rm_echo(docker: Docker) -> None:
    assert docker.ok("run", "--rm", "busybox", "echo", "hi") == "hi\n"
    assert docker.ok("ps", "-aq") == ""


def test_run_i_sort_from_a_file(docker: Docker, tmp_path: Path) -> None:
    source = tmp_path / "lines"
    source.write_text("".join(f"{n}\n" for n in range(2000, 0, -1)))
    with source.open("rb") as stdin:
        done = subprocess.run(
            ["docker", "run", "--rm", "-i", "busybox", "sort", "-n"], env=docker.env, stdin=stdin, capture_output=True
        )
    assert (done.returncode, done.stdout) == (0, "".join(f"{n}\n" for n in range(1, 2001)).encode())


def test_stdout_and_stderr_apart(docker: Docker) -> None:
    done = docker("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"out\n", b"err\n")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("busybox", "true"), 0),
        (("busybox", "sh", "-c", "exit 3"), 3),
        (("-v", "/tmp:rel", "busybox", "true"), 125),
        (("busybox", "/etc/passwd"), 126),
        (("busybox", "/etc"), 126),
        (("busybox", "nosuchcommand"), 127),
        (("busybox", "/no/such/file"), 127),
    ],
)
def test_exit_codes(docker: Docker, arguments: tuple[str, ...], code: int) -> None:
    done = docker("run", "--rm", *arguments)
    assert done.returncode == code, done
    eventually(lambda: docker.engine.containers() == [])


def test_exit_code_137_of_a_killed_container(docker: Docker) -> None:
    running = docker.start("run", "--rm", "--name", "victim", "busybox", "sleep", "1000")
    eventually(lambda: docker("kill", "victim").returncode == 0)
    assert running.wait(20) == 137


def test_exit_code_125_for_an_unknown_image(docker: Docker) -> None:
    done = docker("run", "--rm", "--pull", "never", "nosuch:img")
    assert (done.returncode, b"nosuch:img" in done.stderr) == (125, True)


def test_ps(docker: Docker, idle: Idle) -> None:
    container = idle("up", "-p", "127.0.0.1::80", "--label", "a=b")
    assert docker.ok("run", "--name", "ended", "busybox", "true") == ""
    rows = [json.loads(line) for line in docker.ok("ps", "--no-trunc", "--format", "{{json .}}").splitlines()]
    assert [(row["Names"], row["ID"], row["State"], row["Image"]) for row in rows] == [
        ("up", container, "running", "busybox")
    ]
    assert re.fullmatch(r"127\.0\.0\.1:\d+->80/tcp", rows[0]["Ports"])
    assert rows[0]["Labels"] == "a=b"
    assert docker.ok("ps", "-a", "--format", "{{.Names}} {{.State}}").splitlines() == ["ended exited", "up running"]
    assert docker.ok("ps", "-aq", "--filter", "status=exited", "--filter", "name=end").strip() != ""
    assert docker.ok("ps", "-a", "--size", "--format", "{{.Names}} {{.Size}}").startswith("ended 0B (virtual")
    assert "Up " in docker.ok("ps", "--format", "{{.Status}}")


def test_logs(docker: Docker, idle: Idle) -> None:
    script = "i=0; while [ $i -lt 10 ]; do i=$((i+1)); echo line $i; done; echo err >&2; read x; echo last"
    docker.ok("run", "-di", "--name", "talker", "busybox", "sh", "-c", script)
    eventually(lambda: "line 10" in docker.ok("logs", "talker"))
    assert docker.ok("logs", "--tail", "3", "talker").splitlines()[-1] == "line 10"
    stamped = docker.ok("logs", "-t", "--tail", "2", "talker").splitlines()[-1]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z line 10", stamped)
    since = stamped.split()[0]
    assert docker.ok("logs", "--since", since, "talker").splitlines()[-1] == "line 10"
    assert docker.ok("logs", "--since", "1h", "talker").splitlines()[0] == "line 1"
    assert docker.ok("logs", "--until", "1h", "talker") == ""
    follower = docker.start("logs", "-f", "--tail", "1", "talker", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    attached = docker.start("attach", "talker", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert attached.stdin is not None
    assert attached.stdout is not None
    attached.stdin.write(b"go\n")
    attached.stdin.flush()
    assert attached.stdout.read() == b"last\n"
    attached.stdin.close()
    assert attached.wait(20) == 0
    out, _ = follower.communicate(timeout=20)
    assert out.splitlines()[-1] == b"last"
    assert follower.returncode == 0


def test_exec(docker: Docker, idle: Idle) -> None:
    idle("box")
    assert docker.ok("exec", "box", "echo", "inside") == "inside\n"
    assert docker.ok("exec", "-i", "box", "sort", input=b"b\na\n") == "a\nb\n"
    assert docker.ok("exec", "-u", "user", "-w", "/tmp", "-e", "A=1", "box", "sh", "-c", "id -u; pwd; echo $A") == (
        "1000\n/tmp\n1\n"
    )
    assert docker("exec", "box", "sh", "-c", "exit 7").returncode == 7
    missing = docker("exec", "box", "nosuchcommand")
    assert missing.returncode in (126, 127)
    assert b"executable file not found" in missing.stdout + missing.stderr
    docker.ok("exec", "-d", "box", "touch", "/tmp/mark")
    eventually(lambda: docker("exec", "box", "test", "-e", "/tmp/mark").returncode == 0)


def test_life_cycle(docker: Docker, idle: Idle) -> None:
    container = idle("life")

    def state() -> str:
        return docker.ok("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", container).strip()

    assert state() == "running 0"
    assert docker.ok("stop", "life") == "life\n"
    assert state() == "exited 0"
    assert docker.ok("start", "life") == "life\n"
    assert state() == "running 0"
    assert docker.ok("restart", "-t", "2", "life") == "life\n"
    assert docker.ok("kill", "life") == "life\n"
    assert state() == "exited 137"
    assert docker("kill", "life").returncode == 1
    docker.ok("rename", "life", "after")
    assert docker.ok("inspect", "--format", "{{.Name}}", container) == "/after\n"
    docker.ok("start", "after")
    assert docker("rm", "after").returncode == 1
    assert docker.ok("rm", "-f", "after") == "after\n"
    assert docker("inspect", container).returncode == 1


def test_wait_and_kill(docker: Docker, idle: Idle) -> None:
    idle("waited")
    waiting = docker.start("wait", "waited", stdout=subprocess.PIPE)
    docker.ok("kill", "-s", "KILL", "waited")
    out, _ = waiting.communicate(timeout=20)
    assert out == b"137\n"


def test_restart_on_failure(docker: Docker) -> None:
    docker.ok("run", "-d", "--name", "again", "--restart", "on-failure:2", "busybox", "sh", "-c", "echo run; exit 3")

    def ended() -> bool:
        seen = json.loads(docker.ok("inspect", "again"))[0]
        return bool(seen["State"]["Status"] == "exited" and seen["RestartCount"] == 2)

    eventually(ended)
    assert docker.ok("logs", "again") == "run\n" * 3


def test_out_of_memory(docker: Docker) -> None:
    done = docker(
        "run", "--name", "hungry", "-m", "64m", "--memory-swap", "64m", "busybox", "sh", "-c", "tail /dev/zero"
    )
    assert done.returncode == 137
    assert docker.ok("inspect", "--format", "{{.State.OOMKilled}}", "hungry") == "true\n"


def test_published_port(docker: Docker) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    docker.ok("run", "-d", "--name", "web", "-p", f"127.0.0.1:{port}:80", "busybox", "httpd", "-f", "-h", "/var/www")
    assert docker.ok("port", "web") == f"80/tcp -> 127.0.0.1:{port}\n"

    def page() -> bytes:
        try:
            with docker.engine.connect_tcp("127.0.0.1", port) as sock:
                sock.sendall(b"GET /index.html HTTP/1.0\r\n\r\n")
                return b"".join(iter(lambda: sock.recv(65536), b""))
        except OSError:
            return b""

    assert b"<h1>It works</h1>" in eventually(page)


def test_settings_of_the_process(docker: Docker, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "given").write_text("from the host")
    script = "id -u; pwd; echo $A; cat /c/given; touch /x 2>&1; touch /c/x 2>&1; touch /t/x && echo tmpfs"
    options = [
        "--user",
        "user",
        "-w",
        "/tmp",
        "-e",
        "A=1",
        "--read-only",
        "--tmpfs",
        "/t:mode=1777",
        "-v",
        f"{tmp_path}:/c:ro",
    ]
    out = docker.ok("run", "--rm", *options, "busybox", "sh", "-c", script)
    assert out.splitlines()[:3] == ["1000", "/tmp", "1"]
    assert "from the host" in out
    assert "touch: /x: Read-only file system" in out
    assert "touch: /c/x: Read-only file system" in out or "touch: /c/x: Permission denied" in out
    assert out.endswith("tmpfs\n")


def test_images(docker: Docker, tmp_path: Path) -> None:
    assert docker.ok("images", "--format", "{{.Repository}}:{{.Tag}}", "busybox").splitlines() == ["busybox:latest"]
    docker.ok("tag", "busybox", "renamed:v1")
    assert "renamed:v1" in docker.ok("images", "--format", "{{.Repository}}:{{.Tag}}")
    archive = tmp_path / "saved.tar"
    docker.ok("save", "-o", str(archive), "renamed:v1")
    assert "Untagged: renamed:v1" in docker.ok("rmi", "renamed:v1")
    assert docker.ok("load", "-i", str(archive)) == "Loaded image: renamed:v1\n"
    assert docker.ok("run", "--rm", "renamed:v1", "echo", "loaded") == "loaded\n"
    docker.ok("rmi", "renamed:v1")
    layer = tmp_path / "layer.tar"
    layer.write_bytes(busybox_layer())
    image = docker.ok("import", "--change", 'CMD ["echo", "imported"]', str(layer), "imported:1").strip()
    assert image.startswith("sha256:")
    assert docker.ok("run", "--rm", "imported:1") == "imported\n"
    assert docker("rmi", "nosuch").returncode == 1
    docker.ok("rmi", "imported:1")


def test_cp(docker: Docker, idle: Idle, tmp_path: Path) -> None:
    idle("box")
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "file").write_text("content")
    docker.ok("cp", str(tree), "box:/tmp")
    assert docker.ok("exec", "box", "cat", "/tmp/tree/deep/file") == "content"
    docker.ok("cp", "box:/tmp/tree/.", str(tmp_path / "back"))
    assert (tmp_path / "back" / "deep" / "file").read_text() == "content"
    docker.ok("cp", "box:/etc/passwd", str(tmp_path / "users"))
    assert (tmp_path / "users").read_text().startswith("root:")
    assert docker("cp", "box:/nope", str(tmp_path)).returncode == 1


def test_stats_and_events(docker: Docker, idle: Idle) -> None:
    idle("measured")
    row = json.loads(docker.ok("stats", "--no-stream", "--format", "{{json .}}", "measured"))
    assert row["Name"] == "measured"
    assert re.match(r"[\d.]+[KMG]?i?B / ", row["MemUsage"])
    seen = docker.ok(
        "events", "--since", "1h", "--until", "0s", "--filter", "container=measured", "--format", "{{.Action}}"
    )
    assert seen.split() == ["create", "start"]


def test_the_command_line_is_the_one_on_the_path() -> None:
    assert shutil.which("docker")
