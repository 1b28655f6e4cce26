#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The README's commands on a Debian 12 with nothing installed: the smallest system that debootstrap makes (no sudo, no certificates, no compiler), in a
# folder of its own with its own mounts. Not part of CTest: it fetches some 400 MB of packages, and builds Wasmtime. Wants root and debootstrap.
#
#   tests/package/bare.sh [COMMAND...]     by default: deploy/quickstart.sh --smoke, whose edges must serve from WASM
#   tests/package/bare.sh tests/run.sh     every test
#
# The commit that is checked out is what runs there. TALLY_BARE=FOLDER keeps the system in FOLDER and takes it from there the next time. Certificates of
# /usr/local/share/ca-certificates and the name servers of this machine hold there, too.
set -euo pipefail
source=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)

if [[ ${1:-} == --within ]]; then # in mounts and processes that end with this script
    root=$2
    shift 2
    mount --make-rprivate / 2>/dev/null || true
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs tmpfs "$root/tmp"
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM="${TERM:-dumb}" chroot "$root" sh -c 'cd /root/tallycast && exec "$@"' sh "$@"
fi

root=${TALLY_BARE:-}
if [[ -z $root ]]; then
    root=$(mktemp -d)
    trap 'rm -rf --one-file-system -- "$root"' EXIT
fi
if [[ ! -e $root/etc/debian_version ]]; then
    debootstrap --variant=minbase bookworm "$root" >&2
    mirror=$(sed -n 's/^deb \([^ ]*\) .*/\1/p;T;q' "$root/etc/apt/sources.list")
    printf 'deb %s bookworm-updates main\ndeb %s-security bookworm-security main\n' "$mirror" "$mirror" >>"$root/etc/apt/sources.list"
fi
cp /etc/resolv.conf "$root/etc/"
mkdir -p "$root/usr/local/share/ca-certificates"
cp /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/" 2>/dev/null || true
rm -rf -- "$root/root/tallycast"
mkdir -p "$root/root/tallycast"
git -C "$source" archive HEAD | tar -x -C "$root/root/tallycast"

within() { unshare --mount --pid --fork "$0" --within "$root" "$@"; }
if (($#)); then
    within "$@"
else
    result=$(within deploy/quickstart.sh --smoke)
    echo "$result"
    [[ $result == *'"client":"wasm"'* && $result != *'"client":"native"'* ]] || { echo "bare.sh: the edges serve from the native client" >&2; exit 1; }
fi
