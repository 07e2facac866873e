"""Wherry's own command line, on its own engine."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from scripts.make_images import busybox_archive
from tests.support.builds import context
from tests.support.engines import Engine, end_process, scratch_root, wherry_command
from tests.support.http import TIMEOUT, eventually

PROGRAM = [sys.executable, "-m", "wherry.cli"]
IDLE = ("sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 3600 & wait $!; done")


class Wherry:
    def __init__(self, engine: Engine) -> None:
        self.command = [*PROGRAM, "-H", engine.address]

    def __call__(self, *arguments: str, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([*self.command, *arguments], capture_output=True, input=input, timeout=60)

    def ok(self, *arguments: str, input: bytes = b"") -> str:
        done = self(*arguments, input=input)
        assert done.returncode == 0, done
        return done.stdout.decode()


@pytest.fixture
def cli(wherry: Engine) -> Wherry:
    return Wherry(wherry)


def test_run_and_exit_codes(cli: Wherry) -> None:
    assert cli.ok("run", "--rm", "busybox", "echo", "hi") == "hi\n"
    assert cli.ok("run", "--rm", "-i", "busybox", "sort", input=b"b\na\n") == "a\nb\n"
    done = cli("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
    assert cli("run", "--rm", "nosuch:img").returncode == 125
    assert cli("run", "--rm", "busybox", "/etc").returncode == 126
    assert cli("run", "--rm", "busybox", "nosuchcommand").returncode == 127
    assert cli.ok("ps", "-aq") == ""


def test_run_options(cli: Wherry, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("host")
    tmp_path.chmod(0o755)
    options = [
        "-e",
        "A=1",
        "-w",
        "/tmp",
        "-u",
        "1000",
        "-h",
        "boat",
        "-v",
        f"{tmp_path}:/m:ro",
        "-m",
        "32m",
        "--read-only",
    ]
    out = cli.ok("run", "--rm", *options, "busybox", "sh", "-c", "echo $A; pwd; id -u; hostname")
    assert out.split() == ["1", "/tmp", "1000", "boat"]


def test_life(cli: Wherry) -> None:
    id = cli.ok("run", "-d", "--name", "life", "-p", "127.0.0.1::80", "-l", "a=b", "busybox", *IDLE).strip()
    assert len(id) == 64
    assert "->80/tcp" in cli.ok("ps", "-f", "label=a=b")
    eventually(lambda: cli.ok("logs", "life") == "ready\n")
    assert cli.ok("exec", "life", "echo", "inside") == "inside\n"
    assert cli.ok("exec", "-i", "life", "cat", input=b"through") == "through"
    assert cli("exec", "life", "sh", "-c", "exit 7").returncode == 7
    assert json.loads(cli.ok("inspect", "life"))[0]["Id"] == id
    assert json.loads(cli.ok("inspect", "busybox"))[0]["RepoTags"] == ["busybox:latest"]
    assert id[:12] in cli.ok("stats")
    cli.ok("rename", "life", "after")
    cli.ok("restart", "-t", "2", "after")
    cli.ok("stop", "after")
    cli.ok("start", "after")
    cli.ok("kill", "after")
    assert cli.ok("wait", "after") == "137\n"
    assert cli.ok("rm", "after") == "after\n"
    assert cli("rm", "after").returncode == 1


def test_create_start_and_what_shows_of_a_container(cli: Wherry, tmp_path: Path) -> None:
    options = ["--name", "made", "-p", "127.0.0.1::80", "--ulimit", "nofile=100:200", "--restart", "on-failure:3"]
    options += ["--shm-size", "8m", "--log-opt", "max-size=1m", "--init", "--add-host", "a.test:10.1.2.3", "-l", "a=b"]
    (tmp_path / "env").write_text("# a comment\nFROM_FILE=1\n")
    options += ["--env-file", str(tmp_path / "env"), "--expose", "9000"]
    id = cli.ok("create", *options, "busybox", "sh", "-c", "ulimit -n; echo $FROM_FILE; sleep 1000").strip()
    form = "{{.State.Status}} {{.HostConfig.RestartPolicy.MaximumRetryCount}} {{json .HostConfig.LogConfig.Config}}"
    assert cli.ok("inspect", "-f", form, "made") == 'created 3 {"max-size": "1m"}\n'
    assert cli.ok("start", "made") == "made\n"
    eventually(lambda: cli.ok("logs", "made") == "100\n1\n")
    assert cli.ok("ps", "--format", "{{.ID}} {{.Names}} {{.State}}", "-f", "name=made") == f"{id[:12]} made running\n"
    for form in ("json", "{{json .}}"):
        assert json.loads(cli.ok("ps", "-l", "--format", form))["Labels"] == "a=b"
    assert (cli.ok("ps", "-q", "--no-trunc"), "SIZE" in cli.ok("ps", "-s")) == (f"{id}\n", True)
    port = cli.ok("port", "made", "80").strip()
    assert port.startswith("127.0.0.1:")
    assert cli.ok("port", "made") == f"80/tcp -> {port}\n"
    assert cli.ok("top", "made", "-o", "pid,comm").split()[:2] == ["PID", "COMMAND"]
    assert "sleep 1000" in cli.ok("top", "made")
    cli.ok("exec", "made", "touch", "/made")
    assert "A /made\n" in cli.ok("diff", "made")
    cli.ok("export", "-o", str(tmp_path / "made.tar"), "made")
    with tarfile.open(tmp_path / "made.tar") as tar:
        assert "made" in tar.getnames()
    assert list(tmp_path.glob("*.part")) == []
    assert cli.ok("update", "-m", "64m", "--memory-swap", "-1", "--cpus", "0.5", "--restart", "no", "made") == "made\n"
    assert cli.ok("inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}", "made") == "67108864 500000000\n"
    assert (cli.ok("pause", "made"), cli.ok("ps", "--format", "{{.State}}")) == ("made\n", "paused\n")
    cli.ok("unpause", "made")
    cli.ok("stop", "-s", "KILL", "made")
    assert cli.ok("stats", "--no-stream", "-a").split()[-1] == "0"
    assert cli.ok("container", "prune").strip() == id
    assert cli.ok("container", "ls", "-a", "-q") == ""


def test_logs_by_time(cli: Wherry) -> None:
    cli.ok("run", "-d", "--name", "told", "busybox", "sh", "-c", "seq 1 3")
    cli.ok("wait", "told")
    assert cli.ok("logs", "--since", "10m", "-n", "2", "told") == "2\n3\n"
    assert cli.ok("logs", "--until", "10m", "told") == ""
    assert cli.ok("logs", "--since", "2020-01-01", "--until", "2099-01-01T00:00:00Z", "told") == "1\n2\n3\n"
    stamped = cli.ok("logs", "-t", "told").splitlines()[0]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z 1", stamped)
    for option, words in (("--since=yesterday", b"is no time"), ("--tail=few", b"neither a number nor all")):
        done = cli("logs", option, "told")
        assert (done.returncode, words in done.stderr) == (2, True), done


def test_attach(cli: Wherry) -> None:
    script = "read line; echo got $line; exit 4"
    cli.ok("create", "-i", "--name", "talker", "busybox", "sh", "-c", script)
    assert b"wherry start -a talker" in cli("attach", "talker").stderr
    done = cli("start", "-ai", "talker", input=b"hello\n")
    assert (done.returncode, done.stdout) == (4, b"got hello\n")
    cli.ok("start", "talker")
    done = cli("attach", "talker", input=b"again\n")
    assert (done.returncode, done.stdout) == (4, b"got again\n")


def code_of(arguments: tuple[str, ...]) -> int:
    """Of a mistake in the options: 2, or 125 where 2 may be a process's own."""
    return 125 if arguments[0] in ("run", "create", "exec") else 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create", "-m", "12x", "busybox"), "--memory: '12x' is no size"),
        (("create", "--env-file", "/nonexistent", "busybox"), "does not exist"),
        (("exec", "--nonsense", "one", "true"), "No such option"),
        (("exec", "one"), "Missing argument 'COMMAND...'"),
        (("run",), "Missing argument 'IMAGE'"),
        (("run", "-p", "80:80:80:80", "busybox"), "'80:80:80:80' is no port; write [[IP:]HOST:]CONTAINER"),
        (("run", "-p", "[::1]:1:80:80", "busybox"), "is no port; write [[IP:]HOST:]CONTAINER"),
        (("run", "--nonsense", "busybox"), "No such option"),
        (("ps", "--format", "{{.Nope}}"), "no field 'Nope'; there are ID, Names"),
        (("ps", "--format", "{{if .ID}}x{{end}}"), "only fields can be picked"),
        (("inspect", "-f", "{{.State.Nope}}", "one"), "nothing at .State.Nope: no 'Nope'"),
        (("update", "one"), "nothing to change"),
        (("update", "-m", "much", "one"), "--memory: 'much' is no size"),
        (("run", "-m", "12x", "busybox"), "--memory: '12x' is no size"),
        (("run", "--shm-size", "12x", "busybox"), "--shm-size: '12x' is no size"),
        (("run", "--restart", "on-failure:x", "busybox"), "is no restart policy"),
        (("run", "--ulimit", "nofile", "busybox"), "is no limit; write nofile=1024:2048"),
        (("start", "-a", "one", "two"), "one container at a time"),
        (("ps", "-f", "name"), "is no filter; write key=value"),
    ],
)
def test_mistakes_are_said(cli: Wherry, arguments: tuple[str, ...], words: str) -> None:
    cli.ok("create", "--name", "one", "busybox", "true")
    done = cli(*arguments)
    # an option's text may be broken over lines, in a terminal's width
    assert (done.returncode, words in " ".join(done.stderr.decode().split())) == (code_of(arguments), True), done


def test_every_container_command_is_there(cli: Wherry) -> None:
    wanted = (
        "attach commit cp create diff exec export inspect kill logs ls pause port prune ps rename restart rm run start"
    )
    help = cli.ok("container", "--help")
    for name in (wanted + " stats stop top unpause update wait").split():
        assert f"\n  {name} " in help, name


def test_images(cli: Wherry, tmp_path: Path) -> None:
    cli.ok("tag", "busybox", "other:v1")
    assert "other:v1" in cli.ok("images")
    archive = tmp_path / "a.tar"
    cli.ok("save", "-o", str(archive), "other:v1")
    cli.ok("rmi", "other:v1")
    assert cli.ok("load", "-i", str(archive)) == "other:v1\n"
    cli.ok("rmi", "other:v1")


def test_a_command_brings_no_module_that_it_does_not_need(cli: Wherry) -> None:
    costly = "asyncio bz2 csv ctypes json lzma shutil ssl subprocess tarfile tempfile urllib.parse wherry.engine wherry.embed"
    code = (
        "import sys, wherry.cli\nsys.argv[1:] = sys.argv[2:]\ntry: wherry.cli.main()\n"
        f"except SystemExit: print(*sorted(set(sys.modules) & set({costly!r}.split())), file=sys.stderr)"
    )
    id = cli.ok("run", "-d", "busybox", "sleep", "1000").strip()
    for arguments in (("--version",), ("ps",), ("stop", "-t", "0", id), ("rm", id), ("run", "--rm", "busybox", "true")):
        command = [sys.executable, "-c", code, *cli.command[2:], *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr.split()) == (0, []), arguments


def test_without_an_engine(tmp_path: Path) -> None:
    done = subprocess.run([*PROGRAM, "-H", f"unix://{tmp_path}/none.sock", "ps"], capture_output=True)
    assert done.returncode == 1
    assert done.stderr.startswith(b"wherry: ")
    assert b"Traceback" not in done.stderr


def test_version_info_and_events(cli: Wherry) -> None:
    assert "API 1.44" in cli.ok("version")
    assert json.loads(cli.ok("info"))["OSType"] == "linux"
    cli.ok("run", "--rm", "--name", "seen", "busybox", "true")
    seen = cli.ok("events", "--since", "1", "--until", f"{time.time():.3f}", "-f", "container=seen")
    assert [line.split()[2] for line in seen.splitlines()][:3] == ["create", "attach", "start"]
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(Z|[+-]\d\d:\d\d) container create ", seen)
    period = ["events", "--since", seen.split()[0], "--until", seen.split()[0], "-f", "container=seen"]
    assert cli.ok(*period) == seen.splitlines()[0] + "\n", "what is shown can be asked for again"


def test_inspect_shows_what_there_is_and_says_what_is_not(cli: Wherry) -> None:
    for names in (("busybox", "nosuch"), ("nosuch", "busybox")):
        done = cli("inspect", "-f", "{{.RepoTags}}", *names)
        assert (done.returncode, done.stdout) == (1, b'["busybox:latest"]\n')
        assert done.stderr == b"wherry: no container and no image nosuch\n"
    done = cli("inspect", "--type", "container", "busybox")
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (1, [], b"wherry: no container busybox\n")


def test_doctor(tmp_path: Path) -> None:
    done = subprocess.run([*PROGRAM, "doctor", "--json", "--data-root", str(tmp_path / "data")], capture_output=True)
    found = {finding["subject"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 0, found
    wanted = {"Python", "root", "OCI runtime", "monitor", "cgroups", "overlayfs", "nftables", "FORWARD", "ip_forward"}
    assert wanted | {"SELinux", "free space", "capabilities", "tar"} <= set(found)
    assert not list(tmp_path.iterdir()), "the doctor changes nothing"
    text = subprocess.run([*PROGRAM, "doctor"], capture_output=True, text=True).stdout
    assert "An engine can run here" in text


def test_serve_names_what_is_missing(tmp_path: Path) -> None:
    command = [*PROGRAM, "serve", "--host", f"unix://{tmp_path}/s", "--data-root", f"{tmp_path}/d"]
    command += ["--exec-root", f"{tmp_path}/e", "--runtime", "nosuchruntime"]
    done = subprocess.run(command, capture_output=True, timeout=20)
    assert done.returncode == 1
    assert b"nosuchruntime" in done.stderr
    assert b"Traceback" not in done.stderr


def test_serve_tells_systemd_when_it_is_ready() -> None:
    with scratch_root("notify") as root, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(root / "notify"))
        notified.settimeout(TIMEOUT)
        environment = os.environ | {"NOTIFY_SOCKET": str(root / "notify")}
        with subprocess.Popen(
            wherry_command(root, "--stop-containers"), env=environment, stderr=subprocess.DEVNULL
        ) as process:
            try:
                assert notified.recv(100) == b"READY=1"
                engine = Engine("wherry", root, process, "1.43", "")
                assert engine.http.get("/_ping").status == 200
                engine.load(busybox_archive())
                # crun would give the container the socket
                assert b"NOTIFY_SOCKET" not in engine.run_to_end("env", HostConfig={"NetworkMode": "none"})[1]
                engine.remove_all()
            finally:
                end_process(process)


def test_serve_refuses_plain_tcp(tmp_path: Path) -> None:
    command = [*PROGRAM, "serve", "--host", "tcp://127.0.0.1:0", "--data-root", f"{tmp_path}/d"]
    done = subprocess.run([*command, "--exec-root", f"{tmp_path}/e"], capture_output=True, timeout=20)
    assert done.returncode == 1
    assert b"--insecure" in done.stderr
    assert b"Traceback" not in done.stderr


def test_an_option_that_is_none_is_said(cli: Wherry) -> None:
    done = cli("run", "--bogus", "busybox", "true")
    assert done.returncode == 125
    assert b"--bogus" in done.stderr
    assert cli.ok("run", "--rm", "busybox", "echo", "--bogus") == "--bogus\n"


def test_build(cli: Wherry, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        "FROM busybox AS base\nARG WHO\nCOPY . /files\nRUN ls /files && echo hello $WHO\nFROM base\nRUN false\n"
    )
    (tmp_path / ".dockerignore").write_text("*.log\n")
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "left.log").write_text("left")
    said = cli.ok(
        "build", "-t", "built:1", "--build-arg", "WHO=me", "--label", "a=b", "--target", "base", str(tmp_path)
    )
    assert "hello me\n" in said
    assert "left.log" not in said
    assert said.endswith("Successfully tagged built:1\n")
    assert cli.ok("run", "--rm", "built:1", "cat", "/files/kept") == "kept"
    assert cli.ok("build", "-q", "--target", "base", str(tmp_path)).startswith("sha256:")
    cli.ok("build", "-f", "-", "-t", "built:2", str(tmp_path), input=b"FROM busybox\nCOPY kept /\n")
    done = cli("build", "-", input=context({}, "FROM busybox\nRUN exit 9\n"))
    assert (done.returncode, done.stderr) == (
        9,
        b"wherry: The command '/bin/sh -c exit 9' returned a non-zero code: 9\n",
    )
    done = cli("build", "/nonexistent")
    assert (done.returncode, done.stderr) == (
        1,
        b"wherry: /nonexistent is no directory: for an archive, give the open file or its bytes\n",
    )
    assert cli("build", "git://host/x").stderr.startswith(b"wherry: building from a git repository is not there")
    unreadable = "/proc/sys/net/ipv4/route"  # one file in it can only be written, by root too
    done = cli("build", "-f", "-", unreadable, input=b"FROM busybox\n")
    assert done.returncode == 1
    assert done.stderr == f"wherry: the context cannot be sent: {unreadable}/flush: Permission denied\n".encode()
    cli.ok("rmi", "-f", "built:1", "built:2")


def test_a_build_s_dockerfile_is_the_present_directory_s_before_the_context_s(
    cli: Wherry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "context").mkdir()
    for directory in (tmp_path, tmp_path / "context"):
        (directory / "File").write_text(f"FROM busybox\nRUN echo of {directory.name}\n")
    (tmp_path / "context" / "Other").write_text("FROM busybox\nRUN echo other\n")
    monkeypatch.chdir(tmp_path)
    assert f"\nof {tmp_path.name}\n" in cli.ok("build", "-f", "File", "context")
    assert "\nof context\n" in cli.ok("build", "-f", "context/File", "context")
    assert "\nother\n" in cli.ok("build", "-f", "Other", "context")
