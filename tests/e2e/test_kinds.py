# SPDX-License-Identifier: Apache-2.0
"""Tables of every kind over the real data, against the reference in tests/reference: exactly, sketches within their stated error."""
import gzip
import json

import harness
from harness import ROOT, get
from kinds_case import KindsCase, kinds

NPM = ROOT / "tests" / "data" / "npm-downloads.tsv.gz"


def commits():
    """(time, repository, path), in their real order; bytes."""
    with gzip.open(harness.SLICE, "rb") as file:
        return [line.rstrip(b"\n").split(b"\t") for line in file]


def npm(count):
    """(name, weight); some have none, which is 0 here."""
    with gzip.open(NPM, "rb") as file:
        rows = [line.rstrip(b"\n").split(b"\t") for line, _ in zip(file, range(count))]
    return [(name, weight or b"0") for name, weight in rows]


class Kinds(KindsCase):
    def test_commits(self):
        tables = ["hot topk k=50 capacity=500", "top topk k=100 of=files", "fine distinct precision=14"]
        server = self.server(table=tables, snapshot_every=20).start()
        edge = self.edge("edge", server).start()
        data = commits()
        half = len(data) // 2
        for part in (data[:half], data[half:]):
            self.feed(server, "counter", [b"files\t%s/%s" % (repo, path) for _, repo, path in part])
            self.feed(server, "topk", [b"hot\t%s/%s" % (repo, path) for _, repo, path in part], "--batch-bytes", "65536")
            self.feed(server, "gauge", [b"last\t%s\t%s" % (repo, time) for time, repo, _ in part])
            self.feed(server, "adjust", [b"balance\t%s\t%d" % (repo, len(path) * (-1) ** len(path)) for _, repo, path in part])
            self.feed(server, "min", [b"shortest\t%s\t%d" % (repo, -len(path)) for _, repo, path in part])
            self.feed(server, "max", [b"longest\t%s\t%d" % (repo, len(path)) for _, repo, path in part])
            self.feed(server, "distinct", [b"paths\t%s\t%s" % (repo, path) for _, repo, path in part])
            self.feed(server, "distinct", [b"fine\t%s\t%s" % (repo, path) for _, repo, path in part])
            self.feed(server, "distinct", [b"names\t%s\t%s" % (repo, path.split(b"/")[0]) for _, repo, path in part])
            self.wait_equal(server, edge)
            for daemon in (server, edge):
                found = self.check(daemon, 100, {b"paths": 1 << 12, b"fine": 1 << 14, b"names": 1 << 12})
                self.assert_topk(found, "hot", 50, 500)
            # From snapshot and log: the same, and what comes is counted as if nothing had been.
            before = server.version()
            self.assertEqual(server.kill(), -9)
            server.start()
            after = server.version()
            self.assertEqual([before[name] for name in ("epoch", "version", "digest")],
                             [after[name] for name in ("epoch", "version", "digest")])
        self.assertEqual(self.kinds_of(edge), {
            "hot": "topk", "hot.error": "gauge", "top": "topk", "fine": "distinct", "files": "counter", "last": "gauge",
            "balance": "gauge", "shortest": "min", "longest": "max", "paths": "distinct", "names": "distinct"})

    def test_npm(self):
        """Weights of up to 10^9, many keys: the exact top of them, and the bounds of a small topk table."""
        server = self.server(table=["heavy topk k=20 capacity=2000", "top topk k=1000 of=files"]).start()
        data = npm(60000)
        self.random.shuffle(data)
        self.feed(server, "counter", [b"files\t%s\t%s" % (name, weight) for name, weight in data])
        self.feed(server, "topk", [b"heavy\t%s\t%s" % (name, weight) for name, weight in data])
        found = self.dump(server)
        want = self.want()
        want.update({(b"top", key): value for (_, key), value in kinds.top(want, 1000).items()})
        self.assertEqual({row: value for row, value in found.items() if not row[0].startswith(b"heavy")}, want)
        rows, truth = self.assert_topk(found, "heavy", 20, 2000)
        # The long tail is long, but not so long that it hides the first ones.
        self.assertEqual(set(sorted(truth, key=lambda key: (-truth[key], key))[:10]) - set(rows), set())

    def test_what_is_refused(self):
        server = self.server().start()
        self.count(server, [b"hits\ta"])
        self.count(server, [b"level\ta\t-5"], "--kind", "gauge")
        cases = [
            (["--kind", "gauge"], b"hits\ta\t1\n", 4, b'table "hits": the batch takes it for another kind than it has'),
            (["--kind", "distinct"], b"level\ta\tx\n", 4, b'table "level": the batch takes it for another kind than it has'),
            ([], b"hits\ta\t-1\n", 2, b"input line 1: the amount is negative"),
            ([], b"hits\ta\t9223372036854775808\n", 2, b"line 1: the amount is not an integer from 0 to 9223372036854775807"),
            (["--kind", "gauge"], b"level\ta\t1\nlevel\ta\tNaN\n", 2, b"line 2: the value is not an integer from"),
            (["--kind", "max"], b"high\ta\t4611686018427387904\n", 2, b"line 1: the value is not an integer from"),
            (["--kind", "distinct"], b"users\ta\n", 2, b"line 1: no member"),
            (["--kind", "topk"], b"a" * 59 + b"\tk\n", 4, b"at most 58 bytes"),
            (["--kind", "median"], b"", 2, b"--kind wants counter, gauge, min, max, distinct or topk"),
            (["--kind", "max", "--adjust"], b"", 2, b"--adjust is of --kind gauge"),
        ]
        for words, text, code, message in cases:
            with self.subTest(words=words, text=text):
                done = self.cli("count", "--to", server.settings["ingest"], *words, "-", input=text, code=code)
                self.assertIn(message, done.stderr)
        self.assertEqual(self.dump(server), {(b"hits", b"a"): 1, (b"level", b"a"): 1})

    def test_settings_that_do_not_fit(self):
        server = self.server(table=["level gauge"]).start()
        self.count(server, [b"level\ta\t7"], "--kind", "gauge")
        self.assertEqual(server.stop(), 0)
        server.start(wait=False, table=["level max"])
        self.assertEqual(server.wait_exit(), 4)
        self.assertRegex(server.log(), r'definition_refused.*table \\?"level\\?": the table has another kind')
        server.start(wait=False, table=["level gauge ttl=soon"])
        self.assertEqual(server.wait_exit(), 2)
        self.assertIn('"ttl=soon": expected a time such as', server.log())
        # Nothing was changed by that.
        server.start(table=["level gauge"])
        self.assertEqual(self.dump(server), {(b"level", b"a"): 7})

    def define(self, server, name, definition, headers=None):
        body = definition if isinstance(definition, bytes) else json.dumps(definition)
        return harness.request(server.at, "POST", "/v1/tables/" + name, body, headers)

    def test_defined_by_call(self):
        server = self.server(admin="on", snapshot_every=2).start()
        edge = self.edge("edge", server).start()
        answer = self.define(server, "level", {"kind": "gauge"})
        self.assertEqual((answer.status, answer.json["table"], answer.json["version"]), (200, "level", 1))
        self.assertEqual(self.define(server, "top", {"kind": "topk", "k": 2, "of": "hits"}).status, 200)
        self.assertEqual(self.define(server, "hot", {"kind": "topk", "k": 3, "capacity": 50}).status, 200)
        self.assertEqual(self.define(server, "short", {"kind": "counter", "ttl": "1h", "max-keys": 10, "window": "1h/1m"}).status, 200)
        self.count(server, [b"hits\ta\t3", b"hits\tb\t2", b"hits\tc"])
        # A table of this kind is there, so the lines need not say so.
        self.count(server, [b"level\ta\t5"])
        self.wait_equal(server, edge)
        self.assertEqual(self.dump(edge), {(b"hits", b"a"): 3, (b"hits", b"b"): 2, (b"hits", b"c"): 1, (b"level", b"a"): 5,
                                           (b"top", b"a"): 3, (b"top", b"b"): 2})
        self.assertEqual(self.define(server, "top", {"kind": "topk", "k": 1, "of": "hits"}).status, 200)
        self.wait_equal(server, edge)
        self.assertEqual([row for row in self.dump(edge) if row[0] == b"top"], [(b"top", b"a")])
        refused = [
            ("level", {"kind": "max"}, 422, "the table has another kind, which never changes: take another name"),
            ("hot", {"kind": "topk", "k": 3, "capacity": 60}, 422, "capacity, precision and of never change"),
            ("hot.error", {"kind": "gauge"}, 422, "it holds the errors of a topk table"),
            ("new", {"kind": "median"}, 422, "median: expected counter, gauge"),
            ("new", {"k": 5}, 422, '"kind": expected counter'),
            ("new", {"kind": "topk", "k": -1}, 422, "k=-1: expected a number"),
            ("new", {"kind": "topk", "k": 10**30}, 422, "the body is no JSON"),
            ("new", {"kind": "counter", "colour": "red"}, 422, "no option of a table"),
            ("new", {"kind": "counter", "ttl": ["1h"]}, 422, '"ttl": expected a text or an integer'),
            ("new", {"kind": "counter", "ttl": "1h k=5"}, 422, '"ttl": expected one word'),
            ("new", {"kind": "counter", "window": "1h/7m"}, 422, "no multiple of its panes"),
            ("new", b'["counter"]', 422, "no JSON object"),
            ("new", b"", 422, "no JSON"),
            ("New", {"kind": "counter"}, 400, "expected 1 to 64"),
            ("new", b" " * 5000, 413, "more than 4096 bytes"),
        ]
        for name, definition, status, message in refused:
            with self.subTest(name=name, definition=definition):
                answer = self.define(server, name, definition)
                self.assertEqual(answer.status, status, answer.body)
                self.assertIn(message, answer.json["error"])
        self.assertEqual(self.define(server, "new", {"kind": "counter"}, {"Origin": "http://elsewhere"}).status, 403)
        self.assertEqual(get(server.at, "/v1/tables/new").status, 405)
        self.assertNotIn("new", self.kinds_of(server))
        # It holds after a restart, by snapshot and log.
        before = server.version()
        server.kill()
        server.start(admin="off")
        self.assertEqual(server.version()["digest"], before["digest"])
        self.assertEqual(self.define(server, "new", {"kind": "counter"}).status, 403)
        self.count(server, [b"hits\tb\t2"])
        self.assertEqual([row for row in self.dump(server) if row[0] == b"top"], [(b"top", b"b")])
        self.assertIn(self.define(edge, "new", {"kind": "counter"}).status, (403, 404))


if __name__ == "__main__":
    harness.main()
