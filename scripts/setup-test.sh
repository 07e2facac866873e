#!/usr/bin/env bash
# What the tests need on top of setup.sh: Debian's dockerd to compare with, and the Python test packages. Safe to run again.
#
# docker.io is installed without starting its service, and what a start would change (the FORWARD policy, ip_forward) stays as it was.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
scripts/setup.sh

policy=/usr/sbin/policy-rc.d
forward_policy() { command -v iptables >/dev/null && as_root iptables -S FORWARD 2>/dev/null | sed -n 's/^-P FORWARD //p'; }

# Packages that bring services: none is started, and none will be at the next boot.
install_quietly() {
  local kept="" before
  before=$(forward_policy || true)
  if [ -e "$policy" ]; then
    kept=$(mktemp)
    as_root cp -p "$policy" "$kept"
  fi
  printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null && as_root chmod 755 "$policy"
  install_packages docker.io docker-registry
  if [ -n "$kept" ]; then as_root mv "$kept" "$policy"; else as_root rm -f "$policy"; fi
  # The package enables its service for the next boot; the tests start their own dockerd.
  if [ -d /run/systemd/system ]; then
    as_root systemctl disable --quiet docker.service docker.socket containerd.service docker-registry.service 2>/dev/null || true
    say "the services of docker.io, containerd and docker-registry are left disabled; enable them yourself if you want them"
  fi
  if [ -n "$before" ] && [ "$(forward_policy || true)" != "$before" ]; then as_root iptables -P FORWARD "$before"; fi
}

if ! command -v dockerd >/dev/null || ! command -v docker-registry >/dev/null; then install_quietly; fi
install_packages curl iptables iproute2 procps util-linux runc skopeo openssl docker-compose
make_venv dev,test
# Layers of Debian's packages for images with real services in them.
make_layers() { as_root .venv/bin/python scripts/deb_image.py redis-server,redis-tools python3-minimal; }
if [ ! -e .setup/debs/python3-minimal.tar ]; then
  make_layers || { as_root apt-get update -qq && make_layers; } || could_not "make the layers of the tests' images"
fi
command -v docker >/dev/null || could_not "find a docker command line"
finish
