# SPDX-License-Identifier: Apache-2.0
"""Ended by SIGKILL at a point of its own: when something is durable that nobody was told of yet, or is about to be. Counted once all the same.

Random kills (test_kill*.py) hit the time between a log's append and its acknowledgement once in a while; here each does. die_at.c, loaded before the program,
ends it at the Nth call that makes something durable: the commit of the log, a snapshot, an edge's spool, the position of `tallycast count --follow`.

TALLY_KILLS sets how often each test does it (6; the long form is 200)."""
import collections
import json
import os
import signal
import subprocess
import time

import harness
from harness import BIN, Feeder, get, metric, recount, request, stream, wait_until
from test_follow import Follower, Log

KILLS = int(os.environ.get("TALLY_KILLS", "6"))


def die(call, path, number, when):
    return {"LD_PRELOAD": str(BIN / "die_at.so"), "TALLY_DIE": f"{call} {path} {number} {when}"}


class Points(harness.Case):
    def tearDown(self):
        """Whatever was killed, nobody found anything of its own damaged."""
        super().tearDown()
        for daemon in self.daemons:
            self.assertEqual(daemon.errors(), [], daemon.name)

    def start_to_die(self, daemon, *point):
        """Starts it, and waits until it ended at that point."""
        daemon.environment = die(*point)
        daemon.start(wait=False)
        self.assertEqual(daemon.wait_exit(60), -signal.SIGKILL, daemon.log())
        daemon.environment = {}

    def test_server_between_append_and_acknowledgement(self):
        """What is in the log is acknowledged as a repeat when it comes again: each kill makes at least one, and none is counted twice."""
        server = self.server()
        edge = self.edge("edge", server)
        feeder = Feeder(self, server.settings["ingest"], stream(), rate=6000, arguments=["--batch-ms", "2"])
        for _ in range(KILLS):
            self.start_to_die(server, "commit", "data.mdb", self.random.randrange(3, 30), "after")
            if edge.process is None:
                edge.start(wait=False)
        server.start()
        result = feeder.stop()
        self.wait_version(server, result["acknowledged_version"])
        self.wait_equal(server, edge)
        print(f"# {KILLS} kills; {feeder.count} events, {result['batches']} batches, {result['repeats']} of them acknowledged as repeats")
        self.assertGreaterEqual(result["repeats"], KILLS)
        for daemon in (server, edge):
            self.assert_counts(daemon, recount(feeder.written.elements()))

    def test_server_at_any_point(self):
        """Before and after each commit of the log, also those that trim it, and around what makes a snapshot."""
        server = self.server(snapshot_every=10)
        edge = self.edge("edge", server)
        feeder = Feeder(self, server.settings["ingest"], stream(), rate=6000, arguments=["--batch-ms", "2"])
        points = collections.Counter()
        for _ in range(KILLS):
            call = self.random.choice(["commit", "fdatasync", "fsync", "rename"])
            when = self.random.choice(["before", "after"])
            points[call, when] += 1
            most = {"commit": 60, "fdatasync": 60, "fsync": 4, "rename": 2}[call]
            self.start_to_die(server, call, "*", self.random.randrange(1, most + 1), when)
            if edge.process is None:
                edge.start(wait=False)
        server.start()
        result = feeder.stop()
        self.wait_version(server, result["acknowledged_version"])
        self.wait_equal(server, edge)
        print(f"# {feeder.count} events, {result['repeats']} batches acknowledged as repeats; {dict(points)}")
        for daemon in (server, edge):
            self.assert_counts(daemon, recount(feeder.written.elements()))
        digest = server.version()["digest"]
        self.assertEqual(server.stop(), 0)
        server.start()
        self.assertEqual(server.version()["digest"], digest)

    def post(self, daemon, body, name):
        """Whether it was counted (now or before): the answer, or None when there is none."""
        try:
            answer = request(daemon.at, "POST", "/v1/count", body, {"Idempotency-Key": name})
        except (OSError, harness.http.client.HTTPException):
            return None
        if answer.status == 503:
            return None
        self.assertEqual(answer.status, 200, answer.body)
        return answer.json

    def test_edge_between_spool_and_answer(self):
        """Counts are durable in the spool, or not yet, and their producer was not told; or sent, and the edge does not know that they were counted."""
        server = self.server(table=["most max"]).start()
        edge = self.edge("edge", server, count=server.settings["ingest"], count_tick=5)
        wanted, most, repeats = collections.Counter(), {}, 0
        for n in range(KILLS):
            when = self.random.choice(["before", "after"])
            edge.environment = die("fdatasync", "count.spool", self.random.randrange(1, 7), when)
            edge.start(wait=False)
            while edge.process:
                key, amount, name = f"k{self.random.randrange(20)}", self.random.randrange(1, 9), f"{n}-{sum(wanted.values())}"
                body = json.dumps([{"table": "sums", "key": key, "amount": amount}, {"table": "most", "key": key, "amount": n, "kind": "max"}])
                while not (answer := self.post(edge, body, name)):
                    if edge.process.poll() is not None:
                        self.assertEqual(edge.wait_exit(), -signal.SIGKILL, edge.log())
                        edge.environment = {}
                        edge.start()  # to be asked again
                    time.sleep(0.01)
                wanted[key] += amount
                most[key] = n
                repeats += answer["repeat"]
                if not edge.environment:
                    edge.kill()
        edge.start()
        wait_until(lambda: metric(edge.at, "tally_spool_entries") == 0, "the spool to be empty")
        self.wait_equal(server, edge)
        print(f"# {KILLS} kills; {sum(wanted.values())} in sums, {repeats} posts counted before they were answered")
        self.assertGreater(repeats, KILLS // 4)
        for daemon in (server, edge):
            self.assert_counts(daemon, {"sums": wanted, "most": most})

    def test_server_before_it_answers_an_edge(self):
        """The edge sends its batch again, as it was, though more has been counted since."""
        server = self.server().start()
        edge = self.edge("edge", server, count=server.settings["ingest"], count_tick=5).start()
        server.kill()
        wanted, number = collections.Counter(), 0
        for _ in range(KILLS):
            server.environment = die("commit", "data.mdb", self.random.randrange(1, 4), "after")
            server.start(wait=False)
            while server.process.poll() is None:
                key, number = f"k{self.random.randrange(20)}", number + 1
                self.assertIsNotNone(self.post(edge, json.dumps({"table": "sums", "key": key, "amount": number}), f"{number}"))
                wanted[key] += number
                total = get(edge.at, f"/v1/get/sums/{key}?mine=1").json["total"]
                self.assertEqual(total, wanted[key])  # global plus mine: it alone counts, so at every moment
            self.assertEqual(server.wait_exit(), -signal.SIGKILL, server.log())
        server.environment = {}
        server.start()
        wait_until(lambda: metric(edge.at, "tally_spool_entries") == 0, "the spool to be empty")
        self.wait_equal(server, edge)
        repeats = metric(edge.at, "tally_producer_repeats_total")
        print(f"# {KILLS} kills; {number} posts, {metric(edge.at, 'tally_producer_acknowledged_total')} batches, {repeats} acknowledged as repeats")
        self.assertGreaterEqual(repeats, KILLS)
        for daemon in (server, edge):
            self.assert_counts(daemon, {"sums": wanted})

    def test_command_between_position_and_sending(self):
        """`tallycast count --follow` at any point of writing down how far it came."""
        server = self.server().start()
        log = Log(self.work / "events.log")
        self.addCleanup(log.file.close)
        follower = Follower(self, server, log.path)
        lines, at, points = stream(), 0, collections.Counter()
        for _ in range(KILLS):
            call, path = self.random.choice([("fdatasync", "events.log.tallycast.new"), ("rename", "events.log.tallycast"), ("fsync", "*")])
            when = self.random.choice(["before", "after"])
            points[call, when] += 1
            follower.start(**die(call, path, self.random.randrange(1, 4), when))
            while True:
                log.write(lines[at:at + 50])
                at += 50
                try:
                    self.assertEqual(follower.process.wait(0.02), -signal.SIGKILL, follower.errors.read_text())
                    break
                except subprocess.TimeoutExpired:
                    pass
            follower.kill()
        follower.start()
        want = recount(log.written.elements())
        keys = sum(map(len, want.values()))
        wait_until(lambda: server.version()["keys"] == keys, lambda: f"{keys} keys, not {server.version()}")
        follower.stop()
        print(f"# {sum(log.written.values())} lines; {dict(points)}")
        self.assert_counts(server, want)


if __name__ == "__main__":
    harness.main()
