"""Builds on Wherry alone: what is fetched by URL, hostile contexts, and what only BuildKit has."""

from __future__ import annotations

import gzip
import http.server
import io
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.builds import build, context, image
from tests.support.engines import Engine


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files of a directory; ``/moved/x`` leads to ``/x``, ``/named/`` gives a file its name in a header, ``/loop`` never ends."""

    root = ""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments, directory=self.root)  # type: ignore[arg-type]

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path.startswith("/moved/") or self.path == "/loop":
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/moved"))
            self.end_headers()
        elif self.path == "/named/":
            self.send_response(200)
            self.send_header("Content-Disposition", 'attachment; filename="../given"')
            self.end_headers()
            self.wfile.write(b"named")
        else:
            super().do_GET()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A directory, and where it is served."""
    handler = type("Here", (Handler,), {"root": str(tmp_path)})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield tmp_path, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_add_fetches_files(wherry: Engine, site: tuple[Path, str]) -> None:
    directory, url = site
    (directory / "file").write_text("fetched")
    os.utime(directory / "file", (1_000_000_000, 1_000_000_000))
    (directory / "archive.tgz").write_bytes(gzip.compress(context({"a": "A"})))
    text = f"""
        FROM busybox
        ADD {url}/file {url}/moved/file here /all/
        ADD --chown=user {url}/archive.tgz /archive
        ADD {url}/named/ /named
        RUN cat /all/file /all/here; stat -c ' %a %U %Y %s' /all/file; stat -c '%a %U %F' /archive; cat /named
    """
    built = build(wherry, context({"here": "here"}, text))
    assert built.error == "", built.text
    assert "fetchedhere 600 root 1000000000 7\n600 user regular file\nnamed" in built.text
    assert any(line.get("status") == "Downloading" for line in built.lines)
    assert build(wherry, context({"here": "here"}, text)).text.count("Using cache") == 4
    (directory / "file").write_text("changed")
    assert build(wherry, context({"here": "here"}, text)).text.count("Using cache") == 0
    assert os.listdir(wherry.root / "data" / "tmp") == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ADD {url}/nothing /x", "ADD failed: failed to GET {url}/nothing with status 404 File not found: "),
        ("ADD {url} /x/", "ADD failed: cannot determine filename for source {url}"),
        ("ADD {url}/loop /x", 'ADD failed: Get "{url}/loop": stopped after 10 redirects'),
        ("ADD http://127.0.0.1:1/x /x", 'ADD failed: Get "http://127.0.0.1:1/x": '),
    ],
)
def test_what_cannot_be_fetched(wherry: Engine, site: tuple[Path, str], line: str, message: str) -> None:
    url = site[1]
    built = build(wherry, context({}, f"FROM busybox\n{line.format(url=url)}\n"))
    assert built.error.startswith(message.format(url=url))
    assert os.listdir(wherry.root / "data" / "tmp") == []


def test_contexts_by_url(wherry: Engine, site: tuple[Path, str]) -> None:
    directory, url = site
    (directory / "context.tar").write_bytes(context({"a": "A", "other/File": "FROM busybox\nCOPY a /b\n"}, "FROM x\n"))
    (directory / "plain.txt").write_text("FROM busybox\nRUN echo from afar\n")
    (directory / "copies.txt").write_text("FROM busybox\nCOPY a /\n")
    assert build(wherry, b"", remote=f"{url}/context.tar", dockerfile="other/File").error == ""
    assert "from afar\n" in build(wherry, b"", remote=f"{url}/plain.txt").text
    assert build(wherry, b"", remote=f"{url}/copies.txt").error == "COPY failed: missing build context"
    missing = build(wherry, b"", remote=f"{url}/nothing")
    assert missing.status == 500
    assert missing.error.startswith(f"error downloading remote context {url}/nothing: failed to GET {url}/nothing with")
    assert os.listdir(wherry.root / "data" / "tmp") == []


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ({"version": "2"}, 400, "BuildKit is not there"),
        ({"outputs": "[{}]"}, 400, "outputs are BuildKit's"),
        ({"remote": "git://host/repository"}, 501, "building from a git repository is not there"),
        ({"remote": "https://host/repository.git#main"}, 501, "building from a git repository is not there"),
        ({"shmsize": "-1"}, 400, "SHM size can not be less than 0"),
    ],
)
def test_what_is_not_there_says_so(wherry: Engine, query: dict[str, str], status: int, words: str) -> None:
    built = build(wherry, context({}, "FROM busybox\n"), **query)
    assert (built.status, built.error.startswith(words)) == (status, True), built


def test_sessions_and_the_ping_tell_of_the_classic_builder(wherry: Engine) -> None:
    assert wherry.http.get("/_ping").headers["builder-version"] == "1"
    answer = wherry.http.post("/session")
    assert (answer.status, "DOCKER_BUILDKIT=0" in answer.json["message"]) == (501, True)


def named(name: str, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize(
    "entries",
    [
        [named("../../../../../../../../tmp/outside")],
        [named("link", type=tarfile.SYMTYPE, linkname="/tmp"), named("link/../../../outside")],
        [named("hard", type=tarfile.LNKTYPE, linkname="../../../../../../../etc/passwd")],
        [named("hard", type=tarfile.LNKTYPE, linkname="/etc/passwd")],
    ],
)
def test_a_context_that_leads_outside_is_refused(wherry: Engine, entries: list[tarfile.TarInfo]) -> None:
    body = context({f"{number}": entry for number, entry in enumerate(entries)}, "FROM busybox\nCOPY . /c\n")
    built = build(wherry, body)
    assert built.status == 500
    assert built.error.startswith("Error processing tar file: ")
    assert os.listdir(wherry.root / "data" / "tmp") == []


def test_a_copy_with_another_owner_keeps_the_mode(wherry: Engine) -> None:
    tool = tarfile.TarInfo("tool")
    tool.mode = 0o4755
    built = build(
        wherry, context({"tool": tool}, "FROM busybox\nCOPY --chown=7:8 tool /\nRUN stat -c '%a %u %g' /tool\n")
    )
    assert built.error == "", built.text
    assert "4755 7 8" in built.text


def test_links_of_a_context_stay_in_it(wherry: Engine, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of the host")
    entries = {
        "link": named("link", type=tarfile.SYMTYPE, linkname=str(tmp_path / "secret")),
        "directory": named("directory", type=tarfile.SYMTYPE, linkname=str(tmp_path)),
    }
    for line in ("COPY link /x", "COPY directory/secret /x", "ADD link /x"):
        built = build(wherry, context(entries, f"FROM busybox\n{line}\n"))
        assert "file not found in build context" in built.error
    inside = named("Dockerfile", type=tarfile.SYMTYPE, linkname=str(tmp_path / "secret"))
    assert build(wherry, context({"Dockerfile": inside})).error == "Cannot locate specified Dockerfile: Dockerfile"


def test_special_files_of_a_context(wherry: Engine) -> None:
    """A FIFO or a device is copied as what it is, and never opened."""
    entries = {
        "fifo": named("fifo", type=tarfile.FIFOTYPE),
        "device": named("device", type=tarfile.CHRTYPE, devmajor=1, devminor=5),
    }
    built = build(
        wherry, context(entries, "FROM busybox\nCOPY . /c/\nCOPY fifo /f\nRUN ls -l /c /f | cut -c1 | sort\n")
    )
    assert built.error == ""
    assert "\nc\np\np\n" in built.text
    fifo = named("Dockerfile", type=tarfile.FIFOTYPE)
    assert build(wherry, context({"Dockerfile": fifo})).error == "Dockerfile is no file"


def test_an_archive_of_add_stays_in_the_image(wherry: Engine) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(named("up", type=tarfile.SYMTYPE, linkname="../../../../../../../tmp"))
        tar.addfile(named("up/inside"))
    built = build(
        wherry, context({"x.tar": out.getvalue()}, "FROM busybox\nADD x.tar /deep/\nRUN ls -A /tmp\n"), t="inner"
    )
    assert "\ninside\n" in built.text
    assert not os.path.lexists("/tmp/inside")
    assert image(wherry, "inner")["RootFS"]["Layers"]


def test_a_prune_takes_nothing_from_a_build_under_way(wherry: Engine) -> None:
    over = threading.Event()

    def images() -> set[str]:
        return {found["Id"] for found in wherry.http.get("/images/json?all=1").json}

    def prune() -> None:
        while not over.is_set():
            for what in ("images", "containers", "volumes", "networks"):
                wherry.http.post(f"/{what}/prune")

    before = images()
    pruner = threading.Thread(target=prune)
    pruner.start()
    try:
        steps = "".join(f"COPY a /{number}\nRUN echo > /v/{number}\nLABEL l=x{number}\n" for number in range(10))
        text = f"FROM busybox\nVOLUME /v\n{steps}"
        assert build(wherry, context({"a": "A"}, text), nocache=1, t="pruned").error == ""
    finally:
        over.set()
        pruner.join()
    assert wherry.http.delete("/images/pruned").status == 200
    assert wherry.http.post("/images/prune").status == 200
    assert images() <= before  # nothing is held any longer
