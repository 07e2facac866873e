"""What an engine does with the images it has: sizes, names, removal, prune, commit, import, history, events."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from scripts.make_images import busybox_layer
from tests.conformance.test_images import TAR, import_tar, inspect, remove_others
from tests.support.engines import Engine, decode_lines


@pytest.fixture(autouse=True)
def only_busybox(engine: Engine) -> Iterator[None]:
    remove_others(engine)
    yield
    engine.remove_all()
    remove_others(engine)


def ids(engine: Engine, *, all: bool = False, **filters: list[str]) -> list[str]:
    query: dict[str, Any] = {"filters": filters} | ({"all": 1} if all else {})
    found = engine.http.get("/images/json", query=query).json
    if engine.is_dockerd:  # which compares seconds alone
        found.sort(key=lambda image: inspect(engine, image["Id"])["Created"], reverse=True)
    return [image["Id"] for image in found]


def commit(engine: Engine, base: str, script: str = "true", *, changes: list[str] | None = None, **query: Any) -> str:
    """An image of a container that has ended; the container is gone."""
    query |= {"changes": "\n".join(changes)} if changes else {}
    container = engine.run("sh", "-c", script, Image=base)
    engine.wait(container)
    answer = engine.http.post("/commit", query={"container": container, **query})
    assert answer.status == 201, answer
    assert engine.http.delete(f"/containers/{container}").status == 204
    return str(answer.json["Id"])


def events(engine: Engine, since: float, kind: str = "image") -> list[tuple[str, str, str]]:
    """(action, id, name) of what happened."""
    query = {"since": f"{since:.9f}", "until": f"{time.time() + 0.01:.9f}", "filters": {"type": [kind]}}
    with engine.http.open("GET", "/events", query=query) as exchange:
        seen = list(exchange.json_values())
    return [(event["Action"], event["Actor"]["ID"], event["Actor"]["Attributes"].get("name", "")) for event in seen]


def test_system_df_counts_what_is_shared(engine: Engine) -> None:
    engine.load_image("df:one", {"Cmd": ["true"]}, {"one": b"1" * 5000})
    engine.load_image("df:two", {"Cmd": ["true"]}, {"two": b"2" * 7000})
    engine.create(Image="df:one")
    engine.create(Image="df:one")
    used = engine.http.get("/system/df").json
    by_tag = {image["RepoTags"][0]: image for image in used["Images"]}
    base = inspect(engine, "busybox")["Size"]
    one, two = by_tag["df:one"], by_tag["df:two"]
    assert (one["Size"] - base, two["Size"] - base) == (5000, 7000)
    assert one["SharedSize"] == two["SharedSize"] == by_tag["busybox:latest"]["SharedSize"] == base
    assert (one["Containers"], two["Containers"]) == (2, 0)
    assert used["LayersSize"] == base + 12000
    assert {(c["Image"], c["SizeRootFs"] - c.get("SizeRw", 0)) for c in used["Containers"]} == {("df:one", base + 5000)}


def test_list_filters_by_other_images(engine: Engine) -> None:
    old, new = commit(engine, "busybox", repo="made", tag="old"), commit(engine, "busybox", "echo > /x", repo="made")
    busybox = inspect(engine, "busybox")["Id"]
    assert ids(engine) == [new, old, busybox]
    assert ids(engine, before=["made:latest"]) == [old, busybox]
    assert ids(engine, since=["busybox"]) == [new, old]
    assert ids(engine, since=[old], before=[new]) == []
    assert ids(engine, reference=["made"]) == [new, old]
    assert ids(engine, reference=["made:o*", "busybox:latest"]) == [old, busybox]
    assert ids(engine, reference=["made:[a-m]*"]) == [new]
    answer = engine.http.get("/images/json", query={"filters": {"before": ["nosuch"]}})
    assert (answer.status, "No such image" in answer.message) == (404, True)


def test_commit_changes_the_configuration(engine: Engine) -> None:
    changes = [
        "CMD cat /made",
        "ENV A=b",
        'LABEL kind="of commit"',
        "EXPOSE 80/udp",
        "USER 7:7",
        "VOLUME /data",
        "WORKDIR /tmp",
    ]
    id = commit(
        engine,
        "busybox",
        "echo content > /made",
        repo="made",
        tag="v1",
        changes=changes,
        author="Ann",
        comment="a note",
    )
    seen = inspect(engine, "made:v1")
    config = seen["Config"]
    assert (seen["Id"], seen["Author"], seen["Comment"]) == (id, "Ann", "a note")
    assert seen["Parent"] == inspect(engine, "busybox")["Id"]
    assert (config["Cmd"], config["WorkingDir"], config["User"]) == (["/bin/sh", "-c", "cat /made"], "/tmp", "7:7")
    assert "A=b" in config["Env"]
    assert config["Labels"]["kind"] == "of commit"
    assert ("80/udp" in config["ExposedPorts"], "/data" in config["Volumes"]) == (True, True)
    assert engine.run_to_end(Image="made:v1")[:2] == (0, b"content\n")
    steps = engine.http.get("/images/made:v1/history").json
    assert (steps[0]["Id"], steps[0]["Tags"], steps[0]["Comment"]) == (id, ["made:v1"], "a note")
    assert steps[0]["Size"] == len("content\n")
    assert steps[1]["Id"] == seen["Parent"]


def test_commit_with_a_configuration(engine: Engine) -> None:
    container = engine.create("true", Env=["FROM=container"], Labels={"of": "container"})
    answer = engine.http.post(
        "/commit",
        query={"container": container, "repo": "configured"},
        json={"Cmd": ["echo", "x"], "Env": ["FROM=call"]},
    )
    assert answer.status == 201
    config = inspect(engine, "configured")["Config"]
    assert config["Cmd"] == ["echo", "x"]
    assert [entry for entry in config["Env"] if entry.startswith("FROM=")] == ["FROM=call"]
    assert config["Labels"] == {"of": "container"}


def test_an_image_with_children_stays_and_loses_its_name(engine: Engine) -> None:
    parent = commit(engine, "busybox", "echo > /a", repo="parent")
    child = commit(engine, "parent", "echo > /b", repo="child")
    assert engine.http.delete("/images/parent").json == [{"Untagged": "parent:latest"}]
    assert inspect(engine, parent)["RepoTags"] == []
    assert parent not in ids(engine)
    assert parent in ids(engine, all=True)
    for query in ("", "?force=1"):
        answer = engine.http.delete(f"/images/{parent}{query}")
        assert (answer.status, "image has dependent child images" in answer.message) == (409, True)
    removed = engine.http.delete("/images/child").json
    assert [next(iter(entry.values())) for entry in removed[:2]] == ["child:latest", child]
    assert {"Deleted": parent} in removed
    assert engine.http.get(f"/images/{parent}/json").status == 404


def test_noprune_leaves_the_parent(engine: Engine) -> None:
    parent = commit(engine, "busybox", "echo > /a", repo="parent")
    commit(engine, "parent", "echo > /b", repo="child")
    engine.http.delete("/images/parent")
    removed = engine.http.delete("/images/child?noprune=1").json
    assert {"Deleted": parent} not in removed
    assert inspect(engine, parent)["RepoTags"] == []
    assert ids(engine, dangling=["true"]) == [parent]


def test_a_running_container_s_image_stays_whatever_is_asked(engine: Engine) -> None:
    engine.load_image("busy:1", {"Cmd": ["sleep", "100"]})
    container = engine.run(Image="busy:1")
    id = inspect(engine, "busy:1")["Id"]
    for query in ("", "?force=1"):
        answer = engine.http.delete(f"/images/{id}{query}")
        assert answer.status == 409
        assert "cannot be forced) - image is being used by running container" in answer.message
        assert container[:12] in answer.message
    assert engine.http.delete("/images/busy:1?force=1").json == [{"Untagged": "busy:1"}]
    assert inspect(engine, id)["RepoTags"] == []
    assert engine.inspect(container)["Image"] == id


@pytest.mark.parametrize("until", ["9" * 400 + "h", "9" * 5000, "nonsense"])
def test_PRU1_an_age_beyond_all_bounds_is_refused(engine: Engine, until: str) -> None:
    answer = engine.http.post("/images/prune", query={"filters": {"until": [until]}})
    assert answer.status == (400 if engine.name == "wherry" else 500)
    assert answer.message == f'failed to parse value as time or duration: "{until}"'


def test_prune(engine: Engine) -> None:
    dangling = commit(engine, "busybox", "echo > /a", changes=["LABEL keep=no"])
    kept = commit(engine, "busybox", "echo > /b", changes=["LABEL keep=yes"])
    named = commit(engine, "busybox", "echo 12345 > /c", repo="named")
    assert engine.http.post("/images/prune", query={"filters": {"until": ["1h"]}}).json["ImagesDeleted"] is None
    pruned = engine.http.post("/images/prune", query={"filters": {"label!": ["keep=yes"]}}).json
    assert {"Deleted": dangling} in pruned["ImagesDeleted"]
    assert pruned["SpaceReclaimed"] == 1
    assert sorted(ids(engine)) == sorted([kept, named, inspect(engine, "busybox")["Id"]])
    pruned = engine.http.post("/images/prune").json
    assert {"Deleted": kept} in pruned["ImagesDeleted"]
    engine.create(Image="busybox")
    pruned = engine.http.post("/images/prune", query={"filters": {"dangling": ["false"]}}).json
    assert pruned["ImagesDeleted"][:2] == [{"Untagged": "named:latest"}, {"Deleted": named}]
    assert pruned["SpaceReclaimed"] == 6
    assert engine.http.post("/images/prune", query={"filters": {"zzz": ["1"]}}).status == 400


def test_events_of_images(engine: Engine) -> None:
    since = time.time()
    engine.load_image("told:1", {"Cmd": ["true"]})
    id = inspect(engine, "told:1")["Id"]
    engine.http.post("/images/told:1/tag?repo=told&tag=2")
    engine.http.get("/images/told:1/get")
    engine.http.delete("/images/told:1")
    engine.http.delete("/images/told:2")
    seen = events(engine, since)
    assert [action for action, *_ in seen] == ["load", "tag", "save", "untag", "untag", "delete"]
    assert {found for _, found, _ in seen} == {id}
    assert [name for action, _, name in seen if action == "tag"] == ["told:2"]
    since = time.time()
    imported = decode_lines(import_tar(engine, busybox_layer(), repo="told").body)[-1]["status"]
    engine.http.post("/images/prune", query={"filters": {"dangling": ["false"], "label": ["none"]}})
    seen = events(engine, since)
    assert {action for action, *_ in seen} == {"tag", "import", "prune"} or engine.is_dockerd
    assert ("import", imported, imported if not engine.is_dockerd else "told:latest") in seen or engine.is_dockerd


def test_import_without_a_name_and_for_a_platform(engine: Engine) -> None:
    answer = engine.http.post("/images/create?fromSrc=-&platform=linux/arm64", body=busybox_layer(), headers=TAR)
    id = decode_lines(answer.body)[-1]["status"]
    seen = inspect(engine, id)
    assert (seen["RepoTags"], seen["Comment"]) == ([], "Imported from -")
    if not engine.is_dockerd:  # 20.10 knows platforms only with experimental features
        assert (seen["Os"], seen["Architecture"]) == ("linux", "arm64")
    assert (
        engine.http.post("/images/create?fromSrc=-&platform=windows", body=busybox_layer(), headers=TAR).status != 201
    )


def test_an_image_and_its_layers_are_there_once(engine: Engine) -> None:
    engine.load_image("first:1", {"Cmd": ["true"]}, {"file": b"x" * 1000})
    engine.http.post("/images/first:1/tag?repo=second")
    engine.load_image("first:1", {"Cmd": ["true"]}, {"file": b"x" * 1000})
    assert len(ids(engine)) == 2
    seen = inspect(engine, "second")
    assert seen["RepoTags"] == ["first:1", "second:latest"]
    removed = engine.http.delete(f"/images/{seen['Id']}?force=1").json
    assert [entry["Untagged"] for entry in removed if "Untagged" in entry] == ["first:1", "second:latest"]


def test_a_prune_takes_no_image_before_it_has_its_name(wherry: Engine) -> None:
    over = threading.Event()

    def prune() -> None:
        while not over.is_set():
            wherry.http.post("/images/prune")

    archive, layer = wherry.http.get("/images/busybox/get").body, busybox_layer()
    container = wherry.create("true")
    pruner = threading.Thread(target=prune)
    pruner.start()
    try:
        for number in range(5):
            query = {"container": container, "repo": f"committed{number}"}
            assert wherry.http.post("/commit", query=query, json={}).status == 201
            target = f"/images/create?fromSrc=-&repo=imported{number}&changes=LABEL%20n={number}"
            assert wherry.http.post(target, body=layer, headers=TAR).status == 200
            assert wherry.http.post("/images/load", body=archive, headers=TAR).status == 200
    finally:
        over.set()
        pruner.join()
    for number in range(5):
        assert inspect(wherry, f"committed{number}")["Id"] != inspect(wherry, f"imported{number}")["Id"]
