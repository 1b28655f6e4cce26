#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Builds Wasmtime's C API (capi/) into a static library, once for a user and a set of versions:
#
#   ${XDG_CACHE_HOME:-~/.cache}/tallycast/wasmtime-VERSION-HASH/{lib/libtallycast_wasmtime.a,include/wasmtime.h}
#
# and prints that folder. HASH covers capi/ and the compiler. About two minutes on two cores; nothing when it is there already.
# Safe to run twice at once, and to kill: the folder appears in one rename, when it is complete.
#
#   build.sh          build if needed
#   build.sh --find   only look: exit 1 when it is not there
#
# Exit 1: not there and cannot be built; the last line on stderr says why.
set -eu
rust_minor_min=95

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
die() { echo "wasmtime: $*" >&2; exit 1; }

command -v cargo >/dev/null 2>&1 && command -v rustc >/dev/null 2>&1 ||
    die "no cargo and rustc (1.$rust_minor_min or newer are needed to build it)"
rust=$(rustc --version 2>/dev/null) || die "rustc does not run"
minor=$(printf '%s\n' "$rust" | sed -n 's/^rustc 1\.\([0-9]*\)\..*/\1/p')
[ "${minor:-0}" -ge "$rust_minor_min" ] || die "this is $rust; 1.$rust_minor_min or newer is needed"

version=$(sed -n 's/.*wasmtime-c-api-impl", version = "=\([0-9.]*\)".*/\1/p' "$here/capi/Cargo.toml")
hash=$( (cat "$here/capi/Cargo.toml" "$here/capi/Cargo.lock" "$here/capi/build.rs" "$here/capi/src/lib.rs"
         rustc --version --verbose) | sha256sum | cut -c1-16)
cache=${XDG_CACHE_HOME:-${HOME:?}/.cache}/tallycast
prefix=$cache/wasmtime-$version-$hash
there() { [ -f "$prefix/lib/libtallycast_wasmtime.a" ] && [ -f "$prefix/include/wasmtime.h" ]; }

if there; then echo "$prefix"; exit 0; fi
[ "${1:-}" != --find ] || die "not built yet"

mkdir -p "$cache" || die "cannot make $cache"
# Two builds at once would only be slower. Without flock both build, and the second one's result is dropped.
if command -v flock >/dev/null 2>&1; then
    exec 9>"$cache/wasmtime.lock"
    flock 9
    if there; then echo "$prefix"; exit 0; fi
fi

work=$(mktemp -d "$cache/wasmtime-build.XXXXXX") || die "cannot write to $cache"
cargo=
trap 'rm -rf "$work"' EXIT
trap '[ -z "$cargo" ] || kill "$cargo" 2>/dev/null; wait; exit 1' HUP INT TERM
echo "wasmtime: building $version with $rust (about two minutes, once)" >&2
# Cargo would take what stands in the environment for other builds. In the background, so that a signal ends it.
env -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS -u CARGO_BUILD_TARGET \
    CARGO_TARGET_DIR="$work/target" TALLY_WASMTIME_INCLUDE_FILE="$work/include-folder" \
    cargo build --release --locked --manifest-path "$here/capi/Cargo.toml" >"$work/log" 2>&1 9>&- &
cargo=$!
wait "$cargo" || { tail -n 20 "$work/log" >&2; die "cargo could not build it"; }

mkdir -p "$work/out/lib"
mv "$work/target/release/libtallycast_wasmtime.a" "$work/out/lib/"
cp -R "$(cat "$work/include-folder")" "$work/out/include"
mv -T "$work/out" "$prefix" 2>/dev/null || there || die "cannot write $prefix"
echo "$prefix"
