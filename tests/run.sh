#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Everything, from nothing: installs what is missing, builds, and runs every test. Ends with CTest's own summary of the last and largest run;
# whatever fails before ends it at once.
#
#   1. AddressSanitizer, UndefinedBehaviorSanitizer: unit tests, simulation, fuzz corpora
#   2. ThreadSanitizer: the tests with threads
#   3. the rest, without sanitizers: units native and in WASM, vectors, simulation, corpora, the daemons end to end, the quickstart, a consumer's build
#
# TALLY_JOBS=N: how many at once (the number of cores).
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
cd -- "$root"
jobs=${TALLY_JOBS:-$(nproc)}
export CTEST_OUTPUT_ON_FAILURE=1 CTEST_PARALLEL_LEVEL=$jobs LC_ALL=C.UTF-8
mkdir -p build

step() { printf '\n== %s (after %d s)\n' "$*" "$SECONDS"; }

# quiet LOG COMMAND...: its output only when it fails.
quiet() {
    local log=build/$1.log
    shift
    "$@" >"$log" 2>&1 </dev/null || { local code=$?; tail -n 60 "$log"; echo "run.sh: failed: $*"; exit "$code"; }
}

step "packages"
deploy/install-packages.sh --test

step "build: dev"
quiet configure-dev cmake --preset dev
quiet build-dev cmake --build --preset dev -j "$jobs"

step "AddressSanitizer, UndefinedBehaviorSanitizer"
quiet configure-asan cmake --preset asan
quiet build-asan cmake --build --preset asan -j "$jobs" --target tests_core
ctest --preset asan </dev/null

step "ThreadSanitizer"
quiet configure-tsan cmake --preset tsan
quiet build-tsan cmake --build --preset tsan -j "$jobs" --target tests_threads
ctest --preset tsan </dev/null

step "everything"
exec ctest --preset dev </dev/null
