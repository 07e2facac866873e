"""Inside the virtual machine, started by vm-test.service: run the tests, and tell the outcome over the second serial port.

The second disk brought the project and ``.vm/plan.json``.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from scripts.vm.report import tell

HERE = Path("/srv/wherry")


def main() -> None:
    plan = json.loads((HERE / ".vm/plan.json").read_text())
    _install()
    environment = os.environ | {
        "WHERRY_VM": "1",
        "WHERRY_API_YAML": str(HERE / ".vm/engine-v1.43.yaml"),
        "WHERRY_TEST_PATIENCE": str(plan["patience"]),
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    }
    tell({"about": describe()})
    # once, and not at each start of an engine
    subprocess.run([sys.executable, "-m", "compileall", "-q", "wherry", "tests", "scripts"], cwd=HERE, check=False)
    complete = True
    for arguments in plan["groups"]:
        say(f"{' '.join(arguments)}")
        start = time.monotonic()
        command = [
            *(sys.executable, "-m", "pytest", "-v", "--color=no", "--tb=short", "--show-capture=stderr", "-r", ""),
            *("-p", "no:cacheprovider", "-p", "scripts.vm.report", "--no-summary"),
            f"--timeout={120 * plan['patience']:g}",
            *("--engines", "wherry", *arguments),
        ]
        code = subprocess.run(command, cwd=HERE, env=environment, check=False).returncode
        complete &= code in (0, 1)  # all passed, or some failed
        say(f"{' '.join(arguments)}: ended with {code} after {time.monotonic() - start:.0f} s")
    tell({"complete": complete})


def say(text: str) -> None:
    print(f"\nvm: {text}", flush=True)


def _install() -> None:
    """As the documentation tells an administrator to: the command on the path, the unit beside the others."""
    # what scripts/setup.sh leaves when it has installed the package
    stamp = hashlib.sha256((HERE / "pyproject.toml").read_bytes()).hexdigest()
    (HERE / ".venv/.wherry-setup").write_text(stamp)
    Path("/usr/local/bin/wherry").symlink_to(HERE / ".venv/bin/wherry")
    shutil.copy(HERE / "packaging/wherry.service", "/etc/systemd/system/")
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    if (HERE / ".vm/docker").exists():
        shutil.copy(HERE / ".vm/docker", "/usr/local/bin/docker")


def describe() -> dict[str, Any]:
    """What the machine is made of."""
    release = platform.freedesktop_os_release()

    def first_line(*command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return (done.stdout or done.stderr).strip().splitlines()[0]

    return {
        "system": release["PRETTY_NAME"],
        "kernel": platform.release(),
        "cgroups": first_line("stat", "-f", "-c", "%T", "/sys/fs/cgroup"),
        "systemd": first_line("systemctl", "--version"),
        "crun": first_line("crun", "--version"),
        "conmon": first_line("conmon", "--version"),
        "nftables": first_line("nft", "--version"),
        "Python": platform.python_version(),
        "docker command": first_line("docker", "--version") if shutil.which("docker") else "none",
        "processors": os.cpu_count(),
    }


if __name__ == "__main__":
    main()
