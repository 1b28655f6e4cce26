# SPDX-License-Identifier: Apache-2.0
"""A server that is away for a while, edges that miss versions: stale and back, merged frames inside the retention, a whole state beyond it."""
import harness
from harness import Feeder, get, metric, recount, stream, try_get, wait_until


class Away(harness.Case):
    def ready(self, daemon):
        answer = try_get(daemon.at, "/readyz")
        return answer.status if answer else None

    def assert_stale_and_back(self, server, edge, go, come):
        want = self.wait_equal(server, edge)
        self.assertEqual(self.ready(edge), 200)
        go()
        wait_until(lambda: self.ready(edge) == 503, "the edge tells that it is stale", 20)
        reason = get(edge.at, "/readyz").body
        self.assertTrue(reason.strip(), "503 comes with a reason")
        self.assertEqual(get(edge.at, "/healthz").status, 200, "a stale edge still works")
        stale = edge.version()
        # It goes on serving what it holds, and says how old that is.
        self.assertEqual((stale["version"], stale["digest"]), (want["version"], want["digest"]))
        self.assertEqual(stale["state"], "stale")
        self.assertGreater(stale["age_ms"], 1000)
        come()
        wait_until(lambda: self.ready(edge) == 200, "the edge is ready again", 30)
        self.assertEqual(edge.version()["state"], "live")

    def test_server_stopped_and_started(self):
        server = self.server(heartbeat=200).start()
        edge = self.edge("edge", server, max_age=1000).start()
        lines = stream()
        self.count(server, lines[:2000])
        self.assert_stale_and_back(server, edge, lambda: self.assertEqual(server.stop(), 0), lambda: server.start())
        result = self.count(server, lines[2000:4000])
        self.wait_version(edge, result["acknowledged_version"])
        self.assert_counts(edge, recount(lines[:4000]))

    def test_server_frozen(self):
        """Connections stay, but nothing comes."""
        server = self.server(heartbeat=200).start()
        edge = self.edge("edge", server, max_age=1000).start()
        self.count(server, stream()[:500])
        self.assert_stale_and_back(server, edge, server.freeze, server.thaw)

    def test_edge_boots_from_its_copy_while_the_server_is_away(self):
        server = self.server().start()
        edge = self.edge("edge", server, max_age=1000).start()
        lines = stream()[:3000]
        self.count(server, lines)
        want = self.wait_equal(server, edge)
        self.assertEqual(edge.stop(), 0)
        self.assertEqual(server.stop(), 0)
        edge.start(wait=False)
        wait_until(lambda: (edge.try_version() or {}).get("version") == want["version"], "the stored copy is served")
        self.assertEqual(edge.version()["digest"], want["digest"])
        self.assert_counts(edge, recount(lines))
        wait_until(lambda: self.ready(edge) == 503, "but it is not ready: too old", 20)
        server.start()
        wait_until(lambda: self.ready(edge) == 200, "ready", 30)

    def miss_versions(self, retention, versions):
        """An edge is away while `versions` versions are cut; gives how it caught up."""
        server = self.server(retention_versions=retention).start()
        edge = self.edge("edge", server).start()
        lines = stream()
        self.count(server, lines[:2000])
        held = self.wait_equal(server, edge)
        # What it serves is stored a little later; without its copy it would ask for the whole state.
        wait_until(lambda: metric(edge.at, "tally_store_version") == held["version"], "the copy is stored")
        edge.kill()
        at, first = 2000, server.version()["version"]
        while server.version()["version"] < first + versions:
            self.count(server, lines[at:at + 20])
            at += 20
        edge.start()
        self.wait_equal(server, edge)
        self.assert_counts(edge, recount(lines[:at]))
        # The loop's thread tells its figures after the version that readers see.
        wait_until(lambda: sum(self.labelled(edge, "tally_sync_catch_ups_total", "kind", kind) for kind in ("delta", "whole")),
                   "the catch-up is counted")
        return {kind: self.labelled(edge, "tally_sync_catch_ups_total", "kind", kind) for kind in ("delta", "whole")}

    def labelled(self, daemon, name, label, value):
        for line in get(daemon.at, "/metrics").body.decode().splitlines():
            if line.startswith(f'{name}{{{label}="{value}"}} '):
                return float(line.split()[-1])
        raise AssertionError(f"{daemon.name} has no {name} with {label} {value}")

    def test_inside_the_retention(self):
        done = self.miss_versions(retention=1000, versions=30)
        self.assertGreater(done["delta"], 0)
        self.assertEqual(done["whole"], 0)

    def test_beyond_the_retention(self):
        done = self.miss_versions(retention=10, versions=40)
        self.assertGreater(done["whole"], 0)

    def test_a_new_edge_joins_while_events_flow(self):
        server = self.server(retention_versions=20).start()
        feeder = Feeder(self, server.settings["ingest"], stream(), rate=10000)
        wait_until(lambda: server.version()["version"] > 30, "some versions")
        edges = []
        for n in range(3):
            edges.append(self.edge(f"edge{n}", server).start())
            wait_until(lambda: edges[-1].version()["version"] > 30, "the new edge serves")
        result = feeder.stop()
        self.wait_version(server, result["acknowledged_version"])
        self.wait_equal(server, *edges)
        for edge in edges:
            self.assert_counts(edge, recount(feeder.written.elements()))

    def test_an_edge_of_two_servers_in_turn(self):
        """It dials both; the one that is there is enough."""
        first = self.server("first").start()
        other = self.server("other")
        edge = self.edge("edge", other, first).start()
        lines = stream()[:1000]
        self.count(first, lines)
        self.wait_equal(first, edge)
        self.assert_counts(edge, recount(lines))


if __name__ == "__main__":
    harness.main()
