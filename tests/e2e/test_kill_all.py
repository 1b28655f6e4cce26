# SPDX-License-Identifier: Apache-2.0
"""kill -9 of producers, edges and server at random points, while all of them count in tables of all kinds, with windows, with a ttl and with bounds on keys.

Producers are seven `tallycast count --follow`, one of each way of counting, each in a log of its own; four clients of two edges that count (their spools are
the producers then); and one client of the server itself. Clients ask again, with the same Idempotency-Key, until they are told that it is counted, and
are sometimes too impatient to hear it. So what is acknowledged is known here: the ledger.

What exact means. When an event counts is not the producer's to say: it is the time of its record, which decides in which pane it lies, whether a row was idle
before it, and who came first in a table with a bound. So there are two comparisons, and no tolerance in either:

  1. the ledger is the log: each acknowledged increment is in it once, whatever became of its row later. Held for each key of each table, by all
     records that the server ever wrote (they are read whenever it is dead, before they are let go): sums, last values, least, greatest, and members.
  2. the tables are the log: whole versions, which were taken from server and edges at random times during the kills and at the end, are what
     tests/reference/replay.py makes of the records up to that version, each row of each table. Of topk and of large distinct rows: within their stated error.

TALLY_KILLS sets how often each is killed: server, an edge, a producer (8; the long form is 200, some 2 minutes)."""
import collections
import json
import os
import random
import subprocess
import threading
import time
import uuid

import harness
from harness import BIN, metric, request, stream, wait_until
from kinds_case import KindsCase, kinds
from test_follow import Follower, Log

import replay  # of tests/reference, as kinds

KILLS = int(os.environ.get("TALLY_KILLS", "8"))
YEAR = 364 * 86400000
TEMPORARY = {"sums.recent", "sums.idle", "sums.busy", "sums.guests", "last.idle", "least.recent", "greatest.recent", "greatest.idle", "paths.idle"}
# What the server is told of them, in ms, and so is the reference.
TABLES = {
    "counter": {"sums": {}, "sums.year": {"window": YEAR}, "sums.month": {"window": 30 * 86400000, "pane": 86400000},
                "sums.recent": {"window": 4000, "pane": 250}, "sums.idle": {"ttl": 2500}, "sums.few": {"max_keys": 20},
                "sums.busy": {"window": 1000, "pane": 500, "max_keys": 30}, "sums.guests": {"ttl": 300, "max_keys": 15}},
    "gauge": {"last": {}, "last.idle": {"ttl": 900}, "last.few": {"max_keys": 10}},
    "adjust": {"balance": {}},
    "min": {"least": {}, "least.recent": {"window": 2000, "pane": 250}},
    "max": {"greatest": {}, "greatest.recent": {"window": 3000}, "greatest.idle": {"ttl": 800}},
    "distinct": {"paths": {}, "paths.few": {"max_keys": 8}, "paths.idle": {"ttl": 3000}},
    "topk": {"hot": {}},
}
KIND = {table: {"adjust": "gauge"}.get(way, way) for way, tables in TABLES.items() for table in tables}
HOT, CAPACITY, TOP = 20, 200, 50
REGISTERS = 1 << 12  # of a distinct row


def definitions():
    for tables in TABLES.values():
        for table, more in tables.items():
            words = [f"{name}={more[key]}{unit}" for name, key, unit in (("ttl", "ttl", "ms"), ("max-keys", "max_keys", "")) if key in more]
            if "window" in more:
                words.append(f"window={more['window']}ms" + (f"/{more['pane']}ms" if "pane" in more else ""))
            yield " ".join([table, KIND[table], *words, *([f"k={HOT} capacity={CAPACITY}"] if table == "hot" else [])])
    yield f"top topk k={TOP} of=sums"


class Source:
    """Events of every way, without end. Gauges are set by one source each: nobody could say which of two came last."""
    NAMES = [line.split(b"\t", 1)[1].decode() for line in stream() if line.startswith(b"files")][:3000]

    def __init__(self, name, seed):
        self.name, self.random = name, random.Random(seed)

    def event(self, way):
        """(table, key, third column), as in the lines of `tallycast count`."""
        # Some come all the time, most now and then.
        path = self.NAMES[int(len(self.NAMES) * self.random.random() ** 4)]
        owner, table = path.split("/", 1)[0], self.random.choice(list(TABLES[way]))
        if way in ("counter", "topk"):
            return table, path, self.random.randrange(1, 4)
        if way == "distinct":
            return table, owner, path
        key = f"{self.name}/{owner}" if way == "gauge" else owner
        return table, key, self.random.randrange(-100000, 100000)


class KillAll(KindsCase):
    def setUp(self):
        super().setUp()
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.failures, self.threads = [], []
        self.records = []  # (version, time, [(producer, sequence, [(table, kind, how, key, amount)])])
        self.samples = collections.defaultdict(list)  # version: (daemon's name, what `dump` printed)
        self.again = 0
        self.addCleanup(self.stopping.set)

    def spawn(self, function, *arguments):
        def run():
            try:
                function(*arguments)
            except Exception as error:  # the test tells
                self.failures.append(error)
        self.threads.append(threading.Thread(target=run, daemon=True))
        self.threads[-1].start()

    # -------------------------------------------------------------------------------------------- producers

    def write_logs(self, logs):
        sources = {way: Source("log", harness.SEED + n) for n, way in enumerate(logs)}
        while not self.stopping.wait(0.01):
            for way, log in logs.items():
                events = [sources[way].event(way) for _ in range(self.random.randrange(8))]
                self.write(way, log, events)

    def write(self, way, log, events):
        lines = [f"{table}\t{key}\t{third}".encode() for table, key, third in events]
        log.write(lines)
        self.note(way, lines)  # will be counted: the command never gives up

    @staticmethod
    def json_of(way, event):
        table, key, third = event
        name = {"gauge": "set", "adjust": "adjust", "distinct": "member"}.get(way, "amount")
        return {"table": table, "key": key, name: third, **({} if name == "set" or name == "adjust" else {"kind": KIND[table]})}

    def client(self, number, daemon):
        source = Source(f"client{number}", harness.SEED ^ (number << 20))
        while not self.stopping.wait(0.02):
            events = [(way, source.event(way)) for way in source.random.choices(list(TABLES), k=source.random.randrange(1, 20))]
            body = "".join(json.dumps(self.json_of(*event)) + "\n" for event in events)
            name = str(uuid.UUID(int=source.random.getrandbits(128)))
            while True:
                try:
                    answer = request(daemon.at, "POST", "/v1/count", body, {"Idempotency-Key": name},
                                     timeout=0.01 if source.random.random() < 0.05 else 20)
                    if answer.status == 200:
                        break
                    assert answer.status == 503, answer.body
                except (OSError, harness.http.client.HTTPException):
                    pass
                self.again += 1
                time.sleep(0.02)
            with self.lock:
                for way, (table, key, third) in events:
                    self.note(way, [f"{table}\t{key}\t{third}".encode()])

    # -------------------------------------------------------------------------------------------- witnesses

    def copy_log(self, server):
        """Of a server that is dead, for read_log."""
        copy = self.work / "log-copy"
        subprocess.run(["rm", "-rf", copy], check=True)
        subprocess.run(["cp", "-r", "--sparse=always", server.settings["data"] / "log", copy], check=True)
        return copy

    def read_log(self, copy):
        last = self.records[-1][0] if self.records else 0
        out = subprocess.run([BIN / "log_records", copy, str(last + 1)], check=True, stdout=subprocess.PIPE).stdout
        for line in out.splitlines():
            what, *fields = line.split(b"\t")
            if what == b"record":
                version, now, epoch = map(int, fields)
                self.assertEqual(version, last + 1, "a record was let go before it was read")
                self.assertEqual(epoch, 0)
                last = version
                self.records.append((version, now, []))
            elif what == b"batch":
                self.records[-1][2].append((int(fields[0]), int(fields[1]), []))
            else:
                table, kind, how, key, amount = fields
                self.records[-1][2][-1][2].append((table.decode(), kind.decode(), how.decode(), key, int(amount)))

    def sample(self, daemon):
        done = self.cli("dump", "--meta", "--json", "--at", daemon.at, code=None)
        if done.returncode:
            return False
        lines = done.stdout.splitlines()
        meta = json.loads(lines[0])
        with self.lock:
            self.samples[meta["version"]].append((daemon.name, lines[1:]))
        return True

    def watch(self, *daemons):
        """Whole versions at random times, of whoever is there."""
        draw = random.Random(harness.SEED + 99)
        while not self.stopping.wait(0.4 * draw.random()):
            self.sample(draw.choice(daemons))

    # -------------------------------------------------------------------------------------------- comparisons

    def counted_entries(self):
        """(version, time, entries that count) of each record: the repeats are left out as the state leaves them out."""
        producers, repeats = {}, 0
        for version, now, batches in self.records:
            entries = []
            for producer, sequence, found in batches:
                last = producers.get(producer, 0)
                if sequence <= last:
                    repeats += 1
                    continue
                self.assertEqual(sequence, last + 1, f"a hole in what {producer:x} counted, in {version}")
                producers[producer] = sequence
                entries += found
            yield version, now, entries
        print(f"# {len(self.records)} records, {len(producers)} producers, {repeats} repeats in the log; {self.again} posts asked again")

    def assert_rows(self, found, tables, where):
        for name, table in tables.items():
            want, have = table.rows(), found.pop(name, {})
            if name == "hot":
                errors = found.pop("hot.error", {})
                self.assertEqual((len(have), set(have)), (min(HOT, len(want)), set(errors)), where)
                for key, value in have.items():
                    self.assertTrue(value - errors[key] <= want[key] <= value, (where, key, value, errors[key], want[key]))
                continue
            if table.kind == "distinct":
                for key, value in list(want.items()):
                    if value > REGISTERS // 4 and key in have:
                        # 4 x the standard error of 1.04 / sqrt(registers).
                        self.assertLess(abs(have[key] - value) / value, 4 * 1.04 / REGISTERS ** 0.5, (where, name, key))
                        want[key] = have[key]
            self.assertEqual(have, want, f"{name} {where}")
        sums = {(b"sums", key): value for key, value in tables["sums"].rows().items()}
        self.assertEqual(found.pop("top", {}), {key: value for (_, key), value in kinds.top(sums, TOP).items()}, where)
        self.assertEqual(found, {}, where)

    def compare(self):
        tables = {table: replay.Table(KIND[table], **more) for tables in TABLES.values() for table, more in tables.items()}
        ever = {table: replay.Table(KIND[table]) for table in tables}
        held, rows = 0, 0
        for version, now, entries in self.counted_entries():
            for table in tables.values():
                table.age(now)
            for name, kind, how, key, amount in entries:
                self.assertEqual(kind, KIND[name])
                tables[name].count(now, key, amount, how)
                ever[name].count(now, key, amount, how)
            for daemon, lines in self.samples.pop(version, []):
                found = collections.defaultdict(dict)
                for row in map(json.loads, lines):
                    found[row["table"]][row["key"].encode()] = row["value"]
                self.assert_rows(found, tables, f"of {daemon} at {version}")
                held, rows = held + 1, rows + len(lines)
        self.assertEqual(dict(self.samples), {}, "versions that are not in the log")
        print(f"# {held} versions with {rows} rows, of server and edges, are what the log says")
        self.assertGreater(held, KILLS)
        for way, events in self.events.items():
            want = collections.defaultdict(dict)
            for (table, key), value in kinds.KINDS[way](events).items():
                want[table.decode()][key] = value
            for table in TABLES[way]:
                self.assertEqual(ever[table].rows(), want[table], f"{table}: the log, and the ledger")
        print(f"# {sum(map(len, self.events.values()))} events of the ledger are in the log once: "
              f"{ {way: len(events) for way, events in self.events.items()} }")

    # -------------------------------------------------------------------------------------------- the test

    def kill_at_random(self, server, edges, followers):
        for n in range(KILLS):
            if n == KILLS - 1:
                server.settings["snapshot_every"] = 1000000  # from the last start on all is kept
            victims = [server, self.random.choice(edges), self.random.choice(followers)]
            self.random.shuffle(victims)
            for victim in victims:
                time.sleep(0.3 * self.random.random())  # the random point itself
                self.assertIsNone(victim.process.poll(), victim)
                victim.kill()
                copy = self.copy_log(server) if victim is server else None
                if isinstance(victim, Follower):
                    victim.start()
                else:
                    victim.start(wait=False)
                if copy:
                    self.read_log(copy)
        for daemon in (server, *edges):
            daemon.wait_ready()

    @staticmethod
    def is_aged(daemon):
        return not TEMPORARY & {table["table"] for table in harness.get(daemon.at, "/v1/tables").json["tables"] if table["keys"]}

    def finish(self, server, edges, logs):
        """All that was counted has come; what is temporary has left."""
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)
            self.assertFalse(thread.is_alive())
        self.assertEqual(self.failures, [])
        for way, log in logs.items():
            self.write(way, log, [(next(iter(TABLES[way])), "the end", 1000000)])
        for way in logs:
            # A follower counts in order, so all is there when its last line is. That of topk is the greatest.
            wait_until(lambda table=next(iter(TABLES[way])): harness.get(server.at, f"/v1/get/{table}/the%20end").status == 200, f"the last line of {way}", 60)
        for edge in edges:
            wait_until(lambda: metric(edge.at, "tally_spool_entries") == 0, "the spool to be empty")
        self.wait_equal(server, *edges)
        for daemon in (server, *edges):
            self.assertTrue(self.sample(daemon))
        # While it ages, too: what a restart made of panes and touches is seen when they leave.
        for daemon in (server, *edges):
            wait_until(lambda at=daemon: self.sample(at) and self.is_aged(at), f"no temporary rows at {daemon.name}", interval=0.2)
        digest = self.wait_equal(server, *edges)["digest"]
        for daemon in (server, *edges):
            self.assertTrue(self.sample(daemon))
        return digest

    def test_producers_edges_and_server_are_killed(self):
        # At most 20 records a second, and the last 40 of them at least are kept: enough for the longest time between two kills.
        server = self.server(table=list(definitions()), tick=50, snapshot_every=40).start()
        edges = [self.edge(f"edge{n}", server, count=server.settings["ingest"]).start() for n in (1, 2)]
        logs = {way: Log(self.work / f"{way}.log") for way in TABLES}
        followers = {way: Follower(self, server, log.path, *self.words(way)).start() for way, log in logs.items()}
        for log in logs.values():
            self.addCleanup(log.file.close)
        self.spawn(self.write_logs, logs)
        for number, daemon in enumerate([*edges, *edges, server]):
            self.spawn(self.client, number, daemon)
        self.spawn(self.watch, server, *edges)
        self.kill_at_random(server, edges, list(followers.values()))
        digest = self.finish(server, edges, logs)
        starts = [daemon.starts for daemon in (server, *edges)]
        print(f"# {KILLS} kills of the server, {KILLS} of edges, {KILLS} of producers; starts: {starts}, {[f.starts for f in followers.values()]}")
        self.assertEqual(server.stop(), 0)
        self.read_log(self.copy_log(server))
        self.compare()
        server.start()
        self.assertEqual(server.version()["digest"], digest)
        for daemon in (server, *edges):
            self.assertEqual(daemon.errors(), [])  # such as a snapshot or a stored copy of its own that it does not take


if __name__ == "__main__":
    harness.main()
