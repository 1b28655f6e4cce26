# SPDX-License-Identifier: Apache-2.0
"""openTally of the npm package in Node, with real daemons: what it adds is counted once, whoever is killed.

TALLY_KILLS=200: so many kills in the first test, 12 without it."""
import collections
import json
import os
import sys
import time
import unittest
import urllib.parse

import harness
from cutter import Cutter
from harness import get, wait_until
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


if __name__ == "__main__":
    if not NODE or not PACKAGE.exists():
        raise unittest.SkipTest("node or the package is missing")
    harness.main()
