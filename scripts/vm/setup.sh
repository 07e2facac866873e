#!/usr/bin/env bash
# What `make vm-test` needs on this machine: qemu, what makes a Debian root. Safe to run again.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib.sh

if [ "$(uname -m)" != x86_64 ]; then
  say "the virtual machine is an x86_64 one, which this machine would have to translate; run this on such a machine" >&2
  exit 1
fi

install_packages qemu-system-x86 mmdebstrap e2fsprogs debian-archive-keyring python3
finish
