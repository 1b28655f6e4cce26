# SPDX-License-Identifier: Apache-2.0
"""StatsD at the server: exact sums by TCP and by UDP, from bare sockets and from the clients that people use, what is skipped and why, and what the end of
the server, a busy server and refused tables do to it."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import unittest
from pathlib import Path

import harness
from harness import ROOT, get, metric, post_get, wait_until

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tallycast"
SOURCE = Path(__file__).resolve().parent / "statsd"
REASONS = ("form", "name", "value", "negative", "type", "rate", "tags", "line", "distribution", "event", "service_check", "full", "refused")


def port_of(daemon):
    return int(daemon.url("statsd").rsplit(":", 1)[1])


def udp(daemon):
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect(("127.0.0.1", port_of(daemon)))
    return sender


def skipped(daemon):
    """{reason: how many}, without those that are 0."""
    found = re.findall(r'^tally_statsd_skipped_total\{reason="(\w+)"\} (\d+)$', get(daemon.at, "/metrics").body.decode(), re.M)
    assert tuple(reason for reason, _ in found) == REASONS, found
    return {reason: int(count) for reason, count in found if int(count)}


def clients_folder():
    """npm's clients, of pinned versions, checked by the checksums of their lock file; fetched once. None: it cannot be done."""
    lock = (SOURCE / "package-lock.json").read_bytes()
    versions = json.loads(lock)["packages"]
    folder = CACHE / ("test-statsd-" + "-".join(versions["node_modules/" + name]["version"] for name in ("hot-shots", "node-statsd")))
    if not shutil.which("node"):
        return None
    if not (folder / "node_modules" / "hot-shots").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(SOURCE / name, folder)
        try:
            subprocess.run(["npm", "ci", "--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, check=True,
                           capture_output=True, timeout=60)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"# {error}")
            return None
    return folder


class StatsD(harness.Case):
    settings = {}

    def setUp(self):
        super().setUp()
        self.place = self.server(statsd=f"127.0.0.1:{harness.free_port()}", **self.settings).start()

    def values(self, table, *keys):
        return post_get(self.place.at, table, list(keys))[0]

    def wait_values(self, table, want):
        wait_until(lambda: self.values(table, *want) == list(want.values()),
                   lambda: f"{want} in {table}, which has {self.values(table, *want)}; {skipped(self.place)}")

    def by_tcp(self, text):
        with socket.create_connection(("127.0.0.1", port_of(self.place))) as connection:
            connection.sendall(text)

    def test_tcp_and_udp_are_exact(self):
        lines = [f"key-{self.random.randrange(500)}:{self.random.randrange(100)}|c" for _ in range(20000)]
        want = {}
        for line in lines:
            key, value = line.split(":")
            want[key] = want.get(key, 0) + int(value.split("|")[0])
        data = "".join(line + "\n" for line in lines).encode()
        at = 0
        with socket.create_connection(("127.0.0.1", port_of(self.place))) as connection:
            while at < len(data):  # lines come in pieces
                size = self.random.choice([1, 7, 100, 5000])
                connection.sendall(data[at:at + size])
                at += size
        with udp(self.place) as sender:
            for first in range(0, len(lines), 20):
                sender.send("\n".join(lines[first:first + 20]).encode())
        self.wait_values("statsd", {key: 2 * value for key, value in want.items()})
        self.assertEqual(metric(self.place.at, "tally_statsd_dropped_total"), 0)
        self.assertEqual(metric(self.place.at, "tally_statsd_values_total"), 40000)
        self.assertEqual(skipped(self.place), {})

    def test_every_type(self):
        self.by_tcp(b"c:3|c|@0.1\ng:10|g\ng:-3|g\nt:1.5|ms\nt:0.25|ms|@0.5\nh:7|h\nh:9|h\nlast:1|c")
        self.wait_values("statsd", {"c": 30, "last": 1})
        self.assertEqual(self.values("statsd.gauges", "g"), [7])
        self.assertEqual([self.values("statsd.timers." + table, "t") for table in ("count", "sum_us", "min_us", "max_us")],
                         [[3], [2000], [250], [1500]])
        self.assertEqual([self.values("statsd.histograms." + table, "h") for table in ("count", "sum", "min", "max")],
                         [[2], [16], [7], [9]])
        self.by_tcp(b"".join(b"s:member-%d|s\n" % (number % 40) for number in range(1000)))
        wait_until(lambda: (self.values("statsd.sets", "s")[0] or 0) >= 38, "the set")
        self.assertLessEqual(self.values("statsd.sets", "s")[0], 42)

    def test_what_is_skipped_is_counted_by_reason(self):
        bad = {"form": ["bare", "bare|c", "a:1"], "name": [":1|c", "n" * 1025 + ":1|c"], "value": ["a:NaN|c", "a:1e300|c", "a:x|g"],
               "negative": ["a:-1|c"], "type": ["a:1|z"], "rate": ["a:1|c|@0", "a:1|c|@1.5"],
               "tags": ["a:1|c|#" + ",".join(str(number) for number in range(65))], "line": ["l" * 9000 + ":1|c"], "distribution": ["a:1|d"],
               "event": ["_e{1,1}:a|b"], "service_check": ["_sc|a|0"]}
        lines = [line for some in bad.values() for line in some]
        self.random.shuffle(lines)
        want = {reason: len(some) for reason, some in bad.items()}
        self.by_tcp("".join(line + "\ngood:1|c\n" for line in lines).encode())
        self.wait_values("statsd", {"good": len(lines)})
        self.assertEqual(skipped(self.place), want)
        with udp(self.place) as sender:
            for line in lines:
                sender.send((line + "\ngood:1|c").encode())
            sender.send(self.random.randbytes(5000))
        self.wait_values("statsd", {"good": 2 * len(lines)})
        # Keys that are no UTF-8 are keys.
        with udp(self.place) as sender:
            sender.send(b"\xff\xfe:1|c")
        wait_until(lambda: get(self.place.at, "/v1/get/statsd/%ff%fe").status == 200, "a key of bytes")

    def test_what_was_sent_before_the_end_is_counted(self):
        """Also what it has not looked at yet: the signal is there first, and the data with it."""
        with udp(self.place) as sender, socket.create_connection(("127.0.0.1", port_of(self.place))) as connection:
            connection.sendall(b"first:1|c\n")
            self.wait_values("statsd", {"first": 1})
            self.place.freeze()
            self.place.process.send_signal(signal.SIGTERM)
            for _ in range(2000):
                sender.send(b"udp:1|c")
                connection.sendall(b"tcp:1|c\n")
            self.place.thaw()
            self.assertEqual(self.place.wait_exit(), 0)
        self.place.start()
        self.assertEqual(self.values("statsd", "udp", "tcp"), [2000, 2000])

    def test_a_server_that_stands_still_loses_nothing(self):
        """The loop is stopped in the middle of a tick's wait: what comes is merged meanwhile."""
        self.place.stop()
        self.place.start(tick=2000)
        with udp(self.place) as sender:
            for _ in range(20000):
                sender.send(b"k:1|c")
        self.wait_values("statsd", {"k": 20000})
        self.assertEqual(metric(self.place.at, "tally_statsd_dropped_total"), 0)

    def test_one_table_that_is_refused_takes_no_other_with_it(self):
        self.place.stop()
        self.place.start(tables="closed", table=["statsd", "statsd.timers.count"])
        self.by_tcp(b"a:1|c\nb:1|g\nt:1|ms\n")
        self.wait_values("statsd", {"a": 1})
        self.wait_values("statsd.timers.count", {"t": 1})
        wait_until(lambda: skipped(self.place).get("refused") == 4, lambda: skipped(self.place))
        self.place.wait_logged("event=statsd_refused")

    def test_a_table_of_another_kind(self):
        self.place.stop()
        self.place.start(table="statsd gauge")
        self.by_tcp(b"a:1|c\nb:1|g\n")
        self.wait_values("statsd.gauges", {"b": 1})
        wait_until(lambda: skipped(self.place).get("refused") == 1, lambda: skipped(self.place))

    def test_many_connections(self):
        connections = [socket.create_connection(("127.0.0.1", port_of(self.place))) for _ in range(200)]
        for connection in connections:
            connection.sendall(b"k:1|c\nhalf:1")
        for connection in connections:
            connection.sendall(b"|c")
            connection.close()
        self.wait_values("statsd", {"k": 200, "half": 200})
        wait_until(lambda: metric(self.place.at, "tally_statsd_connections") == 0, "all are closed")


class Rules(StatsD):
    settings = {"statsd_rule": ["web.=web", "=rest"], "statsd_tags": "drop"}

    def test_prefixes_and_tags(self):
        self.by_tcp(b"web.hits:1|c|#a:1\nweb.load:5|g\nhits:2|c|#b\n")
        self.wait_values("rest", {"hits": 2})
        self.assertEqual((self.values("web", "hits"), self.values("web.gauges", "load")), ([1], [5]))


# What StatsD does is tested above.
for name in [name for name in vars(StatsD) if name.startswith("test_")]:
    setattr(Rules, name, None)


class Edge(harness.Case):
    """The same at an edge, which sends it on."""

    def test_what_comes_to_an_edge_is_counted_at_the_server(self):
        server = self.server().start()
        edge = self.edge("edge", server, count=server.settings["ingest"], statsd="127.0.0.1:0", statsd_rule="web.=web").start()
        with socket.create_connection(("127.0.0.1", port_of(edge))) as connection, udp(edge) as sender:
            for _ in range(1000):
                connection.sendall(b"a:1|c\nb:1|c|@0.1\nt:2|ms\nweb.x:1|c\nbad\n")
                sender.send(b"a:1|c\ng:+1|g")
        def values(daemon):
            return [post_get(daemon.at, table, [key])[0][0] for table, key in (("statsd", "a"), ("statsd", "b"), ("statsd.timers.sum_us", "t"),
                                                                               ("statsd.timers.max_us", "t"), ("web", "x"), ("statsd.gauges", "g"))]
        for daemon in (server, edge):
            wait_until(lambda: values(daemon) == [2000, 10000, 2000000, 2000, 1000, 1000], lambda: f"{values(daemon)} {skipped(edge)}")
        self.assertEqual(skipped(edge), {"form": 1000})
        # What the sockets hold is taken before the end, and sent after the next start.
        server.stop()
        with udp(edge) as sender:
            for _ in range(1000):
                sender.send(b"a:1|c")
        self.assertEqual(edge.stop(), 0)
        edge.start(wait=False)
        server.start()
        wait_until(lambda: post_get(server.at, "statsd", ["a"])[0] == [3000], lambda: post_get(server.at, "statsd", ["a"])[0])

    def test_without_a_server_to_count_at_it_is_refused(self):
        server = self.server()
        done = subprocess.run(self.edge("edge", server, statsd="127.0.0.1:0").command(), capture_output=True, text=True, timeout=30)
        self.assertEqual(done.returncode, 2)
        self.assertIn("--statsd wants --count", done.stderr)


class Clients(harness.Case):
    ROUNDS = 200

    def run_client(self, client, protocol, prefix, tags):
        folder = clients_folder()
        if not folder:
            raise unittest.SkipTest("not run: the clients cannot be had")
        place = self.server(f"server-{protocol}", statsd="127.0.0.1:0").start()
        subprocess.run(["node", str(SOURCE / "clients.cjs"), client, protocol, str(port_of(place)), str(self.ROUNDS)], cwd=folder, check=True,
                       timeout=60)
        last = self.ROUNDS - 1

        def values(table, name, more=""):
            return post_get(place.at, table, [prefix + name + more])[0][0]

        def all_of_it():
            return {"hits": values("statsd", "hits", tags), "tagged": values("statsd", "hits", ";a=1;b=2" + tags), "sampled": values("statsd", "sampled", tags),
                    "level": values("statsd.gauges", "level", tags), "count": values("statsd.timers.count", "wait", tags),
                    "sum": values("statsd.timers.sum_us", "wait", tags), "min": values("statsd.timers.min_us", "wait", tags),
                    "max": values("statsd.timers.max_us", "wait", tags), "sizes": values("statsd.histograms.sum", "size", tags),
                    "users": values("statsd.sets", "users", tags)}
        want = {"hits": self.ROUNDS, "tagged": 4 * self.ROUNDS, "sampled": 30 * self.ROUNDS, "level": last, "count": self.ROUNDS,
                "sum": sum(1500 + 1000 * i for i in range(self.ROUNDS)), "min": 1500, "max": 1500 + 1000 * last,
                "sizes": sum(10 + i for i in range(self.ROUNDS)), "users": 10}
        wait_until(lambda: all_of_it() == want, lambda: f"{want}\nwhich is\n{all_of_it()}\n{skipped(place)}", 20)
        self.assertEqual(metric(place.at, "tally_statsd_dropped_total"), 0)
        return place

    def test_hot_shots(self):
        for protocol in ("udp", "tcp"):
            with self.subTest(protocol=protocol):
                place = self.run_client("hot-shots", protocol, "hot.", ";env=test")
                self.assertEqual(post_get(place.at, "statsd.gauges", ["hot.delta;env=test"])[0], [self.ROUNDS])
                wait_until(lambda: skipped(place) == {"negative": self.ROUNDS, "distribution": self.ROUNDS, "event": self.ROUNDS,
                                                      "service_check": self.ROUNDS}, lambda: skipped(place))
                place.stop()

    def test_node_statsd(self):
        place = self.run_client("node-statsd", "udp", "old.", "")
        self.assertEqual(skipped(place), {})


if __name__ == "__main__":
    harness.main()
