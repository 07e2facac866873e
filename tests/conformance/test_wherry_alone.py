"""What Wherry's engine promises beyond the comparison: clear answers for what is not there yet, and nothing left behind."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.engines import Engine
from tests.support.http import eventually
from tests.support.machine import Holdings, holdings


@pytest.mark.parametrize("target", ["/session", "/build?remote=https://example.org/project.git"])
def test_what_is_not_there_yet_says_so(wherry: Engine, target: str) -> None:
    answer = wherry.http.post(target)
    assert answer.status == 501, answer
    assert len(answer.message) > 30, "one sentence that says what works"


@pytest.mark.parametrize("source", ["\u0080x", "ftp://a/b", "http://a:port/b", "a\0b", "a b/c"])
def test_an_import_from_what_is_no_url_is_a_bad_request(wherry: Engine, source: str) -> None:
    answer = wherry.http.post("/images/create", query={"fromSrc": source})
    assert (answer.status, answer.message.startswith("invalid URL to import from: ")) == (400, True)


@pytest.mark.parametrize("target", ["/swarm", "/nodes", "/services", "/tasks", "/secrets", "/configs"])
def test_the_swarm_family_answers_as_outside_a_swarm(wherry: Engine, target: str) -> None:
    answer = wherry.http.get(target)
    assert answer.status == 503
    assert answer.message.startswith("This node is not a swarm manager.")


def test_plugins_are_an_empty_list(wherry: Engine) -> None:
    answer = wherry.http.get("/plugins")
    assert (answer.status, answer.json) == (200, [])


def life(engine: Engine, name: str) -> int:
    """The whole life of a container of ``true``; its exit code."""
    container = engine.create("true", name=name)
    engine.start(container)
    code = engine.wait(container)
    assert engine.http.delete(f"/containers/{container}").status == 204
    return code


def settled(engine: Engine) -> Holdings:
    """What the idle engine holds; with what it makes once and keeps, such as its bridge."""
    engine.remove_all()
    life(engine, "first")
    engine.exec(engine.run_idle(), "true")  # the first hijacked connection brings a watch that stays
    engine.remove_all()

    def quiet() -> Holdings | None:
        seen = holdings(engine.root, engine.pid)
        return None if seen.processes or any(link.startswith("v") for link in seen.links) else seen

    found: Holdings = eventually(quiet, within=10, what="a quiet engine")
    return found


BAD_CREATES: list[dict[str, Any]] = [
    {"Image": "nosuch"},
    {"Image": 7},
    {"Cmd": ["x"], "HostConfig": {"Memory": "64"}},
    {"HostConfig": {"Memory": 5}},
    {"HostConfig": {"Binds": ["/a:b"]}},
    {"HostConfig": {"Mounts": [{"Type": "bind", "Source": "/nope", "Target": "/x"}]}},
    {"HostConfig": {"CapAdd": ["NOPE"]}},
    {"HostConfig": {"RestartPolicy": {"Name": "sometimes"}}},
    {"HostConfig": {"PortBindings": {"abc": [{}]}}},
    {"HostConfig": {"Runtime": "nope"}},
    {"HostConfig": {"LogConfig": {"Type": "nope"}}},
    {"Env": ["=x"]},
    {"WorkingDir": "rel"},
    {"StopSignal": "NOPE"},
]


def test_bad_input_leaves_nothing_behind(wherry: Engine) -> None:
    before = settled(wherry)
    for body in BAD_CREATES:
        answer = wherry.try_create("true", name="bad", **body)
        assert answer.status in (400, 404, 500), (body, answer)
        assert answer.message
    for text in (b"", b"{", b"[]", b"nonsense", b'{"Image":"busybox"}x', b"[" * 100_000, b'{"a":' * 10_000):
        answer = wherry.http.post("/containers/create", body=text, headers={"Content-Type": "application/json"})
        assert answer.status == 400, (text[:20], answer)
    for target in ("/containers/x%00y/json", "/containers/" + "a" * 5000 + "/json", "/containers/..%2f..%2fetc/json"):
        assert wherry.http.get(target).status in (301, 400, 404, 414)
    assert wherry.http.get("/containers/json", query={"filters": {"name": ["(a+)+$" * 5]}}, timeout=5).status == 200
    assert wherry.containers() == []
    assert wherry.try_create("true", name="bad").status == 201
    wherry.remove_all()
    eventually(lambda: not holdings(wherry.root, wherry.pid).more_than(before), within=10)


FAILING_STARTS: list[dict[str, Any]] = [
    {"Cmd": ["nosuchcommand"]},
    {"Cmd": ["/etc"]},
    {"User": "nosuchuser"},
    {"HostConfig": {"NetworkMode": "nonet"}},
    {"HostConfig": {"NetworkMode": "container:nope"}},
    {"HostConfig": {"LogConfig": {"Type": "json-file", "Config": {"max-size": "abc"}}}},
]


def test_failed_starts_leave_nothing_behind(wherry: Engine) -> None:
    before = settled(wherry)
    for body in FAILING_STARTS:
        container = wherry.create(**({"Cmd": ["true"]} | body))
        assert wherry.http.post(f"/containers/{container}/start").status in (400, 404, 500), body
        assert wherry.http.delete(f"/containers/{container}").status == 204

    def left() -> dict[str, list[str]]:
        return holdings(wherry.root, wherry.pid).more_than(before)

    eventually(lambda: not left(), within=10, what=left)


def test_two_hundred_containers_leave_nothing_behind(wherry: Engine) -> None:
    before = settled(wherry)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda number: life(wherry, f"many-{number}"), range(200))) == [0] * 200
    assert wherry.containers() == []

    def left() -> dict[str, list[str]]:
        return holdings(wherry.root, wherry.pid).more_than(before)

    eventually(lambda: not left(), within=10, what=left)


KINDS: list[dict[str, Any]] = [
    {"HostConfig": {"IpcMode": "shareable"}},
    {"HostConfig": {"Tmpfs": {"/t": ""}, "Binds": ["/tmp:/host:ro"], "ReadonlyRootfs": True}},
    {"Volumes": {"/data": {}}},
    {"HostConfig": {"NetworkMode": "none", "Memory": 32 << 20}},
    {"HostConfig": {"NetworkMode": "host", "Privileged": True}},
    {"ExposedPorts": {"80/tcp": {}}, "HostConfig": {"PublishAllPorts": True}},
    {"Tty": True, "OpenStdin": True},
    {"HostConfig": {"LogConfig": {"Type": "none"}}},
]


@pytest.mark.parametrize("body", KINDS, ids=str)
def test_no_kind_of_container_leaves_anything_behind(wherry: Engine, body: dict[str, Any]) -> None:
    before = settled(wherry)
    container = wherry.run("sleep", "1000", **body)
    assert wherry.exec(container, "true")[0] == 0
    wherry.http.post(f"/containers/{container}/restart?t=0")
    assert wherry.http.delete(f"/containers/{container}?force=1&v=1").status == 204

    def left() -> dict[str, list[str]]:
        return holdings(wherry.root, wherry.pid).more_than(before)

    eventually(lambda: not left(), within=10, what=left)


def test_two_engines_side_by_side(wherry: Engine) -> None:
    from tests.support.engines import prepared

    with prepared("wherry") as other:
        first = wherry.run_idle(name="same-name")
        second = other.run_idle(name="same-name")
        assert wherry.containers() == [first]
        assert other.containers() == [second]
        addresses = {e.inspect("same-name")["NetworkSettings"]["Gateway"] for e in (wherry, other)}
        assert len(addresses) == 2
        other.remove_all()
        assert wherry.status(first) == "running"


def test_a_second_engine_on_the_same_exec_root_is_refused_and_harms_nobody(wherry: Engine, tmp_path: Path) -> None:
    container = wherry.run_idle()
    command = [sys.executable, "-m", "wherry.cli", "serve", "--host", f"unix://{tmp_path}/other.sock"]
    command += ["--data-root", str(tmp_path / "data"), "--exec-root", str(wherry.root / "exec")]
    other = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (other.returncode, "another engine uses" in other.stderr, "Traceback" in other.stderr) == (1, True, False)
    assert wherry.status(container) == "running"
    assert wherry.exec(container, "true")[0] == 0


def test_a_root_that_cannot_be_is_said_in_a_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "wherry.cli", "serve", "--data-root", "/proc/nosuch", "--exec-root", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, "Traceback" in ended.stderr) == (1, False)
    assert "/proc/nosuch" in ended.stderr


def test_what_the_docker_command_asks_for_in_passing(wherry: Engine) -> None:
    """It looks for plugins when nothing else has a name, and prunes the build cache with everything else."""
    assert wherry.http.get("/plugins/nosuch/json").status == 404
    pruned = wherry.http.post("/build/prune")
    assert (pruned.status, pruned.json) == (200, {"CachesDeleted": None, "SpaceReclaimed": 0})
    answer = wherry.try_create("true", HostConfig={"VolumesFrom": ["nosuch"]})
    assert (answer.status, answer.message) == (400, "No such container: nosuch")


def test_devices_that_no_driver_gives_are_refused(wherry: Engine) -> None:
    request = {"Count": -1, "Capabilities": [["gpu"]]}
    container = wherry.create("true", HostConfig={"DeviceRequests": [request]})
    answer = wherry.http.post(f"/containers/{container}/start")
    assert answer.status == 500
    assert 'could not select device driver "" with capabilities: [[gpu]]' in answer.message


def test_a_container_in_anothers_network_has_its_hostname(wherry: Engine) -> None:
    donor = wherry.run_idle(Hostname="donor")
    guest = wherry.run_idle(HostConfig={"NetworkMode": f"container:{donor}"})
    assert wherry.exec(guest, "hostname")[1] == b"donor\n"


def test_data_usage_counts_the_containers_of_an_image(wherry: Engine) -> None:
    wherry.create("true")
    (image,) = [i for i in wherry.http.get("/system/df").json["Images"] if "busybox:latest" in (i["RepoTags"] or [])]
    assert image["Containers"] == 1
