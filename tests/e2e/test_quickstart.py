# SPDX-License-Identifier: Apache-2.0
"""deploy/quickstart.sh as a newcomer runs it: --smoke on the full stream, and the live picture that Ctrl-C ends."""
import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path

import harness
from harness import FULL, ROOT, SLICE, recount, stream
from test_cli import Terminal

QUICKSTART = ROOT / "deploy" / "quickstart.sh"


def processes_in(folder):
    """Processes whose command line names the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(folder).encode() in (entry / "cmdline").read_bytes():
                found.append((entry.name, (entry / "cmdline").read_bytes()))
        except OSError:
            pass
    return found


class Quickstart(harness.Case):
    def setUp(self):
        super().setUp()
        os.environ["TMPDIR"] = str(self.work)
        self.addCleanup(os.environ.pop, "TMPDIR")

    def assert_nothing_left(self):
        self.assertEqual(list(self.work.iterdir()), [])
        self.assertEqual(processes_in(self.work), [])

    def test_smoke(self):
        for data in [SLICE] + [FULL] * FULL.exists():
            with self.subTest(data=data.name):
                done = subprocess.run([QUICKSTART, "--smoke", "--data", data], capture_output=True, text=True, timeout=800,
                                      stdin=subprocess.DEVNULL, cwd="/")
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                result = json.loads(done.stdout.splitlines()[-1])
                print(f"# {result}")
                want = recount(stream(data))
                self.assertEqual(result["keys"], sum(len(keys) for keys in want.values()))
                self.assertEqual(result["events"], sum(sum(keys.values()) for keys in want.values()))
                self.assertTrue(result["ok"])
                self.assertLess(result["bytes_per_changed_key"], 6)
                self.assertEqual(len(result["edges"]), 2)
                for edge in result["edges"]:
                    self.assertEqual((edge["mismatches"], edge["digest"], edge["version"], edge["keys"]),
                                     (0, result["digest"], result["version"], result["keys"]))
                self.assert_nothing_left()

    def test_smoke_tells_what_is_wrong(self):
        self.assertEqual(subprocess.run([QUICKSTART, "--nonsense"], capture_output=True).returncode, 2)
        self.assertEqual(subprocess.run([QUICKSTART, "--smoke", "--data", "/no/such"], capture_output=True).returncode, 2)

    def test_the_live_picture_ends_by_ctrl_c(self):
        terminal = Terminal(self, QUICKSTART, "--rate", "20000")
        terminal.wait_shown(r"edge 2 .*live", 600)
        terminal.wait_shown(r"100 %", 60)
        terminal.press(b"\x03")
        self.assertIn(terminal.wait_exit(30), (0, 130))
        self.assert_nothing_left()


if __name__ == "__main__":
    harness.main()
