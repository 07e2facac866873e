"""The columns of ps, read from /proc."""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MEMORY = _PAGE * os.sysconf("SC_PHYS_PAGES")


class Process:
    """What /proc knows of a process. Raises ``OSError`` when it is gone."""

    def __init__(self, pid: int, uptime: float) -> None:
        self.pid = pid
        with open(f"/proc/{pid}/stat", "rb") as file:
            data = file.read()
        start, end = data.index(b"("), data.rindex(b")")
        self.comm = _printable(data[start + 1 : end])
        stat = data[end + 2 :].split()
        self.state = stat[0].decode()
        self.ppid, self.pgid, self.sid, self.tty_number, self.foreground = map(int, stat[1:6])
        self.cpu = (int(stat[11]) + int(stat[12])) // _TICKS
        self.cpu_ticks = int(stat[11]) + int(stat[12])
        self.nice, self.threads = int(stat[16]), int(stat[17])
        self.started = int(stat[19]) / _TICKS
        self.age = max(0.0, uptime - self.started)
        self.elapsed = int(self.age)
        self.vsize, self.rss = int(stat[20]) // 1024, int(stat[21]) * _PAGE // 1024
        self.booted = time.time() - uptime

    def status(self, name: str) -> list[str]:
        with open(f"/proc/{self.pid}/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith(f"{name}:"):
                    return line.split()[1:]
        return []

    @property
    def uid(self) -> int:
        return int((self.status("Uid") or ["0", "0"])[1])

    @property
    def user(self) -> str:
        return _user(self.uid)

    @property
    def gid(self) -> int:
        return int((self.status("Gid") or ["0", "0"])[1])

    @property
    def args(self) -> str:
        try:
            with open(f"/proc/{self.pid}/cmdline", "rb") as file:
                line = file.read(1 << 17)
        except OSError:
            line = b""
        if not line:
            return f"[{self.comm}]" + (" <defunct>" if self.state == "Z" else "")
        return _printable(line.rstrip(b"\0").replace(b"\0", b" "))

    @property
    def tty(self) -> str:
        major, minor = os.major(self.tty_number), os.minor(self.tty_number)
        if 136 <= major <= 143:
            return f"pts/{minor + (major - 136) * 256}"
        return f"tty{minor}" if major == 4 else "?"

    @property
    def flags(self) -> str:
        locked = (self.status("VmLck") or ["0"])[0] != "0"
        return (
            self.state
            + ("<" if self.nice < 0 else "N" if self.nice > 0 else "")
            + ("L" if locked else "")
            + ("s" if self.sid == self.pid else "")
            + ("l" if self.threads > 1 else "")
            + ("+" if self.foreground == self.pgid else "")
        )

    @property
    def permille_cpu(self) -> int:
        return int(self.cpu_ticks * 1000 / _TICKS / self.age) if self.age else 0

    @property
    def start(self) -> str:
        """The time of a start today, the day of one this year, else the year."""
        moment, now = time.localtime(self.booted + self.started), time.localtime()
        if moment.tm_year != now.tm_year:
            return str(moment.tm_year)
        return time.strftime("%H:%M" if moment.tm_yday == now.tm_yday else "%b%d", moment)


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    value: Callable[[Process], object]


def _cpu_time(process: Process) -> str:
    days, rest = divmod(process.cpu, 86400)
    text = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{days}-{text}" if days else text


def _elapsed(process: Process) -> str:
    days, rest = divmod(process.elapsed, 86400)
    hours = f"{rest // 3600:02d}:" if days or rest >= 3600 else ""
    return (f"{days}-" if days else "") + f"{hours}{rest // 60 % 60:02d}:{rest % 60:02d}"


def _percent(permille: int) -> str:
    return f"{permille // 10}.{permille % 10}"


def _percent_cpu(process: Process) -> str:
    permille = process.permille_cpu
    return _percent(permille) if permille < 1000 else str(permille // 10)


def _percent_memory(process: Process) -> str:
    return _percent(process.rss * 1024 * 1000 // _MEMORY)


_ARGS = Column("CMD", lambda p: p.args)
_FULL = [
    Column("UID", lambda p: p.user),
    Column("PID", lambda p: p.pid),
    Column("PPID", lambda p: p.ppid),
    Column("C", lambda p: min(99, p.permille_cpu // 10)),
    Column("STIME", lambda p: p.start),
    Column("TTY", lambda p: p.tty),
    Column("TIME", _cpu_time),
    _ARGS,
]
_USER_ORIENTED = [
    Column("USER", lambda p: p.user),
    Column("PID", lambda p: p.pid),
    Column("%CPU", _percent_cpu),
    Column("%MEM", _percent_memory),
    Column("VSZ", lambda p: p.vsize),
    Column("RSS", lambda p: p.rss),
    Column("TTY", lambda p: p.tty),
    Column("STAT", lambda p: p.flags),
    Column("START", lambda p: p.start),
    Column("TIME", lambda p: f"{p.cpu // 60}:{p.cpu % 60:02d}"),
    Column("COMMAND", lambda p: p.args),
]
_BY_NAME = {
    "pid": Column("PID", lambda p: p.pid),
    "ppid": Column("PPID", lambda p: p.ppid),
    "pgid": Column("PGID", lambda p: p.pgid),
    "sid": Column("SID", lambda p: p.sid),
    "comm": Column("COMMAND", lambda p: p.comm + (" <defunct>" if p.state == "Z" else "")),
    "args": Column("COMMAND", lambda p: p.args),
    "command": Column("COMMAND", lambda p: p.args),
    "cmd": _ARGS,
    "user": Column("USER", lambda p: p.user),
    "uid": Column("UID", lambda p: p.uid),
    "gid": Column("GID", lambda p: p.gid),
    "tty": Column("TT", lambda p: p.tty),
    "time": Column("TIME", _cpu_time),
    "etime": Column("ELAPSED", _elapsed),
    "etimes": Column("ELAPSED", lambda p: p.elapsed),
    "stime": Column("STIME", lambda p: p.start),
    "stat": Column("STAT", lambda p: p.flags),
    "state": Column("S", lambda p: p.state),
    "pcpu": Column("%CPU", _percent_cpu),
    "%cpu": Column("%CPU", _percent_cpu),
    "pmem": Column("%MEM", _percent_memory),
    "%mem": Column("%MEM", _percent_memory),
    "rss": Column("RSS", lambda p: p.rss),
    "vsz": Column("VSZ", lambda p: p.vsize),
    "ni": Column("NI", lambda p: p.nice),
    "nlwp": Column("NLWP", lambda p: p.threads),
}


def columns_of(arguments: Sequence[str]) -> list[Column] | None:
    """The columns that options of ps ask for; None for options that only ps itself understands."""
    if arguments in (["-ef"], ["-fe"], ["-e", "-f"]):
        return _FULL
    if arguments in (["aux"], ["-aux"], ["axu"], ["aux", "-ww"], ["auxww"]):
        return _USER_ORIENTED
    if arguments and arguments[0] in ("-o", "-eo", "o"):
        names = " ".join(arguments[1:]).replace(",", " ").split()
    elif arguments and arguments[0].startswith(("-o", "-eo")):
        names = " ".join([arguments[0].partition("o")[2], *arguments[1:]]).replace(",", " ").split()
    else:
        return None
    if not names or not all(name in _BY_NAME for name in names):
        return None
    return [_BY_NAME[name] for name in names]


def rows(pids: Sequence[int], columns: Sequence[Column]) -> list[list[str]]:
    """A row for each process that is still there."""
    with open("/proc/uptime", encoding="ascii") as file:
        uptime = float(file.read().split()[0])
    table = []
    for pid in sorted(pids):
        try:
            process = Process(pid, uptime)
            # ps separates columns by blanks, and so does who reads it: a value keeps no other white space
            table.append([" ".join(str(column.value(process)).split(" ")) for column in columns])
        except (OSError, ValueError, IndexError):
            continue
    return table


@lru_cache(maxsize=256)
def _user(uid: int) -> str:
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
    return name if len(name) <= 8 else name[:7] + "+"


def _printable(data: bytes) -> str:
    text = data.decode("utf-8", "replace")
    return "".join(char if char.isprintable() else "?" for char in text)
