"""Opening the socket to an engine, by blocking calls; both colours use it, the async one from a thread where it must.

Whatever the way, the result is a connected socket: ssh speaks over one end of a socket pair, an embedded engine is
handed the other end of one.
"""

from __future__ import annotations

import importlib
import os
import socket
import struct
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, cast

from wherry.api.errors import ConnectError, Timeout
from wherry.client.address import Address

if TYPE_CHECKING:
    import subprocess

Dialer = Callable[[], socket.socket]

_KEPT = 4096  # bytes of what ssh says
_GRACE = 0.5  # seconds


class Dialed:
    """A connected socket, and the ssh process behind it where there is one.

    A forked child has a copy of both: what it closes is its copy, the connection is its parent's.
    """

    __slots__ = ("_pid", "_said", "process", "socket")

    def __init__(
        self, sock: socket.socket, process: subprocess.Popen[bytes] | None = None, said: Callable[[], str] | None = None
    ) -> None:
        self.socket = sock
        self.process = process
        self._said = said
        self._pid = os.getpid()

    def shut(self) -> None:
        """End the connection, waking whoever uses it; the socket stays open."""
        if self._pid != os.getpid():
            return
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def close(self) -> None:
        """Close the socket, waking whoever uses it, and end the process; its end is not waited for."""
        self.shut()
        self.socket.close()
        process, self.process = self.process, None
        if process is None or self._pid != os.getpid():
            return
        process.terminate()
        if process.poll() is None:
            import threading

            threading.Thread(target=_reap, args=(process,), name="wherry-ssh", daemon=True).start()

    def complaint(self) -> str:
        """What the process behind the socket said last on its standard error, if it has ended; empty if nothing."""
        if self.process is None or self._said is None or not _ended(self.process):
            return ""
        return self._said()


def dial(address: Address, timeout: float | None, embedded: Dialer | None = None) -> Dialed:
    """Connect to the address within ``timeout`` seconds.

    The socket is in blocking mode. Raises ``ConnectError``, or ``Timeout`` if the deadline passed.
    """
    try:
        if address.kind == "unix":
            return Dialed(_dial_unix(address.path, timeout))
        if address.kind == "tcp":
            return Dialed(_dial_tcp(address, timeout))
        if address.kind == "ssh":
            return _dial_ssh(address, timeout)
        if embedded is None:
            raise ConnectError(f"no engine is running in this process for {address}")
        return Dialed(embedded())
    except TimeoutError:
        raise Timeout(f"no connection to {address} within {timeout:g} s") from None
    except (OSError, UnicodeError, OverflowError) as error:
        raise ConnectError(f"cannot connect to {address}: {_reason(error)}") from error


def embedded_dialer(address: Address) -> Dialer:
    """Start an engine inside this process, or join the one on the same root; the result gives a socket to it each call.

    Raises ``ConnectError`` if this installation has no engine or it cannot start.
    """
    try:
        # Looked up by name: the calling end does not know the serving end.
        embed = importlib.import_module("wherry.embed")
    except ImportError as error:
        raise ConnectError(f"cannot run an engine inside this process: {error}") from error
    return cast(Dialer, embed.connect_embedded(address.path or None))


def _dial_unix(path: str, timeout: float | None) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The kernel's own deadline: a socket with Python's does not wait for a place in the engine's queue.
        _set_send_timeout(sock, timeout)
        sock.connect(path)
        _set_send_timeout(sock, None)
    except BlockingIOError:
        sock.close()
        raise TimeoutError from None
    except BaseException:
        sock.close()
        raise
    return sock


def _set_send_timeout(sock: socket.socket, seconds: float | None) -> None:
    micros = 0 if seconds is None else max(1, int(seconds * 1_000_000))  # 0 is for ever
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", *divmod(micros, 1_000_000)))


def _dial_tcp(address: Address, timeout: float | None) -> socket.socket:
    sock = socket.create_connection((address.host, address.port or 0), timeout)
    sock.settimeout(None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # An engine whose machine has vanished ends an idle stream after some two minutes.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    return sock


def ssh_command(address: Address, timeout: float | None) -> list[str]:
    """The command whose standard streams are the engine's socket, as the docker command line calls it."""
    command = ["ssh", "-T"]
    if address.user:
        command += ["-l", address.user]
    if address.port is not None:
        command += ["-p", str(address.port)]
    if timeout is not None:
        command += ["-o", f"ConnectTimeout={max(1, round(timeout))}"]
    command += ["--", address.host, "docker"]
    if address.path not in ("", "/"):
        command += ["--host", f"unix://{address.path}"]
    return [*command, "system", "dial-stdio"]


def _dial_ssh(address: Address, timeout: float | None) -> Dialed:
    import subprocess

    ours, theirs = socket.socketpair()
    try:
        process = subprocess.Popen(
            ssh_command(address, timeout),
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.PIPE,
            start_new_session=True,  # ctrl-c in the terminal is for the program, not for its connection
        )
    except FileNotFoundError:
        ours.close()
        raise ConnectError(f"cannot connect to {address}: the ssh command is not installed") from None
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    assert process.stderr is not None
    return Dialed(ours, process, _listen(process.stderr))


def _listen(stderr: IO[bytes]) -> Callable[[], str]:
    """Read what a process says as it says it, so that a talkative one is not held up; the result gives the end of it."""
    import threading

    last = bytearray()

    def read() -> None:
        with stderr:
            while data := os.read(stderr.fileno(), 65536):
                last.extend(data)
                del last[:-_KEPT]

    thread = threading.Thread(target=read, name="wherry-ssh", daemon=True)
    thread.start()

    def said() -> str:
        thread.join(0.5)  # a process of its own may still hold the other end
        return bytes(last).decode("utf-8", "replace").strip()

    return said


def _reap(process: subprocess.Popen[bytes]) -> None:
    if not _ended(process):
        process.kill()
        process.wait()


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Give a process a moment to end."""
    from subprocess import TimeoutExpired

    try:
        process.wait(_GRACE)
    except TimeoutExpired:
        return False
    return True


def _reason(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "permission denied; the socket belongs to root or to a group this user is not in"
    if isinstance(error, FileNotFoundError):
        return "there is no such socket; is the engine running?"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused; is the engine running?"
    return getattr(error, "strerror", None) or str(error)
