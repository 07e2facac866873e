"""POST /containers/create: the command, its environment and directory, merged from request and image."""

from __future__ import annotations

import io
import stat
import tarfile
from typing import Any

import pytest

from tests.support.engines import Engine
from tests.support.scenes import refused


def archive_stat(engine: Engine, container: str, path: str) -> tarfile.TarInfo:
    answer = engine.http.get(f"/containers/{container}/archive", query={"path": path})
    assert answer.status == 200, answer
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
        return tar.getmembers()[0]


PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def test_CRE5i_the_health_check_is_merged_by_field(engine: Engine) -> None:
    image = {"Cmd": ["true"], "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5_000_000_000, "Retries": 7}}
    engine.load_image("healthy:latest", image)
    check = engine.inspect(engine.create(Image="healthy"))["Config"]["Healthcheck"]
    assert (check["Test"], check["Interval"], check["Retries"]) == (["CMD", "true"], 5_000_000_000, 7)
    given = {"Test": [], "Interval": 9_000_000_000}
    check = engine.inspect(engine.create(Image="healthy", Healthcheck=given))["Config"]["Healthcheck"]
    assert (check["Test"], check["Interval"], check["Retries"]) == (["CMD", "true"], 9_000_000_000, 7)


@pytest.mark.parametrize(
    ("request_part", "path", "args"),
    [
        ({}, "echo", ["entry", "from-image"]),
        ({"Cmd": ["x"]}, "echo", ["entry", "x"]),
        ({"Entrypoint": ["cat"]}, "cat", []),
        ({"Entrypoint": ["cat"], "Cmd": ["y"]}, "cat", ["y"]),
        ({"Entrypoint": [""], "Cmd": ["ls", "/"]}, "ls", ["/"]),
        ({"Entrypoint": [], "Cmd": ["ls", "/"]}, "ls", ["/"]),
    ],
)
def test_CRE5_command_and_entrypoint(
    engine: Engine, rich_image: str, request_part: dict[str, Any], path: str, args: list[str]
) -> None:
    details = engine.inspect(engine.create(Image=rich_image, **request_part))
    assert (details["Path"], details["Args"]) == (path, args)


def test_CRE5_no_command(engine: Engine) -> None:
    engine.load_image("commandless:latest", {})
    refused(engine, 400, "No command specified", Image="commandless", Cmd=None)


def test_CRE5_merge_of_the_image_configuration(engine: Engine, rich_image: str) -> None:
    body: dict[str, Any] = {
        "Env": ["COLOUR=blue", "NEW=1"],
        "Labels": {"owner": "request"},
        "ExposedPorts": {"82/tcp": {}},
    }
    config = engine.inspect(engine.create(Image=rich_image, **body))["Config"]
    assert config["Env"] == ["COLOUR=blue", "NEW=1", PATH, "SIZE=big"]
    assert config["Labels"] == {"kind": "rich", "owner": "request"}
    assert set(config["ExposedPorts"]) == {"81/tcp", "82/tcp"}
    assert set(config["Volumes"]) == {"/data"}
    assert (config["User"], config["WorkingDir"], config["StopSignal"]) == ("user", "/srv/work", "SIGUSR1")


def test_CRE6_environment_of_the_process(engine: Engine) -> None:
    code, out, _ = engine.run_to_end("env", Env=["A=1", "B=x=y", "EMPTY="], Hostname="boat")
    assert code == 0
    env = out.decode().splitlines()
    assert {"A=1", "B=x=y", "EMPTY=", "HOSTNAME=boat", "HOME=/root", PATH} == set(env)


def test_CRE6_term_with_a_tty(engine: Engine) -> None:
    container = engine.run("sh", "-c", "echo $TERM", Tty=True)
    engine.wait(container)
    with engine.open_logs(container) as exchange:
        assert exchange.read() == b"xterm\r\n"


def test_CRE6_an_entry_without_equals_removes_the_variable(engine: Engine) -> None:
    code, out, _ = engine.run_to_end("/bin/env", Env=["PATH"])
    assert (code, b"PATH=" in out) == (0, False)
    container = engine.create("env", Env=["PATH"])
    answer = engine.http.post(f"/containers/{container}/start")
    assert (answer.status, "executable file not found" in answer.message) == (400, True)


def test_CRE6_bad_variable(engine: Engine) -> None:
    refused(engine, 400, "invalid environment variable: =x", Env=["=x"])


def test_CRE7_hostname(engine: Engine) -> None:
    container = engine.create("hostname")
    assert engine.inspect(container)["Config"]["Hostname"] == container[:12]
    engine.start(container)
    engine.wait(container)
    assert engine.logs(container)[0].decode() == container[:12] + "\n"
    assert engine.run_to_end("hostname", Hostname="pier")[1] == b"pier\n"
    code, out, _ = engine.run_to_end("cat", "/etc/hostname", Hostname="pier", Domainname="example.org")
    assert (code, out) == (0, b"pier\n")


def test_CRE8b_the_working_directory_is_made_at_create(engine: Engine) -> None:
    container = engine.create("true", WorkingDir="/made/at/create")
    info = archive_stat(engine, container, "/made/at/create")
    assert (info.isdir(), stat.S_IMODE(info.mode), info.uid) == (True, 0o755, 0)


def test_CRE8_working_directory(engine: Engine) -> None:
    refused(
        engine,
        400,
        "the working directory 'rel' is invalid, it needs to be an absolute path",
        WorkingDir="rel",
    )
    assert engine.run_to_end("pwd", WorkingDir="/made/for/you")[1] == b"/made/for/you\n"
    code, out, _ = engine.run_to_end("stat", "-c", "%a %u", "/made/for/you", WorkingDir="/made/for/you")
    assert (code, out) == (0, b"755 0\n")
