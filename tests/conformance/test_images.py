"""Images: load, list, inspect, tag, delete, import, save."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.make_images import DEFAULT_PATH, busybox_layer, docker_archive, small_layer
from tests.support.engines import Engine, decode_lines
from tests.support.http import Answer

TAR = {"Content-Type": "application/x-tar"}


@pytest.fixture(autouse=True)
def only_busybox(engine: Engine) -> Iterator[None]:
    """Every image but busybox:latest is removed before and after a test."""
    remove_others(engine)
    yield
    engine.remove_all()
    remove_others(engine)


def remove_others(engine: Engine) -> None:
    for image in engine.http.get("/images/json").json:
        if "busybox:latest" not in (image["RepoTags"] or []):
            engine.http.delete(f"/images/{image['Id']}?force=1")
        else:
            for tag in set(image["RepoTags"]) - {"busybox:latest"}:
                engine.http.delete(f"/images/{tag}")


def tags(engine: Engine, **filters: list[str]) -> list[str]:
    images = engine.http.get("/images/json", query={"filters": filters} if filters else None).json
    return sorted(tag for image in images for tag in image["RepoTags"] or [])


def inspect(engine: Engine, name: str) -> Any:
    answer = engine.http.get(f"/images/{name}/json")
    assert answer.status == 200, answer
    return answer.json


def test_load_reports_what_it_loaded(engine: Engine) -> None:
    archive = docker_archive([busybox_layer()], {"Cmd": ["true"]}, ["loaded:1", "loaded:2"])
    answer = engine.http.post("/images/load?quiet=1", body=archive, headers=TAR)
    assert answer.status == 200
    said = "".join(line.get("stream", "") for line in decode_lines(answer.body))
    assert said == "Loaded image: loaded:1\nLoaded image: loaded:2\n"
    assert tags(engine) == ["busybox:latest", "loaded:1", "loaded:2"]


def test_load_takes_gzip_and_layers_that_share_content(engine: Engine) -> None:
    base, second = busybox_layer(), small_layer({"extra": None, "extra/file": b"second layer\n"})
    archive = docker_archive([base, second], {"Cmd": ["cat", "/extra/file"]}, ["two:layers"])
    answer = engine.http.post("/images/load", body=gzip.compress(archive), headers=TAR)
    assert answer.status == 200
    assert engine.run_to_end(Image="two:layers")[:2] == (0, b"second layer\n")
    layers = inspect(engine, "two:layers")["RootFS"]["Layers"]
    assert layers == [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in (base, second)]


def test_load_whiteouts_hide_what_is_below(engine: Engine) -> None:
    lower = small_layer({"keep": None, "keep/a": b"a", "keep/b": b"b", "gone": None, "gone/x": b"x"})
    upper = small_layer({"keep/.wh.a": b"", "gone/.wh..wh..opq": b"", "gone/y": b"y"})
    engine.load(docker_archive([busybox_layer(), lower, upper], {"Env": [DEFAULT_PATH]}, ["white:out"]))
    code, out, _ = engine.run_to_end("ls", "/keep", "/gone", Image="white:out")
    assert (code, out.split()) == (0, [b"/gone:", b"y", b"/keep:", b"b"])


@pytest.mark.parametrize("body", [b"no tar at all" * 1000, b""], ids=["garbage", "empty"])
def test_load_of_garbage_is_an_error(engine: Engine, body: bytes) -> None:
    answer = engine.http.post("/images/load", body=body, headers=TAR)
    failed = answer.status in (400, 500) or any("error" in line for line in decode_lines(answer.body))
    if body or not engine.is_dockerd:  # moby takes nothing for an archive of no images
        assert failed
    assert tags(engine) == ["busybox:latest"]


def test_load_of_a_torn_archive_leaves_nothing(engine: Engine) -> None:
    archive = docker_archive([busybox_layer()], {"Cmd": ["true"]}, ["torn:1"])
    answer = engine.http.post("/images/load", body=archive[: len(archive) // 2], headers=TAR)
    assert answer.status in (400, 500) or b"error" in answer.body
    assert tags(engine) == ["busybox:latest"]


def test_list_fields_and_filters(engine: Engine) -> None:
    engine.load_image("listed:one", {"Cmd": ["true"], "Labels": {"colour": "red"}})
    image = next(i for i in engine.http.get("/images/json").json if i["RepoTags"] == ["listed:one"])
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", image["Id"])
    assert (image["Labels"], image["Created"], image["Containers"]) == ({"colour": "red"}, 1_704_067_200, -1)
    assert image["Size"] > 1_000_000
    assert {"ParentId", "RepoDigests", "SharedSize"} <= set(image)
    assert tags(engine, reference=["listed"]) == tags(engine, reference=["listed:*"]) == ["listed:one"]
    assert tags(engine, reference=["other*"]) == []
    assert tags(engine, label=["colour=red"]) == ["listed:one"]
    assert tags(engine, before=["listed:one"]) in ([], ["busybox:latest"])
    assert tags(engine, dangling=["true"]) == []
    assert engine.http.get("/images/json", query={"filters": {"zzz": ["1"]}}).status == 400


def test_inspect(engine: Engine) -> None:
    config = {"Cmd": ["true"], "Env": [DEFAULT_PATH, "A=1"], "Labels": {"x": "y"}, "ExposedPorts": {"80/tcp": {}}}
    engine.load_image("inspected:1", config)
    seen = inspect(engine, "inspected:1")
    assert (seen["RepoTags"], seen["Os"], seen["Created"]) == (["inspected:1"], "linux", "2024-01-01T00:00:00Z")
    for field, value in config.items():
        assert seen["Config"][field] == value
    assert seen["RootFS"]["Type"] == "layers"
    for name in (seen["Id"], seen["Id"][7:19], "inspected:1", "docker.io/library/inspected:1"):
        assert inspect(engine, name)["Id"] == seen["Id"]


@pytest.mark.parametrize("call", ["GET /images/nope/json", "DELETE /images/nope", "POST /images/nope/tag?repo=x"])
def test_E3_unknown_images(engine: Engine, call: str) -> None:
    answer = engine.http.call(*call.split(" "))
    assert (answer.status, "No such image: nope:latest" in answer.message) == (404, True)


def test_history(engine: Engine) -> None:
    history = engine.http.get("/images/busybox/history").json
    assert [(h["Tags"], h["CreatedBy"]) for h in history] == [(["busybox:latest"], "make_images.py")]


def test_tag(engine: Engine) -> None:
    assert engine.http.post("/images/busybox/tag?repo=example.org:5000/team/box&tag=v1").status == 201
    assert engine.http.post("/images/busybox/tag?repo=plain").status == 201
    assert tags(engine) == ["busybox:latest", "example.org:5000/team/box:v1", "plain:latest"]
    assert inspect(engine, "plain")["Id"] == inspect(engine, "busybox")["Id"]
    for repo, tag in (("UPPER", "x"), ("ok", "bad tag"), ("", "x"), ("sha256", "x")):
        answer = engine.http.post("/images/busybox/tag", query={"repo": repo, "tag": tag})
        assert answer.status in (400, 500), (repo, tag, answer)


def test_delete_untags_then_removes(engine: Engine) -> None:
    engine.load_image("doomed:1", {"Cmd": ["true"]})
    image = inspect(engine, "doomed:1")["Id"]
    assert engine.http.post("/images/doomed:1/tag?repo=doomed&tag=2").status == 201
    assert engine.http.delete("/images/doomed:2").json == [{"Untagged": "doomed:2"}]
    removed = engine.http.delete("/images/doomed:1").json
    assert removed[:2] == [{"Untagged": "doomed:1"}, {"Deleted": image}]
    assert engine.http.get(f"/images/{image}/json").status == 404


def test_delete_in_use(engine: Engine) -> None:
    engine.load_image("used:1", {"Cmd": ["true"]})
    container = engine.create(Image="used:1")
    answer = engine.http.delete("/images/used:1")
    assert answer.status == 409
    assert answer.message.startswith("conflict: unable to remove repository reference")
    assert container[:12] in answer.message
    by_id = engine.http.delete(f"/images/{engine.inspect(container)['Image']}")
    assert by_id.status == 409
    assert engine.http.delete("/images/used:1?force=1").status == 200
    engine.start(container)
    assert engine.wait(container) == 0


def test_delete_by_id_with_several_tags(engine: Engine) -> None:
    engine.load_image("many:1", {"Cmd": ["true"]})
    engine.http.post("/images/many:1/tag?repo=other")
    image = inspect(engine, "many:1")["Id"]
    answer = engine.http.delete(f"/images/{image}")
    assert (answer.status, "must be forced" in answer.message) == (409, True)
    assert engine.http.delete(f"/images/{image}?force=1").status == 200


def import_tar(engine: Engine, archive: bytes, **query: Any) -> Answer:
    return engine.http.post("/images/create", query={"fromSrc": "-"} | query, body=archive, headers=TAR)


def test_import(engine: Engine) -> None:
    changes = ['CMD ["cat", "/etc/passwd"]', "ENV A=1", "WORKDIR /tmp", "LABEL kind=imported", "USER user", "EXPOSE 80"]
    target = "/images/create?fromSrc=-&repo=imported&tag=1&message=by%20hand&" + "&".join(
        f"changes={quote_plus(change)}" for change in changes
    )
    answer = engine.http.post(target, body=busybox_layer(), headers=TAR)
    assert answer.status == 200
    image = decode_lines(answer.body)[-1]["status"]
    assert inspect(engine, "imported:1")["Id"] == image
    seen = inspect(engine, "imported:1")
    config = seen["Config"]
    assert (config["Cmd"], config["Env"], config["WorkingDir"]) == (["cat", "/etc/passwd"], ["A=1"], "/tmp")
    assert (config["Labels"], config["User"]) == ({"kind": "imported"}, "user")
    assert (list(config["ExposedPorts"]), seen["Comment"]) == (["80/tcp"], "by hand")
    assert engine.run_to_end(Image="imported:1")[1].startswith(b"root:x:0:0:root:/root:/bin/sh\nuser:")


def quote_plus(text: str) -> str:
    from urllib.parse import quote_plus as quoted

    return quoted(text)


def test_import_bad_changes(engine: Engine) -> None:
    for changes in ("NONSENSE x", "RUN true"):
        answer = import_tar(engine, busybox_layer(), repo="bad", changes=changes)
        assert answer.status in (400, 500) or b"error" in answer.body
    assert tags(engine) == ["busybox:latest"]


def save(engine: Engine, target: str) -> tarfile.TarFile:
    answer = engine.http.get(target)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/x-tar")
    return tarfile.open(fileobj=io.BytesIO(answer.body))


def test_save(engine: Engine) -> None:
    with save(engine, "/images/busybox:latest/get") as tar:
        names = tar.getnames()
        manifest = json.loads(tar.extractfile("manifest.json").read())  # type: ignore[union-attr]
        assert manifest[0]["RepoTags"] == ["busybox:latest"]
        layer = tar.extractfile(manifest[0]["Layers"][0]).read()  # type: ignore[union-attr]
        config = json.loads(tar.extractfile(manifest[0]["Config"]).read())  # type: ignore[union-attr]
        assert {"manifest.json", "repositories"} <= set(names)
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    assert layer == busybox_layer()


def test_save_and_load_again(engine: Engine) -> None:
    engine.load_image("round:trip", {"Cmd": ["echo", "round"], "Labels": {"a": "b"}})
    image = inspect(engine, "round:trip")["Id"]
    saved = engine.http.get("/images/get?names=round:trip&names=busybox").body
    assert engine.http.delete("/images/round:trip").status == 200
    engine.load(saved)
    assert inspect(engine, "round:trip")["Id"] == image
    assert engine.run_to_end(Image="round:trip")[:2] == (0, b"round\n")


def test_save_of_an_unknown_image(engine: Engine) -> None:
    answer = engine.http.get("/images/nope/get")
    assert (answer.status in (404, 500), "nope" in answer.message) == (True, True)


@pytest.fixture
def both(wherry: Engine, dockerd: Engine) -> Iterator[tuple[Engine, Engine]]:
    """Wherry and dockerd, with busybox alone."""
    made = wherry, dockerd
    yield made
    for each in made:
        each.remove_all()
        remove_others(each)


def test_each_engine_loads_what_the_other_saved(both: tuple[Engine, Engine]) -> None:
    for engine, other in (both, both[::-1]):
        engine.load_image("from:here", {"Cmd": ["cat", "/note"]}, {"note": engine.name.encode()})
        engine.http.post("/images/from:here/tag?repo=from&tag=there")
        other.load(engine.http.get("/images/get?names=from&names=busybox").body)
        assert inspect(other, "from:there")["Id"] == inspect(engine, "from:here")["Id"]
        assert other.run_to_end(Image="from:here")[:2] == (0, engine.name.encode())
        for each in both:
            each.remove_all()
            remove_others(each)


def test_save_is_read_by_skopeo(wherry: Engine, tmp_path: Path) -> None:
    """As a docker archive and as an OCI layout."""
    wherry.load_image("read:1", {"Cmd": ["true"]}, {"note": b"n"})
    wherry.load_image("read:2", {"Cmd": ["false"]}, {"note": b"m"})
    archive = tmp_path / "a.tar"
    archive.write_bytes(wherry.http.get("/images/get?names=read").body)
    for place in ("docker-archive:{}:read:2", "oci-archive:{}:2"):
        target = tmp_path / place.partition(":")[0]
        command = ["skopeo", "copy", "--insecure-policy", place.format(archive), f"dir:{target}"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        manifest = json.loads((target / "manifest.json").read_bytes())
        assert manifest["config"]["digest"] == inspect(wherry, "read:2")["Id"]
    remove_others(wherry)
