# SPDX-License-Identifier: Apache-2.0
"""The npm package in Node, from its folder in the build, with real daemons: what it reads is what the server counted."""
import json
import os
import shutil
import subprocess
import unittest
from pathlib import Path

import harness
from harness import BIN, Feeder, recount, stream, wait_until

NODE = shutil.which("node") or shutil.which("nodejs")
PACKAGE = Path(os.environ.get("TALLY_NPM_FOLDER", BIN.parent / "npm" / "tallycast"))
SCRIPTS = Path(__file__).resolve().parent / "js"


class Program:
    """A script of js/ in Node, that says JSON lines."""

    def __init__(self, case, script, *arguments, options=()):
        self.case, self.events = case, []
        self.errors_path = case.work / f"{script}.{len(os.listdir(case.work))}.errors"
        with open(self.errors_path, "wb") as errors:
            self.process = subprocess.Popen([NODE, "--no-warnings", *options, SCRIPTS / script, PACKAGE, *map(str, arguments)], stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=errors, text=True, preexec_fn=harness._die_with_parent)
        case.addCleanup(self._clean_up)

    def say(self, text):
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def hear(self, event):
        """The next line, which must be of `event`."""
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(30)
            raise AssertionError(f"it ended with {self.process.returncode} before '{event}':\n{self.errors_path.read_text()}")
        found = json.loads(line)
        self.case.assertEqual(found["event"], event, found)
        return found

    def wait_end(self):
        self.case.assertEqual(self.process.wait(60), 0, self.errors_path.read_text())

    def _clean_up(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Js(harness.Case):
    def keys_file(self, lines):
        path = self.work / "keys.json"
        counts = recount(lines)
        path.write_text(json.dumps({table: [key for key, _ in counts[table].most_common()] for table in counts}))
        return path

    def stream_url(self, daemon):
        return "ws" + daemon.at[len("http"):] + "/v1/stream"


class Follow(Js):
    def test_under_load_through_a_restart_and_a_catch_up(self):
        """At least 500 versions, the edge killed twice: once for a moment (frames from its place), once until its place is not kept any more."""
        server = self.server(tick=5).start()
        lines = stream()[:40000]
        edge = self.edge("edge", server, **{"stream-retention-bytes": 65536}).start()
        feeder = Feeder(self, server.settings["ingest"], lines, rate=3000, arguments=["--batch-ms", "5"])
        self.wait_version(edge, 5)
        guest = Program(self, "follow.mjs", self.stream_url(edge), server.at, self.keys_file(lines))
        at = guest.hear("open")["version"]
        for gap in (0, 300):
            at = self.wait_version(edge, at + 200)["version"]
            edge.kill()
            at = self.wait_version(server, at + gap)["version"]
            edge.start()
        self.wait_version(edge, at + 200)
        result = feeder.stop()
        guest.say(result["acknowledged_version"])
        end = guest.hear("end")
        guest.wait_end()
        found = self.wait_equal(server, edge)
        self.assertEqual({name: end[name] for name in ("epoch", "version", "digest", "keys")},
                         {name: found[name] for name in ("epoch", "version", "digest", "keys")})
        truth = recount(feeder.written.elements())
        for table, keys in json.loads((self.work / "keys.json").read_text()).items():
            self.assertEqual([value or 0 for value in end["values"][table]], [truth[table][key] for key in keys])
        self.assertGreaterEqual(end["versions"], 500)
        self.assertGreater(end["checked"], 2000)
        self.assertEqual(end["states"].count("live"), 2, end["states"])
        self.assertGreater(end["jumps"], 0, "no catch-up")
        self.assertEqual(end["stats"]["refused"], 0)
        self.assertEqual(end["stats"]["stalledReaders"], 0)


if __name__ == "__main__":
    if not NODE or not PACKAGE.exists():
        raise unittest.SkipTest("node or the package is missing")
    harness.main()
