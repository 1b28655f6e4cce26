# SPDX-License-Identifier: Apache-2.0
"""Reads in WebAssembly beside native ones: the same loops over the same keys (wasm/reads.h), compiled by clang into a guest and by the
project's compiler into a program, in Wasmtime as the edge hosts it and in V8, with a memory of their own and with a shared one.
And the cost as a host sees it: one call a read."""
import shutil

import contest

OPTIONS = contest.options(keys=0)
SIZES = {"smoke": {2000: "2k"}, "quick": {10000: "10k", 1000000: "1M"}, "full": {10000: "10k", 1000000: "1M", 10000000: "10M"}}
DRAWS = {"smoke": 1600, "quick": 200000, "full": 500000}[OPTIONS.size]
LOOPS = {"dependent": "dependent read", "independent": "independent read", "many": "get_many of 16"}
NATIVE = contest.BUILD / "bench" / "contest_wasm_native"
WASMTIME = contest.BUILD / "bench" / "contest_wasm_wasmtime"
GUESTS = {"own": contest.BUILD / "wasm" / "bench-guest.wasm", "shared": contest.BUILD / "wasm" / "bench-guest-shared.wasm"}


def contestants(kind, keys, names):
    rest = [kind, keys, OPTIONS.seed, DRAWS, names]
    found = [contest.Contestant("native", [NATIVE] + rest)]
    node = shutil.which("node") or shutil.which("nodejs")
    for sharing, guest in GUESTS.items():
        for name, there, command in (
                (f"Wasmtime, {sharing} memory", WASMTIME.exists(), [WASMTIME, guest, sharing, "huge"]),
                (f"V8, {sharing} memory", node, [node, "--no-warnings", contest.HERE / "wasm" / "v8.mjs", guest, sharing])):
            if there and guest.exists():
                found.append(contest.Contestant(name, command + rest))
            else:
                contest.not_run(name, "it is not here" if guest.exists() else "the guest was not built: clang or wasm-ld is missing")
    return found


def main():
    names = contest.names_file()
    for keys, size in SIZES[OPTIONS.size].items():
        if OPTIONS.keys and OPTIONS.keys != keys:
            continue
        for kind, what in (("ids", "8-byte ids"), ("names", "real names")):
            run = contestants(kind, keys, names)
            for one in run:
                one.ready()
            found = contest.contest(run, [*LOOPS, "host"], OPTIONS.rounds)
            for one in run:
                one.close()
                if one.name == "V8, own memory" and keys >= 1000000:
                    contest.emit("wasm", f"memory of the module with a mirror of {size} {what}",
                                 one.facts["bytes"] / 2**20 if one.facts else None, "MiB", target="<= 4096")
            for one in run[1:]:
                for loop, text in LOOPS.items():
                    contest.emit("wasm", f"{one.name}: {text}, {size} {what}", found[one.name, loop], "ns", "native",
                                 found["native", loop], "<= 1.3")
                contest.emit("wasm", f"{one.name}: a read called from outside, {size} {what}", found[one.name, "host"], "ns", "native",
                             found["native", "independent"])


if __name__ == "__main__":
    main()
