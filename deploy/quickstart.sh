#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Tallycast on one machine, from nothing: installs what is missing, builds, starts a server and two edges in a temporary folder, feeds them
# real events and shows what happens. Ctrl-C ends it and leaves nothing behind but the build.
#
#   deploy/quickstart.sh [--rate N] [--data FILE]
#   deploy/quickstart.sh --smoke [--data FILE]
#
# --rate N     events a second (2000), cut into versions every 100 ms
# --data FILE  a gzip file of unix_seconds<TAB>repository<TAB>path lines (tests/data/commits-slice.tsv.gz)
# --smoke      full speed, no terminal: then asks both edges by HTTP, which is answered through WASM, for every key, holds the answers
#              against `sort | uniq -c`, and ends its output with one line of JSON. Exit 0 when all is right, else 1.
#
# bytes_per_changed_key in that line: bytes of all frames that the server published, less the columns that bring new keys (their ids, sizes,
# bytes and first values), over the number of changes of keys that were there before. All other bytes of a frame (header,
# digest, seal, table heads) count as bytes of those changes.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(cd -- "$here/.." && pwd)
bin=$root/build/release/bin
data=$root/tests/data/commits-slice.tsv.gz
rate=2000
tick=100
smoke=

say() { echo "quickstart: $*" >&2; }
usage() { sed -n '4,18s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

while (($#)); do
    case $1 in
    --smoke) smoke=1 tick=20 ;;
    --rate) rate=${2:?"--rate wants a number"}; shift ;;
    --data) data=${2:?"--data wants a file"}; shift ;;
    -h | --help) usage; exit 0 ;;
    *) say "unknown argument $1"; usage >&2; exit 2 ;;
    esac
    shift
done
[[ $rate =~ ^[1-9][0-9]*$ ]] || { say "--rate wants a number of events a second, not \"$rate\""; exit 2; }
[[ -r $data ]] || { say "cannot read $data"; exit 2; }
data=$(realpath -- "$data")

# ------------------------------------------------------------------------------------------------ build

build() {
    "$here/install-packages.sh"
    say "building (build/release)"
    local log=$root/build/quickstart.log
    mkdir -p "$root/build"
    (cd "$root" && cmake --preset release -D BUILD_TESTING=OFF && cmake --build --preset release) >"$log" 2>&1 ||
        { tail -n 40 "$log" >&2; say "the build failed; all of it: $log"; exit 1; }
}

# ------------------------------------------------------------------------------------------------ run

work=
children=()

# Whatever way this script ends: no process and no temporary file stays.
clean_up() {
    local code=$?
    trap '' INT TERM HUP
    trap - EXIT
    local pid tries
    for ((i = ${#children[@]} - 1; i >= 0; i--)); do kill -TERM "${children[i]}" 2>/dev/null || true; done
    for pid in "${children[@]}"; do
        for ((tries = 0; tries < 100; tries++)); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    [[ -z $work ]] || rm -rf -- "$work"
    exit "$code"
}

fail() {
    say "$*"
    local log
    for log in "$work"/*.log; do
        [[ -s $log ]] || continue
        echo "--- the end of $(basename "$log")" >&2
        tail -n 15 "$log" >&2
    done
    exit 1
}

# start NAME PROGRAM ARGUMENT...: runs a daemon and waits until it says that it is ready.
start() {
    local name=$1
    shift
    : >"$work/$name.log"
    "$@" </dev/null >>"$work/$name.log" 2>&1 &
    local pid=$! tries
    children+=("$pid")
    for ((tries = 0; tries < 300; tries++)); do
        grep -q 'event=ready' "$work/$name.log" && return 0
        kill -0 "$pid" 2>/dev/null || fail "$name did not start"
        sleep 0.1
    done
    fail "$name was not ready after 30 s"
}

# url NAME ENDPOINT: where a daemon listens, by its log: it chose its ports itself.
url() { sed -n "s/.*event=listening .*endpoint=$2 url=\([^ ]*\).*/\1/p" "$work/$1.log" | head -n 1; }

start_all() {
    work=$(mktemp -d "${TMPDIR:-/tmp}/tallycast.XXXXXX")
    start server "$bin/tallycast-server" --data "$work/server" --ingest tcp://127.0.0.1:0 \
        --publish tcp://127.0.0.1:0 --catchup tcp://127.0.0.1:0 --http 127.0.0.1:0 --tick "$tick"
    local n
    for n in 1 2; do
        start "edge$n" "$bin/tallycast-edge" --data "$work/edge$n" --subscribe "$(url server publish)" \
            --catchup "$(url server catchup)" --http 127.0.0.1:0
    done
    if ! grep -q 'event=ready .*client=wasm' "$work/edge1.log"; then
        say "without Wasmtime: the edges serve from the native build of the client (why: build/quickstart.log)"
    fi
    server=$(url server http)
    edges=("$(url edge1 http)" "$(url edge2 http)")
}

events() { zcat -- "$data" | awk -F'\t' '{print "files\t" $2 "/" $3 "\nrepos\t" $2}'; }

# ------------------------------------------------------------------------------------------------ the live picture

show() {
    local total
    total=$(events | wc -l)
    say "server $server, edges ${edges[*]}; $total events at $rate a second"
    events | "$bin/tallycast" count --to "$(url server ingest)" --rate "$rate" --quiet 2>"$work/count.log" &
    children+=("$!")
    "$bin/tallycast" watch --at "$server" --at "${edges[0]}" --at "${edges[1]}" --progress "$total" || true
    say "ending"
}

# ------------------------------------------------------------------------------------------------ the check

# field NAME: a number or string of a line of JSON without nested objects.
field() { sed -n "s/.*\"$1\":\"\{0,1\}\([^,\"}]*\).*/\1/p"; }

# Waits until an edge serves version $2.
follow() {
    local tries
    for ((tries = 0; tries < 300; tries++)); do
        [[ $("$bin/tallycast" version --at "$1" --json 2>/dev/null | field version) == "$2" ]] && return 0
        sleep 0.1
    done
    fail "$1 did not come to version $2 within 30 s"
}

# mismatches URL: how many expected rows it does not answer with exactly their count.
mismatches() {
    local table
    : >"$work/got"
    for table in files repos; do
        awk -F'\t' -v table="$table" '$1 == table {print $2}' "$work/expected" |
            "$bin/tallycast" get --at "$1" --escaped "$table" - 2>>"$work/get.log" |
            awk -v table="$table" '{print table "\t" $0}' >>"$work/got" || true
    done
    LC_ALL=C sort "$work/got" | LC_ALL=C comm -23 "$work/expected" - | wc -l
}

check() {
    # The independent recount. Keys are escaped as the command line prints them: a backslash is the only such byte they can hold.
    events | LC_ALL=C sort | uniq -c | sed 's/^ *\([0-9]*\) \(.*\)$/\2\t\1/; s/\\/\\\\/g' | LC_ALL=C sort >"$work/expected"
    local expected_events expected_keys counted
    expected_events=$(events | wc -l)
    expected_keys=$(wc -l <"$work/expected")

    # Small batches, so that the stream is cut into many versions although it goes as fast as they are acknowledged.
    say "feeding $expected_events events of $expected_keys keys"
    counted=$(events | "$bin/tallycast" count --to "$(url server ingest)" --batch-bytes 16384 --json 2>"$work/count.log") ||
        fail "counting failed"
    local version digest keys bytes
    version=$(field acknowledged_version <<<"$counted")
    follow "$server" "$version"
    digest=$("$bin/tallycast" version --at "$server" --json | field digest)
    keys=$("$bin/tallycast" version --at "$server" --json | field keys)
    bytes=$("$bin/tallycast" watch --at "$server" --json --looks 1 | field bytes_per_changed_key)

    local ok=true edge list= found answer
    [[ $(field events <<<"$counted") == "$expected_events" && $keys == "$expected_keys" ]] || ok=false
    awk -v bytes="$bytes" 'BEGIN {exit !(bytes > 0 && bytes < 6)}' || ok=false
    for edge in "${edges[@]}"; do
        say "asking $edge for every key"
        follow "$edge" "$version"
        found=$(mismatches "$edge")
        answer=$("$bin/tallycast" version --at "$edge" --json)
        [[ $found == 0 && $(field digest <<<"$answer") == "$digest" && $(field keys <<<"$answer") == "$keys" ]] || ok=false
        list+="${list:+,}{\"version\":$(field version <<<"$answer"),\"digest\":\"$(field digest <<<"$answer")\""
        list+=",\"keys\":$(field keys <<<"$answer"),\"mismatches\":$found,\"client\":\"$(field client <<<"$answer")\"}"
    done
    result="{\"events\":$(field events <<<"$counted"),\"keys\":$keys,\"version\":$version,\"digest\":\"$digest\""
    result+=",\"bytes_per_changed_key\":${bytes:-null},\"edges\":[$list],\"ok\":$ok}"
    [[ $ok == true ]]
}

trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
build
start_all
if [[ -n $smoke ]]; then
    code=0
    check || code=1
    echo "$result"
    exit "$code"
fi
trap 'true' INT # of Ctrl-C, watch ends, and the script with it
show
