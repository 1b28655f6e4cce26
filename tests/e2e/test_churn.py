# SPDX-License-Identifier: Apache-2.0
"""Keys that come and go for ever: what expires is gone everywhere, memory stays where it was after warm-up, and nothing else changes.

The short form takes some 25 seconds. TALLY_CHURN_SECONDS=180 makes each part last so long, and then what is told here as a figure is worth something.
"""
import collections
import json
import os
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path

import harness
from harness import ROOT, BIN, get, metric, post_get, recount, stream, wait_until

SECONDS = int(os.environ.get("TALLY_CHURN_SECONDS", "0"))
LONG = SECONDS >= 60
WRITERS, TTL_MS, TICK_MS = 8, 100, 20
RATE = int(os.environ.get("TALLY_CHURN_RATE", "50000" if LONG else "20000"))
OVERFLOW = "__overflow__"
NODE = shutil.which("node") or shutil.which("nodejs")
PACKAGE = Path(os.environ.get("TALLY_NPM_FOLDER", BIN.parent / "npm" / "tallycast"))
STEADY, STEADY_KEYS = 10, 1000  # of writers.c
# What a server keeps by design, little enough to be full soon: changes for edges and for guests of the stream.
KEPT = {"retention_bytes": "4M", "stream_retention_bytes": "2M", "snapshot_every": 50, "tick": TICK_MS}  # snapshots hold a version: several in each part of the time
# How much more memory a process may have at the end than when it was warm (half of the time): what the system's allocator does with threads.
GROWTH_BYTES = 24 << 20


def anonymous_bytes(daemon):
    """Memory that is the process's own: the log's file, which is mapped, is not."""
    with open(f"/proc/{daemon.process.pid}/status", encoding="ascii") as status:
        text = status.read()
    return sum(int(re.search(rf"{name}:\s+(\d+) kB", text).group(1)) << 10 for name in ("RssAnon", "RssShmem"))


class Writers:
    """The writers' process: its sampled keys as they come, and its last line."""

    def __init__(self, case, server, table, seconds, rate, steady="steady"):
        self.process = subprocess.Popen(
            [str(BIN / "writers"), "--to", server.settings["ingest"], "--table", table, "--steady", steady,
             "--writers", str(WRITERS), "--rate", str(rate), "--seconds", str(seconds)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=harness._die_with_parent)
        case.addCleanup(self._clean_up)
        self.samples = collections.deque()
        self.result = None
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                self.result = json.loads(line)
            else:
                key, answered = line.split()
                self.samples.append((key, int(answered)))

    def wait(self, timeout):
        code = self.process.wait(timeout)
        self.thread.join(10)
        if code or not self.result:
            raise AssertionError(f"writers ended with {code}: {self.process.stderr.read()}")
        return self.result

    def _clean_up(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


class Guest:
    """The npm package in Node, where there is one: what it says of itself."""

    def __init__(self, case, edge):
        self.process, self.lines = None, []
        if not NODE or not PACKAGE.exists():
            print("# no client: node or the package is missing", flush=True)
            return
        self.process = subprocess.Popen([NODE, str(ROOT / "tests/e2e/js/churn.mjs"), str(PACKAGE), f"ws://{edge.settings['http']}/v1/stream"],
                                        stdout=subprocess.PIPE, text=True, preexec_fn=harness._die_with_parent)
        case.addCleanup(self._clean_up)
        self.start = time.monotonic()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append((time.monotonic() - self.start, json.loads(line)))

    def _clean_up(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def add_to(self, samples):
        if self.lines:
            samples["client in Node"] = [(at, line["rss"], line["memoryBytes"]) for at, line in self.lines]

    def wait_digest(self, digest):
        """It ends with the state that the server has."""
        if self.process:
            wait_until(lambda: self.lines and self.lines[-1][1]["digest"] == digest, lambda: f"{digest}, not {self.lines[-1:]}", 20)


class Memory:
    """Samples of the daemons' memory, from a thread, while a part of the test runs."""

    def __init__(self, *daemons):
        self.daemons = daemons
        self.samples = {daemon.name: [] for daemon in daemons}
        self.stopping = threading.Event()
        self.start = time.monotonic()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.stopping.wait(0.25):
            for daemon in self.daemons:
                own = anonymous_bytes(daemon)
                mirror = metric(daemon.at, "tally_mirror_memory_bytes")
                self.samples[daemon.name].append((time.monotonic() - self.start, own, mirror))

    def stop(self):
        self.stopping.set()
        self.thread.join(20)

    def check(self, case, seconds):
        """Nothing grows from half of the time on."""
        for name, samples in self.samples.items():
            warm = [sample for sample in samples if seconds * 0.25 <= sample[0] <= seconds * 0.5]
            late = [sample for sample in samples if sample[0] >= seconds * 0.85]
            case.assertTrue(warm and late, samples)
            own = [max(sample[1] for sample in part) for part in (warm, late)]
            mirror = [max(sample[2] for sample in part) for part in (warm, late)]
            print(f"# {name}: own memory {own[0] / 2**20:.1f} MiB when warm, {own[1] / 2**20:.1f} MiB at the end; "
                  f"mirror {mirror[0] / 2**20:.1f} and {mirror[1] / 2**20:.1f} MiB", flush=True)
            case.assertLessEqual(own[1], own[0] + GROWTH_BYTES, f"{name} grows: {samples[::8]}")
            case.assertLessEqual(mirror[1], mirror[0] + (4 << 20), f"the mirror of {name} grows: {samples[::8]}")


def steady_counts(result):
    counts = collections.Counter()
    for batches in result["batches"]:
        for n in range(batches * STEADY):
            counts[f"s{n * 7 % STEADY_KEYS}"] += 1
    return counts


class Churn(harness.Case):
    def watch_samples(self, writers, edge, over):
        """Each sampled key, asked for when it must be gone; `over` gets by how many ms each was there too long."""
        while writers.process.poll() is None or writers.samples:
            if not writers.samples:
                time.sleep(0.02)
                continue
            key, answered = writers.samples.popleft()
            due = answered + TTL_MS + 2 * TICK_MS
            time.sleep(max(0, due / 1000 - time.time()))
            asked = time.time() * 1000
            values, _ = post_get(edge.at, "churn", [key])
            late = 0
            while values[0] is not None:
                late = time.time() * 1000 - due
                if late > 10000:
                    break
                values, _ = post_get(edge.at, "churn", [key])
            over.append((late, asked - due))

    def test_keys_that_expire(self):
        seconds = SECONDS or 9
        server = self.server(table=[f"churn counter ttl={TTL_MS}ms"], **KEPT).start()
        edge = self.edge("edge", server).start()
        lines = stream()
        self.count(server, lines)
        want = recount(lines)
        guest = Guest(self, edge)
        memory = Memory(server, edge)
        writers = Writers(self, server, "churn", seconds, RATE)
        over = []
        watcher = threading.Thread(target=self.watch_samples, args=(writers, edge, over), daemon=True)
        watcher.start()
        live = []
        while writers.process.poll() is None:
            live += [table["keys"] for table in get(edge.at, "/v1/tables").json["tables"] if table["table"] == "churn"]
            time.sleep(0.2)
        result = writers.wait(60)
        watcher.join(60)
        memory.stop()
        # All that expires is gone soon after the last was counted, though nothing arrives any more.
        wait_until(lambda: metric(edge.at, "tally_mirror_rows") == sum(map(len, want.values())) + STEADY_KEYS,
                   lambda: f"{get(edge.at, '/v1/tables').json}", 10)
        late = sorted(item[0] for item in over)
        print(f"# {result['keys']} keys in {seconds} s, at most {max(live)} live at once; writers were up to {result['late_ms_max']} ms behind, an answer "
              f"took up to {result['answer_ms_max']} ms; "
              f"of {len(late)} keys asked for at ttl + 2 ticks {sum(1 for ms in late if ms)} were there, at most {late[-1]:.0f} ms more", flush=True)
        self.assertGreater(result["keys"], RATE * seconds * 0.9)
        self.assertGreater(len(late), 8)
        guest.add_to(memory.samples)
        memory.check(self, seconds)
        # A machine that is busy with other things stops the daemons, and this test, now and then.
        self.assertEqual(late[len(late) * 95 // 100], 0)
        self.assertLess(late[-1], 3000)
        self.assertLess(max(live), RATE * (TTL_MS + 2 * TICK_MS) / 1000 * 8)
        # Nothing else changed.
        want["steady"] = steady_counts(result)
        guest.wait_digest(self.wait_equal(server, edge)["digest"])
        for daemon in (server, edge):
            self.assert_counts(daemon, want)
        digest = server.version()["digest"]
        self.assertEqual(server.stop(), 0)
        server.start()
        self.assertEqual(server.version()["digest"], digest)

    def test_keys_without_end(self):
        """New keys for ever in a table of 1,000: those that were there first stay exact, one row holds the rest."""
        seconds = SECONDS or 7
        rate = 17000  # a million a minute
        server = self.server(table=["capped counter max-keys=1000"], **KEPT).start()
        edge = self.edge("edge", server).start()
        self.count(server, [b"capped\ts%d" % n for n in range(STEADY_KEYS)])
        self.count(server, stream())
        want = recount(stream())
        memory = Memory(server, edge)
        result = Writers(self, server, "capped", seconds, rate, steady="capped").wait(seconds + 60)
        memory.stop()
        counts = steady_counts(result)
        want["capped"] = {f"s{n}": 1 + counts[f"s{n}"] for n in range(STEADY_KEYS)}
        want["capped"][OVERFLOW] = result["keys"]
        self.wait_equal(server, edge)
        for daemon in (server, edge):
            self.assert_counts(daemon, want)
            table = next(t for t in get(daemon.at, "/v1/tables").json["tables"] if t["table"] == "capped")
            self.assertEqual(table["overflow"], result["keys"])
        self.assertGreaterEqual(metric(server.at, "tally_server_overflowed_total"), result["keys"])
        memory.check(self, seconds)
        print(f"# {result['keys']} new keys in {seconds} s went to {OVERFLOW}", flush=True)
        # It is still full.
        self.cli("count", "--to", server.settings["ingest"], "--dataset", "main", "-", input=b"capped\tnew\n")
        self.assertEqual(post_get(server.at, "capped", ["new", OVERFLOW])[0], [None, result["keys"] + 1])
        digest = server.version()["digest"]
        self.assertEqual(server.stop(), 0)
        server.start()
        self.assertEqual(server.version()["digest"], digest)


if __name__ == "__main__":
    harness.main()
