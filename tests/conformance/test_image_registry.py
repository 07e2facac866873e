"""Images and registries: pull, push, what a registry is asked, logins; against Debian's registry, where each engine sees it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.test_images import inspect, remove_others
from tests.support.docker_registry import HERE, Machine, registry
from tests.support.engines import Engine, decode_lines

ANN = "ann:$2y$05$52dX0p9Nd2RDWpWJFcmRGOrwobaX40XRTK3tgDHvIux1uI1HYzjue"
SECRET = {"username": "ann", "password": "secret"}


@pytest.fixture(scope="module")
def machine(running_engine: Engine) -> Machine:
    """Where the engine's loopback is."""
    return Machine(["nsenter", f"--net={running_engine.netns}"]) if running_engine.netns else HERE


@pytest.fixture(scope="module")
def place(machine: Machine) -> Iterator[str]:
    with registry(machine=machine) as made:
        yield made


@pytest.fixture(autouse=True)
def only_busybox(engine: Engine) -> Iterator[None]:
    yield
    engine.remove_all()
    remove_others(engine)


def auth(**fields: str) -> dict[str, str]:
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(fields).encode()).decode()}


def push(engine: Engine, name: str, tag: str, **fields: str) -> list[dict[str, Any]]:
    answer = engine.http.post(f"/images/{name}/push", query={"tag": tag}, headers=auth(**fields))
    assert answer.status == 200, answer
    return decode_lines(answer.body)


def pull(engine: Engine, name: str, tag: str, **query: str) -> list[dict[str, Any]]:
    answer = engine.http.post("/images/create", query={"fromImage": name, "tag": tag, **query}, headers=auth())
    assert answer.status == 200, answer
    return decode_lines(answer.body)


def steps(messages: list[dict[str, Any]]) -> list[str]:
    """What was said of a layer, without what depends on the moment."""
    passing = {"Downloading", "Extracting", "Waiting", "Pushing", "Verifying Checksum"}
    return [
        line["status"] for line in messages if "progressDetail" in line and line.get("status", "Waiting") not in passing
    ]


def put(engine: Engine, place: str, name: str) -> tuple[str, str]:
    """Push a small image; its id and its manifest's digest. It is not here any more afterwards."""
    repo = f"{place}/{name}"
    engine.load_image(f"{repo}:v1", {"Cmd": ["cat", "/note"]}, {"note": name.encode()})
    id = inspect(engine, f"{repo}:v1")["Id"]
    digest = push(engine, repo, "v1")[-1]["aux"]["Digest"]
    assert inspect(engine, f"{repo}:v1")["RepoDigests"] == [f"{repo}@{digest}"]
    assert engine.http.delete(f"/images/{repo}:v1").status == 200
    return id, digest


def test_push_tells_its_steps(engine: Engine, place: str) -> None:
    repo = f"{place}/told"
    engine.load_image(f"{repo}:v1", {"Cmd": ["true"]}, {"note": b"told"})
    messages = push(engine, repo, "v1")
    assert messages[0] == {"status": f"The push refers to repository [{repo}]"}
    assert sorted(steps(messages)) == ["Preparing", "Preparing", "Pushed", "Pushed"]
    aux = messages[-1]["aux"]
    assert set(aux) == {"Tag", "Digest", "Size"}
    assert messages[-2]["status"] == f"v1: digest: {aux['Digest']} size: {aux['Size']}"
    again = push(engine, repo, "v1")
    assert sorted(steps(again))[:2] == ["Layer already exists", "Layer already exists"]
    assert again[-1]["aux"] == aux


def test_pull_tells_its_steps(engine: Engine, place: str) -> None:
    id, digest = put(engine, place, "fetched")
    repo = f"{place}/fetched"
    messages = pull(engine, repo, "v1")
    assert messages[0] == {"status": "Pulling from fetched", "id": "v1"}
    assert sorted(steps(messages)) == ["Already exists", "Download complete", "Pull complete", "Pulling fs layer"]
    assert [line["status"] for line in messages[-2:]] == [
        f"Digest: {digest}",
        f"Status: Downloaded newer image for {repo}:v1",
    ]
    seen = inspect(engine, f"{repo}:v1")
    assert (seen["Id"], seen["RepoTags"], seen["RepoDigests"]) == (id, [f"{repo}:v1"], [f"{repo}@{digest}"])
    assert pull(engine, repo, "v1")[-1] == {"status": f"Status: Image is up to date for {repo}:v1"}
    assert engine.run_to_end(Image=f"{repo}:v1")[:2] == (0, b"fetched")


def test_pull_by_digest(engine: Engine, place: str) -> None:
    id, digest = put(engine, place, "exact")
    repo = f"{place}/exact"
    messages = pull(engine, repo, digest)
    assert messages[0] == {"status": "Pulling from exact", "id": f"{repo}@{digest}"}
    assert messages[-1]["status"] == f"Status: Downloaded newer image for {repo}@{digest}"
    seen = inspect(engine, f"{repo}@{digest}")
    assert (seen["Id"], seen["RepoTags"], seen["RepoDigests"]) == (id, [], [f"{repo}@{digest}"])
    assert engine.http.delete(f"/images/{repo}@{digest}").json[0] == {"Untagged": f"{repo}@{digest}"}
    assert engine.http.get(f"/images/{id}/json").status == 404


def test_all_tags(engine: Engine, place: str) -> None:
    repo = f"{place}/several"
    for tag in ("one", "two"):
        engine.load_image(f"{repo}:{tag}", {"Cmd": ["echo", tag]})
    messages = decode_lines(engine.http.post(f"/images/{repo}/push", headers=auth()).body)
    assert {line["aux"]["Tag"] for line in messages if "aux" in line} == {"one", "two"}
    remove_others(engine)
    answer = engine.http.post("/images/create", query={"fromImage": repo}, headers=auth())
    assert answer.status == 200
    for tag in ("one", "two"):
        assert inspect(engine, f"{repo}:{tag}")["Config"]["Cmd"] == ["echo", tag]


def test_what_there_is_not(engine: Engine, place: str) -> None:
    put(engine, place, "present")
    for name, tag in (("absent", "v1"), ("present", "none")):
        answer = engine.http.post("/images/create", query={"fromImage": f"{place}/{name}", "tag": tag}, headers=auth())
        assert answer.status == 404
        assert f"manifest for {place}/{name}:{tag} not found: manifest unknown" in answer.message
    answer = engine.http.post("/images/create", query={"fromImage": "Not A Name", "tag": "v1"})
    assert (answer.status, "invalid reference format" in answer.message) == (400, True)
    assert "An image does not exist locally with the tag" in push(engine, f"{place}/never", "v1")[-1]["error"]
    answer = engine.http.post("/images/create", query={"fromImage": "127.0.0.1:1/x", "tag": "v1"}, headers=auth())
    assert (answer.status, "connection refused" in answer.message.lower()) == (500, True)


def test_distribution_inspect(engine: Engine, place: str) -> None:
    _, digest = put(engine, place, "asked")
    answer = engine.http.get(f"/distribution/{place}/asked:v1/json", headers=auth())
    assert answer.status == 200
    described = answer.json["Descriptor"]
    assert (described["digest"], described["mediaType"]) == (
        digest,
        "application/vnd.docker.distribution.manifest.v2+json",
    )
    assert described["size"] > 100
    (platform,) = answer.json["Platforms"]
    assert (platform["os"], platform["architecture"]) == ("linux", "amd64")
    missing = engine.http.get(f"/distribution/{place}/asked:none/json", headers=auth())
    assert (missing.status, "manifest unknown" in missing.message) == (404, True)


def test_events_of_pull_and_push(engine: Engine, place: str) -> None:
    repo = f"{place}/watched"
    filters = {"type": ["image"], "event": ["pull", "push"], "image": [repo]}
    put(engine, place, "watched")
    pull(engine, repo, "v1")
    with engine.http.open("GET", "/events", query={"since": 1, "until": 9e9, "filters": filters}) as events:
        values = events.json_values()
        seen = [next(values), next(values)]
    assert [(event["Action"], event["Actor"]["ID"]) for event in seen] == [
        ("push", f"{repo}:v1"),
        ("pull", f"{repo}:v1"),
    ]
    assert all(event["Actor"]["Attributes"]["name"] == repo for event in seen)


def test_passwords(engine: Engine, machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "htpasswd").write_text(ANN + "\n")
    with registry(more=f"auth: {{htpasswd: {{realm: here, path: {tmp_path}/htpasswd}}}}", machine=machine) as guarded:
        repo = f"{guarded}/private"
        engine.load_image(f"{repo}:v1", {"Cmd": ["true"]})
        assert "no basic auth credentials" in push(engine, repo, "v1")[-1]["error"]
        assert "unauthorized" in push(engine, repo, "v1", username="ann", password="wrong")[-1]["error"]
        digest = push(engine, repo, "v1", **SECRET)[-1]["aux"]["Digest"]
        query = {"fromImage": repo, "tag": "v1"}
        refused = engine.http.post("/images/create", query=query, headers=auth())
        assert (refused.status, "no basic auth credentials" in refused.message) == (500, True)
        answer = engine.http.post("/images/create", query=query, headers=auth(**SECRET))
        assert f"Digest: {digest}".encode() in answer.body
        login = engine.http.post("/auth", json={**SECRET, "serveraddress": guarded})
        assert (login.status, login.json["Status"]) == (200, "Login Succeeded")
        wrong = engine.http.post("/auth", json={"username": "ann", "password": "no", "serveraddress": guarded})
        assert wrong.status in (401, 500)
        assert "401 Unauthorized" in wrong.message


def test_a_digest_that_is_not_there(engine: Engine, place: str) -> None:
    answer = engine.http.post("/images/create", query={"fromImage": f"{place}/none@sha256:{'0' * 64}"}, headers=auth())
    assert answer.status == 404
    assert engine.http.get("/images/json", query={"filters": {"reference": [f"{place}/none"]}}).json == []
