#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds and runs the benches, each beside its peers in the same run, and prints what came out.
#
#   tests/bench/run.sh [--quick] [--only NAME] [--json FILE]
#
# --quick: fewer rounds and keys, three minutes in all. --only: the bench of this name (may come more than once). --json: the same as a list of {bench, subject, value,
# min, max, unit, against, against_value, ratio, target, met}. Each bench's chart is drawn into
# docs/bench/. Peers that are not there and cannot be installed are told as "not run".
# TALLY_BENCH_BUILD=FOLDER: where to build (build/release).
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
export TALLY_BENCH_BUILD=${TALLY_BENCH_BUILD:-$root/build/release}
build=$TALLY_BENCH_BUILD
log=$(mktemp)
trap 'rm -f "$log"' EXIT
"$root/deploy/install-packages.sh" --test --bench || echo "run.sh: some peers will not run" >&2
if ! { (cd -- "$root" && cmake --preset release -B "$build") && cmake --build "$build" --target benches; } >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    exit 1
fi
python3 "$root/tests/bench/run.py" --folder "$build/bench" --charts "$root/docs/bench" "$@"
