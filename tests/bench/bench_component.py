# SPDX-License-Identifier: Apache-2.0
"""What a call of the component costs in Node, by jco: the mirror beside the package's own on the plain module, concurrent-map beside a Map."""
import shutil
import subprocess
import tempfile
from pathlib import Path

import contest

OPTIONS = contest.options()
KEYS, DRAWS = (2000, 2000) if OPTIONS.smoke else (10000, 50000)
NODE = shutil.which("node") or shutil.which("nodejs")
CORE, MODULE = contest.BUILD / "wasm" / "tallycast-component.core.wasm", contest.BUILD / "wasm" / "tallycast.wasm"
PAIRS = (("mirror.get", "direct.get", "mirror.get(string)", "the package's Mirror"), ("mirror.getMany", "mirror.get", "mirror.getMany of 16, a key", "mirror.get"),
         ("map.get", "js.get", "concurrent-map.get", "a JS Map"), ("map.add", "js.add", "concurrent-map.add", "a JS Map"),
         ("map.insert", "js.add", "concurrent-map.insert", "a JS Map"))


def main():
    names, native = contest.names_file(), contest.BUILD / "bench" / "contest_wasm_native"
    with tempfile.TemporaryDirectory() as folder:
        frames, run = Path(folder) / "frames", []
        if OPTIONS.smoke:
            contest.not_run("the component", "its tools come from npm")
        elif NODE and CORE.exists():
            subprocess.run([native, "names", str(KEYS), str(OPTIONS.seed), str(DRAWS), str(names), frames], check=True)
            command = [NODE, "--no-warnings", contest.HERE / "wasm" / "component.mjs", CORE, MODULE, frames, KEYS, DRAWS, folder, names]
            run.append(contest.Contestant("component", command))
        else:
            contest.not_run("the component", "no node, or its core module was not built")
        found = contest.contest(run, sorted({one for pair in PAIRS for one in pair[:2]}), OPTIONS.rounds)
        for one in run:
            one.close()
        for ours, theirs, subject, against in PAIRS:
            contest.emit("component", f"{subject}, component by jco in Node, {KEYS // 1000}k names", found.get(("component", ours)), "ns", against,
                         found.get(("component", theirs)))


if __name__ == "__main__":
    main()
