#!/usr/bin/env bash
# Make .venv hold storefs and what it needs: `scripts/setup.sh run`, `test` or `dev`.
# Packages of the system that are missing come from apt; where there is no apt they are named.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-run}

say() { printf 'storefs: %s\n' "$*" >&2; }

is_new() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

# A Python that is new enough and can build pyfuse3 in an environment of its own. A version manager's
# shim may be first in the path and run nothing, so each candidate is tried.
can_build() {
    "$1" - >/dev/null 2>&1 <<'PYTHON'
import ensurepip, os, sys, sysconfig, venv
header = os.path.join(sysconfig.get_path("include"), "Python.h")
sys.exit(sys.version_info < (3, 11) or not os.path.exists(header))
PYTHON
}

candidates() {
    printf '%s\n' ${PYTHON:-} /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11
}

find_python() {
    local each
    for each in $(candidates); do
        if command -v "$each" >/dev/null && "$1" "$each"; then
            printf '%s\n' "$each"
            return 0
        fi
    done
    return 1
}

missing=()
need() { command -v "$1" >/dev/null || missing+=("${@:2}"); }

find_python can_build >/dev/null || missing+=(python3-venv python3-dev)
need fusermount3 fuse3
need gcc gcc libc6-dev
need pkg-config pkg-config
pkg-config --exists fuse3 2>/dev/null || missing+=(libfuse3-dev)
if [ "$what" != run ]; then
    need git git
    need sqlite3 sqlite3
    need getfattr attr
    need rsync rsync
    need systemd-analyze systemd
fi

if [ ${#missing[@]} -gt 0 ]; then
    if ! command -v apt-get >/dev/null; then
        say "these packages are missing (by Debian's names): ${missing[*]}"
        say "install them and run make again"
        exit 1
    fi
    root=()
    if [ "$(id -u)" != 0 ]; then
        if ! command -v sudo >/dev/null; then
            say "as root run: apt-get install ${missing[*]}"
            exit 1
        fi
        root=(sudo)
    fi
    apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q)
    say "installing ${missing[*]}"
    "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1 || {
        "${apt[@]}" update
        "${apt[@]}" install -y --no-install-recommends "${missing[@]}"
    } </dev/null >&2
fi

if ! python=$(find_python can_build); then
    if find_python is_new >/dev/null; then
        say "this Python lacks its headers or the module venv; name another: make PYTHON=/path ..."
    else
        say "Python 3.11 or newer is needed"
    fi
    exit 1
fi

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_INPUT=1
if ! { [ -x .venv/bin/python ] && is_new .venv/bin/python; }; then
    rm -rf .venv
    say "making .venv with $("$python" --version)"
    "$python" -m venv .venv
fi
say "installing storefs into .venv"
.venv/bin/python -m pip install -qq --upgrade 'pip>=25.1'
group=()
[ "$what" = run ] || group=(--group "$what")
.venv/bin/python -m pip install -qq -e . "${group[@]}"

case $what in # dev holds test, and each holds run
    dev) touch .venv/.ready-run .venv/.ready-test .venv/.ready-dev ;;
    test) touch .venv/.ready-run .venv/.ready-test ;;
    *) touch .venv/.ready-run ;;
esac

# With sudo all this was made by root for somebody else.
if [ "$(id -u)" = 0 ] && [ "${SUDO_UID:-0}" != 0 ]; then
    chown -R "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" .venv ./*.egg-info
fi
