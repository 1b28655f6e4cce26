# SPDX-License-Identifier: Apache-2.0
"""`tallycast count --follow`: each line of a log counted once, through rotations of both kinds and kills of the command and of the server; and the formats of
logs.

TALLY_KILLS sets how often they are killed (12; the long form is 200).
"""
import collections
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time

import harness
from harness import BIN, SLICE, post_get, stream, wait_until

KILLS = int(os.environ.get("TALLY_KILLS", "12"))


class Follower:
    """A run of the command, which may be killed and started again."""

    def __init__(self, case, server, path, *options):
        self.case, self.process, self.starts = case, None, 0
        self.command = [BIN / "tallycast", "count", "--follow", "--to", server.settings["ingest"], "--json", "--batch-ms", "20", *options, path]
        self.errors = case.work / "follower.log"
        case.addCleanup(self.kill)

    def start(self, **environment):
        with open(self.errors, "ab") as errors:
            self.process = subprocess.Popen(list(map(str, self.command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
                                            env={**os.environ, **environment}, preexec_fn=harness._die_with_parent)
        self.starts += 1
        return self

    def files(self):
        """The names of what it has open."""
        folder, found = f"/proc/{self.process.pid}/fd", []
        for name in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):
                found.append(os.readlink(f"{folder}/{name}"))
        return found

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            self.process = None

    def stop(self, code=0):
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=30)
        self.case.assertEqual(self.process.returncode, code, self.errors.read_text())
        self.process = None
        return json.loads(out) if out else None


class Log:
    """A log that is written to and rotated, as a program and logrotate do."""

    def __init__(self, path):
        self.path, self.number, self.written = path, 0, collections.Counter()
        self.file = open(path, "ab", buffering=0)

    def write(self, lines):
        self.file.write(b"".join(line + b"\n" for line in lines))
        self.written.update(lines)

    def rename(self):
        """Renamed; the program goes on in it for a while, then makes a new one."""
        self.number += 1
        for number in range(self.number, 1, -1):
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{self.path}.{number - 1}", f"{self.path}.{number}")
        os.rename(self.path, f"{self.path}.1")

    def reopen(self):
        self.file.close()
        self.file = open(self.path, "ab", buffering=0)

    def truncate(self):
        shutil.copy(self.path, f"{self.path}.copy")
        os.truncate(self.path, 0)


class Follow(harness.Case):
    def setUp(self):
        super().setUp()
        self.place = self.server().start()
        self.log = Log(self.work / "events.log")
        self.addCleanup(lambda: self.log.file.close())
        self.follower = Follower(self, self.place, self.log.path)

    def counted(self):
        """Whether every line that was written is counted once."""
        return self.difference() == {}

    def difference(self):
        found = {}
        tables = collections.defaultdict(dict)
        for line, count in self.log.written.items():
            table, key = line.decode().split("\t")
            tables[table][key] = count
        for table, want in tables.items():
            keys = list(want)
            for first in range(0, len(keys), 4000):
                part = keys[first:first + 4000]
                for key, value in zip(part, post_get(self.place.at, table, part)[0]):
                    if value != want[key]:
                        found[table, key] = (want[key], value)
        return found

    def wait_counted(self):
        wait_until(self.counted, lambda: f"{dict(list(self.difference().items())[:5])} (wanted, counted)\n{self.follower.errors.read_text()[-2000:]}")

    def some(self, count=100):
        return [b"t\tkey-%d" % self.random.randrange(300) for _ in range(count)]

    def test_what_is_there_and_what_comes(self):
        self.log.write(self.some())
        self.follower.start()
        self.wait_counted()
        for _ in range(20):
            self.log.write(self.some())
        # A line is one when its newline is there.
        self.log.file.write(b"t\thal")
        self.wait_counted()
        self.log.file.write(b"f\n")
        self.log.written[b"t\thalf"] += 1
        self.wait_counted()
        self.assertIsNone(post_get(self.place.at, "t", ["hal"])[0][0])
        self.follower.stop()
        # And later on where it ended.
        self.log.write(self.some())
        self.follower.start()
        self.wait_counted()
        self.follower.stop()

    def test_a_file_that_comes_later(self):
        self.log.file.close()
        os.unlink(self.log.path)
        self.follower.start()
        self.log.reopen()
        self.log.write(self.some())
        self.wait_counted()

    def test_renamed(self):
        self.log.write(self.some())
        self.follower.start()
        self.wait_counted()
        for _ in range(3):
            self.log.write(self.some())
            self.log.rename()
            self.log.write(self.some())  # into the old one
            self.log.file.write(b"t\tlast")  # its last line has no newline
            self.log.written[b"t\tlast"] += 1
            self.log.reopen()
            self.log.write(self.some())
            self.wait_counted()

    def test_renamed_while_nobody_looked(self):
        self.log.write(self.some())
        self.follower.start()
        self.wait_counted()
        self.follower.kill()
        for _ in range(3):
            self.log.write(self.some())
            self.log.rename()
            self.log.write(self.some())
            self.log.reopen()
            time.sleep(0.02)  # so that the files' times differ
        self.log.write(self.some())
        self.follower.start()
        self.wait_counted()
        self.follower.stop()

    def rotate(self, times):
        for _ in range(times):
            self.log.write(self.some())
            self.log.rename()
            self.log.write(self.some(10))
            self.log.reopen()
            time.sleep(0.02)  # so that the files' times differ
        self.log.write(self.some())

    def test_renamed_more_than_once_before_it_looks(self):
        """Rotated faster than it reads, or while it waits for the server: no file is left out."""
        self.log.write(self.some())
        self.follower.start()
        self.wait_counted()
        self.rotate(5)
        self.wait_counted()
        self.place.kill()
        self.rotate(4)
        self.place.start()
        self.wait_counted()
        # Another follower's position is no part of the log.
        shutil.copy(f"{self.log.path}.tallycast", f"{self.log.path}.other")
        # The names that it saw when it started are of other files when it comes to them.
        self.follower.kill()
        self.rotate(3)
        self.place.kill()
        self.follower.start()
        wait_until(lambda: any("events.log" in link and not link.endswith(".lock") for link in self.follower.files()), "it reads")
        self.rotate(3)
        self.place.start()
        self.wait_counted()
        self.assertEqual(self.follower.stop()["bad_lines"], 0)

    def test_copied_and_truncated(self):
        self.follower.start()
        for size in (50, 500, 100):  # also more than was there before
            self.log.write(self.some(size))
            self.wait_counted()
            self.log.truncate()
            self.log.write([b"t\tafter-%d" % size] + self.some(2 * size))
            self.wait_counted()
        self.follower.stop()
        self.log.truncate()
        self.log.write([b"t\tmuch-later"] + self.some(1000))
        self.follower.start()
        self.wait_counted()

    def test_killed_with_the_server_and_rotated(self):
        """A thread writes and rotates; the command and the server are killed at random points."""
        self.log.write(self.some())
        self.follower.start()
        self.wait_counted()
        stop = threading.Event()

        def write():
            at = 0
            lines = stream(SLICE)
            while not stop.is_set():
                size = self.random.randrange(1, 400)
                self.log.write(lines[at % 100000:at % 100000 + size])
                at += size
                if self.random.random() < 0.03 and self.log.number < 40:
                    self.log.rename()
                    self.log.write(lines[:5])
                    self.log.reopen()
                time.sleep(0.005)
        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(KILLS):
                time.sleep(0.25 * self.random.random())
                which = self.random.random()
                if which < 0.7:
                    self.follower.kill()
                    time.sleep(0.05 * self.random.random())
                    self.follower.start()
                if which > 0.5:
                    self.place.kill()
                    self.place.start()
        finally:
            stop.set()
            writer.join()
        self.wait_counted()
        print(f"# {sum(self.log.written.values())} lines, {self.log.number} rotations, {self.follower.starts} starts")
        self.follower.stop()
        self.assertEqual(self.difference(), {})

    def test_the_position_file(self):
        self.log.write(self.some())
        self.follower.start()
        self.wait_counted()
        second = self.cli("count", "--follow", "--to", self.place.settings["ingest"], self.log.path, code=2)
        self.assertIn(b"in use", second.stderr)
        self.follower.stop()
        path = self.work / "events.log.tallycast"
        good = path.read_bytes()
        for bad in (good[:-1], good[:50], b"", good[:20] + b"x" + good[21:], b"x" * 2_000_000):
            path.write_bytes(bad)
            done = self.cli("count", "--follow", "--to", self.place.settings["ingest"], self.log.path, code=4)
            self.assertIn(b"damaged", done.stderr)
        path.write_bytes(good)
        self.follower.start()
        self.log.write(self.some())
        self.wait_counted()
        self.follower.stop()
        # A server that knows nothing of the producer: it says so, rather than count the rest.
        self.place.stop()
        shutil.rmtree(self.place.settings["data"])
        self.place.start()
        self.log.write(self.some())
        done = self.cli("count", "--follow", "--to", self.place.settings["ingest"], self.log.path, code=4)
        self.assertIn(b"forgotten this producer", done.stderr)

    def test_wrong_use(self):
        for words in (["--follow"], ["--follow", "-"], ["--position", "x", "-"], ["--follow", "--producer", "7", "x"]):
            self.cli("count", "--to", self.place.settings["ingest"], *words, code=2)


class Formats(harness.Case):
    def setUp(self):
        super().setUp()
        self.place = self.server().start()

    def count_log(self, text, *options):
        done = self.cli("count", "--to", self.place.settings["ingest"], "--json", *options, "-", input=text)
        return json.loads(done.stdout), done.stderr.decode()

    def values(self, table, *keys):
        return post_get(self.place.at, table, list(keys))[0]

    def test_access_logs(self):
        lines, want = [], collections.Counter()
        for number in range(5000):
            path, status, host = f"/page/{self.random.randrange(50)}", self.random.choice([200, 200, 304, 404]), f"10.0.0.{self.random.randrange(9)}"
            lines.append(f'{host} - - [23/Nov/2026:01:02:03 +0000] "GET {path}?id={number} HTTP/1.1" {status} {number} "-" "agent/{number % 3}"')
            want.update({("paths", path): 1, ("statuses", str(status)): 1, ("hosts", host): 1})
        bad = {17: "nonsense", 400: 'h - - [t] "GET / HTTP/1.1" 200', 2000: "", 4999: '\x16\x03 - - "'}
        for number, line in bad.items():
            lines.insert(number, line)
        result, errors = self.count_log("\n".join(lines).encode(), "--format", "combined")
        self.assertEqual((result["events"], result["bad_lines"]), (15000, 3))
        for line in (18, 401, 5000):
            self.assertIn(f"line {line} skipped", errors)
        for (table, key), count in want.items():
            self.assertEqual(self.values(table, key), [count], (table, key))
        # The same as sort | uniq -c would say, by other rules.
        result, _ = self.count_log("\n".join(lines).encode(), "--format", "common", "--count", "traffic=host+bytes", "--count", "both={status} {path}")
        self.assertEqual(sum(int(re.search(r'" \d{3} (\d+) "', line)[1]) for line in lines if '" "agent' in line),
                         sum(self.values("traffic", *[f"10.0.0.{n}" for n in range(9)])))

    def test_json_tsv_and_members(self):
        text = b"".join(b'{"level":"%s","user":{"id":%d}}\n' % (level, number % 7) for number, level in enumerate([b"info", b"warn"] * 50))
        self.count_log(text + b"no json\n", "--format", "json", "--count", "levels=level")
        self.assertEqual(self.values("levels", "info", "warn"), [50, 50])
        self.count_log(text, "--format", "json", "--kind", "distinct", "--count", "users=level+user.id")
        self.assertEqual(self.values("users", "info", "warn"), [7, 7])
        self.count_log(b"1\ta\t5\n2\tb\t6\n3\ta\t7\n", "--format", "tsv", "--count", "t=2+3")
        self.assertEqual(self.values("t", "a", "b"), [12, 6])

    def test_wrong_use(self):
        for words in (["--format", "xml"], ["--format", "json"], ["--format", "tsv"], ["--count", "t=path"], ["--format", "common", "--count", "t=nope"],
                      ["--format", "common", "--kind", "distinct"]):
            self.cli("count", "--to", self.place.settings["ingest"], *words, "-", input=b"", code=2)


if __name__ == "__main__":
    harness.main()
