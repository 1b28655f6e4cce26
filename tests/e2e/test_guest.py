# SPDX-License-Identifier: Apache-2.0
"""Guests of one's own in the edge: what they answer under load, each answer held against the version that it names; and what becomes of guests
that are wrong in every way there is."""
import json
import os
import shutil
import struct
import time
import unittest

import harness
from guests import Asker, Truth
from harness import BIN, Feeder, get, metric, request, stream, wait_until

EXAMPLES = BIN.parent / "wasm" / "examples"
C, RUST, PROBE = EXAMPLES / "share.wasm", EXAMPLES / "share-rust.wasm", EXAMPLES / "probe.wasm"
FILE = "nng/src/core/aio.c"


def built_with_wasmtime():
    return "wasm" in harness.subprocess.run([BIN / "tallycast-edge", "--version"], capture_output=True, text=True, check=True).stdout


def keys_of(lines, table, count):
    """The keys of a table that the stream counts most."""
    counts = harness.recount(lines)[table]
    return [key for key, _ in counts.most_common(count)]


class Caller(Asker):
    """Calls a guest. An answer: epoch, version, files, what it said."""

    def __init__(self, case, daemon, name, files):
        self.guest = name
        super().__init__(case, daemon, files)

    def once(self, connection, files):
        if len(files) == 1:
            connection.request("GET", f"/v1/guest/{self.guest}/{files[0]}")
        else:
            connection.request("POST", f"/v1/guest/{self.guest}", "\n".join(files) + "\n")
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, (answer.status, body)
        found = json.loads(body)
        assert int(answer.headers["Tallycast-Version"]) == found["version"], (answer.headers, found)
        return int(answer.headers["Tallycast-Epoch"], 16), found["version"], files, found

    def place(self, answer):
        return answer[:2]

    def round(self, connection):
        for files in ([self.files[len(self.answers) % len(self.files)]], self.files):
            yield self.once(connection, files)

    def check(self, case, truth):
        """How many answers were held against a version that the truth knows, of how many versions."""
        case.assertIsNone(self.failed)
        checked, versions = 0, set()
        for epoch, version, files, found in self.answers:
            known = truth.found.get((epoch, version))
            if known is None:
                continue
            if "files" in found:
                case.assertEqual(found["files"], [known["files".encode(), file] for file in files], f"version {version}")
            else:
                want = (known[b"files", files[0]], known[b"repos", files[0].split("/")[0]])
                case.assertEqual((found["file"], found["repo"]), want, f"{files} in version {version}")
            checked += 1
            versions.add(version)
        return checked, len(versions)


@unittest.skipUnless(built_with_wasmtime(), "not run: the edge was built without Wasmtime")
@unittest.skipUnless(PROBE.exists(), "not run: no clang for wasm32")
class Guest(harness.Case):
    def pair(self, *guests, **edge):
        server = self.server().start()
        edge = self.edge("edge", server, guest=[f"{name}={path}" for name, path in guests], **edge).start()
        self.count(server, stream()[:2000])
        self.wait_equal(server, edge)
        return server, edge

    def guest(self, edge, path, name="probe", **more):
        return request(edge.at, more.pop("method", "GET"), f"/v1/guest/{name}{path}", **more)


class Examples(Guest):
    def test_answers_under_load(self):
        """C and Rust, wasm and native client: each answer is exactly what the version that it names says."""
        guests = [("share", C), *([("share-rust", RUST)] if RUST.exists() else [])]
        if not RUST.exists():
            print("not run: share-rust, no rustc with the target wasm32-unknown-unknown")
        lines = stream()
        files = keys_of(lines[:4000], "files", 8) + ["no/such-file"]
        keys = [(b"files", file) for file in files] + [(b"repos", file.split("/")[0]) for file in files]
        server = self.server(tick=5).start()
        edges = [self.edge(f"edge-{client}", server, client=client, guest=[f"{name}={path}" for name, path in guests]).start()
                 for client in ("wasm", "native")]
        self.count(server, lines[:100])
        for edge in edges:
            self.wait_equal(server, edge)
        truth = Truth(self, server, keys)
        feeder = Feeder(self, server.settings["ingest"], lines[:4000], rate=4000, arguments=["--batch-ms", "5"])
        callers = [Caller(self, edge, name, files) for edge in edges for name, _ in guests]
        start = server.version()["version"]
        wait_until(lambda: server.version()["version"] > start + 300, "300 versions")
        for caller in callers:
            caller.end()
        feeder.stop()
        truth.end()
        self.assertIsNone(truth.failed)
        for caller in callers:
            checked, versions = caller.check(self, truth)
            self.assertGreater(checked, len(caller.answers) * 0.9)
            self.assertGreater(versions, 50)
            print(f"{caller.asked.name} {caller.guest}: {len(caller.answers)} answers, {checked} checked in {versions} versions")
        for edge in edges:
            self.assertEqual(metric(edge.at, "tally_guest_trapped_total"), 0)
            self.assertEqual(metric(edge.at, "tally_guest_calls_total"),
                             sum(len(caller.answers) for caller in callers if caller.asked is edge))

    def test_what_the_example_answers(self):
        server, edge = self.pair(("share", C))
        counts = harness.recount(stream()[:2000])
        file = counts["files"].most_common(1)[0][0]
        answer = get(edge.at, f"/v1/guest/share/{file}")
        self.assertEqual(answer.json, {"version": server.version()["version"], "file": counts["files"][file],
                                       "repo": counts["repos"][file.split("/")[0]]})
        self.assertEqual(answer.headers["Content-Type"], "application/json")
        self.assertLess(int(answer.headers["Tallycast-Age-Ms"]), 60000)
        self.assertEqual(get(edge.at, "/v1/guest/share").status, 400)
        self.assertEqual(get(edge.at, "/v1/guest/share/no/such").json["file"], None)
        self.assertEqual(get(edge.at, "/v1/guest/nobody/x").status, 404)
        self.assertEqual(get(server.at, "/v1/guest/share/x").status, 404)
        self.assertEqual(request(edge.at, "DELETE", "/v1/guest/share/x").status, 405)
        self.assertEqual(request(edge.at, "HEAD", f"/v1/guest/share/{file}").body, b"")

    def test_nothing_is_held_yet(self):
        server = self.server()
        edge = self.edge("edge", server, guest=f"share={C}").start()
        answer = get(edge.at, "/v1/guest/share/x")
        self.assertEqual((answer.status, answer.json["error"]), (503, "nothing is held yet"))


class Wrong(Guest):
    def test_every_way_to_be_wrong(self):
        """Each gives a 5xx that names the guest and the reason; the next call, and everybody else, sees nothing of it."""
        server, edge = self.pair(("probe", PROBE), ("share", C), threads=1)
        cases = {
            "/trap": "unreachable", "/deep": "wasm trap: ", "/write-outside": "out of bounds memory access",
            "/key-outside": "tallycast.get: the key", "/key-huge": "tallycast.get: the key", "/value-outside": "the place of the value",
            "/table-outside": "tallycast.table", "/path-outside": "tallycast.request_path", "/body-outside": "tallycast.request_body",
            "/answer-outside": "tallycast.respond", "/log-outside": "tallycast.log", "/type-outside": "tallycast.respond_type", "/add-outside": "tallycast.add",
            "/mine-outside": "tallycast.get_mine: the place", "/mine-key": "tallycast.get_mine: the table or the key",
            "/type-long": "1 to 100 bytes", "/type-bad": "printable ASCII", "/many-keys": "more than 4096 keys",
            "/many-packed": "do not fill", "/many-outside": "tallycast.get_many", "/answer-large": "over 1 MiB",
            "/status": "no HTTP status", "/no-body": "no HTTP status",
        }
        for path, why in cases.items():
            with self.subTest(path=path):
                answer = self.guest(edge, path)
                self.assertEqual(answer.status, 500, answer.body)
                self.assertRegex(answer.json["error"], r"^guest probe failed: ")
                self.assertIn(why, answer.json["error"])
                self.assertLess(len(answer.json["error"]), 200)
                self.assertEqual(get(edge.at, "/v1/guest/share/x").status, 200)
                self.assertEqual(self.guest(edge, "/created").status, 201)
        self.assertEqual(metric(edge.at, "tally_guest_trapped_total"), len(cases))
        edge.wait_logged(r"event=guest_failed guest=probe")
        # An instance lives from call to call, until it fails.
        first = int(self.guest(edge, "/calls").body)
        self.assertEqual(int(self.guest(edge, "/calls").body), first + 1)
        self.guest(edge, "/trap")
        self.assertEqual(int(self.guest(edge, "/calls").body), 1)
        self.count(server, [b"files\tafter"])
        self.wait_equal(server, edge)

    def test_too_long(self):
        server, edge = self.pair(("probe", PROBE), threads=1, guest_deadline=50)
        for path in ("/loop", "/log-loop", "/read-loop"):
            start = time.monotonic()
            answer = self.guest(edge, path)
            self.assertEqual((answer.status, answer.json["error"]), (504, "guest probe took too long: more than 50 ms"))
            self.assertLess(time.monotonic() - start, 5)
        self.assertEqual(metric(edge.at, "tally_guest_late_total"), 3)
        self.count(server, [b"files\tafter"])
        self.wait_equal(server, edge)

    def test_limits(self):
        _, edge = self.pair(("probe", PROBE), threads=1, guest_memory_max="4M")
        self.assertEqual(int(self.guest(edge, "/grow").body), 4 << 20)
        self.assertEqual(int(self.guest(edge, "/grow").body), 4 << 20)
        answer = self.guest(edge, "/answer-full")
        self.assertEqual((len(answer.body), answer.headers["Content-Type"]), (1 << 20, "application/octet-stream"))
        self.assertEqual(self.guest(edge, "/unknown").body, b"0700")
        self.guest(edge, "/log")
        self.assertEqual(edge.log().count("event=guest guest=probe"), 16)
        self.assertNotIn("\nfrom a guest", edge.log())

    def test_reads_one_by_one(self):
        _, edge = self.pair(("probe", PROBE))
        counts = harness.recount(stream()[:2000])["files"]
        keys = [*list(counts)[:300], "none"]
        body = b"".join(struct.pack("<I", len(key.encode())) + key.encode() for key in keys)
        answer = self.guest(edge, "/reads/3", method="POST", body=body)
        self.assertEqual(answer.json, [903, 900, 3 * sum(counts[key] for key in keys)])

    def test_counts(self):
        """What a guest adds is counted exactly once, and read by everybody; what is wrong is refused, and counted by nobody."""
        server = self.server().start()
        edge = self.edge("edge", server, guest=f"probe={PROBE}", count=server.settings["ingest"]).start()
        reads_alone = self.edge("reads-alone", server, guest=f"probe={PROBE}").start()
        self.count(server, [b"t\tk"])
        self.wait_equal(server, edge, reads_alone)
        keys = {f"key-{number}": 0 for number in range(20)}
        for _ in range(200):
            key = self.random.choice(list(keys))
            answer = self.guest(edge, "/add", method="POST", body=key.encode())
            self.assertEqual(answer.body, b"0 12 12 10")
            keys[key] += 3
        keys = {key: value for key, value in keys.items() if value}
        wait_until(lambda: self.values(edge, keys) == list(keys.values()), lambda: f"{keys}, {self.values(edge, keys)}")
        self.assertEqual(metric(edge.at, "tally_guest_adds_total"), 200)
        self.assertEqual(self.guest(reads_alone, "/add", method="POST", body=b"k").body, b"18 18 18 18")
        self.wait_equal(server, edge, reads_alone)
        self.assertEqual(self.values(server, keys), list(keys.values()))

    def test_mine(self):
        """What a guest adds it reads at once, beside the global value, and in the sum never twice, while the counts go round; with no server there too."""
        server = self.server().start()
        edge = self.edge("edge", server, guest=f"probe={PROBE}", count=server.settings["ingest"]).start()
        reads_alone = self.edge("reads-alone", server, guest=f"probe={PROBE}").start()
        self.count(server, [b"t\tk"])
        self.wait_equal(server, edge, reads_alone)
        seen, number, left, end = set(), 0, 50, time.monotonic() + 60
        while left:
            self.assertLess(time.monotonic(), end, seen)
            if len(seen) == 4 and server.process:  # it came back meanwhile, more than once
                server.kill()
            left -= server.process is None
            number += 1
            added, status, value, mine, total, how, in_doubt, absent = map(int, self.guest(edge, "/mine", method="POST", body=b"mine").body.split())
            self.assertEqual((added, status, value + mine, total, how, in_doubt, absent), (0, 0, 3 * number, 3 * number, 1, 0, 11), f"round {number}")
            seen.add(value)
        self.assertEqual(self.guest(reads_alone, "/mine", method="POST", body=b"k").body.split()[:2], [b"18", b"18"])

    def values(self, daemon, keys):
        return harness.post_get(daemon.at, "guests", list(keys))[0]

    def test_what_is_refused_at_start(self):
        server = self.server()
        text = self.work / "text.wasm"
        text.write_text("no module")
        memory = self.work / "large.wasm"
        shutil.copy(PROBE, memory)
        for number, (guest, why, code, more) in enumerate((
                ("probe", "expected NAME=FILE", 2, {}), ("A=x", "expected NAME=FILE", 2, {}),
                ([f"a={C}", f"a={C}"], "another guest of this name", 2, {}),
                (f"probe={self.work}/nowhere", "cannot be opened", 4, {}), (f"probe={text}", "no WebAssembly", 4, {}),
                (f"probe={BIN.parent}/wasm/tallycast-shared.wasm", "no WebAssembly that can be run here", 4, {}),
                (f"probe={BIN.parent}/wasm/tallycast.wasm", "exports no function handle", 4, {"guest_memory_max": "64M"}),
                (f"probe={memory}", "memory", 4, {"guest_memory_max": "64K"}))):
            with self.subTest(guest=guest):
                edge = self.edge(f"refused-{number}", server, guest=guest, **more).start(wait=False)
                self.assertEqual(edge.wait_exit(30), code, edge.log())
                self.assertIn(why, edge.log())


if __name__ == "__main__":
    harness.main()
