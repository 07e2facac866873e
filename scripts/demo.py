"""The demonstration of ``make run``: real containers through Wherry's own client, each step with its milliseconds."""

from __future__ import annotations

import io
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import wherry

WEB = "wherry-demo-web"
SERVER = "echo serving; exec httpd -f -v -p 80 -h /var/www"


@contextmanager
def step(what: str) -> Iterator[list[str]]:
    """Print a step, with what the body appended as its result and the time it took."""
    said: list[str] = []
    began = time.perf_counter()
    yield said
    took = (time.perf_counter() - began) * 1000
    print(f"  {took:7.1f} ms  {what}" + (f": {' '.join(said)}" if said else ""), flush=True)


def demonstrate(docker: wherry.Client) -> None:
    """Run all steps; raises when one does not show what it should."""
    hello_and_sort(docker)
    with suppress(wherry.NotFound):
        docker.containers.delete(WEB, force=True, v=True)
    try:
        web_server(docker)
    finally:
        with suppress(wherry.NotFound):
            docker.containers.delete(WEB, force=True, v=True)


def hello_and_sort(docker: wherry.Client) -> None:
    with step("run busybox echo: create, attach, wait, start, remove") as said:
        result = docker.containers.run("busybox", ["echo", "hello from a container"])
        expect(result.exit_code == 0 and result.text == "hello from a container\n", result)
        said.append(repr(result.text))
    with step("run busybox sort, stdin fed and half-closed") as said:
        result = docker.containers.run("busybox", ["sort"], input=b"pear\napple\nquince\n")
        expect(result.text.split() == ["apple", "pear", "quince"], result)
        said.append(" ".join(result.text.split()))


def web_server(docker: wherry.Client) -> None:
    with step("start a web server on a published port") as said:
        web = docker.containers.create("busybox", ["sh", "-c", SERVER], name=WEB, ports={80: "127.0.0.1:"}).id
        docker.containers.start(web)
        bindings = (docker.containers.inspect(web).network_settings.ports or {})["80/tcp"] or []
        url = f"http://127.0.0.1:{bindings[0].host_port}/"
        said.append(url)
    with step("ask it over the network") as said:
        page = fetch(url)
        expect("It works" in page, page)
        said.append(page.strip())
    with step("exec into it") as said:
        shown = docker.exec.run(web, ["sh", "-c", "echo $(hostname) has $(ls /proc | grep -c '^[0-9]') processes"])
        expect(shown.exit_code == 0, shown)
        said.append(shown.text.strip())
    with step("follow its logs to the request above") as said:
        with docker.containers.logs(web, follow=True) as logs:
            seen = b""
            for _, data in logs:
                seen += data
                if b"response:200" in seen:
                    break
        said.append(f"{len(seen.splitlines())} lines")
    with step("read its statistics, once") as said:
        sample = docker.containers.stats(web, one_shot=True)
        said.append(f"{(sample.memory_stats.usage or 0) / 1e6:.1f} MB, {sample.pids_stats.current} process(es)")
    with step("copy a file in, and out again") as said:
        docker.containers.put_archive(web, "/var/www", tar_of("note.txt", b"brought by boat\n"))
        expect(fetch(url + "note.txt") == "brought by boat\n", "the file is not served")
        with docker.containers.archive(web, "/var/www/note.txt") as archive:
            said.append(repr(file_of(archive.read()).decode()))
    with step("stop and remove it"):
        docker.containers.stop(web, t=1)
        docker.containers.delete(web, v=True)


def expect(right: bool, seen: object) -> None:
    if not right:
        raise SystemExit(f"the demonstration did not show what it should: {seen}")


def fetch(url: str, seconds: float = 10.0) -> str:
    """A page, asked for until the server listens."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError:
            raise
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def tar_of(name: str, data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(data), 0o644
        tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def file_of(archive: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        file = tar.extractfile(tar.getmembers()[0])
        assert file is not None
        return file.read()
