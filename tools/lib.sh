# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# What the scripts of tools/ share. Sourced, with the working directory at the top of the tree.

# An ordinary user's PATH on Debian has no sbin, where nft, ip and mke2fs are.
PATH=$PATH:/usr/sbin:/sbin
export PATH

say() { printf '\033[1m%s\033[0m %s\n' "${0##*/}:" "$*" >&2; }

# die MESSAGE HINT: what is wrong, and in parentheses what to do.
die() {
    printf '\033[1;31m%s\033[0m %s\n' "${0##*/}:" "$1${2:+ ($2)}" >&2
    exit 1
}

[ -t 2 ] || {
    say() { printf '%s %s\n' "${0##*/}:" "$*" >&2; }
    die() {
        printf '%s %s\n' "${0##*/}: error:" "$1${2:+ ($2)}" >&2
        exit 1
    }
}

# as_root WHY COMMAND...: run it as root; an ordinary user is asked by sudo, which remembers the answer for a while.
as_root() {
    why=$1
    shift
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -p "${0##*/}: sudo is needed to $why; password of %u: " "$@"
    else
        die "root is needed to $why" "run the same make command as root, or install sudo: apt install sudo"
    fi
}

# as_owner COMMAND...: run it as the person whose tree this is. Under `sudo make ...` that is the one who called sudo, so
# that nothing in the tree comes to belong to root.
as_owner() {
    if [ "$(id -u)" -eq 0 ] && [ "${SUDO_UID:-0}" -ne 0 ] && [ "$SUDO_UID" -eq "$(stat -c %u .)" ]; then
        home=$(getent passwd "$SUDO_UID" | cut -d: -f6)
        HOME=${home:-/nonexistent} setpriv --reuid="$SUDO_UID" --regid="$SUDO_GID" --init-groups "$@"
    else
        "$@"
    fi
}
