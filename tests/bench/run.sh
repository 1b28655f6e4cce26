#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds and runs the benches, each beside its peers in the same run, and prints what came out.
#
#   tests/bench/run.sh [--quick] [--only NAME] [--json FILE]
#
# --quick: fewer rounds. --only: the bench of this name (may come more than once). --json: the same as a list of {bench, subject, value,
# min, max, unit, against, against_value, ratio, target, met}. Peers that are not installed are told as "not run": libck-dev, liburcu-dev.
# TALLY_BENCH_BUILD=FOLDER: where to build (build/release).
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
build=${TALLY_BENCH_BUILD:-$root/build/release}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { (cd -- "$root" && cmake --preset release -B "$build") && cmake --build "$build" --target benches; } >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    exit 1
fi
python3 "$root/tests/bench/run.py" --folder "$build/bench" "$@"
