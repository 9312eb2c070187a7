#!/usr/bin/env bash
# The bucket kept in ./.local-bucket, mounted on ./mnt: `scripts/local-mount.sh mount` or `umount`.
# With sudo the mount belongs to the user who called it, and so does everything made here.
set -euo pipefail
cd "$(dirname "$0")/.."
storefs=.venv/bin/storefs
bucket=$PWD/.local-bucket
directory=$PWD/mnt

say() { printf 'storefs: %s\n' "$*"; }

for_somebody() { [ "$(id -u)" = 0 ] && [ "${SUDO_UID:-0}" != 0 ]; }

give() { # everything that root made here for the user behind sudo
    for_somebody || return 0
    local owner=$SUDO_UID:${SUDO_GID:-$SUDO_UID}
    chown -R "$owner" "$bucket"
    find storefs -name __pycache__ -user 0 -exec chown -R "$owner" {} +
    find .venv -maxdepth 0 -user 0 -exec chown -R "$owner" {} + # made by root itself before
}

# Empty if nothing is mounted there; `storefs status` never touches the mount itself.
shown() { "$storefs" status "$directory" 2>/dev/null || true; }

mount_it() {
    case $(shown) in
        '' | *': dead'*) ;;
        *)
            say "$directory is mounted already; work in it, or end it with: make umount"
            return
            ;;
    esac
    local options=()
    mkdir -p "$bucket"
    [ -d "$directory" ] || mkdir "$directory" 2>/dev/null || true # a dead mount is no directory
    if for_somebody; then
        options=(--uid "$SUDO_UID" --gid "${SUDO_GID:-$SUDO_UID}" --allow-other)
        chown "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$directory" 2>/dev/null || true
        give
    fi
    local url
    url=$(.venv/bin/python -c 'import pathlib, sys; print(pathlib.Path(sys.argv[1]).as_uri())' "$bucket")
    "$storefs" mount "${options[@]}" "$url" "$directory"
    give
    say "$directory is mounted; its bucket is the directory $bucket. Try:"
    printf '  %s\n' 'echo hello > mnt/hello.txt' 'cat .local-bucket/hello.txt' \
        '.venv/bin/storefs status' 'make umount'
}

umount_it() {
    if [ -x "$storefs" ] && [ -n "$(shown)" ]; then
        "$storefs" umount "$directory"
        give
        say "$directory is unmounted"
    fi
}

case ${1:-} in
    mount) mount_it ;;
    umount) umount_it ;;
    *)
        say "usage: $0 mount|umount" >&2
        exit 2
        ;;
esac
