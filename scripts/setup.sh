#!/usr/bin/env bash
# Install what Wherry needs: Debian packages and .venv with the console script .venv/bin/wherry. Safe to run again.
#
# setup.sh [debian] [dev]   debian: also debootstrap, for the image debian:bookworm; dev: also what `make check` needs
set -euo pipefail
. "$(dirname "$0")/lib.sh"

packages=(python3 python3-venv crun conmon nftables libnftables1 tar xz-utils busybox-static ca-certificates)
[ -d /run/systemd/system ] || packages+=(cgroupfs-mount)
extras=""
for option in "$@"; do
  case "$option" in
    debian) packages+=(debootstrap) ;;
    dev) extras=dev,test ;;
    *) echo "setup.sh: unknown option $option" >&2; exit 2 ;;
  esac
done

install_packages "${packages[@]}"
mount_cgroups
make_venv "$extras"
finish
