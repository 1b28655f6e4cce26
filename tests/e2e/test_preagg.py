# SPDX-License-Identifier: Apache-2.0
"""What is counted at an edge: merged, spooled, sent, counted once at the server whoever is killed, and read there at once as "mine".

TALLY_KILLS=200: so many kills in the last test, 12 without it."""
import json
import os
import threading
import time
import uuid

import harness
from harness import Feeder, get, metric, recount, request, stream, wait_until

KILLS = int(os.environ.get("TALLY_KILLS", "12"))


def post(daemon, events, key=None, timeout=20):
    """POST /v1/count of (table, key, amount)s; the answer, or None when there is none."""
    body = "".join(json.dumps({"table": t, "key": k, "amount": n}) + "\n" for t, k, n in events)
    headers = {"Content-Type": "application/x-ndjson", **({"Idempotency-Key": key} if key else {})}
    try:
        return request(daemon.at, "POST", "/v1/count", body, headers, timeout=timeout)
    except (OSError, harness.http.client.HTTPException):
        return None


def mine(daemon, table, key):
    return get(daemon.at, f"/v1/get/{table}/{key}?mine=1")


class PreAggregation(harness.Case):
    def counting_edge(self, name, server, **settings):
        return self.edge(name, server, count=server.settings["ingest"], **settings)

    def value(self, daemon, table, key):
        answer = get(daemon.at, f"/v1/get/{table}/{key}")
        return answer.json["value"] if answer.status == 200 else 0

    def wait_value(self, daemon, table, key, value):
        wait_until(lambda: self.value(daemon, table, key) == value,
                   lambda: f"{table}/{key} = {value} at {daemon.name}, is {self.value(daemon, table, key)}")

    def assert_post(self, daemon, events, status=200, key=None):
        answer = post(daemon, events, key)
        self.assertIsNotNone(answer)
        self.assertEqual(answer.status, status, answer.body)
        return answer.json

    def test_counts_arrive_and_are_mine_until_then(self):
        server = self.server().start()
        edge = self.counting_edge("edge", server).start()
        total = 0
        for n in range(1, 40):
            self.assert_post(edge, [("files", "a", n), ("files", "b", 1)])
            total += n
            answer = mine(edge, "files", "a")
            self.assertEqual(answer.status, 200, answer.body)
            # At every moment: all of it, once, wherever it is.
            self.assertEqual(answer.json["total"], total, answer.body)
            self.assertEqual(answer.json["value"] + answer.json["mine"], total)
        self.wait_value(edge, "files", "a", total)
        self.assertEqual(mine(edge, "files", "a").json["mine"], 0)
        self.assertEqual(self.value(server, "files", "b"), 39)
        self.assertEqual(mine(edge, "files", "nobody").status, 404)
        self.assertEqual(get(server.at, "/v1/get/files/a?mine=1").status, 400)
        self.assertEqual(request(edge.at, "POST", "/v1/tables/files", json.dumps({"ttl": "1h"})).status, 403)
        batches = metric(edge.at, "tally_producer_acknowledged_total")
        self.assertLess(batches, 39)  # they were merged
        self.assertEqual(metric(edge.at, "tally_spool_entries"), 0)

    def test_every_kind_from_two_edges(self):
        """Each kind as what comes of both edges' events, over a crash of the server and of an edge; of their own, each edge reads them at once."""
        server = self.server().start()
        edges = [self.counting_edge(f"edge{n}", server).start() for n in range(2)]
        for edge in edges:
            self.assert_post(edge, [("files", "first", 1)])
        self.wait_value(server, "files", "first", 2)
        sums, members, low, high, own = {}, set(), 10**9, -10**9, [0, 0]
        for n in range(60):
            if n in (20, 40):
                (server if n == 20 else edges[0]).kill()
            if n in (30, 45):
                (server if n == 30 else edges[0]).start()
            for number, edge in enumerate(edges):
                if n in range(40, 45) and number == 0:
                    continue
                name, level, member = f"k{self.random.randrange(5)}", self.random.randrange(-500, 500), f"m{self.random.randrange(300)}"
                set_it = n % 3 == 0
                answer = request(edge.at, "POST", "/v1/count", "".join(json.dumps(event) + "\n" for event in (
                    {"table": "gauges", "key": f"g{number}", **({"set": level} if set_it else {"adjust": level})},
                    {"table": "low", "key": "k", "kind": "min", "amount": level}, {"table": "high", "key": "k", "kind": "max", "amount": level},
                    {"table": "hot", "key": name, "kind": "topk", "amount": 5}, {"table": "who", "key": "k", "member": member})),
                    {"Content-Type": "application/x-ndjson"})
                self.assertEqual(answer.status, 200, answer.body)
                own[number] = level if set_it else own[number] + level
                low, high = min(low, level), max(high, level)
                sums[name] = sums.get(name, 0) + 5
                members.add(member)
                answer = mine(edge, "gauges", f"g{number}").json
                if not answer["in_doubt"]:
                    self.assertEqual(answer["total"], own[number], answer)
                self.assertLessEqual(mine(edge, "low", "k").json["total"], level)
                self.assertGreaterEqual(mine(edge, "high", "k").json["total"], level)
        want = {("gauges", "g0"): own[0], ("gauges", "g1"): own[1], ("low", "k"): low, ("high", "k"): high,
                **{("hot", name): count for name, count in sums.items()}, ("who", "k"): len(members)}
        for daemon in (server, *edges):
            for (table, key), value in want.items():
                self.wait_value(daemon, table, key, value)
        self.assertEqual(mine(edges[0], "gauges", "g0").json["counting"], "nothing")
        self.assertEqual(mine(edges[0], "who", "k").status, 400)

    def test_an_edge_without_a_server_keeps_them(self):
        server = self.server().start()
        edge = self.counting_edge("edge", server).start()
        self.assert_post(edge, [("files", "a", 1)])
        self.wait_value(edge, "files", "a", 1)
        server.kill()
        for n in range(10):
            self.assert_post(edge, [("files", "a", 1), ("files", f"new{n}", 5)], key=f"once-{n}")
            self.assertEqual(mine(edge, "files", "a").json["total"], 2 + n)
        edge.kill()
        edge.start()
        # A key that was counted before the crash is counted once, after it too.
        self.assertTrue(self.assert_post(edge, [("files", "a", 1), ("files", "new3", 5)], key="once-3")["repeat"])
        self.assertEqual(edge.stop(), 0)
        edge.start()
        server.start()
        self.wait_value(edge, "files", "a", 11)
        for n in range(10):
            self.wait_value(edge, "files", f"new{n}", 5)
        self.assertEqual(mine(edge, "files", "a").json["total"], 11)

    def test_a_table_that_the_server_refuses_does_not_hold_up_others(self):
        server = self.server(table="temperature gauge").start()
        edge = self.counting_edge("edge", server).start()
        # The table is a gauge: another way of counting in it is refused, by name.
        answer = request(server.at, "POST", "/v1/count",
                         json.dumps({"table": "temperature", "key": "hall", "amount": 20, "kind": "gauge"}))
        self.assertEqual(answer.status, 200, answer.body)
        self.assert_post(edge, [("files", "a", 1), ("temperature", "hall", 7), ("repos", "r", 2)])
        self.wait_value(edge, "files", "a", 1)
        self.wait_value(edge, "repos", "r", 2)
        edge.wait_logged(r"event=count_refused .*table=temperature")
        self.assertEqual(metric(edge.at, "tally_producer_dropped_total"), 1)
        self.assertEqual(metric(edge.at, "tally_producer_dropped_amount_total"), 7)
        self.assertEqual(self.value(server, "temperature", "hall"), 20)
        refused = post(edge, [("temperature", "hall", 7)])
        self.assertGreaterEqual(refused.status, 400, refused.body)  # told at once, for a while
        self.assert_post(edge, [("files", "a", 1)])
        self.wait_value(edge, "files", "a", 2)

    def test_a_full_spool_refuses_new_keys_and_loses_none(self):
        server = self.server().start()
        edge = self.counting_edge("edge", server, count_memory="256K", count_spool="512K").start()
        self.assert_post(edge, [("files", "first", 1)], key="first")
        self.wait_value(edge, "files", "first", 1)
        server.kill()
        counted, refused = {}, 0
        for n in range(100):
            events = [("files", f"{n:04d}-{i:04d}-" + "x" * 40, 1) for i in range(200)]
            answer = post(edge, events)
            if answer.status == 200:
                counted.update((key, 1) for _, key, _ in events)
            else:
                refused += 1
                self.assertEqual(answer.status, 503, answer.body)
                self.assertIn(b"spool is full", answer.body)
        self.assertGreater(refused, 20)
        self.assertGreater(len(counted), 1000)
        self.assertEqual(metric(edge.at, "tally_spool_full"), 1)
        old = list(counted)[-1]
        for _ in range(50):  # what waits and was never sent is merged further
            self.assert_post(edge, [("files", old, 1)])
            counted[old] += 1
        # What was counted is not refused when it comes again, although its key would be a new one now.
        self.assertTrue(self.assert_post(edge, [("files", "first", 1)], key="first")["repeat"])
        self.assertEqual(post(edge, [("files", "first", 1)], key="second").status, 503)
        counted["first"] = 1
        file = edge.settings["data"] / "count.spool"
        self.assertLess(file.stat().st_size, 2 * 512 * 1024 + 65536)
        edge.kill()
        edge.start()
        server.start()
        wait_until(lambda: metric(edge.at, "tally_spool_entries") == 0, "the spool to be empty")
        self.wait_equal(server, edge)
        self.assert_counts(edge, {"files": counted})
        self.assert_post(edge, [("files", "new again", 1)])

    def test_a_damaged_spool_is_set_aside(self):
        server = self.server().start()
        edge = self.counting_edge("edge", server).start()
        server.kill()
        for n in range(20):
            self.assert_post(edge, [("files", f"{n}", 1)])
        edge.kill()
        file = edge.settings["data"] / "count.spool"
        data = bytearray(file.read_bytes())
        file.write_bytes(data + b"torn")  # a write that a crash cut short
        edge.start()
        edge.wait_logged("event=spool_tail_cut")
        edge.wait_logged(r"event=count_resumed .*entries=20")
        for n in range(20, 23):
            self.assert_post(edge, [("files", f"{n}", 1)])
        edge.kill()
        data = bytearray(file.read_bytes())
        data[30] ^= 1  # in the first group, with good ones behind it
        file.write_bytes(data)
        edge.start()
        edge.wait_logged("event=count_spool_damaged")
        self.assertTrue((edge.settings["data"] / "count.bad").exists())
        server.start()
        self.assert_post(edge, [("files", "after", 1)])
        self.wait_value(edge, "files", "after", 1)

    def test_killed_at_random_points(self):
        server = self.server(snapshot_every=300).start()
        edges = [self.counting_edge(f"edge{n}", server).start() for n in (1, 2)]
        lines = stream()
        feeder = Feeder(self, server.settings["ingest"], lines, rate=2000, arguments=["--batch-ms", "5"])
        stopping, counted, lock, answers = threading.Event(), {}, threading.Lock(), [0, 0]

        def client(number):
            """Counts at an edge until it is told that it was counted; is killed itself now and then, and asks again."""
            random = harness.random.Random(harness.SEED + number)
            while not stopping.is_set():
                edge = edges[number % len(edges)]
                events = [("edge", f"{random.randrange(300)}", random.randrange(1, 9)) for _ in range(random.randrange(1, 20))]
                name = str(uuid.UUID(int=random.getrandbits(128)))
                while True:
                    answer = post(edge, events, name, timeout=0.01 if random.random() < 0.05 else 20)
                    if answer is not None and answer.status == 200:
                        break
                    answers[1] += 1
                    time.sleep(0.02)
                with lock:
                    answers[0] += 1
                    for _, key, amount in events:
                        counted[key] = counted.get(key, 0) + amount

        clients = [threading.Thread(target=client, args=(n,)) for n in range(4)]
        for thread in clients:
            thread.start()
        plan = [daemon for daemon in (server, *edges) for _ in range(-(-KILLS // 3))]
        self.random.shuffle(plan)
        for daemon in plan:
            time.sleep(self.random.choice([0.02, 0.1, 0.4]) * self.random.random())  # the random point itself
            daemon.kill()
            daemon.start(wait=False)
        for daemon in (server, *edges):
            daemon.wait_ready()
        stopping.set()
        for thread in clients:
            thread.join()
        result = feeder.stop()
        for edge in edges:
            wait_until(lambda: metric(edge.at, "tally_spool_entries") == 0, "the spool to be empty")
        self.wait_version(server, result["acknowledged_version"])
        self.wait_equal(server, *edges)
        print(f"# {len(plan)} kills; {answers[0]} posts counted, {answers[1]} asked again; {feeder.count} events by count; "
              f"batches of edges {[metric(edge.at, 'tally_producer_acknowledged_total') for edge in edges]}, "
              f"repeats {[metric(edge.at, 'tally_producer_repeats_total') for edge in edges]}")
        want = recount(feeder.written.elements())
        want["edge"] = counted
        for daemon in (server, *edges):
            self.assert_counts(daemon, want)


if __name__ == "__main__":
    harness.main()
