# SPDX-License-Identifier: Apache-2.0
"""kill -9 at random points while events flow: acknowledged means counted once, and every copy comes back to the same digest."""
import os
import time

import harness
from harness import Feeder, recount, stream, wait_until
from kinds_case import KindsCase

KILLS = 20


class Kill(harness.Case):
    def churn(self, server, edges, kills):
        """kill -9 of each daemon `kills` times, in random order, at random points, while it is fed."""
        plan = [daemon for daemon in (server, *edges) for _ in range(kills)]
        self.random.shuffle(plan)
        lines = stream()
        feeder = Feeder(self, server.settings["ingest"], lines, rate=8000, arguments=["--batch-ms", "2"])
        for daemon in plan:
            if self.random.random() < 0.7:
                # In the middle of its work: it has gone on since it was started.
                start = (daemon.try_version() or {"version": 0})["version"]
                wait_until(lambda: (daemon.try_version() or {"version": 0})["version"] > start, f"{daemon.name} goes on", 20)
                time.sleep(0.1 * self.random.random())
            else:
                # Or anywhere, in its start too: this wait is the random point itself.
                time.sleep(self.random.choice([0, 0.02, 0.1]) * self.random.random())
            daemon.kill()
            daemon.start(wait=False)
        for daemon in (server, *edges):
            daemon.wait_ready()
        result = feeder.stop()
        return feeder, result

    def test_server_and_edges_are_killed(self):
        server = self.server(snapshot_every=300).start()
        edges = [self.edge(f"edge{n}", server).start() for n in (1, 2)]
        feeder, result = self.churn(server, edges, KILLS)
        print(f"# {feeder.count} events, {result['batches']} batches, {result['repeats']} of them acknowledged as repeats, "
              f"version {result['acknowledged_version']}; starts: {[d.starts for d in (server, *edges)]}")
        self.assertEqual([daemon.starts for daemon in (server, *edges)], [KILLS + 1] * 3)
        self.wait_version(server, result["acknowledged_version"])
        self.wait_equal(server, *edges)
        want = recount(feeder.written.elements())
        for daemon in (server, *edges):
            self.assert_counts(daemon, want)
        # What survived is on disk too.
        digest = server.version()["digest"]
        self.assertEqual(server.stop(), 0)
        server.start()
        self.assertEqual(server.version()["digest"], digest)

    def test_two_kills_in_a_row_lose_nothing(self):
        """Killed again while it still recovers."""
        server = self.server(snapshot_every=50).start()
        edge = self.edge("edge", server).start()
        feeder = Feeder(self, server.settings["ingest"], stream(), rate=5000)
        for _ in range(5):
            time.sleep(0.2 * self.random.random())
            server.kill()
            server.start(wait=False)
            time.sleep(0.05 * self.random.random())
            server.kill()
            server.start()
        result = feeder.stop()
        self.wait_version(server, result["acknowledged_version"])
        self.wait_equal(server, edge)
        self.assert_counts(edge, recount(feeder.written.elements()))


class KillKinds(KindsCase):
    KILLS = int(os.environ.get("TALLY_KILLS", "10"))  # of the server, and as many of either; the long form has 100

    def lines(self):
        """{kind: lines}: the stream, taken for each kind in its own way."""
        files = [line.split(b"\t", 1)[1] for line in stream() if line.startswith(b"files")]
        repos = [name.split(b"/", 1) for name in files]
        return {
            "counter": [b"files\t" + name for name in files],
            "topk": [b"hot\t" + name for name in files],
            "gauge": [b"last\t%s\t%d" % (repo, n) for n, (repo, _) in enumerate(repos)],
            "adjust": [b"balance\t%s\t%d" % (repo, len(path) * (-1) ** len(path)) for repo, path in repos],
            "min": [b"least\t%s\t%d" % (repo, -n) for n, (repo, _) in enumerate(repos)],
            "max": [b"greatest\t%s\t%d" % (repo, n) for n, (repo, _) in enumerate(repos)],
            "distinct": [b"paths\t%s\t%s" % (repo, path) for repo, path in repos],
        }

    def test_every_kind(self):
        """Producers of every kind at once; server and edge are killed at random points."""
        server = self.server(table=["hot topk k=20 capacity=200", "top topk k=50 of=files"], snapshot_every=40).start()
        edge = self.edge("edge", server).start()
        lines = self.lines()
        feeders = {kind: Feeder(self, server.settings["ingest"], lines[kind], rate=600,
                                arguments=["--batch-ms", "3", *self.words(kind)]) for kind in lines}
        for _ in range(self.KILLS):
            for daemon in (server, self.random.choice([server, edge])):
                time.sleep(0.4 * self.random.random())  # the random point itself
                daemon.kill()
                daemon.start(wait=False)
        for daemon in (server, edge):
            daemon.wait_ready()
        version = 0
        for kind, feeder in feeders.items():
            version = max(version, feeder.stop()["acknowledged_version"])
            self.note(kind, [lines[kind][n % len(lines[kind])] for n in range(feeder.count)])
        self.wait_version(server, version)
        self.wait_equal(server, edge)
        print(f"# {sum(feeder.count for feeder in feeders.values())} events, version {version}; "
              f"starts: {[daemon.starts for daemon in (server, edge)]}")
        for daemon in (server, edge):
            self.assert_topk(self.check(daemon, 50, {b"paths": 1 << 12}), "hot", 20, 200)
        digest = server.version()["digest"]
        self.assertEqual(server.stop(), 0)
        server.start()
        self.assertEqual(server.version()["digest"], digest)


if __name__ == "__main__":
    harness.main()
