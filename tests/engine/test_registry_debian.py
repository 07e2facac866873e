"""Whole engines against Debian's docker-registry on loopback: plain, with passwords, with TLS, as a mirror of Docker Hub."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import pytest

import wherry
from scripts.make_images import BUSYBOX, busybox_archive
from tests.support.builds import build, context, registry_config
from tests.support.docker_registry import HERE, Machine, registry
from tests.support.engines import REPOSITORY, Engine, decode_lines, end_process, scratch_root, wherry_command
from tests.support.http import Http, eventually
from tests.support.images import PACK, digest, tar
from tests.support.registry import Reply, fake_registry

ANN = "ann:$2y$05$52dX0p9Nd2RDWpWJFcmRGOrwobaX40XRTK3tgDHvIux1uI1HYzjue"
ADDRESS = "10.77.7.7"
"""An address that is no loopback address, on the loopback device of a network namespace of its own."""


@contextmanager
def engine(*flags: str, machine: Machine = HERE) -> Iterator[Engine]:
    """Wherry's engine on roots of its own, ended with everything it ran."""
    with scratch_root("wherry") as root, (root / "engine.log").open("wb") as log:
        command = [*machine.prefix, *wherry_command(root, "--stop-containers", *flags)]
        env = os.environ | machine.env
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=REPOSITORY, env=env)
        try:
            made = Engine("wherry", root, process, "1.43", "")

            def answers() -> bool:
                assert process.poll() is None, made.log
                try:
                    return Http(made.socket_path).get("/_ping", timeout=5).status == 200
                except OSError:
                    return False

            eventually(answers, within=60, what="the engine answers")
            yield made
        finally:
            end_process(process)


def cli(engine: Engine, *arguments: str, fails: bool = False, stdin: str = "") -> str:
    """``docker`` on this engine, with a configuration of its own; its whole output."""
    env = os.environ | {"DOCKER_HOST": engine.address, "DOCKER_CONFIG": str(engine.root / "config")}
    done = subprocess.run(
        ["docker", *arguments], env=env, input=stdin, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode != 0) is fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def digest_in(output: str) -> str:
    return next(word for line in output.splitlines() if "igest: " in line for word in line.split() if "sha256:" in word)


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    with registry() as place:
        yield place


@pytest.fixture(scope="module")
def first(hub: str) -> Iterator[Engine]:
    """An engine that has pushed busybox to ``hub`` as Docker Hub has it."""
    with engine() as made:
        made.load(busybox_archive())
        cli(made, "tag", "busybox", f"{hub}/library/busybox")
        cli(made, "push", f"{hub}/library/busybox")
        yield made


@pytest.fixture(scope="module")
def second(hub: str, first: Engine) -> Iterator[Engine]:
    """Another engine, for which ``hub`` is a mirror of Docker Hub."""
    with engine("--registry-mirror", f"http://{hub}") as made:
        yield made


def test_docker_pull_from_a_mirror_of_docker_hub(second: Engine, first: Engine, hub: str) -> None:
    out = cli(second, "pull", "busybox")
    assert "latest: Pulling from library/busybox" in out
    assert "Status: Downloaded newer image for busybox:latest\ndocker.io/library/busybox:latest" in out
    assert "Image is up to date for busybox:latest" in cli(second, "pull", "busybox")
    pushed = cli(
        first, "images", "--digests", "--no-trunc", "--format", "{{.ID}} {{.Digest}}", f"{hub}/library/busybox"
    )
    pulled = cli(second, "images", "--digests", "--no-trunc", "--format", "{{.ID}} {{.Digest}}", "busybox")
    assert pushed == pulled
    assert cli(second, "run", "--rm", "busybox", "echo", "hello") == "hello\n"
    assert hub in cli(second, "info", "--format", "{{.RegistryConfig.Mirrors}}")


def test_docker_run_pulls_what_is_missing(second: Engine, first: Engine, hub: str) -> None:
    cli(first, "tag", "busybox", f"{hub}/library/tool:1")
    cli(first, "push", f"{hub}/library/tool:1")
    out = cli(second, "run", "--rm", "tool:1", "echo", "there")
    assert "Unable to find image 'tool:1' locally" in out
    assert out.startswith("there\n")  # what docker itself says goes to stderr


def test_pull_run_commit_push_and_pull_elsewhere_with_the_same_digests(first: Engine, second: Engine, hub: str) -> None:
    cli(second, "pull", "busybox")
    script = "echo new > /new; ln /new /again; rm /bin/ls; mv /tmp /gone; mkdir -m 700 /tmp; chmod 711 /; mkfifo /pipe"
    cli(second, "run", "--name", "work", "busybox", "sh", "-c", script)
    name = f"{hub}/mine/app:v1"
    change = ["--change", 'CMD ["cat", "/new"]', "--change", "ENV A=b", "--author", "Ann", "--message", "a note"]
    id = cli(second, "commit", *change, "work", name).strip()
    pushed = digest_in(cli(second, "push", name))
    assert digest_in(cli(first, "pull", name)) == pushed
    found = json.loads(cli(first, "inspect", name))[0]
    assert found["Id"] == id
    assert found["RepoDigests"] == [f"{name.removesuffix(':v1')}@{pushed}"]
    assert (found["Author"], found["Comment"], found["Config"]["Env"][-1]) == ("Ann", "a note", "A=b")
    assert cli(first, "run", "--rm", name) == "new\n"
    look = "stat -c '%a %F' / /pipe /tmp; stat -c '%h links' /new; test -e /bin/ls || echo no-ls; test -d /gone && echo gone"
    out = cli(first, "run", "--rm", name, "sh", "-c", look)
    assert out.splitlines() == ["711 directory", "644 fifo", "700 directory", "2 links", "no-ls", "gone"]
    cli(second, "rm", "work")
    newer = cli(second, "tag", name, f"{hub}/mine/app:v2") + cli(second, "push", f"{hub}/mine/app:v2")
    assert digest_in(newer) == pushed
    layers = [json.loads(cli(each, "inspect", "--format", "{{json .RootFS.Layers}}", name)) for each in (first, second)]
    assert layers[0] == layers[1]
    assert len(layers[0]) == 2


def test_skopeo_reads_what_was_pushed(first: Engine, hub: str, tmp_path: Path) -> None:
    container = first.run("sh", "-c", "echo more > /more")
    first.wait(container)
    name = f"{hub}/read/app:v1"
    id = cli(first, "commit", container, name).strip()
    pushed = digest_in(cli(first, "push", name))

    def skopeo(*arguments: str) -> bytes:
        command = ["skopeo", "--insecure-policy", *arguments]
        return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout

    seen = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{name}"))
    assert (seen["Digest"], len(seen["Layers"])) == (pushed, 2)
    assert json.loads(skopeo("inspect", "--tls-verify=false", "--raw", f"docker://{name}"))["config"]["digest"] == id
    skopeo("copy", "--src-tls-verify=false", f"docker://{name}", f"oci:{tmp_path}/layout:v1")
    skopeo("copy", "--src-tls-verify=false", f"docker://{name}", f"docker-archive:{tmp_path}/archive.tar:copied:v1")
    cli(first, "load", "-i", f"{tmp_path}/archive.tar")
    assert cli(first, "inspect", "--format", "{{.Id}}", "copied:v1").strip() == id
    subprocess.run(["tar", "-cf", f"{tmp_path}/layout.tar", "-C", f"{tmp_path}/layout", "."], check=True)
    cli(first, "rmi", "-f", "copied:v1")
    assert "Loaded image" in cli(first, "load", "-i", f"{tmp_path}/layout.tar")
    skopeo("copy", "--dest-tls-verify=false", f"oci:{tmp_path}/layout:v1", f"docker://{hub}/read/oci:v1")
    assert cli(first, "run", "--rm", f"{hub}/read/oci:v1", "cat", "/more").startswith("more\n")


def test_hello_world_from_a_mirror_of_docker_hub(first: Engine, second: Engine, hub: str) -> None:
    """An image of one program and nothing else, by the name that everybody tries first."""
    with tarfile.open(first.root / "hello.tar", "w") as archive:
        archive.add(BUSYBOX, "busybox")
    change = 'CMD ["/busybox", "echo", "Hello from Docker!"]'
    cli(first, "import", "--change", change, str(first.root / "hello.tar"), f"{hub}/library/hello-world")
    cli(first, "push", f"{hub}/library/hello-world")
    out = cli(second, "run", "--rm", "hello-world")
    assert "Unable to find image 'hello-world:latest' locally" in out
    assert "Status: Downloaded newer image for hello-world:latest" in out
    assert "Hello from Docker!\n" in out


def test_a_running_container_is_committed_and_paused_meanwhile(first: Engine) -> None:
    container = first.run_idle()
    committed = first.http.post("/commit", query={"container": container, "repo": "from-running"})
    assert committed.status == 201, committed
    id = committed.json["Id"]
    assert first.state(container)["Status"] == "running"
    image = first.http.get(f"/images/{id}/json").json
    assert image["RepoTags"] == ["from-running:latest"]
    parent = first.http.get("/images/busybox:latest/json").json
    assert image["Parent"] == parent["Id"]
    assert image["RootFS"]["Layers"][: len(parent["RootFS"]["Layers"])] == parent["RootFS"]["Layers"]
    assert image["Config"]["Cmd"] == first.inspect(container)["Config"]["Cmd"]


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ({"container": "nosuch"}, 404, "No such container: nosuch"),
        ({}, 404, "No such container: "),
        ({"container": "it", "repo": "Bad"}, 400, "repository name must be lowercase"),
        ({"container": "it", "repo": f"a@sha256:{'a' * 64}"}, 400, "digest reference"),
        ({"container": "it", "changes": "RUN x"}, 400, "run is not a valid change command"),
    ],
)
def test_refused_commits(first: Engine, query: dict[str, Any], status: int, message: str) -> None:
    if first.http.get("/containers/it/json").status != 200:
        first.create("true", name="it")
    answer = first.http.post("/commit", query=query)
    assert (answer.status, message in answer.json["message"]) == (status, True), answer


def test_a_commit_without_changes_adds_no_layer(first: Engine) -> None:
    container = first.create("true", Labels={"a": "b"})
    id = first.http.post("/commit", query={"container": container}, json={"Env": ["X=y"]}).json["Id"]
    image, parent = (first.http.get(f"/images/{name}/json").json for name in (id, "busybox:latest"))
    assert image["RootFS"] == parent["RootFS"]
    assert image["Config"]["Env"][0] == "X=y"
    assert image["Config"]["Labels"] == {"a": "b"}


def test_passwords(first: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "htpasswd").write_text(ANN + "\n")
    more = f"auth: {{htpasswd: {{realm: here, path: {tmp_path}/htpasswd}}}}"
    with registry(more=more) as place:
        name = f"{place}/private/box"
        cli(first, "tag", "busybox", name)
        assert "no basic auth credentials" in cli(first, "push", name, fails=True)
        login = ("login", "--username", "ann", "--password-stdin", place)
        assert "401 Unauthorized" in cli(first, *login, stdin="wrong", fails=True)
        assert "Login Succeeded" in cli(first, *login, stdin="secret")
        pushed = digest_in(cli(first, "push", name))
        cli(first, "rmi", name)
        assert digest_in(cli(first, "pull", name)) == pushed
        cli(first, "logout", place)
        assert "no basic auth credentials" in cli(first, "pull", f"{name}:none", fails=True)

        cli(first, "rmi", name)
        body = context({}, f"FROM {name}\nCOPY --from={name} /bin/busybox /copied\n")
        assert "no basic auth credentials" in build(first, body).error
        credentials = registry_config({place: {"username": "ann", "password": "secret"}})
        built = build(first, body, headers=credentials, pull=1)
        assert (built.error, any(line.get("status") == f"Digest: {pushed}" for line in built.lines)) == ("", True)

        cli(first, *login, stdin="secret")
        with monkeypatch.context() as patched, wherry.connect(first.address) as ours:
            patched.setenv("DOCKER_CONFIG", str(first.root / "config"))
            assert ours.distribution.inspect(name).descriptor.digest == pushed
            ours.images.pull(name)
            ours.images.push(name, tag="latest")
            with pytest.raises(wherry.ServerError, match="no basic auth credentials"):
                ours.images.pull(name, auth=wherry.AuthConfig())
            wrong = wherry.AuthConfig(username="ann", password="wrong")
            with pytest.raises(wherry.Unauthorized):
                ours.distribution.inspect(name, auth=wrong)
        cli(first, "logout", place)

        client = docker.DockerClient(base_url=first.address)
        try:
            with pytest.raises(docker.errors.APIError):
                client.images.pull(name, tag="latest")
            assert client.login("ann", "secret", registry=place)["Status"] == "Login Succeeded"
            image = client.images.pull(name, tag="latest")
            assert f"{name}@{pushed}" in image.attrs["RepoDigests"]
            data = client.images.get_registry_data(name)
            assert data.id == pushed
            assert data.attrs["Platforms"][0]["os"] == "linux"
            image.tag(f"{place}/private/other", "v2")
            lines = list(client.images.push(f"{place}/private/other", tag="v2", stream=True, decode=True))
            assert lines[-1]["aux"]["Digest"] == pushed
            assert any("Mounted from private/box" in line.get("status", "") for line in lines)
            wrong = {"username": "ann", "password": "wrong"}
            lines = list(client.images.push(name, stream=True, decode=True, auth_config=wrong))
            assert "unauthorized" in lines[-1]["error"]
        finally:
            client.close()


def test_what_a_registry_does_not_have(first: Engine, hub: str) -> None:
    missing = f"manifest for {hub}/none:latest not found: manifest unknown: manifest unknown"
    assert missing in cli(first, "pull", f"{hub}/none", fails=True)
    answer = first.http.post("/images/create", query={"fromImage": f"{hub}/none", "tag": "latest"})
    assert (answer.status, answer.json["message"]) == (404, missing)
    answer = first.http.post("/images/create", query={"fromImage": "Bad Name"})
    assert answer.status == 400
    answer = first.http.get(f"/distribution/{hub}/none/json")
    assert (answer.status, answer.json["message"]) == (404, "manifest unknown: manifest unknown")
    answer = first.http.get("/images/search", query={"term": f"{hub}/box"})
    assert (answer.status, "has no search" in answer.json["message"]) == (500, True)
    answer = first.http.post(f"/images/{hub}/never/push", query={"tag": "v1"})
    assert answer.status == 200
    assert "An image does not exist locally with the tag" in decode_lines(answer.body)[-1]["error"]


def test_tls_with_an_authority_of_one_s_own(tmp_path: Path) -> None:
    """In a network namespace, at an address that is not this machine's own by nature: certificates count there."""
    authority = make_certificates(tmp_path)
    more = f"  tls: {{certificate: {tmp_path}/server.pem, key: {tmp_path}/server.key}}"
    script = f"ip link set lo up && ip address add {ADDRESS}/32 dev lo && exec sleep 300"
    holder = subprocess.Popen(["unshare", "--net", "sh", "-c", script])
    inside = ["nsenter", f"--net=/proc/{holder.pid}/ns/net"]
    try:
        look = [*inside, "ip", "-4", "address", "show", "dev", "lo"]
        eventually(lambda: ADDRESS in subprocess.run(look, capture_output=True, text=True).stdout, what="the address")
        with registry(address=ADDRESS, more=more, machine=Machine(inside)) as place:
            name = f"{place}/safe/box"
            trusting = Machine(inside, {"SSL_CERT_FILE": str(authority)})
            with engine(machine=trusting) as made:
                made.load(busybox_archive())
                cli(made, "tag", "busybox", name)
                eventually(lambda: "digest: " in try_push(made, name), what="the registry takes the image")
                cli(made, "rmi", name)
                assert "Downloaded newer image" in cli(made, "pull", name)
            with engine(machine=Machine(inside)) as made:
                out = cli(made, "pull", name, fails=True)
                assert f'Get "https://{place}/v2/": tls: failed to verify certificate' in out
            with engine("--insecure-registry", place, machine=Machine(inside)) as made:
                assert "Downloaded newer image" in cli(made, "pull", name)
    finally:
        holder.kill()
        holder.wait()


def try_push(made: Engine, name: str) -> str:
    answer = made.http.post(f"/images/{name}/push", query={"tag": "latest"}, headers={"X-Registry-Auth": "e30="})
    return answer.body.decode()


def make_certificates(place: Path) -> Path:
    """An authority and a server's certificate for ``ADDRESS``; returns the authority's."""
    openssl = shutil.which("openssl") or "openssl"
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=place, check=True, capture_output=True)

    run("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Test authority")
    run("req", *new[:-2], "-keyout", "server.key", "-out", "server.csr", "-subj", f"/CN={ADDRESS}")
    (place / "san").write_text(f"subjectAltName=IP:{ADDRESS}\n")
    signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "san"]
    run("x509", "-req", "-in", "server.csr", *signed, "-out", "server.pem")
    return place / "ca.pem"


def test_an_option_that_can_be_none_is_refused_at_the_start(tmp_path: Path) -> None:
    for flags in (["--registry-mirror", "mirror.example"], ["--insecure-registry", "a/b"]):
        command = [sys.executable, "-m", "wherry.cli", "serve", "--data-root", str(tmp_path / "d"), *flags]
        done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=30, check=False)
        assert done.returncode == 1
        assert flags[1] in done.stderr


def test_a_client_that_leaves_ends_the_pull(first: Engine) -> None:
    async def work() -> None:
        async with fake_registry() as fake:
            layer = tar([("file", os.urandom(50_000))])
            fake.add_image([layer], "latest")
            slow = digest(PACK["gzip"](layer))
            fake.hooks.append(lambda a: Reply(body=fake.blobs[slow], hold=1.0) if a.path.endswith(slow) else None)
            reader, writer = await asyncio.open_unix_connection(first.socket_path)
            target = f"/v1.43/images/create?fromImage={fake.domain}/app&tag=latest"
            writer.write(f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
            await reader.readuntil(b"Pulling fs layer")
            for _ in range(100):
                if fake.sending:
                    break
                await asyncio.sleep(0.05)
            assert fake.sending == 1
            assert list((first.root / "data/partial").iterdir())
            writer.transport.abort()
            for _ in range(100):
                if not fake.sending and not list((first.root / "data/tmp").iterdir()):
                    break
                await asyncio.sleep(0.05)
            assert fake.sending == 0
            assert list((first.root / "data/tmp").iterdir()) == []

    asyncio.run(work())


def serving(data: bytes, status: int = 200, **headers: str) -> Any:
    """Answers every request so."""
    return lambda asked: Reply(status, data, {name.replace("_", "-"): value for name, value in headers.items()})


def test_import_from_a_url(first: Engine) -> None:
    root = tar([("bin", None), ("file", os.urandom(3_000_000))])

    async def work() -> None:
        async with fake_registry() as fake, fake_registry() as other:
            other.hooks.append(serving(b"", 302, Location=f"{fake.url}/root.tar.gz"))
            fake.hooks.append(serving(PACK["gzip"](root)))
            place = other.domain + "/root"
            lines = decode_lines(await asyncio.to_thread(cli_import, place, repo="fetched"))
            assert lines[0] == {"status": f"Downloading from http://{place}"}
            image = first.http.get("/images/fetched/json").json
            assert (lines[-1]["status"], image["Comment"]) == (image["Id"], f"Imported from http://{place}")
            assert image["RootFS"]["Layers"] == [digest(root)]
            out = await asyncio.to_thread(
                cli, first, "import", "--message", "by hand", f"{other.url}/root", "fetched:2"
            )
            assert out.startswith("Downloading from") or "sha256:" in out
            for reply, status, why in (
                (serving(b"not here", 404), 500, "with status 404 Word: not here"),
                (lambda asked: Reply(body=root, cut=5000), 200, "closed|ended|early|interrupted"),
                (serving(b"", 302, Location="file:///etc/passwd"), 500, "neither http nor https"),
                (serving(b"no archive" * 1000), 200, "tar"),
            ):
                fake.hooks[:] = other.hooks[:] = [reply]
                answer = await asyncio.to_thread(first.http.post, "/images/create", query={"fromSrc": place})
                assert answer.status == status, answer
                assert re.search(why, answer.body.decode()), answer
        answer = await asyncio.to_thread(first.http.post, "/images/create", query={"fromSrc": "http://127.0.0.1:1/x"})
        assert (answer.status, "connection refused" in answer.message) == (500, True)

    def cli_import(place: str, **query: str) -> bytes:
        answer = first.http.post("/images/create", query={"fromSrc": place, **query})
        assert answer.status == 200, answer
        return answer.body

    asyncio.run(work())
    assert list((first.root / "data/tmp").iterdir()) == []
