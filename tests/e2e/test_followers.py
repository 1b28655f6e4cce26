# SPDX-License-Identifier: Apache-2.0
"""Hosts that follow a server by NNG, under load: a program in plain C (client-wasm/examples/follow.c), and Wasmtime in the edge. Each comes through at least
500 versions, a server that is killed and comes again, and what it missed meanwhile; every read is held against the version that it names."""
import os
import signal
import subprocess
import threading

import harness
from guests import Reader, Truth
from harness import BIN, Feeder, metric, stream, wait_until

FOLLOW = BIN.parent / "examples" / "follow"
VERSIONS = int(os.environ.get("TALLY_VERSIONS", "500"))


class Program(threading.Thread):
    """The program in C: its lines, (epoch, version, values)."""

    def __init__(self, case, server, keys):
        super().__init__(daemon=True)
        command = [FOLLOW, server.settings["publish"], server.settings["catchup"], "main", "files", *keys]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=harness._die_with_parent)
        self.lines, self.said = [], []
        case.addCleanup(self.end)
        self.listener = threading.Thread(target=lambda: self.said.extend(self.process.stderr), daemon=True)
        self.listener.start()
        self.start()

    def run(self):
        for line in self.process.stdout:
            epoch, version, *values = line.split()
            self.lines.append((int(epoch, 16), int(version), [None if value == "-" else int(value) for value in values]))

    @property
    def version(self):
        return self.lines[-1][1] if self.lines else 0

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.join(10)
        self.listener.join(10)
        self.process.stdout.close()
        self.process.stderr.close()


class Followers(harness.Case):
    def run_beside(self, server, host, version_of, keys):
        """Load and truth; half of the versions before the server is killed, half after it came again and the host, which stood still, missed
        some. The truth of both halves."""
        lines = stream()[:4000]
        truths, feeder = [], Feeder(self, server.settings["ingest"], lines, rate=3000, arguments=["--batch-ms", "5"])
        for half in range(2):
            truths.append(Truth(self, server, keys))
            start = server.version()["version"]
            wait_until(lambda: version_of() > start + VERSIONS * 3 // 5, lambda: f"versions behind {start}, at {version_of()}", 60 + VERSIONS / 10)
            if half == 0:
                truths[0].ending.set()
                truths[0].join(10)
                host.send_signal(signal.SIGSTOP)
                server.kill()
                server.start()
                again = server.version()["version"]
                wait_until(lambda: server.version()["version"] > again + 50, "versions that the host misses")
                host.send_signal(signal.SIGCONT)
        feeder.stop()
        version = server.version()["version"]
        wait_until(lambda: version_of() >= version, lambda: f"version {version}, at {version_of()}")
        wait_until(lambda: truths[1].mirror.version >= version, "the truth is complete")
        truths[1].end()
        self.assertEqual([truth.failed for truth in truths], [None, None])
        truths[0].found.update(truths[1].found)
        return truths[0]

    def setting(self):
        files = [key for key, _ in harness.recount(stream()[:4000])["files"].most_common(8)] + ["no/such-file"]
        server = self.server(tick=5).start()
        self.count(server, stream()[:100])
        return server, files, [(b"files", file) for file in files]

    def test_plain_c(self):
        server, files, keys = self.setting()
        program = Program(self, server, files)
        truth = self.run_beside(server, program.process, lambda: program.version, keys)
        program.end()
        places = [line[:2] for line in program.lines]
        self.assertEqual(places, sorted(set(places)), "each version once, none goes back")
        checked = 0
        for epoch, version, values in program.lines:
            known = truth.found.get((epoch, version))
            if known:
                self.assertEqual(values, [known[key] for key in keys], f"version {version}")
                checked += 1
        caught_up = [line for line in program.said if "caught up" in line]
        self.assertGreaterEqual(checked, VERSIONS)
        self.assertGreater(checked, 0.9 * len(program.lines))
        self.assertGreaterEqual(len(caught_up), 2, "".join(program.said))  # the state that it began with, and what it missed
        print(f"{len(program.lines)} versions, {checked} of them checked, {9 * checked} reads, caught up {len(caught_up)} times")

    def test_wasmtime_in_the_edge(self):
        if "wasm" not in subprocess.run([BIN / "tallycast-edge", "--version"], capture_output=True, text=True, check=True).stdout:
            self.skipTest("not run: the edge was built without Wasmtime")
        server, files, keys = self.setting()
        edge = self.edge("edge", server, client="wasm").start()
        self.wait_equal(server, edge)
        readers = [Reader(self, edge, files, None) for _ in range(2)]
        truth = self.run_beside(server, edge.process, lambda: edge.version()["version"], keys)
        for reader in readers:
            reader.end()
        checked = sum(reader.check(self, truth) for reader in readers)
        versions = {version for reader in readers for version, _, _ in reader.answers}
        self.assertGreaterEqual(len(versions), 0.6 * VERSIONS)
        self.assertGreaterEqual(metric(edge.at, "tally_sync_frames_applied_total"), VERSIONS)
        self.assertIn("event=disconnected", edge.log())
        self.assertGreaterEqual(edge.log().count("event=connected"), 2)
        self.assertGreaterEqual(metric(edge.at, "tally_sync_catch_ups_total"), 2)
        print(f"{checked} answers checked, in {len(versions)} versions")


if __name__ == "__main__":
    harness.main()
