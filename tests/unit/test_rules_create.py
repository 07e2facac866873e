"""What create checks and completes, without a machine."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from wherry.api.errors import ApiError, BadRequest, ServerError
from wherry.api.json import decode_body
from wherry.api.models.containers import ContainerConfig, ContainerCreateRequest, HealthConfig, HostConfig
from wherry.api.models.networks import EndpointSettings
from wherry.engine.containers import merge, mounts, settings
from wherry.engine.containers.container import MountPoint
from wherry.engine.oci.cgroups import CgroupSetup

V43 = (1, 43)
EVERYTHING = CgroupSetup(
    version=1, memory=True, swap=True, cpu=True, cpuset=True, pids=True, blkio=True, blkio_weight=True, freezer=True,
    available_cpus="0-1", available_mems="0",
)  # fmt: skip


def checked(
    config: ContainerConfig | None = None,
    setup: CgroupSetup = EVERYTHING,
    version: tuple[int, int] = V43,
    **host: Any,
) -> tuple[HostConfig, list[str]]:
    """HostConfig as stored, and the warnings."""
    stored = HostConfig(**host)
    warnings = settings.check_host_config(config or ContainerConfig(), stored, setup, ["crun", "runc"], version)
    return stored, warnings


def request(**fields: Any) -> ContainerCreateRequest:
    body: ContainerCreateRequest = decode_body(ContainerCreateRequest, json.dumps({"Image": "x"} | fields).encode())
    return body


# CRE5, CRE6


IMAGE = ContainerConfig(
    cmd=["image-cmd"],
    entrypoint=["image-entry"],
    env=["A=image", "B=image"],
    labels={"l": "image", "m": "image"},
    exposed_ports={"81/tcp": {}},
    volumes={"/data": {}},
    user="user",
    working_dir="/srv",
    stop_signal="SIGUSR1",
    shell=["/bin/bash", "-c"],
)


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "words"),
    [
        (None, None, ["image-entry", "image-cmd"]),
        (None, ["x"], ["image-entry", "x"]),
        (["e"], None, ["e"]),
        (["e"], ["x"], ["e", "x"]),
        ([""], ["x"], ["x"]),
        ([], ["x"], ["x"]),
        ([], None, ["image-cmd"]),
    ],
)
def test_CRE5_entrypoint_and_command(entrypoint: list[str] | None, cmd: list[str] | None, words: list[str]) -> None:
    config = ContainerConfig(entrypoint=entrypoint, cmd=cmd)
    merge.merge(config, IMAGE)
    path, args = merge.command(config)
    assert [path, *args] == words


def test_CRE5_a_reset_entrypoint_is_null_and_takes_no_command_from_the_image() -> None:
    config = ContainerConfig(entrypoint=[""])
    merge.merge(config, IMAGE)
    assert config.entrypoint is None
    with pytest.raises(BadRequest, match="No command specified"):
        merge.command(config)


def test_CRE5_the_rest_of_the_merge() -> None:
    config = ContainerConfig(env=["A=mine"], labels={"l": "mine"}, exposed_ports={"80/tcp": {}}, volumes={"/more": {}})
    merge.merge(config, IMAGE)
    assert config.env == ["A=mine", "B=image"]
    assert config.labels == {"l": "mine", "m": "image"}
    assert config.exposed_ports == {"81/tcp": {}, "80/tcp": {}}
    assert set(config.volumes or {}) == {"/data", "/more"}
    assert (config.user, config.working_dir, config.stop_signal) == ("user", "/srv", "SIGUSR1")
    assert not config.shell, "the image's shell is for building"


def test_CRE5_the_health_check_is_merged_field_by_field() -> None:
    image = ContainerConfig(healthcheck=HealthConfig(test=["CMD", "true"], interval=5, timeout=6, retries=7))
    config = ContainerConfig(healthcheck=HealthConfig(interval=1))
    merge.merge(config, image)
    assert config.healthcheck == HealthConfig(test=["CMD", "true"], interval=1, timeout=6, retries=7)


def test_NUL_what_neither_gives_stays_null() -> None:
    config = ContainerConfig(env=[], volumes={})
    merge.merge(config, ContainerConfig())
    assert (config.env, config.volumes, config.entrypoint) == (None, None, None)
    assert config.labels == {}


def test_CRE6_environment() -> None:
    config = ContainerConfig(tty=True, env=["A=1", "A=2", "PATH", "EMPTY="])
    env = merge.process_env(config, "boat")
    assert set(env) == {"HOSTNAME=boat", "TERM=xterm", "A=2", "EMPTY="}
    for bad in ("=x", ""):
        with pytest.raises(BadRequest, match="invalid environment variable: "):
            settings.check_config(ContainerConfig(env=[bad]), V43)


# CRE8 to CRE20


@pytest.mark.parametrize(
    ("check", "message"),
    [
        ({"interval": 999_999}, "Interval in Healthcheck cannot be less than 1ms"),
        ({"timeout": -1}, "Timeout in Healthcheck cannot be less than 1ms"),
        ({"start_period": 1}, "StartPeriod in Healthcheck cannot be less than 1ms"),
        ({"retries": -1}, "Retries in Healthcheck cannot be negative"),
    ],
)
def test_CRE10_health_check(check: dict[str, int], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        settings.check_config(ContainerConfig(healthcheck=HealthConfig(test=["CMD", "x"], **check)), V43)


def test_CRE10_the_start_interval_is_of_version_1_44() -> None:
    config = ContainerConfig(healthcheck=HealthConfig(start_interval=5_000_000))
    settings.check_config(config, (1, 44))
    assert config.healthcheck.start_interval == 5_000_000  # type: ignore[union-attr]
    settings.check_config(config, V43)
    assert not config.healthcheck.start_interval  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"Name": "no", "MaximumRetryCount": 1}, "maximum retry count cannot be used with restart policy 'no'"),
        ({"Name": "on-failure", "MaximumRetryCount": -1}, "maximum retry count cannot be negative"),
        ({"Name": "sometimes"}, "invalid restart policy 'sometimes'"),
        ({"Name": "", "MaximumRetryCount": 5}, ""),
        ({"Name": "on-failure", "MaximumRetryCount": 5}, ""),
    ],
)
def test_CRE11_restart_policies(policy: dict[str, Any], message: str) -> None:
    host = request(HostConfig={"RestartPolicy": policy}).host_config
    assert host is not None
    if message:
        with pytest.raises(BadRequest, match=message):
            settings.check_restart_policy(host.restart_policy, auto_remove=False)
    else:
        settings.check_restart_policy(host.restart_policy, auto_remove=False)


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ({"memory": 6 * 1024 * 1024 - 1}, "Minimum memory limit allowed is 6MB"),
        ({"memory": -1}, "Minimum memory limit allowed is 6MB"),
        ({"memory": 1 << 26, "memory_swap": 1 << 25}, "Minimum memoryswap limit should be larger than memory limit"),
        ({"memory_swap": 1 << 26}, "You should always set the Memory limit when using Memoryswap limit"),
        ({"memory": 1 << 25, "memory_reservation": 1 << 26}, "can not be less than memory reservation limit"),
        ({"memory_swappiness": 101}, "valid memory swappiness range is 0-100"),
        ({"blkio_weight": 5}, "Range of blkio weight is from 10 to 1000"),
    ],
)
def test_CRE12_contradictions(host: dict[str, int], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        checked(**host)


def test_CRE12_swap_is_twice_the_memory() -> None:
    assert checked(memory=1 << 26)[0].memory_swap == 1 << 27
    assert checked(memory=1 << 26, memory_swap=-1)[0].memory_swap == -1
    assert checked(memory_swappiness=-1)[0].memory_swappiness is None


def test_CRE12_what_the_machine_lacks_is_dropped_with_a_warning() -> None:
    host, warnings = checked(
        setup=CgroupSetup(version=0),
        memory=1 << 26,
        memory_reservation=1 << 25,
        cpu_shares=5,
        cpu_quota=5000,
        cpuset_cpus="0-99",
        pids_limit=5,
        blkio_weight=50,
        blkio_device_read_bps=[],
        memory_swappiness=5,
    )
    assert len(warnings) == 8
    assert all(text.startswith("Your kernel does not support") and text.endswith("discarded.") for text in warnings)
    assert (host.memory, host.cpu_shares, host.cpu_quota, host.cpuset_cpus, host.pids_limit) == (0, 0, 0, "", None)
    host, warnings = checked(setup=CgroupSetup(version=2, memory=True), memory=1 << 26)
    assert (host.memory_swap, len(warnings)) == (-1, 1)
    assert "Memory limited without swap" in warnings[0]


def test_CRE13_processors() -> None:
    with pytest.raises(
        BadRequest, match=r"Range of CPUs is from 0\.01 to \d+\.00, as there are only \d+ CPUs available"
    ):
        checked(nano_cpus=10**15)
    with pytest.raises(BadRequest, match="Requested CPUs are not available - requested 0-99, available: 0-1"):
        checked(cpuset_cpus="0-99")
    with pytest.raises(BadRequest, match="Invalid value 1-x for cpuset cpus"):
        checked(cpuset_cpus="1-x")
    assert checked(pids_limit=-1)[0].pids_limit is None
    assert checked(cpu_shares=1)[0].cpu_shares == 2


def test_CRE14_defaults() -> None:
    host, warnings = checked()
    assert warnings == []
    assert (host.shm_size, host.ipc_mode, host.network_mode, host.cgroupns_mode) == (
        67108864,
        "private",
        "default",
        "host",
    )
    assert (host.oom_kill_disable, host.log_config.type, host.log_config.config) == (False, "json-file", {})
    assert "/proc/kcore" in (host.masked_paths or [])
    assert checked(setup=CgroupSetup(version=2), privileged=True)[0].cgroupns_mode == "private"
    assert checked(privileged=True)[0].masked_paths is None


def test_CRE14_earlier_versions() -> None:
    host, _ = checked(version=(1, 39), annotations={"a": "b"}, console_size=(5, 5), kernel_memory=5)
    assert (host.ipc_mode, host.annotations or None, host.console_size) == ("shareable", None, (0, 0))
    host, _ = checked(annotations={"a": "b"}, console_size=(5, 5), kernel_memory=5)
    assert (host.annotations, host.console_size, host.kernel_memory or 0) == ({"a": "b"}, (5, 5), 0)


def test_CRE14_reserved_annotations_are_refused() -> None:
    with pytest.raises(BadRequest, match="invalid Annotations"):
        checked(annotations={"run.oci.seccomp_bpf_data": "x"})


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ({"ipc_mode": "bogus"}, "invalid IPC mode: bogus"),
        ({"pid_mode": "bogus"}, "invalid PID mode: bogus"),
        ({"uts_mode": "bogus"}, "invalid UTS mode: bogus"),
        ({"userns_mode": "bogus"}, "invalid userns mode: bogus"),
        ({"cgroupns_mode": "bogus"}, "invalid cgroup namespace mode: bogus"),
        ({"isolation": "hyperv"}, 'invalid isolation: "hyperv"'),
        ({"extra_hosts": ["nope"]}, 'bad format for add-host: "nope"'),
        ({"extra_hosts": ["a:b"]}, 'invalid IP address in add-host: "b"'),
        ({"runtime": "nope"}, "unknown or invalid runtime name: nope"),
        ({"cap_add": ["NOPE"]}, 'invalid CapAdd: unknown capability: "CAP_NOPE"'),
        ({"shm_size": -1}, "SHM size can not be less than 0"),
        ({"oom_score_adj": 1001}, "range for oom score adj"),
        ({"storage_opt": {"size": "1G"}}, "storage-opt"),
    ],
)
def test_CRE1_settings_are_checked(host: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=re.escape(message)):
        checked(**host)


def test_CRE16_log_options() -> None:
    def limits(driver: str, **options: str) -> tuple[int, int, bool]:
        host = HostConfig()
        host.log_config.type, host.log_config.config = driver, {k.replace("_", "-"): v for k, v in options.items()}
        checked(log_config=host.log_config)
        return settings.log_limits(host)

    assert limits("json-file") == (0, 1, False)
    assert limits("json-file", max_size="2k", max_file="3", compress="true") == (2048, 3, True)
    assert limits("local") == (20 << 20, 5, True)
    for bad in (
        {"max_size": "abc"},
        {"max_size": "9" * 400},
        {"max_file": "0"},
        {"max_file": "x"},
        {"compress": "x"},
        {"compress": "1"},
    ):
        with pytest.raises(ServerError, match="failed to initialize logging driver"):
            limits("json-file", **bad)
    with pytest.raises(BadRequest, match="unknown log opt 'foo' for json-file log driver"):
        limits("json-file", foo="1")


@pytest.mark.parametrize(
    ("config", "host", "message"),
    [
        ({"hostname": "h"}, {}, "hostname and the network mode"),
        ({"mac_address": "02:42:ac:11:00:02"}, {}, "mac-address and the network mode"),
        ({"exposed_ports": {"80/tcp": {}}}, {}, "port exposing and the container type network mode"),
        ({}, {"links": ["a"]}, "container type network can't be used with links"),
        ({}, {"dns": ["1.1.1.1"]}, "dns and the network mode"),
        ({}, {"extra_hosts": ["a:1.1.1.1"]}, "custom host-to-IP mapping and the network mode"),
        ({}, {"port_bindings": {"80/tcp": None}}, "port publishing and the container type network mode"),
        ({}, {"publish_all_ports": True}, "port publishing and the container type network mode"),
        ({}, {"network_mode": "container:"}, "invalid container format container:<name|id>"),
        ({}, {"network_mode": "host", "links": ["a"]}, "host type networking can't be used with links"),
        ({"hostname": "h"}, {"network_mode": "", "uts_mode": "host"}, "hostname and the UTS mode"),
    ],
)  # fmt: skip
def test_CRE18_conflicts(config: dict[str, Any], host: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=re.escape(message)):
        checked(ContainerConfig(**config), **({"network_mode": "container:x"} | host))


def test_CRE19_endpoints() -> None:
    two = {"b": EndpointSettings(), "a": EndpointSettings()}
    with pytest.raises(BadRequest, match="Container cannot be connected to network endpoints: a, b"):
        settings.check_endpoints(two, V43)
    settings.check_endpoints(two, (1, 44))
    for field, value in (("IPv4Address", "1.2.3"), ("IPv4Address", "::1"), ("IPv6Address", "1.2.3.4")):
        endpoint = {"IPAMConfig": {field: value}}
        networking = request(NetworkingConfig={"EndpointsConfig": {"n": endpoint}}).networking_config
        assert networking is not None
        with pytest.raises(BadRequest, match=f"invalid {field[:4]} address: {value}"):
            settings.check_endpoints(networking.endpoints_config or {}, V43)  # type: ignore[arg-type]


@pytest.mark.parametrize("port", ["", "0/tcp/udp", "abc", "65536", "-1", "80/xyz", "9-8", "٣", "80-", "1" * 30])
def test_CRE20_no_ports(port: str) -> None:
    with pytest.raises(BadRequest, match="invalid port specification: "):
        settings.parse_port(port)


def test_CRE20_ports() -> None:
    assert settings.parse_port("80") == (80, 80, "tcp")
    assert settings.parse_port("53/UDP") == (53, 53, "udp")
    assert settings.parse_port("8000-8010/sctp") == (8000, 8010, "sctp")
    with pytest.raises(BadRequest, match='invalid port specification: "80-81"'):
        checked(port_bindings={"80-81/tcp": None})


# CRE21 to CRE24


def point(bind: str) -> tuple[str, str, str, str, bool, str]:
    found = mounts.parse_bind(bind)
    return found.type, found.name or found.source, found.destination, found.mode, found.rw, found.propagation


@pytest.mark.parametrize(
    ("bind", "shown"),
    [
        ("/a/:/b/../c", ("bind", "/a", "/c", "", True, "rprivate")),
        ("/a:/b:ro,rslave,z", ("bind", "/a", "/b", "ro,rslave,z", False, "rslave")),
        ("/a:/b:", ("bind", "/a", "/b", "", True, "rprivate")),
        ("vol:/b", ("volume", "vol", "/b", "z", True, "")),
        ("vol:/b:ro,nocopy,cached", ("volume", "vol", "/b", "ro,nocopy,cached", False, "")),
        ("/b", ("volume", "", "/b", "z", True, "")),
    ],
)
def test_CRE21_binds(bind: str, shown: tuple[object, ...]) -> None:
    assert point(bind) == shown


@pytest.mark.parametrize(
    ("bind", "message"),
    [
        ("/tmp:/x:zz", "invalid mode: zz"),
        ("/tmp:/x:ro,rw", "invalid mode: ro,rw"),
        ("/tmp:/x:shared,rslave", "invalid mode: shared,rslave"),
        ("/tmp:rel", "'/tmp:rel': invalid mount config for type \"bind\": invalid mount path: 'rel' mount path must be absolute"),
        ("/tmp:/", "invalid specification: destination can't be '/'"),
        ("/tmp:/..", "invalid specification: destination can't be '/'"),
        ("a:b:c:d", "invalid volume specification: 'a:b:c:d'"),
        ("/foo:rw", "invalid volume specification: '/foo:rw'"),
        ("", "invalid volume specification: ''"),
        (":/x", "invalid volume specification: ':/x'"),
        ("/a:/b:nocopy", 'invalid mount config for type "bind": field VolumeOptions must not be specified'),
        ("v1:/b:shared", 'invalid mount config for type "volume": field BindOptions must not be specified'),
    ],
)  # fmt: skip
def test_CRE21_bad_binds_are_500(bind: str, message: str) -> None:
    with pytest.raises(ServerError, match=re.escape(message)) as caught:
        mounts.parse_bind(bind)
    assert caught.value.status == 500


def test_CRE21_bad_volume_names_are_400() -> None:
    for name in ("bad name!", "x", "-a"):
        with pytest.raises(BadRequest, match="includes invalid characters for a local volume name"):
            mounts.parse_bind(f"{name}:/x")


def host_with(mount: str) -> HostConfig:
    host = request(HostConfig={"Mounts": [json.loads(mount)]}).host_config
    assert host is not None
    return host


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        ('{"Type":"zz","Target":"/x"}', 'invalid mount config for type "zz": mount type unknown'),
        ('{"Target":"/x"}', 'invalid mount config for type "": mount type unknown'),
        ('{"Type":"bind","Target":"/x","Source":"/nope/x"}', "bind source path does not exist: /nope/x"),
        ('{"Type":"bind","Target":"/x"}', "field Source must not be empty"),
        ('{"Type":"bind","Source":"/tmp"}', "field Target must not be empty"),
        ('{"Type":"bind","Source":"rel","Target":"/x"}', "invalid mount path: 'rel' mount path must be absolute"),
        ('{"Type":"bind","Source":"/tmp","Target":"/"}', "destination can't be '/'"),
        ('{"Type":"bind","Source":"/tmp","Target":"/x","BindOptions":{"Propagation":"no"}}', "invalid propagation mode: no"),
        ('{"Type":"bind","Source":"/tmp","Target":"/x","VolumeOptions":{}}', "VolumeOptions must not be specified"),
        ('{"Type":"volume","Target":"/x","BindOptions":{}}', 'BindOptions must not be specified on mount type "volume"'),
        ('{"Type":"volume","Target":"/x","TmpfsOptions":{}}', 'TmpfsOptions must not be specified on mount type "volume"'),
        ('{"Type":"volume","Target":"/x","ReadOnly":true}', "must not set ReadOnly mode when using anonymous volumes"),
        ('{"Type":"tmpfs","Target":"/x","Source":"a"}', "field Source must not be specified"),
    ],
)  # fmt: skip
def test_CRE22_bad_mounts(mount: str, message: str) -> None:
    with pytest.raises(BadRequest, match=re.escape(message)):
        mounts.check_mounts(host_with(mount), V43)


def test_CRE22_before_1_42_foreign_options_are_dropped(tmp_path: Path) -> None:
    host = host_with('{"Type":"volume","Target":"/x","BindOptions":{}}')
    mounts.check_mounts(host, (1, 41))
    assert not host.mounts[0].bind_options  # type: ignore[index]
    host = host_with(
        f'{{"Type":"bind","Source":"{tmp_path}/x","Target":"/x","BindOptions":{{"CreateMountpoint":true}}}}'
    )
    mounts.check_mounts(host, V43)
    with pytest.raises(BadRequest, match="bind source path does not exist"):
        mounts.check_mounts(host, (1, 41))


def test_CRE23_one_place_is_mounted_once() -> None:
    for host in (
        HostConfig(binds=["/tmp:/a", "v1:/a/"]),
        HostConfig(binds=["/tmp:/a"], tmpfs={"/a": ""}),
    ):
        with pytest.raises(BadRequest, match="Duplicate mount point: /a"):
            mounts.mount_points(ContainerConfig(), host, V43)
    points = mounts.mount_points(ContainerConfig(volumes={"/a": {}, "/b": {}}), HostConfig(binds=["/tmp:/a"]), V43)
    assert [(p.type, p.destination, p.anonymous) for p in points] == [("bind", "/a", False), ("volume", "/b", True)]


def test_CRE24_volumes_of_an_image_may_be_relative_and_named_twice() -> None:
    config = ContainerConfig(volumes={"a/../data": {}, "/data/": {}, "../up": {}, "/tmp": {}})
    points = mounts.mount_points(config, HostConfig(binds=["/tmp:/up"]), V43)
    assert sorted(point.destination for point in points) == ["/data", "/tmp", "/up"]
    for nothing in ("", "/", "x/.."):
        with pytest.raises(BadRequest, match="destination can't be '/'"):
            mounts.mount_points(ContainerConfig(volumes={nothing: {}}), HostConfig(), V43)


def test_CRE24_volumes_from_another_container() -> None:
    theirs = [
        MountPoint(type="volume", name="data", source="/v/data", destination="/data", mode="z", driver="local"),
        MountPoint(type="bind", source="/tmp", destination="/t"),
        MountPoint(type="tmpfs", destination="/run"),
    ]
    host = HostConfig(binds=["/etc:/t"], volumes_from=["other:ro"])
    points = mounts.mount_points(ContainerConfig(volumes={"/data": {}}), host, V43, lambda name: theirs)
    assert {(p.destination, p.name or p.source, p.rw) for p in points} == {
        ("/t", "/etc", True),
        ("/data", "data", False),
    }
    with pytest.raises(ApiError, match="invalid mode: zz"):
        mounts.mount_points(ContainerConfig(), HostConfig(volumes_from=["other:zz"]), V43, lambda name: theirs)
