"""Where the engine listens, and whom it lets in."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from pathlib import Path

import pytest
from http_harness import Get, get, run

from wherry.engine.http.call import Call
from wherry.engine.http.router import Router
from wherry.engine.http.server import HttpServer


async def name(call: Call) -> object:
    return {"id": call.params["id"]}


def test_socket_file_is_private_and_goes_with_the_server(tmp_path: Path) -> None:
    async def test() -> None:
        path = tmp_path / "new" / "s.sock"
        server = HttpServer(Router({}).handle)
        await server.listen_unix(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        other = HttpServer(Router({}).handle)
        with pytest.raises(OSError) as caught:
            await other.listen_unix(path)
        assert caught.value.errno == errno.EADDRINUSE
        await server.close()
        assert not path.exists()
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(str(path))
        stale.close()
        await other.listen_unix(path)
        path.unlink()
        path.write_text("not ours")
        await other.close()
        assert path.read_text() == "not ours"

    old = os.umask(0o077)
    try:
        run(test)
    finally:
        os.umask(old)


def test_paths_that_cannot_be_listened_on(tmp_path: Path) -> None:
    async def test() -> None:
        server = HttpServer(Router({}).handle)
        with pytest.raises(OSError, match="107 bytes"):
            await server.listen_unix("/tmp/" + "x" * 120)
        (tmp_path / "file").write_text("")
        with pytest.raises(FileExistsError):
            await server.listen_unix(tmp_path / "file")
        assert (tmp_path / "file").exists()
        await server.close()

    run(test)


def test_adopted_socket_is_served() -> None:
    async def test() -> None:
        server = HttpServer(Router({Get: name}).handle)
        ours, theirs = socket.socketpair()
        server.adopt(ours)
        theirs.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(theirs, get("/get/1"))
        assert (await loop.sock_recv(theirs, 1000)).startswith(b"HTTP/1.1 200 OK\r\n")
        await server.close()
        assert await loop.sock_recv(theirs, 1000) == b""
        theirs.close()

    run(test)


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1", "", 200),
        ("localhost:2375", "", 200),
        ("[::1]:2375", "", 200),
        ("engine.example", "", 200),
        ("evil.example", "", 403),
        ("evil.example:2375", "http://evil.example:2375", 403),
        ("localhost:2375", "http://evil.example", 403),
        ("localhost:2375", "http://localhost:2375", 200),
        ("localhost:2375", "null", 403),
    ],
)
def test_web_pages_are_kept_away_on_tcp(host: str, origin: str, status: int) -> None:
    async def test() -> None:
        server = HttpServer(Router({Get: name}).handle, names=["engine.example"])
        [(address, port)] = await server.listen_tcp("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(address, port)
        origin_field = f"Origin: {origin}\r\n" if origin else ""
        writer.write(f"GET /get/1 HTTP/1.1\r\nHost: {host}\r\n{origin_field}\r\n".encode())
        assert (await reader.readline()).split()[1] == b"%d" % status
        writer.close()
        await server.close()

    run(test)
