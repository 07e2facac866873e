"""The runtimes' words become moby's (STA3)."""

from __future__ import annotations

import pytest

from wherry.engine.oci.errors import CREATE_PREFIX, EXEC_PREFIX, translate


@pytest.mark.parametrize(
    ("said", "command", "text", "code"),
    [
        (
            "executable file `nosuch` not found in $PATH: No such file or directory",
            "nosuch",
            'exec: "nosuch": executable file not found in $PATH',
            127,
        ),
        (
            "executable file `/x/y` not found in $PATH: No such file or directory",
            "/x/y",
            'exec: "/x/y": stat /x/y: no such file or directory',
            127,
        ),
        ("open executable: Operation not permitted", "/tmp", 'exec: "/tmp": permission denied', 126),
        ("the path `/tmp` is not a regular file: Operation not permitted", "/tmp", 'exec: "/tmp": permission denied', 126),
        (
            "the path `/etc/passwd` exists but it is not executable: Operation not permitted",
            "/etc/passwd",
            'exec: "/etc/passwd": permission denied',
            126,
        ),
        ('exec: "/tmp": is a directory', "/tmp", 'exec: "/tmp": permission denied', 126),  # runc 1.1.13
        (
            "write file `/proc/thread-self/attr/apparmor/exec`: No such file or directory",
            "true",
            "apparmor failed to apply profile: write file `/proc/thread-self/attr/apparmor/exec`: No such file or directory",
            128,
        ),
        ("open executable: Permission denied", "/etc/passwd", 'exec: "/etc/passwd": permission denied', 126),
        (
            "chdir `/nocwd`: No such file or directory",
            "true",
            'chdir to cwd ("/nocwd") set in config.json failed: no such file or directory',
            127,
        ),
        ("exec: Exec format error", "/bad", "exec /bad: exec format error", 126),
        ("write `cgroup.procs`: Device or resource busy", "true", "write `cgroup.procs`: Device or resource busy", 128),
        (
            'time="2026-11-23T14:01:31Z" level=error msg="runc create failed: unable to start container process: '
            'exec: \\"nosuch\\": executable file not found in $PATH"',
            "nosuch",
            'exec: "nosuch": executable file not found in $PATH',
            127,
        ),
    ],
)  # fmt: skip
def test_STA3_texts_and_codes(said: str, command: str, text: str, code: int) -> None:
    failure = translate(said, command)
    assert failure.message == f"{CREATE_PREFIX}{text}: unknown"
    assert failure.exit_code == code
    assert failure.bad_request == (code != 128)


def test_STA3_a_mount_of_a_directory_onto_a_file_is_explained() -> None:
    failure = translate("mount `/tmp` to `etc/passwd`: Not a directory", "true")
    assert "Are you trying to mount a directory onto a file" in failure.message
    assert failure.exit_code == 127


def test_EXE2_exec_has_its_own_prefix() -> None:
    failure = translate("executable file `nosuch` not found in $PATH", "nosuch", prefix=EXEC_PREFIX)
    assert failure.message == (
        "OCI runtime exec failed: exec failed: unable to start container process: "
        'exec: "nosuch": executable file not found in $PATH: unknown'
    )


def test_a_silent_runtime_still_gives_a_text() -> None:
    assert translate("", "true").message.strip() != CREATE_PREFIX
