#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Installs the client to a folder of its own and builds a program against it: by find_package, static and shared, and by pkg-config.
#   run.sh BUILD-FOLDER CMAKE COMPILER
set -eu
build=$1 cmake=$2 compiler=$3
here=$(cd "$(dirname "$0")" && pwd)
frame=$here/../../proto/vectors/frame-first.bin
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

expect() {
    got=$("$@" "$frame")
    [ "$got" = "repos nng 3" ] || { echo "$*: got '$got'" >&2; exit 1; }
    echo "$1: ok"
}

"$cmake" --install "$build" --prefix "$work/prefix" --component client > "$work/install.log"
"$cmake" -S "$here/consumer" -B "$work/build" -DCMAKE_PREFIX_PATH="$work/prefix" -DCMAKE_C_COMPILER="$compiler" \
    > "$work/configure.log" || { cat "$work/configure.log" >&2; exit 1; }
"$cmake" --build "$work/build" > "$work/build.log" || { cat "$work/build.log" >&2; exit 1; }
expect "$work/build/with_client"
expect "$work/build/with_client_shared"

# Nothing of the inside is exported: a program cannot come to depend on it, or clash with it.
library=$(find "$work/prefix" -name 'libtallycast.so')
if nm -D --defined-only "$library" | awk '{ print $3 }' | grep -v '^tally_'; then
    echo "libtallycast.so exports the names above" >&2
    exit 1
fi

if ! command -v pkg-config > /dev/null; then
    echo "pkg-config is missing: that half was skipped"
    exit 0
fi
PKG_CONFIG_PATH=$(dirname "$(find "$work/prefix" -name tallycast.pc)")
export PKG_CONFIG_PATH
# Words are meant to be split.
# shellcheck disable=SC2046
"$compiler" "$here/consumer/main.c" -o "$work/with_pkg_config" $(pkg-config --cflags --libs tallycast)
# The examples are built from what is installed, too. One reads a frame file that a pipe brings; the other follows a server (tests/e2e has one).
# shellcheck disable=SC2046
"$compiler" "$here/../../client-wasm/examples/read.c" -o "$work/read" $(pkg-config --cflags --libs tallycast)
# shellcheck disable=SC2046
"$compiler" "$here/../../client-wasm/examples/follow.c" -o "$work/follow" $(pkg-config --cflags --libs tallycast) -lnng
LD_LIBRARY_PATH=$(pkg-config --variable=libdir tallycast)
export LD_LIBRARY_PATH
expect "$work/with_pkg_config"

# A frame file of this frame, which is shorter than 256 bytes.
size=$(wc -c < "$frame")
{ printf 'TALLYF1\n'; printf "\\$(printf '%03o' "$size")\\000\\000\\000"; cat "$frame"; } > "$work/state.tallyf"
got=$("$work/read" main repos nng < "$work/state.tallyf")
[ "$got" = 3 ] || { echo "read: got '$got'" >&2; exit 1; }
got=$("$work/follow" 2>&1 || true)
[ "$got" = "usage: follow PUBLISH-URL CATCHUP-URL DATASET TABLE KEY..." ] || { echo "follow: got '$got'" >&2; exit 1; }
