# Shared by the set-up scripts: say what is done, do it only where needed, remember what could not be done.

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export DEBIAN_FRONTEND=noninteractive
missing=()

say() { printf '%s\n' "setup: $*"; }
could_not() { missing+=("$*"); printf '%s\n' "setup: COULD NOT $*" >&2; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo -E "$@"
  else return 1
  fi
}

# install_packages NAME...: only those not yet installed; one by one when the batch fails, so that one bad name costs one.
install_packages() {
  local wanted=() package
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || wanted+=("$package")
  done
  [ ${#wanted[@]} = 0 ] && return 0
  if ! command -v apt-get >/dev/null; then
    could_not "install ${wanted[*]}: no apt-get here; install them with this system's own package manager"
    return 0
  fi
  say "installing ${wanted[*]}"
  as_root apt-get update -qq >/dev/null 2>&1 || say "apt-get update failed; trying with the lists there are"
  if ! as_root apt-get install -y -qq --no-install-recommends "${wanted[@]}" >/tmp/wherry-setup-apt.log 2>&1; then
    for package in "${wanted[@]}"; do
      as_root apt-get install -y -qq --no-install-recommends "$package" >>/tmp/wherry-setup-apt.log 2>&1 ||
        could_not "install $package (see /tmp/wherry-setup-apt.log)"
    done
  fi
}

# make_venv EXTRAS: .venv with the package, installed again only when pyproject.toml or the extras changed. "compat" puts
# this directory on the path: else `import wherry` above a clone named wherry finds the clone, as an empty namespace.
make_venv() {
  local extras=$1 stamp want
  if ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    say "making .venv"
    rm -rf .venv
    python3 -m venv .venv || { could_not "make .venv with $(python3 --version 2>&1); Wherry needs Python 3.11 or newer"; return 0; }
  fi
  stamp=".venv/.wherry-setup${extras:+-${extras//,/-}}"
  want="$(sha256sum pyproject.toml | cut -d' ' -f1) compat"
  if [ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && [ -x .venv/bin/wherry ]; then return 0; fi
  say "installing the Python part into .venv${extras:+ (with $extras)}"
  if .venv/bin/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat -e ".${extras:+[$extras]}"; then
    .venv/bin/python -m compileall -q wherry || true # where Python is told to write no byte code, a command takes twice as long
    printf '%s' "$want" >"$stamp"
  else
    could_not "install the Python part into .venv"
  fi
}

# Without systemd (containers, small virtual machines) nobody mounts the cgroup controllers, or only some: crun refuses a
# hybrid set-up with controllers on the v2 side. cgroupfs-mount mounts just what is missing.
mount_cgroups() {
  [ -d /run/systemd/system ] && return 0
  [ "$(stat -f -c %T /sys/fs/cgroup 2>/dev/null)" = cgroup2fs ] && return 0
  local before
  before=$(grep -c ' cgroup ' /proc/mounts || true)
  if command -v cgroupfs-mount >/dev/null && as_root cgroupfs-mount; then
    [ "$before" = "$(grep -c ' cgroup ' /proc/mounts)" ] || say "mounted the missing cgroup controllers"
  else could_not "mount the cgroup controllers: limits and statistics will be missing"
  fi
}

finish() {
  [ ${#missing[@]} = 0 ] && return 0
  printf '%s\n' "setup: ended with ${#missing[@]} thing(s) it could not do:" >&2
  printf 'setup:   %s\n' "${missing[@]}" >&2
  return 1
}
