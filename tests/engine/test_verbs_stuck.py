"""A file system in a container that does not answer, and an engine that does."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.faults.machine import CrashEngine

_MOUNT = """
import ctypes, os, sys
fuse, namespace, place = int(sys.argv[1]), sys.argv[2], sys.argv[3]
libc = ctypes.CDLL(None, use_errno=True)
if libc.setns(os.open(namespace, os.O_RDONLY), 0x20000):
    raise OSError(ctypes.get_errno(), "setns")
options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0,allow_other"
if libc.mount(b"stuck", place.encode(), b"fuse", 0, options.encode()):
    raise OSError(ctypes.get_errno(), "mount")
"""


@contextmanager
def stuck(pid: int, place: str) -> Iterator[None]:
    """Mount a file system there, as the process sees it, in which every look-up waits until the end of the block."""
    fuse = os.open("/dev/fuse", os.O_RDWR)
    try:
        command = [sys.executable, "-c", _MOUNT, str(fuse), f"/proc/{pid}/ns/mnt", place]
        subprocess.run(command, check=True, pass_fds=[fuse])
        yield
    finally:
        os.close(fuse)  # whoever waits is told that it is over


@pytest.mark.skipif(not os.access("/dev/fuse", os.W_OK), reason="the machine has no FUSE")
@pytest.mark.parametrize("what", ["get", "head", "put", "exec"])
def test_a_file_system_that_does_not_answer_holds_up_its_own_calls_alone(verbs: CrashEngine, what: str) -> None:
    container = verbs.create("sleep", "1000")
    verbs.http.post(f"/containers/{container}/start")
    pid = verbs.http.get(f"/containers/{container}/json").json["State"]["Pid"]
    target = f"/containers/{container}/archive"
    instance = verbs.http.post(f"/containers/{container}/exec", json={"Cmd": ["true"], "User": "nobody"}).json["Id"]
    calls = {
        "get": lambda: verbs.http.get(target, query={"path": "/etc/file"}),
        "head": lambda: verbs.http.head(target, query={"path": "/etc/file"}),
        "put": lambda: verbs.http.put(target, query={"path": "/etc/file"}, body=bytes(1024)),
        "exec": lambda: verbs.http.post(f"/exec/{instance}/start", json={"Detach": True}),
    }
    with stuck(pid, "/etc"):
        call = threading.Thread(target=calls[what], daemon=True)
        call.start()
        call.join(0.3)
        waits = call.is_alive()
        answered: list[int] = []
        ping = threading.Thread(target=lambda: answered.append(verbs.http.get("/_ping").status), daemon=True)
        ping.start()
        ping.join(5)
    call.join(10)
    assert (waits, answered) == (True, [200])
