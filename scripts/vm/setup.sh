#!/usr/bin/env bash
# What `make vm-test` needs on this machine: qemu, what makes a Debian root, and .venv. Safe to run again.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib.sh

case "$(dpkg --print-architecture 2>/dev/null || uname -m)" in
  amd64 | x86_64) install_packages qemu-system-x86 ;;
  arm64 | aarch64) install_packages qemu-system-arm ;;
esac
install_packages mmdebstrap e2fsprogs debian-archive-keyring busybox-static python3 python3-venv
make_venv
finish
