# SPDX-License-Identifier: Apache-2.0
"""Counting from several threads: the tally's maps natively (bench_tally.c) beside Go's sync.Map and a Go map behind an RWMutex (go/counts), and in
the shared memory of workers of Node beside a Map behind postMessage and Go's in js/wasm (wasm/counts.mjs). Wall time an addition over all
threads, of real names, everything drained every 20 ms."""
import os
import shutil
import subprocess
from pathlib import Path

import contest

OPTIONS = contest.options(keys=0, adds=0)
SIZES = {"smoke": (16,), "quick": (16, 100000), "full": (16, 100000)}[OPTIONS.size] if not OPTIONS.keys else (OPTIONS.keys,)
ADDS = OPTIONS.adds or {"smoke": 4096, "quick": 150000, "full": 5000000}[OPTIONS.size]
POSTS = {"smoke": 2048, "quick": 8192, "full": 409600}[OPTIONS.size]  # of what takes microseconds each
NODE = shutil.which("node") or shutil.which("nodejs")
NATIVE = {"cas": "lock-free tally", "sharded": "sharded tally", "rwlock": "map with a read-write lock"}
GO = {"syncmap": "Go sync.Map", "rwmutex": "Go map, RWMutex"}
WASM = {"sharded": "sharded tally", "post": "JS Map behind postMessage", "posts": "JS Map, 256 keys a postMessage"}
SHARED = contest.BUILD / "wasm" / "tallycast-shared.wasm"


def go_counts(**more):
    """The built program, or None. `more`: GOOS and GOARCH."""
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin")
    if not go:
        contest.not_run("Go", "no go in the path")
        return None, None
    out = contest.BUILD / "bench" / ("go-counts" + more.get("GOARCH", ""))
    environment = os.environ | {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod", "GOPROXY": "off"} | more
    built = subprocess.run([go, "build", "-o", out, "."], cwd=contest.HERE / "go" / "counts", env=environment, stderr=subprocess.PIPE, text=True, check=False)
    if built.returncode:
        contest.not_run("Go", built.stderr.strip())
        return None, None
    return out, Path(subprocess.run([go, "env", "GOROOT"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip())


def contestants(keys, names):
    """name -> (contestant, its measurements)."""
    found = {"native": (contest.Contestant("the tally", [contest.BUILD / "bench" / "bench_tally", "--contest", keys, ADDS, OPTIONS.seed],
                                           env=os.environ | {"TALLY_BENCH_NAMES": str(names)}), [f"{one}.{n}" for one in NATIVE for n in (1, 2)])}
    flags = ["-keys", keys, "-seed", OPTIONS.seed, "-names", names]
    program, root = (None, None) if OPTIONS.smoke else go_counts()
    if program:
        found["go"] = (contest.Contestant("Go", [program, "-adds", ADDS, *flags]), [f"{one}.{n}" for one in GO for n in (1, 2)])
    if NODE and SHARED.exists():
        for name, adds, whats in (("wasm", ADDS, ("tally", "sharded")), ("post", POSTS, ("post", "posts"))):
            command = [NODE, "--no-warnings", contest.HERE / "wasm" / "counts.mjs", SHARED, keys, adds, OPTIONS.seed, names]
            found[name] = (contest.Contestant(name, command), [f"{whats[0]}.2"] if OPTIONS.smoke else [f"{one}.{n}" for one in whats for n in (1, 2)])
        program, root = go_counts(GOOS="js", GOARCH="wasm") if root else (None, None)
        launcher = next((path for path in (root / "lib/wasm/wasm_exec_node.js", root / "misc/wasm/wasm_exec_node.js") if path.exists()), None) if root else None
        if program and launcher:
            command = [NODE, "--stack-size=8192", launcher, program, "-adds", ADDS // 8, *flags]
            found["gojs"] = (contest.Contestant("Go in js/wasm", command, env={"PATH": os.environ["PATH"], "HOME": "/nowhere"}), [f"{one}.1" for one in GO])
    else:
        contest.not_run("workers", "no node, or the shared module was not built")
    return found


def main():
    names = contest.names_file()
    for keys in SIZES:
        run, found = contestants(keys, names), {}
        for one, _ in run.values():
            one.ready()
        for _ in range(OPTIONS.rounds):
            for name, (one, whats) in run.items():
                for what in whats:
                    value = one.ask(what)
                    found.setdefault((name, what), []).extend([] if value is None else [value])
        for one, _ in run.values():
            one.close()
        for threads in (1, 2):
            ours, subject = found.get(("native", f"cas.{threads}")), f"lock-free tally: add, {threads} thread{'s' * (threads > 1)}, {keys} names"
            for peer, name in GO.items():
                contest.emit("counting", subject, ours, "ns", name, found.get(("go", f"{peer}.{threads}")))
            ours = found.get(("wasm", f"tally.{threads}"))
            subject = f"lock-free tally in shared WASM memory: add(string) from JS, {threads} worker{'s' * (threads > 1)}, {keys} names"
            for peer, name in WASM.items():
                contest.emit("counting", subject, ours, "ns", name, found.get(("wasm" if peer == "sharded" else "post", f"{peer}.{threads}")))
            if threads == 1:
                for peer, name in GO.items():
                    contest.emit("counting", subject, ours, "ns", f"{name}, in js/wasm", found.get(("gojs", f"{peer}.1")))


if __name__ == "__main__":
    main()
