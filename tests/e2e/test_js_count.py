# SPDX-License-Identifier: Apache-2.0
"""openTally of the npm package in Node, with real daemons: what it adds is counted once, whoever is killed.

TALLY_KILLS=200: so many kills in the first test, 12 without it."""
import collections
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import unittest
import urllib.parse

import harness
from cutter import Cutter
from harness import get, metric, wait_until
from test_js import NODE, PACKAGE, Program

KILLS = int(os.environ.get("TALLY_KILLS", "12"))


class JsCount(harness.Case):
    def counter(self, daemon, **options):
        program = Program(self, "count.mjs", daemon.at, json.dumps({"seed": self.random.getrandbits(31) | 1, "options": {"intervalMs": 20, "backoffMs": [20, 200], **options}}))
        program.hear("open")
        return program

    def value(self, daemon, table, key):
        answer = get(daemon.at, f"/v1/get/{table}/{urllib.parse.quote_from_bytes(key, safe='')}")
        return answer.json["value"] if answer.status == 200 else None

    def values(self, daemon, truth):
        return {table: {key: self.value(daemon, table, bytes.fromhex(key)) for key in keys} for table, keys in truth.items()}

    def test_exact_while_edge_and_server_are_killed(self):
        """Two processes count at the edge, two at the server; both are killed again and again, and answers are lost on their way."""
        server = self.server(tick=10, table=["best topk k=400 capacity=4000", "load gauge"]).start()
        edge = self.edge("edge", server, count=server.settings["ingest"], **{"count-tick": 20}).start()
        ways = [Cutter(self, daemon, 0.05) for daemon in (edge, server)]
        counters = [self.counter(way) for way in ways * 2]
        plan = [(edge, server)[number % 2] for number in range(KILLS)]
        self.random.shuffle(plan)
        for daemon in plan:
            time.sleep(0.3 * self.random.random())  # the random point
            daemon.kill()
            time.sleep(0.15 * self.random.random())
            daemon.start(wait=self.random.random() < 0.7)
        for daemon in (server, edge):
            daemon.wait_ready()
        truth, sums = {}, collections.Counter()
        for program in counters:
            program.say("end")
        for program in counters:
            end = program.hear("end")
            program.wait_end()
            self.assertEqual((end["refused"], end["full"], end["flushed"]["refused"], end["stats"]["pending"]), ([], 0, 0, 0))
            for name in ("adds", "merged", "acknowledged", "sent", "retries", "repeats"):
                sums[name] += end["stats"][name]
            for table, keys in end["truth"].items():
                into = truth.setdefault(table, collections.Counter())
                for key, value in keys.items():
                    into[key] += int(value)
        found = None

        def arrived():
            nonlocal found
            found = self.values(server, truth)
            return found == truth
        try:
            wait_until(arrived, "all of it at the server", 20, 0.2)
        except AssertionError:
            wrong = [(table, key, value, found[table][key]) for table, keys in truth.items() for key, value in keys.items() if found[table][key] != value]
            self.assertEqual(wrong[:5], [], f"{len(wrong)} keys are wrong")
            raise
        self.wait_equal(server, edge)
        self.assertEqual(self.values(edge, truth), truth)
        print(f"# {KILLS} kills, {sum(way.cuts for way in ways)} answers cut; {dict(sums)}; {sum(map(len, truth.values()))} keys, sum {sum(truth['pages'].values())}", file=sys.stderr)
        self.assertGreater(sums["retries"], 0, "nobody noticed a kill")
        self.assertGreater(sums["repeats"], 0, "no answer was ever lost")

    def count_for_a_while(self, way, **options):
        program = self.counter(way, **options)
        before = metric(way.at, "tally_http_counts_total") or 0
        wait_until(lambda: metric(way.at, "tally_http_counts_total") > before + 40, "some requests are answered")
        program.say("end")
        end = program.hear("end")
        program.wait_end()
        return end, {table: {key: int(value) for key, value in keys.items()} for table, keys in end["truth"].items()}

    def test_what_the_server_refuses(self):
        """A table that is of another kind there: its counts are told to be refused, all of them; others arrive."""
        server = self.server(tick=10, table=["pages gauge", "best topk k=400 capacity=4000"]).start()
        end, truth = self.count_for_a_while(server)
        pages = truth.pop("pages")
        self.assertEqual({(event["table"], event["code"], event["reason"], event["inDoubt"]) for event in end["refused"]}, {("pages", "TALLY_INVALID", "answered", False)})
        self.assertIn('table "pages"', end["refused"][0]["message"])
        self.assertEqual(sum(int(event["amount"]) for event in end["refused"]), sum(pages.values()))
        self.assertEqual(sum(event["keys"] for event in end["refused"]), end["stats"]["refused"]["answered"])
        self.assertEqual(self.values(server, truth), truth)
        self.assertEqual(self.values(server, {"pages": pages}), {"pages": dict.fromkeys(pages)})

    def test_what_the_server_refuses_an_edge(self):
        """The edge learns of it later: what it had taken until then it drops and counts, what comes afterwards it refuses as the server does."""
        server = self.server(tick=10, table=["pages gauge", "best topk k=400 capacity=4000"]).start()
        edge = self.edge("edge", server, count=server.settings["ingest"], **{"count-tick": 20}).start()
        end, truth = self.count_for_a_while(edge)
        pages = truth.pop("pages")
        self.assertEqual({(event["table"], event["reason"]) for event in end["refused"]}, {("pages", "answered")})
        told = sum(int(event["amount"]) for event in end["refused"])
        wait_until(lambda: self.values(server, truth) == truth, "the others at the server")
        wait_until(lambda: told + metric(edge.at, "tally_producer_dropped_amount_total") == sum(pages.values()), "each of them is told by the one or the other")
        self.assertGreater(told, 0)

    def test_bounded(self):
        """With room for 60 keys of 450: what was not taken was told, and all that was taken arrives."""
        server = self.server(tick=10, table=["best topk k=400 capacity=4000", "load gauge"]).start()
        end, truth = self.count_for_a_while(server, keysMax=60)
        self.assertGreater(end["full"], 0)
        self.assertEqual((end["full"], end["refused"]), (end["stats"]["refused"]["full"], []))
        self.assertEqual(self.values(server, truth), truth)

    def test_the_example(self):
        """client-wasm/examples/views.mjs: each answer is counted, the last ones on Ctrl-C."""
        server = self.server(tick=10).start()
        edge = self.edge("edge", server, count=server.settings["ingest"], **{"count-tick": 20}).start()
        (self.work / "node_modules").mkdir()
        (self.work / "node_modules" / "tallycast").symlink_to(PACKAGE)
        shutil.copy(harness.ROOT / "client-wasm" / "examples" / "views.mjs", self.work)
        program = subprocess.Popen([NODE, "--no-warnings", "views.mjs", edge.at, "0"], cwd=self.work, stdout=subprocess.PIPE, text=True, preexec_fn=harness._die_with_parent)
        self.addCleanup(program.stdout.close)
        self.addCleanup(program.kill)
        url = program.stdout.readline().strip().rstrip("/")
        for number in range(30):
            self.assertEqual(get(url, f"/page/{number % 3}").status, 200)
        wait_until(lambda: b"10\t/page/" in get(url, "/looked").body, "it shows what it counted")
        for _ in range(5):
            get(url, "/last")
        program.send_signal(signal.SIGINT)
        self.assertEqual(program.wait(30), 0)
        wait_until(lambda: self.value(server, "views", b"/last") == 5, "what was not sent before")
        self.assertEqual([self.value(server, "views", b"/page/%d" % number) for number in range(3)], [10] * 3)

    def test_a_server_that_is_gone(self):
        """Counting goes on, a flush says that it did not get through, and the next one gets it all there."""
        server = self.server(tick=10, table=["best topk k=400 capacity=4000", "load gauge"]).start()
        program = self.counter(server, timeoutMs=1000)
        server.kill()
        program.say("add extra key")  # something is there to flush, whether or not the program's own timer went off yet
        self.assertTrue(program.hear("added")["taken"])
        program.say("flush 300")
        self.assertEqual(program.hear("flushed")["code"], "TALLY_TIMEOUT")
        program.say("pause")
        program.hear("paused")
        program.say("add extra key")
        self.assertTrue(program.hear("added")["taken"])
        server.start()
        program.say("flush 20000")
        flushed = program.hear("flushed")
        self.assertEqual((flushed["refused"], flushed["stats"]["pending"]), ([], 0))
        held = server.version()
        self.assertLessEqual(flushed["version"], held["version"])
        self.assertEqual(f"{int(flushed['epoch']):016x}", held["epoch"])
        self.assertEqual(self.value(server, "extra", b"key"), 2)
        program.say("end")
        truth = {table: {key: int(value) for key, value in keys.items()} for table, keys in program.hear("end")["truth"].items()}
        program.wait_end()
        self.assertEqual(self.values(server, truth), truth)


if __name__ == "__main__":
    if not NODE or not PACKAGE.exists():
        raise unittest.SkipTest("node or the package is missing")
    harness.main()
