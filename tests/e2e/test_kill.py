# SPDX-License-Identifier: Apache-2.0
"""kill -9 at random points while events flow: acknowledged means counted once, and every copy comes back to the same digest."""
import time

import harness
from harness import Feeder, recount, stream, wait_until

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


if __name__ == "__main__":
    harness.main()
