# SPDX-License-Identifier: Apache-2.0
"""Reads by string from JavaScript, in Node: the package's Mirror beside a Map (wasm/js.mjs says what fresh strings are), and beside Go's
sync.Map in js/wasm (go/maps, compiled for it; measured in Go's own loop, so no string crosses). Keys are real names."""
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import contest

OPTIONS = contest.options()
SIZES = {"smoke": {2000: "2k"}, "quick": {1000000: "1M"}, "full": {10000: "10k", 1000000: "1M"}}[OPTIONS.size]
DRAWS = {"smoke": 1600, "quick": 200000, "full": 400000}[OPTIONS.size]
NODE = shutil.which("node") or shutil.which("nodejs")
MODULES = {"own": contest.BUILD / "wasm" / "tallycast.wasm", "shared": contest.BUILD / "wasm" / "tallycast-shared.wasm"}
WHATS = ("mirror.fresh", "mirror.known", "many.fresh", "map.fresh", "map.known")


def go_maps():
    """[node, Go's own launcher, the program], or None."""
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin")
    if not go or not NODE:
        contest.not_run("Go in js/wasm", "no go or no node in the path")
        return None
    environment = os.environ | {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod", "GOPROXY": "off", "GOOS": "js", "GOARCH": "wasm"}
    out = contest.BUILD / "bench" / "go-maps.wasm"
    built = subprocess.run([go, "build", "-o", out, "."], cwd=contest.HERE / "go" / "maps", env=environment, stderr=subprocess.PIPE, text=True, check=False)
    if built.returncode:
        contest.not_run("Go in js/wasm", built.stderr.strip())
        return None
    root = Path(subprocess.run([go, "env", "GOROOT"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip())
    launchers = [root / folder / "wasm_exec_node.js" for folder in ("lib/wasm", "misc/wasm")]
    launcher = next((path for path in launchers if path.exists()), None)
    if not launcher:
        contest.not_run("Go in js/wasm", "GOROOT has no wasm_exec_node.js")
        return None
    return [NODE, "--stack-size=8192", launcher, out]


def contestants(go, folder, keys, names):
    native = contest.BUILD / "bench" / "contest_wasm_native"
    frames = Path(folder) / f"{keys}.frames"
    subprocess.run([native, "names", str(keys), str(OPTIONS.seed), str(DRAWS), str(names), frames], check=True)
    found = []
    for sharing, module in MODULES.items():
        if NODE and module.exists():
            command = [NODE, "--no-warnings", "--expose-gc", "--max-old-space-size=4096", contest.HERE / "wasm" / "js.mjs", module, frames, keys, DRAWS,
                       OPTIONS.seed, names]
            found.append(contest.Contestant(sharing, command))
        else:
            contest.not_run(sharing, "no node, or the module was not built")
    if go:
        # Go's launcher takes few bytes of environment.
        found.append(contest.Contestant("go", go + ["-keys", keys, "-reads", DRAWS, "-seed", OPTIONS.seed, "-names", names],
                                        env={"PATH": os.environ["PATH"], "HOME": "/nowhere"}))
    return found


def main():
    names, go = contest.names_file(), None if OPTIONS.smoke else go_maps()
    with tempfile.TemporaryDirectory() as folder:
        for keys, size in SIZES.items():
            run = contestants(go, folder, keys, names)
            for one in run:
                one.ready()
            found = {}
            for _ in range(OPTIONS.rounds):
                for one in run:
                    for what in ("syncmap.independent",) if one.name == "go" else WHATS:
                        value = one.ask(what)
                        found.setdefault((one.name, what), []).extend([] if value is None else [value])
            for one in run:
                one.close()
            last = keys == 1000000
            for sharing in MODULES:
                ours, subject = found.get((sharing, "mirror.fresh")), f"get(string) from JS, {sharing} memory, {size} real names"
                contest.emit("js", subject, ours, "ns", "Map, fresh strings", found.get((sharing, "map.fresh")), "<= 0.3333" if last else "")
                contest.emit("js", subject, ours, "ns", "Go sync.Map in js/wasm", found.get(("go", "syncmap.independent")), "<= 0.2" if last else "")
                contest.emit("js", f"{subject}, strings known", found.get((sharing, "mirror.known")), "ns", "Map, strings known", found.get((sharing, "map.known")))
                contest.emit("js", f"getMany of 16 from JS, {sharing} memory, {size} real names", found.get((sharing, "many.fresh")), "ns",
                             "Map, fresh strings", found.get((sharing, "map.fresh")))


if __name__ == "__main__":
    main()
