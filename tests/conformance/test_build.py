"""ImageBuild: what a build answers, what it leaves, and what it takes from its cache."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import tarfile
from collections.abc import Callable, Iterator

import pytest

from tests.support.builds import build, config, context, history, image, registry_config, symlink
from tests.support.engines import Engine

COPIES = "FROM busybox\nCOPY a /a\nENV A=1\n"
SIMPLE = "FROM busybox\nCOPY a /a\nRUN cat /a; echo\n"


@pytest.fixture(autouse=True)
def only_busybox(engine: Engine) -> Iterator[None]:
    """What a test built goes."""
    yield
    engine.remove_all()
    for found in engine.http.get("/images/json").json:
        if "busybox:latest" not in (found["RepoTags"] or []):
            engine.http.delete(f"/images/{found['Id']}?force=1")
    engine.http.post("/images/prune")


def read(engine: Engine, name: str, *command: str) -> str:
    code, out, err = engine.run_to_end(*command, Image=name)
    assert code == 0, err
    return out.decode()


def test_a_build_answers_step_by_step(engine: Engine) -> None:
    built = build(engine, context({"a": "A"}, SIMPLE), t=["one", "two:2"])
    assert (built.status, built.error) == (200, "")
    assert built.said == [
        "Step 1/3 : FROM busybox",
        " ---> <id>",
        "Step 2/3 : COPY a /a",
        " ---> <id>",
        "Step 3/3 : RUN cat /a; echo",
        "A",
        " ---> <id>",
        "Successfully built <id>",
        "Successfully tagged one:latest",
        "Successfully tagged two:2",
    ]
    assert [line for line in built.lines if "aux" in line] == [{"aux": {"ID": built.id}}]
    found = image(engine, "one")
    assert (found["Id"], sorted(found["RepoTags"])) == (built.id, ["one:latest", "two:2"])
    assert found["Parent"].startswith("sha256:")
    assert engine.containers() == []


def test_the_image_has_what_the_dockerfile_says(engine: Engine) -> None:
    text = """
        FROM busybox
        MAINTAINER me
        ENV A=1 B="two words"
        LABEL a=$A "b c"=d
        EXPOSE 80 53/udp
        VOLUME /data
        WORKDIR /srv
        WORKDIR app
        USER user
        STOPSIGNAL SIGINT
        HEALTHCHECK --interval=5s --retries=3 CMD test -e /srv
        SHELL ["/bin/sh", "-ec"]
        ONBUILD RUN true
        ENTRYPOINT ["sh"]
        CMD echo $A
    """
    build(engine, context({}, text), t="all", labels={"of": "call"})
    assert config(engine, "all") == {
        "User": "user",
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "A=1", "B=two words"],
        "Cmd": ["/bin/sh", "-ec", "echo $A"],
        "Healthcheck": {"Test": ["CMD-SHELL", "test -e /srv"], "Interval": 5 * 10**9, "Retries": 3},
        "Volumes": {"/data": {}},
        "WorkingDir": "/srv/app",
        "Entrypoint": ["sh"],
        "OnBuild": ["RUN true"],
        "Labels": {"a": "1", "b c": "d", "of": "call"},
        "StopSignal": "SIGINT",
        "Shell": ["/bin/sh", "-ec"],
    }
    assert image(engine, "all")["Author"] == "me"
    assert history(engine, "all")[:2] == [
        ("/bin/sh -ec #(nop)  LABEL of=call", False),
        ('/bin/sh -ec #(nop)  CMD ["/bin/sh" "-ec" "echo $A"]', False),
    ]
    assert history(engine, "all")[-2] == ("/bin/sh -c #(nop)  MAINTAINER me", False)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_context_may_be_compressed(engine: Engine, pack: Callable[[bytes], bytes]) -> None:
    assert build(engine, pack(context({"a": "A"}, COPIES))).error == ""


def test_the_dockerfile_may_lie_elsewhere(engine: Engine) -> None:
    assert build(engine, context({"a": "A", "deep/File": COPIES}), dockerfile="deep/File").error == ""
    assert build(engine, context({"a": "A", "dockerfile": COPIES})).error == ""
    assert build(engine, context({"a": "A", "link": symlink("link", "/b"), "b": COPIES}), dockerfile="link").error == ""
    outside = build(engine, context({"a": "A"}), dockerfile="../File")
    assert (outside.status, outside.error) == (500, "forbidden path outside the build context: ../File ()")
    missing = build(engine, context({"a": "A"}))
    assert (missing.status, missing.error) == (500, "Cannot locate specified Dockerfile: Dockerfile")
    empty = build(engine, context({}, ""))
    assert (empty.status, empty.error) == (400, "the Dockerfile (Dockerfile) cannot be empty")


def test_an_ignore_file_takes_itself_and_the_dockerfile_away(engine: Engine) -> None:
    files = {"a": "A", ".dockerignore": "Dockerfile\n.dockerignore\na\n"}
    assert build(engine, context(files, "FROM busybox\nCOPY . /c\nRUN ls -A /c\n"), t="ignored").error == ""
    assert read(engine, "ignored", "ls", "-A", "/c") == "a\n"


def test_a_step_that_fails_ends_the_build(engine: Engine) -> None:
    built = build(engine, context({}, "FROM busybox\nRUN echo out; echo err >&2; exit 7\nRUN never\n"), t="failed")
    assert built.status == 200
    assert built.error == "The command '/bin/sh -c echo out; echo err >&2; exit 7' returned a non-zero code: 7"
    assert built.code == 7
    assert {"stream": "out\n"} in built.lines
    assert {"stream": "\x1b[91merr\n\x1b[0m"} in built.lines
    assert engine.http.get("/images/failed/json").status == 404


def test_a_command_that_is_not_there_ends_the_build(engine: Engine) -> None:
    built = build(engine, context({}, 'FROM busybox\nRUN ["nosuch"]\n'))
    assert 'exec: "nosuch": executable file not found in $PATH' in built.error
    assert built.code == 0


@pytest.mark.parametrize(
    ("query", "left_by_success", "left_by_failure"),
    [({}, 0, 1), ({"rm": 0}, 1, 2), ({"forcerm": 1}, 0, 0)],
)
def test_containers_of_steps(engine: Engine, query: dict[str, int], left_by_success: int, left_by_failure: int) -> None:
    def left(text: str) -> int:
        build(engine, context({}, text), nocache=1, **query)
        found = engine.http.get("/containers/json", query={"all": 1}).json
        engine.remove_all()
        return sum(container["Command"].startswith("/bin/sh -c '") for container in found)

    assert left("FROM busybox\nRUN : one\n") == left_by_success
    assert left("FROM busybox\nRUN : one\nRUN : two; exit 1\n") == left_by_failure


def test_a_step_without_a_command_runs_what_the_image_runs(engine: Engine) -> None:
    text = 'FROM busybox\nCMD ["echo", "its own"]\nRUN []\n'
    assert "its own\n" in build(engine, context({}, text)).text
    assert build(engine, context({}, text), buildargs={"http_proxy": "p"}).error == "No command specified"


def test_quiet(engine: Engine) -> None:
    built = build(engine, context({"a": "A"}, SIMPLE), q=1)
    assert built.lines == [{"stream": f"{image(engine, built.text.strip())['Id']}\n"}]
    failed = build(engine, context({}, "FROM busybox\nRUN echo before; false\n"), q=1)
    assert failed.text.startswith("Step 1/2 : FROM busybox\n")
    assert "before\n" in failed.text
    assert failed.code == 1


def test_the_cache(engine: Engine) -> None:
    def steps_from_cache(files: dict[str, str], text: str = COPIES, **query: object) -> int:
        built = build(engine, context(files, text), **query)
        assert built.error == ""
        return built.text.count(" ---> Using cache\n")

    assert steps_from_cache({"a": "A"}) == 0
    assert steps_from_cache({"a": "A"}) == 2
    assert steps_from_cache({"a": "A", "b": "another file"}) == 2
    assert steps_from_cache({"a": "A"}, nocache=1) == 0
    assert steps_from_cache({"a": "other"}) == 0
    assert steps_from_cache({"a": "A"}, "FROM busybox\nCOPY a /a\nENV X=1\nENV A=1\n") == 1
    assert steps_from_cache({"a": "A"}, "FROM busybox\nENV B=1\nCOPY a /a\n") == 0


def test_the_cache_looks_at_what_a_link_leads_to_wherever_it_is_named(engine: Engine) -> None:
    text = "FROM busybox\nCOPY dir dir/link /x/\n"
    files = {"dir": None, "dir/link": symlink("dir/link", "../other")}
    for content in ("one", "two"):
        assert build(engine, context({**files, "other": content}, text), t="linked").error == ""
        assert read(engine, "linked", "cat", "/x/link") == content


def test_hard_links_do_not_reach_into_what_another_source_replaced(engine: Engine) -> None:
    second = tarfile.TarInfo("b/g")
    second.type, second.linkname, second.mode = tarfile.LNKTYPE, "a/f", 0o644
    files = {"a": None, "a/f": "first\n", "b": None, "b/f": "second\n", "b/g": second}
    assert build(engine, context(files, "FROM busybox\nCOPY a b /x/\n"), t="hard").error == ""
    assert read(engine, "hard", "cat", "/x/f", "/x/g") == "second\nfirst\n"


def test_arguments_count_for_the_cache_from_where_they_are_declared(engine: Engine) -> None:
    text = "FROM busybox\nENV BEFORE=1\nARG V=1\nRUN : $V\n"

    def steps_from_cache(**query: object) -> int:
        return build(engine, context({}, text), **query).text.count(" ---> Using cache\n")

    assert [steps_from_cache(), steps_from_cache()] == [0, 3]
    assert [steps_from_cache(buildargs={"V": "2"}), steps_from_cache(buildargs={"V": "2"})] == [2, 3]
    # predefined ones leave no trace
    assert steps_from_cache(buildargs={"http_proxy": "http://p"}) == 3


def test_cache_from_images(engine: Engine) -> None:
    def steps_from_cache(*names: str) -> int:
        body = context({"a": "A"}, COPIES)
        return build(engine, body, cachefrom=names).text.count(" ---> Using cache\n")

    build(engine, context({"a": "A"}, COPIES), t="source")
    build(engine, context({}, "FROM busybox\nENV A=1\n"), t="unrelated")
    assert steps_from_cache("source") == 2
    assert steps_from_cache("unrelated") == 0
    assert steps_from_cache("nosuch") == 0


def test_steps_of_an_image_from_elsewhere_are_taken(engine: Engine) -> None:
    build(engine, context({"a": "A"}, COPIES + "ENV END=1\n"), t="source")
    archive = engine.http.get("/images/source/get").body
    assert engine.http.delete("/images/source").status == 200
    engine.load(archive)
    body = context({"a": "A"}, COPIES + "ENV END=1\n")
    assert build(engine, body).text.count(" ---> Using cache\n") == 0, "a loaded image is no cache by itself"
    assert engine.http.post("/images/prune").status == 200
    built = build(engine, body, cachefrom=("source",), t="again")
    assert built.text.count(" ---> Using cache\n") == 3
    assert built.id == image(engine, "source")["Id"]


def test_stages_targets_and_copies_between_them(engine: Engine) -> None:
    text = """
        ARG base=nosuch
        FROM ${base} AS Build
        RUN mkdir /out && echo made > /out/made && ln /out/made /out/linked && chown -R user:staff /out
        FROM build AS test
        RUN test -e /out/made
        FROM busybox AS final
        COPY --from=build /out /plain
        COPY --from=0 --chown=0:7 /out /owned
        COPY --from=busybox /etc/group /group
    """
    body = context({}, text)
    assert build(engine, body, buildargs={"base": "busybox"}, t="final").error == ""
    listed = read(engine, "final", "stat", "-c", "%U:%g %h %n", "/plain/made", "/plain/linked", "/owned/made", "/group")
    assert listed.splitlines() == [
        "user:50 2 /plain/made",
        "user:50 2 /plain/linked",
        "root:7 2 /owned/made",
        "root:0 1 /group",
    ]
    built = build(engine, body, buildargs={"base": "busybox"}, target="TEST", t="test")
    assert "Step 5/5 : RUN test -e /out/made" in built.text
    missing = build(engine, body, target="nope")
    words = 'target stage "nope" could not be found'
    assert (missing.status, missing.error) == (
        400,
        "failed to reach build target nope in Dockerfile" if engine.is_dockerd else words,
    )


def test_unused_arguments_are_told(engine: Engine) -> None:
    built = build(engine, context({}, "FROM busybox\nARG USED\n"), buildargs={"USED": "1", "B": "2", "http_proxy": "x"})
    assert "[Warning] One or more build-args [B] were not consumed\n" in built.text


def test_triggers_of_a_base_image(engine: Engine) -> None:
    build(engine, context({}, "FROM busybox\nONBUILD COPY a /a\nONBUILD RUN cat /a\n"), t="base")
    built = build(engine, context({"a": "A"}, "FROM base\nENV X=1\n"), t="derived")
    assert "# Executing 2 build triggers\n" in built.text
    assert read(engine, "derived", "cat", "/a") == "A"
    assert "OnBuild" not in config(engine, "derived")


def test_a_build_from_nothing(engine: Engine) -> None:
    built = build(engine, context({"a": "A"}, "FROM scratch\nCOPY a /\nENV B=1\n"), t="nothing")
    assert built.said[:3] == ["Step 1/3 : FROM scratch", " ---> ", "Step 2/3 : COPY a /"]
    assert len(image(engine, "nothing")["RootFS"]["Layers"]) == 1
    assert build(engine, context({}, "FROM scratch\n")).error == "No image was generated. Is your Dockerfile empty?"
    assert build(engine, context({"a": "A"}, "FROM scratch\nCOPY a /\nENV B=1\n")).text.count("Using cache") == 2


def test_steps_run_as_the_call_says(engine: Engine) -> None:
    text = "FROM busybox\nRUN ls /sys/class/net; cat /etc/hosts; ulimit -n; df -k /dev/shm | tail -n 1\n"
    built = build(
        engine,
        context({}, text),
        networkmode="none",
        extrahosts=["zz:1.2.3.4", "yy:5.6.7.8"],
        ulimits=json.dumps([{"Name": "nofile", "Soft": 77, "Hard": 88}]),
        shmsize=1 << 20,
        memory=64 << 20,
    )
    assert built.error == ""
    assert "eth0" not in built.text
    assert "1.2.3.4\tzz\n5.6.7.8\tyy\n77\n" in built.text
    assert "1024 " in built.text.rpartition("shm")[2] or " 1024 " in built.text
    refused = build(engine, context({}, "FROM busybox\nRUN true\n"), networkmode="nosuch")
    assert refused.error == "network nosuch not found"


def test_volumes_of_the_image_keep_nothing_of_a_step(engine: Engine) -> None:
    text = "FROM busybox\nVOLUME /data\nRUN echo lost > /data/x && echo kept > /kept\nCOPY a /data/\n"
    build(engine, context({"a": "A"}, text), t="volumes")
    assert read(engine, "volumes", "sh", "-c", "ls /data; cat /kept") == "a\nkept\n"
    engine.remove_all()
    assert engine.http.get("/volumes").json["Volumes"] in (None, [])


def test_a_volume_of_the_image_may_be_relative(engine: Engine) -> None:
    text = "FROM busybox\nRUN mkdir /data && echo of the image > /data/x\nVOLUME data\nRUN echo lost > /data/y\n"
    assert build(engine, context({}, text), t="relative").error == ""
    assert read(engine, "relative", "sh", "-c", "grep -c ' /data ' /proc/mounts; cat /data/*") == "1\nof the image\n"


def test_hostile_contexts_stay_inside(engine: Engine) -> None:
    outside = build(engine, context({}, "FROM busybox\nCOPY ../x /x\n"))
    assert outside.error == "COPY failed: forbidden path outside the build context: ../x ()"
    files = {"up": symlink("up", "../../../../../../etc"), "root": symlink("root", "/etc/passwd"), "etc/passwd": "ours"}
    built = build(engine, context(files, "FROM busybox\nCOPY root /got\nCOPY up/passwd /up\nRUN cat /got /up\n"))
    assert built.error == ""
    assert "oursours" in built.text
    links = "FROM busybox\nRUN ln -s /../../../../tmp /esc && ln -s /esc/x /file\nCOPY a /esc/a\nCOPY a /file\nRUN ls -A /tmp\n"
    built = build(engine, context({"a": "A"}, links))
    assert "a\nx\n" in built.text


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ({"squash": 1}, 400, "squash is only supported with experimental mode"),
        ({"securityopt": "x"}, 400, "The daemon on this platform does not support setting security options on build"),
        ({"buildargs": "{x"}, 400, "error reading build args: "),
        ({"labels": "[1]"}, 400, "error reading labels: "),
        ({"t": "UPPER"}, None, "invalid reference format: repository name must be lowercase"),
        ({"t": "x@sha256:" + "0" * 64}, None, "build tag cannot contain a digest"),
        ({"version": "3"}, None, 'invalid version "3"'),
        ({"remote": "nowhere"}, None, "remoteURL (nowhere) could not be recognized as URL"),
        ({"platform": "nosuch"}, 400, '"nosuch": unknown operating system or architecture'),
    ],
)
def test_what_cannot_be_asked(engine: Engine, query: dict[str, object], status: int | None, words: str) -> None:
    built = build(engine, context({"a": "A"}, SIMPLE), **query)
    assert built.status == (status or (500 if engine.is_dockerd else 400))
    assert built.error.startswith(words)


def test_credentials_that_cannot_be_read_count_as_none(engine: Engine) -> None:
    body = context({"a": "A"}, COPIES)
    assert build(engine, body, headers={"X-Registry-Config": "%%%"}).error == ""
    assert build(engine, body, headers=registry_config({"host": {"username": "u", "password": "p"}})).error == ""


def test_a_broken_archive_is_refused(engine: Engine) -> None:
    built = build(engine, b"no archive" * 100)
    assert built.status == 500
    assert built.error.endswith("archive/tar: invalid tar header")


def test_images_of_steps_are_hidden_and_go_with_the_last(engine: Engine) -> None:
    before = len(engine.http.get("/images/json?all=1").json)
    built = build(engine, context({"a": "A"}, COPIES), t="steps")
    assert len(engine.http.get("/images/json").json) == 2
    assert len(engine.http.get("/images/json?all=1").json) == before + 2
    assert engine.http.delete("/images/steps").status == 200
    assert len(engine.http.get("/images/json?all=1").json) == before
    assert engine.http.get(f"/images/{built.id}/json").status == 404


def test_nothing_is_kept_beside_images(engine: Engine) -> None:
    answer = engine.http.post("/build/prune?keep-storage=0&all=1")
    assert (answer.status, answer.json) == (200, {"CachesDeleted": None, "SpaceReclaimed": 0})
