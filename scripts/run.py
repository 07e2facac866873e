"""What ``make run`` and ``make stop`` do: an engine in the background, images, and the demonstration.

    run.py start [--debian]            start the engine unless it runs, make the images, run the demonstration
    run.py stop [--stop-containers]    end the engine; its containers live on unless told otherwise

Where, is in WHERRY_SOCKET, WHERRY_DATA_ROOT and WHERRY_EXEC_ROOT.
"""

from __future__ import annotations

import argparse
import fcntl
import io
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import wherry
from scripts.demo import demonstrate
from scripts.make_images import busybox_archive, make_debian

SOCKET = Path(os.environ.get("WHERRY_SOCKET", "/run/wherry/wherry.sock"))
DATA_ROOT = Path(os.environ.get("WHERRY_DATA_ROOT", "/var/lib/wherry"))
EXEC_ROOT = Path(os.environ.get("WHERRY_EXEC_ROOT", "/run/wherry"))
ADDRESS = f"unix://{SOCKET}"
PID_FILE = EXEC_ROOT / "serve.pid"
LOG_FILE = EXEC_ROOT / "serve.log"
SECONDS = 30.0


def answers() -> bool:
    if not SOCKET.exists():
        return False
    try:
        with wherry.connect(ADDRESS, timeouts=wherry.Timeouts(connect=2, head=5)) as docker:
            docker.system.ping()
    except wherry.WherryError:
        return False
    return True


def engine_pid() -> int | None:
    """The background engine's process id, None when it is gone (or the number has passed to another process)."""
    try:
        pid = int(PID_FILE.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if b"serve" in command and str(DATA_ROOT).encode() in command else None


def serving_pid() -> int | None:
    """The process that listens on the socket, whoever started it; None where nothing does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(SOCKET))
        except OSError:
            return None
        pid: int = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    return pid


def taken_root() -> Path | None:
    """A root that a living engine holds, whatever socket it serves on."""
    for root in (DATA_ROOT, EXEC_ROOT):
        with suppress(FileNotFoundError), (root / "lock").open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return root
    return None


def start_engine(*options: str) -> None:
    """Start the engine in the background, in a session of its own, and wait until it answers.

    Its process id is written only then: an attempt that fails must not hide the engine that runs.
    """
    EXEC_ROOT.mkdir(parents=True, exist_ok=True)
    SOCKET.parent.mkdir(parents=True, exist_ok=True)
    program = Path(sys.executable).with_name("wherry")
    command = [str(program), "serve", "--host", ADDRESS, "--data-root", str(DATA_ROOT), "--exec-root", str(EXEC_ROOT)]
    command += options
    with LOG_FILE.open("ab") as log:
        before = log.seek(0, os.SEEK_END)
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
        )
    try:
        wait_for(process, before)
    except BaseException:
        if process.poll() is None:
            process.terminate()
        raise
    PID_FILE.write_text(f"{process.pid}\n")


def wait_for(process: subprocess.Popen[bytes], before: int) -> None:
    """Wait until this very process answers; ``before`` is the log's size when it began."""
    deadline = time.monotonic() + SECONDS
    while serving_pid() != process.pid or not answers():
        if process.poll() is not None:
            with LOG_FILE.open("rb") as log:
                log.seek(before)
                last = log.read().decode(errors="replace").splitlines()[-5:]
            sys.exit(
                "the engine did not start:\n  " + "\n  ".join(last) + "\n`.venv/bin/wherry doctor` says what is missing"
            )
        if time.monotonic() > deadline:
            sys.exit(f"the engine did not answer within {SECONDS:.0f} s and was told to end; see {LOG_FILE}")
        time.sleep(0.02)


def make_images(docker: wherry.Client, debian: bool) -> None:
    """busybox:latest always (it takes a moment), debian:bookworm when asked and not there."""
    docker.images.load(busybox_archive())
    if not debian:
        return
    try:
        docker.images.inspect("debian:bookworm")
        return
    except wherry.NotFound:
        print("  making debian:bookworm with debootstrap; this takes a minute or two", flush=True)
    archive = DATA_ROOT / "tmp" / "debian.tar"
    try:
        with archive.open("w+b") as file:
            make_debian(file)
            file.seek(0)
            docker.images.load(io.BufferedReader(file))
    finally:
        archive.unlink(missing_ok=True)


def start(debian: bool) -> None:
    began = time.monotonic()
    if answers():
        print(f"the engine already serves on {ADDRESS}")
    else:
        start_engine()
        print(f"the engine serves on {ADDRESS} ({(time.monotonic() - began) * 1000:.0f} ms)")
    with wherry.connect(ADDRESS) as docker:
        began = time.monotonic()
        make_images(docker, debian)
        names = "busybox:latest and debian:bookworm" if debian else "busybox:latest"
        print(f"made {names} ({(time.monotonic() - began) * 1000:.0f} ms)")
        demonstrate(docker)
    log = f"; its log is {LOG_FILE}" if engine_pid() == serving_pid() else ""
    print(f"""
The engine serves on {ADDRESS}{log}. Next:

  export DOCKER_HOST={ADDRESS}
  docker run -it busybox          # or, without Docker's command line: .venv/bin/wherry run -it busybox
  .venv/bin/wherry ps -a
  make stop                       # ends the engine; containers run on, and the next engine finds them""")


def stop(stop_containers: bool) -> None:
    if engine_pid() is None:
        refuse_another()
        if not stop_containers or not DATA_ROOT.exists():
            print("no engine that `make run` started is running")
            return
    end_engine()
    if stop_containers:
        # The engine's own way out that leaves nothing: containers, bridges, firewall table, control groups.
        start_engine("--stop-containers")
        end_engine()
    refuse_another()
    print("the engine has ended" + (", and its containers are removed" if stop_containers else ""))


def refuse_another() -> None:
    """End here, saying so, where an engine lives that ``make run`` did not start."""
    pid = serving_pid()
    if pid is not None:
        sys.exit(
            f"an engine that `make run` did not start serves on {ADDRESS} (process {pid}): "
            "end it where it was started, then try again"
        )
    root = taken_root()
    if root is not None:
        sys.exit(f"an engine that `make run` did not start uses {root}: end it where it was started, then try again")


def end_engine() -> None:
    pid = engine_pid()
    if pid is None:
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + SECONDS
    while engine_pid() is not None:
        if time.monotonic() > deadline:
            sys.exit(f"the engine (process {pid}) does not end; see {LOG_FILE}")
        time.sleep(0.02)
    PID_FILE.unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    starting = commands.add_parser("start")
    starting.add_argument("--debian", action="store_true")
    stopping = commands.add_parser("stop")
    stopping.add_argument("--stop-containers", action="store_true")
    options = parser.parse_args()
    if options.command == "start":
        start(options.debian)
    else:
        stop(options.stop_containers)


if __name__ == "__main__":
    main()
