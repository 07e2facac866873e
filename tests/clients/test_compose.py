"""Debian's docker-compose 1.29, unmodified, against Wherry: a small application from up to down."""

from __future__ import annotations

import os
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engines import Engine, decode_lines
from tests.support.http import eventually
from tests.support.machine import holdings, mark_of
from tests.support.terminal import Terminal

# store: data on the volume, on the inner network alone. app: built, needs a healthy store, between the networks, published.
# probe: on the outer network alone. Each ends at once when it is asked to.
APPLICATION = """
services:
  store:
    image: busybox
    command: sh -c "trap 'exit 0' TERM; mkdir -p /data/run; echo ready >/data/run/state; httpd -f -p 80 -h /data & wait"
    networks:
      inner:
        aliases: [keeper]
    volumes: ["kept:/data"]
    healthcheck:
      test: ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1/run/state"]
      interval: 500ms
      timeout: 5s
      retries: 40
  app:
    build:
      context: app
      args: {SHAPE: round}
    depends_on:
      store:
        condition: service_healthy
    networks: [inner, outer]
    ports: ["127.0.0.1::8000"]
    environment:
      COLOUR: ${COLOUR}
    scale: 2
  probe:
    image: busybox
    command: sh -c "trap 'exit 0' TERM; echo probing; while :; do sleep 3600 & wait; done"
    depends_on: [app]
    networks: [outer]
    volumes: ["fast:/fast"]
networks:
  inner:
    internal: true
  outer:
    labels: {purpose: outer}
volumes:
  kept:
    labels: {purpose: kept}
  fast:
    driver_opts: {type: tmpfs, device: tmpfs, o: "size=1m,mode=1777"}
"""

DOCKERFILE = """
FROM busybox AS site
COPY page /site/page
RUN echo "it works" >>/site/page && chmod 644 /site/page

FROM busybox
ARG SHAPE
ENV SHAPE=$SHAPE
WORKDIR /www
COPY --from=site /site/ /www/
COPY serve.sh /serve.sh
EXPOSE 8000
LABEL purpose=app
CMD ["sh", "/serve.sh"]
"""

SERVE = """trap 'exit 0' TERM
wget -q -O /www/state http://keeper/run/state || exit 9
hostname >/www/name
echo "app has $(cat /www/state)"
httpd -f -p 8000 -h /www & wait
"""


class Compose:
    """``docker-compose`` on a project directory, with ``DOCKER_HOST`` at an engine."""

    def __init__(self, engine: Engine, project: Path) -> None:
        self.engine = engine
        self.project = project
        unwanted = ("DOCKER_", "COMPOSE_")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
        self.env |= {
            "DOCKER_HOST": engine.address,
            "DOCKER_CONFIG": str(project),
            "COMPOSE_PROJECT_NAME": "ferry",
            "COMPOSE_INTERACTIVE_NO_CLI": "1",  # exec by compose's own client, unless asked otherwise
            "COLOUR": "green",
        }

    def __call__(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["docker-compose", "--ansi", "never", *arguments],
            cwd=self.project,
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def ok(self, *arguments: str, **env: str) -> str:
        """Run, expect success, and give stdout."""
        done = self(*arguments, **env)
        assert done.returncode == 0, f"{done}\n{self('logs').stdout}\n{self.engine.log[-4000:]}"
        return done.stdout

    def terminal(self, *arguments: str) -> Terminal:
        return Terminal(
            ["docker-compose", "-f", str(self.project / "docker-compose.yml"), *arguments], self.env, 24, 80
        )

    def ids(self, service: str) -> list[str]:
        return self.ok("ps", "-q", service).split()

    def fetch(self, path: str, index: int) -> str:
        """A page of the numbered ``app`` through its published port."""
        bindings = self.engine.inspect(f"ferry_app_{index}")["NetworkSettings"]["Ports"]["8000/tcp"]
        address = f"{bindings[0]['HostIp']}:{bindings[0]['HostPort']}"
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            f"http://{address}{path}", timeout=10
        ) as page:
            return str(page.read().decode())


def things(engine: Engine) -> dict[str, set[str]]:
    """Names of all that the engine has."""
    volumes = engine.http.get("/volumes").json["Volumes"] or []
    return {
        "containers": set(engine.containers()),
        "networks": {network["Name"] for network in engine.http.get("/networks").json},
        "volumes": {volume["Name"] for volume in volumes},
        "images": {tag for image in engine.http.get("/images/json").json for tag in image["RepoTags"] or ()},
    }


@pytest.fixture
def compose(wherry: Engine, tmp_path: Path) -> Iterator[Compose]:
    (tmp_path / "docker-compose.yml").write_text(APPLICATION)
    (tmp_path / "app").mkdir()
    for name, text in {"Dockerfile": DOCKERFILE, "serve.sh": SERVE, "page": "of the context\n"}.items():
        (tmp_path / "app" / name).write_text(text)
    before = things(wherry)
    compose = Compose(wherry, tmp_path)
    yield compose
    compose("down", "-v", "-t", "0", "--remove-orphans", "--rmi", "local")
    after = things(wherry)
    assert after == before


@pytest.mark.timeout(300)  # some 30 calls of docker-compose, which takes its second to begin
def test_an_application_from_up_to_down(compose: Compose) -> None:
    engine = compose.engine
    engine.run_to_end("true")  # the default bridge and the table of rules are made with the first container
    engine.remove_all()
    before, held = things(engine), leavings(engine)

    compose.ok("up", "-d")
    up_is_as_written(compose)
    built(compose)
    names_and_networks(compose)
    logs_and_exec(compose)
    scale_up_and_down(compose)
    restart_keeps_the_volume(compose)

    again = compose("up", "-d")
    assert (again.returncode, again.stderr.count("is up-to-date")) == (0, 4), again

    done = compose("down", "-v", "--rmi", "local")
    assert done.returncode == 0, done
    assert "Removing network ferry_inner" in done.stderr
    assert "Removing volume ferry_kept" in done.stderr
    assert things(engine) == before
    eventually(lambda: not more_than(held, engine), what=lambda: f"nothing left: {more_than(held, engine)}")


def more_than(held: dict[str, list[str]], engine: Engine) -> dict[str, set[str]]:
    more = {kind: set(names) - set(held[kind]) for kind, names in leavings(engine).items()}
    return {kind: names for kind, names in more.items() if names}


def leavings(engine: Engine) -> dict[str, list[str]]:
    """What containers, networks and volumes have in the kernel and on the disk, network namespaces and rules included."""
    held = holdings(engine.root, engine.pid)
    rules = subprocess.run(["nft", "-n", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    mark = mark_of(engine.root)
    own = re.findall(rf"^table \S+ \S*{mark}\S* {{$.*?^}}$", rules, re.MULTILINE | re.DOTALL)
    directories = (
        "data/containers",
        "data/rootfs",
        "data/volumes",
        "data/tmp",
        "exec/netns",
        "exec/bundles",
        "exec/exits",
    )
    return {
        "mounts": list(held.mounts),
        "links": list(held.links),
        "processes": [re.sub(r"^\d+ ", "", process) for process in held.processes],
        "cgroups": list(held.cgroups),
        "rules": [line.strip() for table in own for line in table.splitlines()],
        "files": [f"{place}/{name}" for place in directories for name in sorted(os.listdir(engine.root / place))],
    }


def built(compose: Compose) -> None:
    (image,) = [tag for tag in things(compose.engine)["images"] if tag.startswith("ferry_app")]
    seen = compose.engine.http.get(f"/images/{image}/json").json
    assert seen["Config"]["Labels"]["purpose"] == "app"
    assert "SHAPE=round" in seen["Config"]["Env"]
    assert compose.fetch("/page", 1) == "of the context\nit works\n"
    # By compose's own client instead of docker's command line, and from the cache.
    again = compose.ok("build", COMPOSE_DOCKER_CLI_BUILD="0")
    assert "Using cache" in again, again
    assert compose.engine.http.get(f"/images/{image}/json").json["Id"] == seen["Id"]


def up_is_as_written(compose: Compose) -> None:
    lines = compose.ok("ps").splitlines()
    states = {line.split()[0]: line for line in lines if line.startswith("ferry_")}
    assert sorted(states) == ["ferry_app_1", "ferry_app_2", "ferry_probe_1", "ferry_store_1"]
    assert all(" Up" in line for line in states.values()), lines
    assert "Up (healthy)" in states["ferry_store_1"]
    assert "127.0.0.1:" in states["ferry_app_1"]
    assert "->8000/tcp" in states["ferry_app_1"]
    # The store was healthy before an app began.
    query = {"since": "0", "until": f"{time.time():.6f}", "filters": '{"type":["container"]}'}
    events = decode_lines(compose.engine.http.get("/events", query=query).body)
    seen = [(event["Actor"]["Attributes"]["name"], event["Action"]) for event in events]
    assert seen.index(("ferry_store_1", "health_status: healthy")) < seen.index(("ferry_app_1", "start"))
    app = compose.engine.inspect("ferry_app_1")
    port = compose.ok("port", "--index", "1", "app", "8000").strip()
    assert port.rpartition(":")[2] == app["NetworkSettings"]["Ports"]["8000/tcp"][0]["HostPort"]
    assert compose.fetch("/state", 1) == compose.fetch("/state", 2) == "ready\n"
    assert compose.fetch("/name", 1).strip() == app["Config"]["Hostname"]


def names_and_networks(compose: Compose) -> None:
    networks = compose.engine.inspect("ferry_app_1")["NetworkSettings"]["Networks"]
    assert sorted(networks) == ["ferry_inner", "ferry_outer"]
    assert compose.ok("exec", "-T", "probe", "stat", "-c", "%a", "/fast") == "1777\n"
    assert compose.ok("exec", "-T", "probe", "wget", "-q", "-O", "-", "http://app:8000/state") == "ready\n"
    assert compose("exec", "-T", "probe", "nslookup", "store").returncode == 1
    assert compose("exec", "-T", "probe", "nslookup", "ferry_app_2").returncode == 0


def logs_and_exec(compose: Compose) -> None:
    lines = sorted(compose.ok("logs", "--no-color").splitlines()[1:])
    assert [[part.strip() for part in line.split("|")] for line in lines] == [
        ["app_1", "app has ready"],
        ["app_2", "app has ready"],
        ["probe_1", "probing"],
    ]
    assert compose.ok("logs", "--no-color", "--tail", "1", "probe").endswith("| probing\n")
    assert (
        compose.ok("exec", "-T", "--index", "2", "app", "sh", "-c", "echo $COLOUR; cat /www/state") == "green\nready\n"
    )
    failed = compose("exec", "-T", "app", "sh", "-c", "echo bad >&2; exit 7")
    assert (failed.returncode, failed.stdout) == (7, "bad\n")  # compose's own client writes both streams to stdout
    with compose.terminal("exec", "store", "sh") as shell:
        shell.expect(b"# ")
        shell.send(b"tty; exit 5\r")
        shell.expect(b"/dev/pts/")
        assert shell.wait() == 5
    assert "httpd -f -p 80" in compose.ok("top", "store")
    # By the docker command line, as compose does where there is one: its own client attaches after the start.
    by_docker = {"COMPOSE_INTERACTIVE_NO_CLI": "0"}
    assert compose.ok("run", "--rm", "-T", "--no-deps", "probe", "echo", "one-off", **by_docker) == "one-off\n"
    failed = compose("exec", "-T", "app", "sh", "-c", "echo bad >&2; exit 7", **by_docker)
    assert (failed.returncode, failed.stdout, failed.stderr) == (7, "", "bad\n")


def scale_up_and_down(compose: Compose) -> None:
    old = compose.ids("app")
    compose.ok("up", "-d", "--no-recreate", "--scale", "app=3")
    assert len(compose.ids("app")) == 3
    assert set(old) < set(compose.ids("app"))
    assert compose.fetch("/state", 3) == "ready\n"
    compose.ok("scale", "app=1")
    assert len(compose.ids("app")) == 1
    compose.ok("scale", "app=2")
    assert compose.fetch("/state", 2) == "ready\n"


def restart_keeps_the_volume(compose: Compose) -> None:
    compose.ok("exec", "-T", "store", "sh", "-c", "echo kept >/data/page")
    store = compose.engine.inspect("ferry_store_1")
    compose.ok("restart", "store", "probe")
    after = compose.engine.inspect("ferry_store_1")
    assert (after["Id"], after["State"]["Running"]) == (store["Id"], True)
    assert after["State"]["StartedAt"] > store["State"]["StartedAt"]

    def page() -> bool:
        return compose("exec", "-T", "app", "wget", "-q", "-O", "-", "http://store/page").stdout == "kept\n"

    eventually(page, what="the store serves what was written before its restart")
    volume = compose.engine.http.get("/volumes/ferry_kept").json
    assert volume["Labels"]["com.docker.compose.project"] == "ferry"


def test_up_says_why_a_dependency_failed(compose: Compose) -> None:
    """A store that never gets well keeps the app from being made, and up fails by name."""
    sick = APPLICATION.replace("http://127.0.0.1/run/state", "http://127.0.0.1/nothing").replace(
        "retries: 40", "retries: 1"
    )
    (compose.project / "docker-compose.yml").write_text(sick)
    done = compose("up", "-d", "app")
    assert done.returncode == 1
    assert "is unhealthy" in done.stderr, done
    assert compose.ids("app") == []
