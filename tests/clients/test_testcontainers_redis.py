"""testcontainers (PyPI) with a real service: Redis from Debian's packages, spoken to from the host by its own client.

Once without testcontainers' reaper, and once with a stand-in for it, which removes by the mounted socket what a program that
was killed has left.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.deb_image import image
from scripts.make_images import small_layer
from tests.support.engines import Engine
from tests.support.http import eventually

REDIS = {"Cmd": ["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no"], "ExposedPorts": {"6379/tcp": {}}}
RYUK = {"Cmd": ["python3", "-I", "-S", "/ryuk.py"]}
LABELLED = {"volumes": "/volumes", "networks": "/networks", "containers": "/containers/json?all=1"}

# What a user of testcontainers writes; at its end it is killed in the middle, or leaves in good order.
PROGRAM = """
import os, sys
import docker
from testcontainers.core.labels import SESSION_ID, LABEL_SESSION_ID
from testcontainers.core.network import Network
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError
from redis.retry import Retry
try:
    from testcontainers.community.redis import RedisContainer
except ImportError:
    from testcontainers.redis import RedisContainer

labels = {LABEL_SESSION_ID: SESSION_ID}
volume = docker.from_env().volumes.create("of-session", labels=labels)
network = Network().create()
redis = RedisContainer("debian-redis").with_network(network).with_network_aliases("store")
redis.with_volume_mapping("of-session", "/data", "rw").with_kwargs(working_dir="/data")
redis.start()
client = redis.get_client(decode_responses=True)
for number in range(1000):
    client.hset("numbers", str(number), number * number)
with client.pipeline() as pipe:
    pipe.incr("count"); pipe.incr("count"); pipe.execute()
assert client.get("count") == "2"
assert client.save()
redis.get_wrapped_container().restart(timeout=5)
patient = Retry(ConstantBackoff(0.1), 200, supported_errors=(ConnectionError,))
client = redis.get_client(decode_responses=True, retry=patient)
assert client.hget("numbers", "31") == "961"
assert client.hlen("numbers") == 1000
print("written and read back", client.info("server")["redis_version"], flush=True)
if "wait" in sys.argv:
    print("waiting", SESSION_ID, flush=True)
    sys.stdin.read()
redis.stop()
network.remove()
volume.remove()
"""


@pytest.fixture(scope="module")
def debian_images(engine_by_name: object) -> Iterator[Engine]:
    engine: Engine = engine_by_name("wherry")  # type: ignore[operator]
    script = (Path(__file__).parent / "ryuk.py").read_bytes()
    engine.load(image("debian-redis:latest", ["redis-server", "redis-tools"], REDIS))
    engine.load(image("ryuk-stand-in:latest", ["python3-minimal"], RYUK, [small_layer({"ryuk.py": script})]))
    yield engine
    engine.remove_all()
    for tag in ("debian-redis", "ryuk-stand-in"):
        assert engine.http.delete(f"/images/{tag}").status == 200


def program(engine: Engine, scratch: Path, *arguments: str, **env: str) -> subprocess.Popen[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("DOCKER_", "TESTCONTAINERS_", "RYUK_", "TC_"))}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=clean
        | {
            "DOCKER_HOST": engine.address,
            "DOCKER_CONFIG": str(scratch),
            "HOME": str(scratch),
            "TESTCONTAINERS_HOST_OVERRIDE": "127.0.0.1",
            "TC_POOLING_INTERVAL": "0.1",
        }
        | env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def names(engine: Engine) -> dict[str, set[str]]:
    volumes = engine.http.get("/volumes").json["Volumes"]
    return {
        "containers": set(engine.containers()),
        "networks": {network["Name"] for network in engine.http.get("/networks").json},
        "volumes": {volume["Name"] for volume in volumes},
    }


def test_redis_is_written_and_read_back(debian_images: Engine, tmp_path: Path) -> None:
    before = names(debian_images)
    with program(debian_images, tmp_path, TESTCONTAINERS_RYUK_DISABLED="true") as process:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out[:22]) == (0, "written and read back "), err
    assert names(debian_images) == before


def test_what_a_killed_program_leaves_is_reaped_through_the_mounted_socket(
    debian_images: Engine, tmp_path: Path
) -> None:
    engine = debian_images
    before = names(engine)
    reaper = {"RYUK_CONTAINER_IMAGE": "ryuk-stand-in", "RYUK_RECONNECTION_TIMEOUT": "200ms"}
    with program(engine, tmp_path, "wait", **reaper) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline(), process.stdout.readline()]
        assert lines[0].startswith("written and read back "), process.communicate(timeout=10)
        session = lines[1].split()[1]
        filters = json.dumps({"label": [f"org.testcontainers.session-id={session}"]})
        (container,) = engine.http.get("/containers/json", query={"filters": filters}).json
        assert container["Image"] == "debian-redis"
        assert f"testcontainers-ryuk-{session}" in {
            name.strip("/") for each in engine.http.get("/containers/json").json for name in each["Names"]
        }
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=10)
    eventually(lambda: names(engine) == before, within=30, what=lambda: f"all of the session is gone: {names(engine)}")
