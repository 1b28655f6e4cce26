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


    def assert_all(self, end, feeder):
        """All that a guest read at its end is all that was counted."""
        truth = recount(feeder.written.elements())
        for table, keys in json.loads((self.work / "keys.json").read_text()).items():
            self.assertEqual([value or 0 for value in end["values"][table]], [truth[table][key] for key in keys])


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
        self.assert_all(end, feeder)
        self.assertGreaterEqual(end["versions"], 500)
        self.assertGreater(end["checked"], 2000)
        self.assertEqual(end["states"].count("live"), 2, end["states"])
        self.assertGreater(end["jumps"], 0, "no catch-up")
        self.assertEqual(end["stats"]["refused"], 0)
        self.assertEqual(end["stats"]["stalledReaders"], 0)

    def test_threads_and_reloads_under_load(self):
        """Three threads on the memory, the module reloaded again and again, and the server restarted: every read is right, in every thread."""
        server = self.server(tick=5).start()
        lines = stream()[:40000]
        self.count(server, lines[:100])
        feeder = Feeder(self, server.settings["ingest"], lines, rate=3000, arguments=["--batch-ms", "5"])
        guest = Program(self, "follow.mjs", self.stream_url(server), server.at, self.keys_file(lines), json.dumps({"workers": 3, "reloadMs": 300}))
        at = guest.hear("open")["version"]
        at = self.wait_version(server, at + 300)["version"]
        server.kill()
        server.start()
        self.wait_version(server, at + 300)
        result = feeder.stop()
        guest.say(result["acknowledged_version"])
        end = guest.hear("end")
        guest.wait_end()
        feeder.written.update(lines[:100])
        self.assert_all(end, feeder)
        found = server.version()
        self.assertEqual((end["version"], end["digest"]), (found["version"], found["digest"]))
        self.assertGreater(end["checked"], 1000)
        self.assertGreater(end["attached"], 100)
        self.assertGreaterEqual(end["reloads"], 4)
        self.assertGreaterEqual(end["moved"], 4)
        self.assertEqual((end["stats"]["takenBack"], end["stats"]["attached"], end["stats"]["superseded"]), (3, 0, 0))


def wordy(count, start=0):
    """Lines that count `count` keys of about 30 bytes."""
    return [b"words\ta-rather-long-name/of-file-%07d" % (start + i) for i in range(count)]


class Memory(Js):
    def sample(self, guest):
        guest.say("sample")
        return guest.hear("sample")

    def wait_sample(self, guest, check, what):
        return wait_until(lambda: found if check(found := self.sample(guest)) else None, what)

    def test_a_million_keys_within_an_isolate(self):
        """128 MiB for everything: the engine's heap and the mirror, at the most, with the frames of a whole state arriving."""
        server = self.server().start()
        count = 1000000
        for start in range(0, count, 250000):
            self.count(server, wordy(250000, start))
        guest = Program(self, "memory.mjs", self.stream_url(server), "{}", options=["--max-old-space-size=32", "--max-semi-space-size=2"])
        self.assertEqual(guest.hear("open")["keys"], count)
        for _ in range(5):
            self.count(server, wordy(20000, self.random.randrange(count - 20000)))
        found = self.wait_sample(guest, lambda found: found["version"] == server.version()["version"], "the newest version")
        self.assertEqual((found["digest"], found["keys"]), (server.version()["digest"], count))
        self.assertEqual((found["errors"], found["stats"]["refused"]), ([], 0))
        print(f"# 1M keys: mirror {found['stats']['usedBytes'] / 2**20:.0f} MiB used, {found['stats']['memoryBytes'] / 2**20:.0f} MiB taken; "
              f"heap and mirror {found['peak']['all'] / 2**20:.0f} MiB at most; resident {found['start']['resident'] / 2**20:.0f} -> {found['peak']['resident'] / 2**20:.0f} MiB", flush=True)
        self.assertLess(found["peak"]["all"], 128 << 20)

    def test_full(self):
        self.full({"maxBytes": 12 << 20})

    def test_full_shared(self):
        self.full({"maxBytes": 16 << 20, "shared": True})

    def full(self, options):
        """maxBytes is reached: the version that is held stays readable, gets old, and says why; a reload with more room goes on."""
        server = self.server().start()
        edge = self.edge("edge", server).start()
        keys, first = self.work / "keys", wordy(2000)
        self.count(server, first)
        self.wait_equal(server, edge)
        keys.write_bytes(b"\n".join(line.split(b"\t")[1] for line in first))
        guest = Program(self, "memory.mjs", self.stream_url(edge), json.dumps({**options, "maxAgeMs": 2000}))
        version = guest.hear("open")["version"]

        def read(found):
            guest.say(f"read {keys}")
            answer = guest.hear("read")
            self.assertEqual((answer["sum"], answer["found"]), (2000, 2000))
            if found:
                self.assertEqual(answer["version"], found["version"])

        # It grows while it reads.
        small = self.sample(guest)["stats"]["memoryBytes"]
        self.count(server, wordy(40000, 2000))
        grown = self.wait_sample(guest, lambda found: found["version"] > version, "a larger version")
        self.assertGreater(grown["stats"]["memoryBytes"], small)
        read(None)
        self.count(server, wordy(250000, 1000000))
        full = self.wait_sample(guest, lambda found: found["stale"] and "TALLY_NO_MEMORY" in found["errors"], "it is full, and old")
        read(full)
        self.assertLess(full["version"], server.version()["version"])
        self.assertLessEqual(full["stats"]["memoryBytes"], options["maxBytes"])
        guest.say(f"reload {options['maxBytes']}")
        self.assertEqual(guest.hear("reload").get("error"), "TALLY_NO_MEMORY")
        read(full)
        guest.say(f"reload {256 << 20}")
        self.assertEqual(guest.hear("reload").get("error"), None)
        found = self.wait_equal(server, edge)
        end = self.wait_sample(guest, lambda end: end["version"] == found["version"] and not end["stale"], "all of it")
        self.assertEqual((end["digest"], end["keys"]), (found["digest"], found["keys"]))
        read(None)
        guest.say("close")
        guest.wait_end()
        # Another that has too little from the beginning.
        guest = Program(self, "memory.mjs", self.stream_url(edge), json.dumps({**options, "waitMs": 500}))
        self.assertEqual(guest.hear("open").get("error"), "TALLY_NO_MEMORY")


if __name__ == "__main__":
    if not NODE or not PACKAGE.exists():
        raise unittest.SkipTest("node or the package is missing")
    harness.main()
