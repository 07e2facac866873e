"""The ways to an engine beside the unix socket: TLS, ssh, an engine inside the process."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from client_fake import FakeEngine, Peer, Received, client_of

import wherry
from wherry.client.address import TlsFiles, parse_address
from wherry.client.dial import dial
from wherry.wire.frames import encode_frame

FILES = Path(__file__).parent / "client_tls"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"


class TlsSocket:
    """A server's TLS connection; ``recv`` gives ``b""`` at the client's goodbye and sending goes on, as in Go."""

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self._connection = connection

    def recv(self, size: int) -> bytes:
        try:
            return self._connection.recv(size)
        except ssl.SSLZeroReturnError:
            return b""

    def shutdown(self, how: int) -> None:
        """Say goodbye before the connection ends, which Python alone does not."""
        with contextlib.suppress(OSError, ValueError):
            self._connection.unwrap()
        self._connection.shutdown(how)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@pytest.fixture
def tls_port(fake: FakeEngine) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(FILES / "server.pem", FILES / "server-key.pem")
    context.load_verify_locations(FILES / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        try:
            tls = context.wrap_socket(connection, server_side=True, suppress_ragged_eofs=False)
        except OSError:
            connection.close()
            return
        fake.serve(TlsSocket(tls))  # type: ignore[arg-type]

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def files(**changes: Any) -> TlsFiles:
    given = {"ca": "ca.pem", "cert": "client.pem", "key": "client-key.pem"} | changes
    paths = {name: str(FILES / value) if isinstance(value, str) else value for name, value in given.items()}
    return TlsFiles(**paths)


def test_tls_with_both_ends_certificates(fake: FakeEngine, tls_port: int, colour: str) -> None:
    with client_of(colour, f"tcp://127.0.0.1:{tls_port}", tls=files()) as docker:
        for _ in range(3):
            assert docker.containers.inspect("web").id == "abc"


def test_tls_half_closes_and_output_goes_on(fake: FakeEngine, tls_port: int, colour: str) -> None:
    def cat(peer: Peer, request: Received) -> None:
        peer.hijack(MULTIPLEXED, encode_frame(2, b"early"))
        data = peer.read_all()
        for at in range(0, len(data), 30000):
            peer.send(encode_frame(1, data[at : at + 30000]))

    fake.routes["POST /containers/web/attach"] = cat
    data = os.urandom(500_000)
    with (
        client_of(colour, f"tcp://127.0.0.1:{tls_port}", tls=files()) as docker,
        docker.containers.attach("web", stdin=True) as channel,
    ):
        channel.send(data)
        channel.send_eof()
        channel.send_eof()
        assert channel.read_all() == wherry.Output(data, b"early")


def test_tls_reads_on_what_had_come_before_the_half_close(fake: FakeEngine, tls_port: int, colour: str) -> None:
    def talk_first(peer: Peer, request: Received) -> None:
        peer.hijack(MULTIPLEXED)
        peer.send(encode_frame(1, b"x" * 100_000))
        peer.read_all()
        peer.send(encode_frame(1, b"end"))

    fake.routes["POST /containers/web/attach"] = talk_first
    with (
        client_of(colour, f"tcp://127.0.0.1:{tls_port}", tls=files()) as docker,
        docker.containers.attach("web", stdin=True) as channel,
    ):
        first = next(iter(channel))
        channel.send_eof()
        assert first[1] + channel.read_all().stdout == b"x" * 100_000 + b"end"


@pytest.mark.parametrize(
    ("tls", "words"),
    [
        (files(ca=None), "certificate is not accepted"),
        (files(ca="client.pem"), "certificate is not accepted"),
        (files(ca="none.pem"), "cannot use the TLS files"),
        (files(cert="ca.pem"), "cannot use the TLS files"),
    ],
)
def test_tls_that_cannot_be_is_a_connect_error(
    fake: FakeEngine, tls_port: int, colour: str, tls: TlsFiles, words: str
) -> None:
    with (
        client_of(colour, f"tcp://127.0.0.1:{tls_port}", tls=tls) as docker,
        pytest.raises(wherry.ConnectError, match=words),
    ):
        docker.containers.inspect("web")


def test_tls_without_a_clients_certificate_is_refused_by_the_engine(
    fake: FakeEngine, tls_port: int, colour: str
) -> None:
    address = f"tcp://127.0.0.1:{tls_port}"
    with client_of(colour, address, tls=files(cert=None, key=None)) as docker, pytest.raises(wherry.TransportError):
        docker.containers.inspect("web")


def test_tls_to_an_engine_without_it_is_a_connect_error(colour: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        connection, _ = listener.accept()
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        connection.close()

    threading.Thread(target=accept, daemon=True).start()
    address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    with client_of(colour, address, tls=files()) as docker, pytest.raises(wherry.ConnectError, match="TLS"):
        docker.containers.inspect("web")
    listener.close()


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a program named ssh first on PATH."""

    def install(code: str) -> None:
        directory = tmp_path / "bin"
        directory.mkdir()
        program = directory / "ssh"
        program.write_text(f"#!{sys.executable}\n{code}")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")

    return install


PROXY = """
import os, socket, sys, threading
assert sys.argv[1:] == ["-T", "-l", "me", "-o", "ConnectTimeout=10", "--", "box", "docker", "system", "dial-stdio"]
engine = socket.socket(socket.AF_UNIX)
engine.connect({path!r})
def up():
    while data := os.read(0, 65536):
        engine.sendall(data)
    engine.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while data := engine.recv(65536):
    os.write(1, data)
"""


def test_ssh_carries_calls_and_channels(fake: FakeEngine, colour: str, ssh: Callable[[str], None]) -> None:
    def cat(peer: Peer, request: Received) -> None:
        peer.hijack(MULTIPLEXED)
        peer.send(encode_frame(1, peer.read_all()))

    fake.routes["POST /containers/web/attach"] = cat
    ssh(PROXY.format(path=str(fake.path)))
    with client_of(colour, "ssh://me@box") as docker:
        assert docker.containers.inspect("web").id == "abc"
        with docker.containers.attach("web", stdin=True) as channel:
            channel.send(b"hello")
            channel.send_eof()
            assert channel.read_all().stdout == b"hello"


def test_an_ssh_that_says_much_is_not_held_up(fake: FakeEngine, colour: str, ssh: Callable[[str], None]) -> None:
    ssh("import os\nos.write(2, b'debug1: ' * 30_000)\n" + PROXY.format(path=str(fake.path)))
    with client_of(colour, "ssh://me@box", timeouts=wherry.Timeouts(head=10)) as docker:
        assert docker.containers.inspect("web").id == "abc"


def test_an_ssh_that_does_not_end_holds_nobody_up(
    fake: FakeEngine, ssh: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An async client closes on its loop."""
    monkeypatch.setattr("wherry.client.dial._GRACE", 5)
    ssh("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + PROXY.format(path=str(fake.path)))
    with wherry.connect("ssh://me@box") as docker:
        docker.containers.inspect("web")
        process = docker.transport._idle[0].stream._dialed.process  # type: ignore[union-attr]
        assert process is not None
        process.send_signal(signal.SIGSTOP)  # it does not see the end of its connection either
    assert process.poll() is None
    process.send_signal(signal.SIGCONT)
    assert process.wait(10) is not None


def test_a_read_is_repeated_when_a_kept_ssh_ends(
    fake: FakeEngine, colour: str, ssh: Callable[[str], None], tmp_path: Path
) -> None:
    """It takes the second inspection, says something and ends; the next ssh goes on."""
    ended = tmp_path / "ended"
    proxy = PROXY.format(path=str(fake.path)).replace(
        "    while data := os.read(0, 65536):\n",
        "    seen = 0\n"
        "    while data := os.read(0, 65536):\n"
        "        seen += data.count(b'/web/json')\n"
        f"        if seen == 2 and not os.path.exists({str(ended)!r}):\n"
        f"            open({str(ended)!r}, 'w').close()\n"
        "            os.write(2, b'Connection to box closed by remote host.')\n"
        "            os._exit(255)\n",
    )
    ssh(proxy)
    with client_of(colour, "ssh://me@box") as docker:
        assert docker.containers.inspect("web").id == "abc"
        assert docker.containers.inspect("web").id == "abc"
    assert ended.exists()


def test_a_full_queue_is_waited_for(fake: FakeEngine, colour: str, tmp_path: Path) -> None:
    path = str(tmp_path / "full.sock")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(path)
        listener.listen(0)
        first.connect(path)  # the one place is taken
        with (
            client_of(colour, f"unix://{path}", timeouts=wherry.Timeouts(connect=0.2)) as docker,
            pytest.raises(wherry.Timeout, match=r"no connection to .* within 0\.2 s"),
        ):
            docker.containers.inspect("web")

        def accept() -> None:
            listener.accept()[0].close()
            fake.serve(listener.accept()[0])

        timer = threading.Timer(0.3, accept)
        timer.start()
        with client_of(colour, f"unix://{path}") as docker:
            assert docker.containers.inspect("web").id == "abc"
        timer.join()


def test_a_vanished_machine_is_noticed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dialed = dial(parse_address(f"tcp://127.0.0.1:{listener.getsockname()[1]}"), 5)
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        idle, interval, count = (dialed.socket.getsockopt(socket.IPPROTO_TCP, option) for option in options)
        assert dialed.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert idle + interval * count <= 120
        dialed.close()


def test_ssh_that_fails_says_why_in_its_own_words(colour: str, ssh: Callable[[str], None]) -> None:
    ssh("import sys; sys.exit('me@box: Permission denied (publickey).')")
    with client_of(colour, "ssh://me@box") as docker, pytest.raises(wherry.ConnectError, match="Permission denied"):
        docker.containers.inspect("web")


def test_without_an_ssh_command_the_error_says_so(colour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with client_of(colour, "ssh://me@box") as docker, pytest.raises(wherry.ConnectError, match="not installed"):
        docker.containers.inspect("web")


def test_an_engine_inside_the_process(fake: FakeEngine, colour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []

    def connect_embedded(root: str | None) -> Callable[[], socket.socket]:
        asked.append(root)

        def dial() -> socket.socket:
            ours, theirs = socket.socketpair()
            threading.Thread(target=fake.serve, args=(theirs,), daemon=True).start()
            return ours

        return dial

    monkeypatch.setitem(sys.modules, "wherry.embed", SimpleNamespace(connect_embedded=connect_embedded))
    with client_of(colour, "embedded:/data/root") as docker:
        assert docker.containers.inspect("web").id == "abc"
        assert docker.containers.inspect("web").id == "abc"
    assert asked == ["/data/root"]


def test_an_installation_without_an_engine_says_so(colour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wherry.embed", None)
    with client_of(colour, "embedded:") as docker, pytest.raises(wherry.ConnectError, match="inside this process"):
        docker.containers.inspect("web")
