#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Installs the Debian packages that are missing: those of packages.txt, with --test also those of packages-test.txt, with
# --bench those of packages-bench.txt. For Wasmtime, which is built from source, it also sees to a Rust that is new enough,
# unless TALLY_WASMTIME=0 is set: without one the edge is built with the native client.
#
#   deploy/install-packages.sh [--test] [--bench] [--print]       --print: only print what is missing
#
# Works as root, or through sudo. Does nothing, and asks for no rights, when all is there.
# Exit 1: something is missing and cannot be installed; the last line on stderr says what.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
rust_minor_min=95 # as in edge/wasmtime/build.sh

die() { echo "install-packages: $*" >&2; exit 1; }

lists="$here/packages.txt"
print=
for argument in "$@"; do
    case $argument in
    --test) lists="$lists $here/packages-test.txt" ;;
    --bench) lists="$lists $here/packages-bench.txt" ;;
    --print) print=1 ;;
    *) die "unknown argument $argument; usage: install-packages.sh [--test] [--bench] [--print]" ;;
    esac
done

command -v dpkg-query >/dev/null 2>&1 && command -v apt-get >/dev/null 2>&1 ||
    die "this is no Debian: install what is listed in $lists by hand"

is_installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

missing=
for package in $(cat $lists | sed 's/#.*//'); do
    # "package|command": the command will do, wherever it came from.
    case $package in *"|"*) command -v "${package#*|}" >/dev/null 2>&1 && continue ;; esac
    is_installed "${package%|*}" || missing="$missing ${package%|*}"
done

rust_is_there() {
    command -v cargo >/dev/null 2>&1 || return 1
    minor=$(rustc --version 2>/dev/null | sed -n 's/^rustc 1\.\([0-9]*\)\..*/\1/p')
    [ "${minor:-0}" -ge "$rust_minor_min" ]
}
rust=
if [ "${TALLY_WASMTIME:-1}" != 0 ] && ! rust_is_there && ! is_installed cargo-web; then rust="cargo-web rustc-web"; fi

if [ -n "$print" ]; then
    for package in $missing $rust; do echo "$package"; done
    exit 0
fi
[ -n "$missing$rust" ] || exit 0

as_root=
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null 2>&1 || die "not root and no sudo; as root: apt-get install$missing $rust"
    as_root="sudo"
fi

# Another apt (a machine that is just starting up) may hold the lock for a while.
apt() { $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@"; }

echo "install-packages: installing$missing $rust" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt update >"$log" 2>&1 || { cat "$log" >&2; die "apt-get update failed"; }
if [ -n "$missing" ]; then
    apt install -y --no-install-recommends $missing >"$log" 2>&1 ||
        { tail -n 30 "$log" >&2; die "could not install$missing"; }
fi
if [ -n "$rust" ] && ! apt install -y --no-install-recommends $rust >"$log" 2>&1; then
    echo "install-packages: no Rust 1.$rust_minor_min to be had; the edge will serve from the native client" >&2
fi
