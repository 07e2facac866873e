"""All that docker-py has for containers, each method with each of its options, against each engine.

The last test compares the calls of this module with docker-py itself: what is missing here fails there. The low-level client
is called ``low`` here, the collection ``client.containers``, and a container ``container``.
"""

from __future__ import annotations

import ast
import inspect
import io
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import docker.types
import pytest
from docker.api.container import ContainerApiMixin
from docker.api.exec_api import ExecApiMixin
from docker.models.containers import Container, ContainerCollection

from tests.support.engines import Engine
from tests.support.http import eventually

IDLE = ["sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 3600 & wait $!; done"]

# Options that no call here has, each with the reason.
LEFT_OUT = {
    "lxc_conf": "of engines before API 1.19: docker-py refuses it",
    "init_path": "of API 1.29 and before: docker-py refuses it",
    "cpu_count": "Windows only: docker-py hands it on, engines on Linux ignore it",
    "cpu_percent": "Windows only",
    "ws": "docker-py opens websockets over TCP only: aiodocker's tests have them",
    "conf": "the same as commit's changes, in the API's own form: see test_commit",
}


@pytest.fixture
def client(engine: Engine) -> Iterator[Any]:
    client = docker.DockerClient(base_url=engine.address, version="auto", timeout=30)
    yield client
    client.close()


@pytest.fixture
def low(client: Any) -> Any:
    return client.api


@pytest.fixture
def container(client: Any) -> Any:
    made = client.containers.run("busybox", IDLE, name="model", labels={"a": "b"}, detach=True)
    eventually(lambda: made.logs() == b"ready\n")
    return made


def tar_of(name: str, data: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return made.getvalue()


# the model


def test_properties(client: Any, container: Any) -> None:
    assert (container.name, container.labels, container.status) == ("model", {"a": "b"}, "created")
    container.reload()
    assert (container.status, container.health, container.ports) == ("running", "unknown", {})
    assert container.id.startswith(container.short_id)
    assert "busybox:latest" in container.image.tags
    assert client.containers.get("model") == container


def test_pause_kill_stop_restart_wait(container: Any) -> None:
    container.pause()
    container.reload()
    assert container.status == "paused"
    container.unpause()
    container.restart(timeout=5)
    container.kill(signal="SIGTERM")
    assert container.wait(timeout=20, condition="not-running")["StatusCode"] == 0
    container.start()
    container.stop(timeout=5)
    assert container.wait()["StatusCode"] == 0
    container.rename("renamed")
    container.reload()
    assert container.name == "renamed"
    container.remove(v=True, link=False, force=True)


def test_files(container: Any) -> None:
    assert container.put_archive("/tmp", tar_of("f", b"content"))
    for encode in (False, True):
        stream, stat = container.get_archive("/tmp/f", chunk_size=1024, encode_stream=encode)
        assert (stat["name"], stat["size"]) == ("f", 7)
        with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
            assert tar.extractfile("f").read() == b"content"  # type: ignore[union-attr]
    assert {"Path": "/tmp/f", "Kind": 1} in container.diff()
    with tarfile.open(fileobj=io.BytesIO(b"".join(container.export(chunk_size=65536)))) as tar:
        assert "tmp/f" in tar.getnames()


def test_looks(container: Any) -> None:
    assert container.top(ps_args="-o pid,comm")["Titles"] == ["PID", "COMMAND"]
    assert container.stats(stream=False)["name"] == "/model"
    assert next(container.stats(decode=True, stream=True))["id"] == container.id
    container.update(cpu_shares=256)
    container.reload()
    assert container.attrs["HostConfig"]["CpuShares"] == 256
    container.resize(height=10, width=20)  # without a terminal: nothing happens
    now = int(time.time())
    lines = container.logs(stdout=True, stderr=False, timestamps=True, tail=1, since=now - 3600, until=now + 3600)
    assert lines.endswith(b" ready\n")


def test_commit(client: Any, container: Any) -> None:
    container.exec_run(["touch", "/committed"])
    image = container.commit(
        repository="dockerpy", tag="v1", message="m", author="a", pause=False, changes=["ENV COMMITTED=1"]
    )
    try:
        assert b"COMMITTED=1" in client.containers.run("dockerpy:v1", "env", remove=True)
        assert (image.attrs["Author"], image.attrs["Comment"]) == ("a", "m")
    finally:
        client.images.remove("dockerpy:v1")


def test_exec_run(container: Any) -> None:
    script = "echo out; echo err >&2; exit 3"
    assert container.exec_run(["sh", "-c", script], demux=True) == (3, (b"out\n", b"err\n"))
    assert container.exec_run(["sh", "-c", script], stdout=False).output == b"err\n"
    assert container.exec_run(["sh", "-c", script], stderr=False).output == b"out\n"
    options: dict[str, Any] = {"environment": {"A": "1"}, "workdir": "/tmp", "user": "user"}
    assert container.exec_run(["sh", "-c", "echo $A; pwd; id -un"], **options).output == b"1\n/tmp\nuser\n"
    assert container.exec_run("tty", tty=True).output.startswith(b"/dev/pts/")
    assert b"".join(container.exec_run("seq 1 3", stream=True).output) == b"1\n2\n3\n"
    assert container.exec_run("touch /tmp/detached", detach=True).exit_code in (None, 0)
    eventually(lambda: container.exec_run("ls /tmp/detached").exit_code == 0)
    sock = container.exec_run("cat", stdin=True, socket=True).output
    sock._sock.sendall(b"through\n")
    assert sock.read(16)[8:] == b"through\n"
    sock.close()
    assert container.exec_run("true", user="", environment=None, workdir=None, privileged=False).exit_code == 0


def test_attach(client: Any) -> None:
    made = client.containers.create("busybox", ["sh", "-c", "read x; echo got $x"], stdin_open=True)
    sock = made.attach_socket(params={"stdin": 1, "stream": 1, "stdout": 1}, ws=False)
    made.start()
    sock._sock.sendall(b"it\n")
    assert sock.read(15)[8:] == b"got it\n"
    sock.close()
    assert made.wait()["StatusCode"] == 0
    # docker-py loses what comes in one piece with the answer's head
    out, err = made.attach(stdout=True, stderr=True, stream=False, logs=True, demux=True)
    assert out in (b"got it\n", None)
    assert err is None


# the collection


def test_collection(client: Any) -> None:
    first = client.containers.create("busybox", command="true", name="first")
    second = client.containers.create("busybox", "true", name="second")
    names = [c.name for c in client.containers.list(all=True)]
    assert names == ["second", "first"]
    assert client.containers.list() == []
    assert [c.id for c in client.containers.list(all=True, limit=1)] == [second.id]
    # docker-py sends these as parameters of their own, which the API has no more: they do nothing
    assert len(client.containers.list(all=True, before="second")) == 2
    assert len(client.containers.list(all=True, since="first")) == 2
    assert [c.id for c in client.containers.list(all=True, filters={"before": "second"})] == [first.id]
    sparse = client.containers.list(all=True, filters={"name": "first"}, sparse=True, ignore_removed=True)
    assert [c.attrs["Names"] for c in sparse] == [["/first"]]
    assert client.containers.prepare_model(first.attrs) == first
    pruned = client.containers.prune(filters={"until": "1h"})
    assert (pruned["ContainersDeleted"], pruned["SpaceReclaimed"]) == (None, 0)
    assert set(client.containers.prune()["ContainersDeleted"]) == {first.id, second.id}
    with pytest.raises(docker.errors.NotFound):
        client.containers.get("first")


def test_run(client: Any) -> None:
    script = ["sh", "-c", "echo out; echo err >&2"]
    assert client.containers.run("busybox", command=script, stdout=True, stderr=False, remove=True) == b"out\n"
    with pytest.raises(docker.errors.ContainerError):
        client.containers.run("busybox", "false", remove=True)
    assert client.containers.list(all=True) == []


# the low-level client


def test_low_life(low: Any, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    networking = low.create_networking_config({"bridge": low.create_endpoint_config()})
    configuration = low.create_container_config(
        image="busybox", command=["true"], host_config=low.create_host_config(binds=[f"{tmp_path}:/m"])
    )
    low.create_container_from_config(configuration, name="configured", platform=None)
    assert low.inspect_container("configured")["HostConfig"]["Binds"] == [f"{tmp_path}:/m"]
    made = low.create_container(
        image="busybox",
        command=["sh", "-c", "sleep 1000"],
        hostname="boat",
        domainname="sea",
        user="0",
        detach=False,
        stdin_open=True,
        tty=True,
        ports=[80, (53, "udp")],
        environment={"A": "1"},
        volumes=["/anonymous"],
        network_disabled=False,
        name="low",
        entrypoint=None,
        working_dir="/tmp",
        host_config=low.create_host_config(port_bindings={80: ("127.0.0.1", None)}),
        mac_address="02:42:ac:11:00:77",
        labels={"a": "b"},
        stop_signal="SIGKILL",
        networking_config=networking,
        healthcheck=docker.types.Healthcheck(test=["CMD", "true"], interval=10**12),
        stop_timeout=3,
        runtime=None,
        use_config_proxy=False,
        platform=None,
    )["Id"]
    low.start("low")
    seen = low.inspect_container(container="low")
    config = seen["Config"]
    assert (config["Hostname"], config["Domainname"], config["WorkingDir"]) == ("boat", "sea", "/tmp")
    assert (config["StopSignal"], config["StopTimeout"], config["Tty"]) == ("SIGKILL", 3, True)
    assert set(config["ExposedPorts"]) == {"80/tcp", "53/udp"}
    assert seen["NetworkSettings"]["MacAddress"] == "02:42:ac:11:00:77"
    (published,) = low.port("low", private_port=80)
    assert published["HostIp"] == "127.0.0.1"
    low.resize("low", height=31, width=71)
    size = low.exec_create("low", ["stty", "size", "-F", "/dev/console"])
    eventually(lambda: b"31 71" in low.exec_start(low.exec_create("low", "stty -F /dev/pts/0 size")["Id"]))
    assert size["Id"]
    low.pause("low")
    low.unpause("low")
    low.rename("low", name="lower")
    low.restart("lower", timeout=0)
    assert low.top("lower", ps_args="-o pid,comm")["Titles"] == ["PID", "COMMAND"]
    low.kill("lower", signal=9)
    assert low.wait("lower", timeout=20, condition="not-running") == {"StatusCode": 137} | (
        {"Error": None} if "Error" in low.wait("lower") else {}
    )
    low.start("lower")
    low.stop("lower", timeout=1)
    assert [c["Id"] for c in low.containers(quiet=True, latest=True)] == [made]
    assert low.containers(all=True, since="configured", size=True, trunc=False)[0]["Id"] == made
    assert low.containers(all=True, before="lower", limit=5)[1]["Names"] == ["/configured"]
    assert low.containers(filters={"label": "a=b"}) == []
    low.remove_container("lower", v=True, link=False, force=True)
    assert low.prune_containers(filters={"label": ["nope"]})["ContainersDeleted"] is None
    assert len(low.prune_containers()["ContainersDeleted"]) == 1


def test_low_streams(low: Any) -> None:
    script = "echo out; echo err >&2; read x; echo $x"
    low.create_container("busybox", ["sh", "-c", script], stdin_open=True, name="streams")
    sock = low.attach_socket("streams", params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}, ws=False)
    low.start("streams")
    followed: list[bytes] = []
    reader = threading.Thread(target=lambda: followed.extend(low.logs("streams", stream=True, follow=True)))
    eventually(lambda: low.logs("streams", stderr=False) == b"out\n")
    reader.start()
    attached: list[tuple[bytes | None, bytes | None]] = []
    attach = threading.Thread(
        target=lambda: attached.extend(
            low.attach("streams", stdout=True, stderr=True, stream=True, logs=True, demux=True)
        )
    )
    attach.start()
    told = {"container": ["streams"], "event": ["attach"]}
    eventually(lambda: len(list(low.events(since=1, until=int(time.time()), filters=told, decode=True))) == 2)
    sock._sock.sendall(b"said\n")
    low.wait("streams")
    for thread in (reader, attach):
        thread.join(20)
        assert not thread.is_alive()
    sock.close()
    assert sorted(b"".join(followed).splitlines()) == [b"err", b"out", b"said"]
    assert b"".join(out or b"" for out, _ in attached).endswith(b"said\n")
    now = int(time.time())
    assert low.logs("streams", stdout=False, stderr=True) == b"err\n"
    assert low.logs("streams", timestamps=True, tail=1, since=now - 3600, until=now + 3600).endswith(b" said\n")


def test_low_files_and_figures(low: Any) -> None:
    low.create_container("busybox", IDLE, name="files")
    low.start("files")
    assert low.put_archive("files", "/tmp", data=tar_of("f", b"1"))
    stream, stat = low.get_archive("files", path="/tmp/f", chunk_size=512, encode_stream=False)
    assert (b"".join(stream)[:1], stat["name"]) == (b"f", "f")
    assert {"Path": "/tmp/f", "Kind": 1} in low.diff("files")
    assert b"".join(low.export("files", chunk_size=65536))[257:262] == b"ustar"
    assert low.stats("files", decode=False, stream=False, one_shot=None)["name"] == "/files"
    assert low.stats("files", stream=False, one_shot=True)["read"].startswith("20")
    warnings = low.update_container(
        "files",
        blkio_weight=0,
        cpu_period=100000,
        cpu_quota=50000,
        cpu_shares=256,
        cpuset_cpus="0",
        cpuset_mems="0",
        mem_limit="64m",
        mem_reservation="32m",
        memswap_limit="128m",
        kernel_memory=None,
        restart_policy={"Name": "on-failure", "MaximumRetryCount": 3},
    )["Warnings"]
    assert not warnings
    host = low.inspect_container("files")["HostConfig"]
    assert (host["Memory"], host["CpuQuota"], host["RestartPolicy"]["Name"]) == (64 << 20, 50000, "on-failure")
    image = low.commit(
        "files", repository="dockerpy", tag="low", message="m", author="a", pause=True, changes="ENV A=1"
    )
    try:
        assert low.inspect_image(image["Id"])["Author"] == "a"
    finally:
        low.remove_image("dockerpy:low")


def test_low_exec(low: Any) -> None:
    low.create_container("busybox", IDLE, name="inside")
    low.start("inside")
    created = low.exec_create(
        "inside",
        cmd=["sh", "-c", "echo $A; pwd; echo err >&2; exit 4"],
        stdout=True,
        stderr=True,
        stdin=False,
        tty=False,
        privileged=False,
        user="user",
        environment=["A=1"],
        workdir="/tmp",
        detach_keys="ctrl-a",
    )["Id"]
    assert low.exec_start(created, detach=False, tty=False, stream=False, socket=False, demux=True) == (
        b"1\n/tmp\n",
        b"err\n",
    )
    assert low.exec_inspect(created)["ExitCode"] == 4
    terminal = low.exec_create("inside", ["sh", "-c", "sleep 0.5; stty size"], tty=True, stdin=True)["Id"]
    sock = low.exec_start(exec_id=terminal, tty=True, socket=True)
    low.exec_resize(terminal, height=12, width=34)
    assert b"12 34" in sock.read()
    sock.close()


def test_every_host_setting(low: Any, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    low.create_container("busybox", "true", name="neighbour", host_config=low.create_host_config(binds=["/v"]))
    settings: dict[str, Any] = {
        "binds": [f"{tmp_path}:/m:ro"],
        "port_bindings": {80: None},
        "publish_all_ports": True,
        "links": {"neighbour": "next"},
        "privileged": False,
        "dns": ["10.9.8.7"],
        "dns_search": ["s.test"],
        "dns_opt": ["ndots:3"],
        "volumes_from": ["neighbour"],
        "network_mode": "bridge",
        "restart_policy": {"Name": "on-failure", "MaximumRetryCount": 2},
        "cap_add": ["CHOWN"],
        "cap_drop": ["MKNOD"],
        "devices": ["/dev/null:/dev/nought:rw"],
        "extra_hosts": {"a.test": "10.1.2.3"},
        "read_only": True,
        "pid_mode": "host",
        "ipc_mode": "shareable",
        "security_opt": ["no-new-privileges"],
        "ulimits": [docker.types.Ulimit(name="nofile", soft=100, hard=200)],
        "log_config": docker.types.LogConfig(type="json-file", config={"max-size": "1m"}),
        "mem_limit": "64m",
        "memswap_limit": "128m",
        "mem_reservation": "32m",
        "kernel_memory": None,
        "mem_swappiness": 50,
        "cgroup_parent": "",
        "group_add": ["50"],
        "cpu_quota": 50000,
        "cpu_period": 100000,
        "cpu_shares": 300,
        "cpuset_cpus": "0",
        "cpuset_mems": "0",
        "cpu_rt_period": None,
        "cpu_rt_runtime": None,
        "nano_cpus": None,
        "blkio_weight": None,
        "blkio_weight_device": None,
        "device_read_bps": [{"Path": "/dev/null", "Rate": 1000}],
        "device_write_bps": [{"Path": "/dev/null", "Rate": 1000}],
        "device_read_iops": [{"Path": "/dev/null", "Rate": 10}],
        "device_write_iops": [{"Path": "/dev/null", "Rate": 10}],
        "oom_kill_disable": False,
        "oom_score_adj": 100,
        "shm_size": "8m",
        "sysctls": {"net.ipv4.ip_default_ttl": "99"},
        "tmpfs": {"/t": "size=1m"},
        "userns_mode": "host",
        "uts_mode": "host",
        "pids_limit": 50,
        "isolation": "default",
        "auto_remove": False,
        "storage_opt": None,
        "init": True,
        "volume_driver": "local",
        "runtime": "runc",
        "mounts": [docker.types.Mount(target="/mnt", source=None, type="tmpfs")],
        "device_cgroup_rules": ["c 1:3 rw"],
        "device_requests": [docker.types.DeviceRequest(count=1, capabilities=[["gpu"]])],
        "cgroupns": "host",
    }
    asked = low.create_host_config(**settings)
    low.create_container("busybox", "true", name="set", host_config=asked)
    given = low.inspect_container("set")["HostConfig"]
    # what moby writes in another form, or completes
    for name in ("Links", "PortBindings", "SecurityOpt"):
        assert given.pop(name)
        asked.pop(name)
    (mount,) = given.pop("Mounts")
    assert (mount["Type"], mount["Target"], len(asked.pop("Mounts"))) == ("tmpfs", "/mnt", 1)
    assert {name: given[name] for name in asked} == dict(asked)
    known = set(inspect.signature(docker.types.HostConfig.__init__).parameters) - {"self", "version"}
    assert known - settings.keys() - LEFT_OUT.keys() == set()


def test_a_network_of_its_own(low: Any) -> None:
    pool = docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet="10.214.0.0/24")])
    network = low.create_network("dockerpy", ipam=pool)["Id"]
    try:
        low.create_container("busybox", "true", name="peer")
        endpoint = low.create_endpoint_config(
            aliases=["buoy"],
            links={"peer": "p"},
            ipv4_address="10.214.0.9",
            ipv6_address=None,
            link_local_ips=None,
            driver_opt=None,
            mac_address=None,
        )
        low.create_container(
            "busybox", IDLE, name="addressed", networking_config=low.create_networking_config({"dockerpy": endpoint})
        )
        low.start("addressed")
        seen = low.inspect_container("addressed")["NetworkSettings"]["Networks"]["dockerpy"]
        assert (seen["IPAddress"], "buoy" in seen["Aliases"]) == ("10.214.0.9", True)
        known = set(inspect.signature(docker.types.EndpointConfig.__init__).parameters) - {"self", "version"}
        assert known == {word.arg for call in calls_of("low", "create_endpoint_config") for word in call.keywords}
    finally:
        low.remove_container("addressed", force=True)
        low.remove_network(network)


# nothing is missing


def calls_of(owner: str, method: str) -> list[ast.Call]:
    """The calls in this module of a method of ``owner``, written as there."""
    tree = ast.parse(Path(__file__).read_text())
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and (node.func.attr, ast.unparse(node.func.value)) == (method, owner)
    ]


@pytest.mark.parametrize(
    ("kind", "owners"),
    [
        (Container, ("container", "made")),
        (ContainerCollection, ("client.containers",)),
        (ContainerApiMixin, ("low",)),
        (ExecApiMixin, ("low",)),
    ],
)
def test_every_method_and_option_is_used(kind: type, owners: tuple[str, ...]) -> None:
    missing = []
    for name, method in inspect.getmembers(kind, inspect.isfunction):
        if name.startswith("_"):
            continue
        calls = [call for owner in owners for call in calls_of(owner, name)]
        if not calls:
            missing.append(name)
            continue
        parameters = [
            parameter.name
            for parameter in list(inspect.signature(method).parameters.values())[1:]
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ]
        used = {keyword.arg for call in calls for keyword in call.keywords}
        if None not in used:  # **options
            used |= {parameters[place] for call in calls for place in range(min(len(call.args), len(parameters)))}
            missing += [f"{name}({option}=)" for option in parameters if option not in used and option not in LEFT_OUT]
    for name, value in inspect.getmembers(kind):
        if isinstance(value, property) and f"container.{name}" not in Path(__file__).read_text():
            missing.append(name)
    assert not missing
