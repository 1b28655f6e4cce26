# SPDX-License-Identifier: Apache-2.0
"""What an edge's memory-max means: a million keys within 128 MB; and what happens when it is reached: the version that is held stays readable and exact,
the edge goes stale and says why, and goes on when there is room again."""
import re
import subprocess

import harness
from harness import BIN, get, metric, post_get, wait_until

WASM = "wasm" in subprocess.run([BIN / "tallycast-edge", "--version"], capture_output=True, text=True, check=True).stdout
CLIENTS = ("wasm", "native") if WASM else ("native",)


def key(number):
    return f"some-folder/file-{number:07d}.c"


class MemoryMax(harness.Case):
    def add(self, server, start, stop):
        self.count(server, [b"files\t" + key(number).encode() for number in range(start, stop)])

    def assert_some(self, edge, count, value=1):
        drawn = [self.random.randrange(count) for _ in range(500)]
        values, _ = post_get(edge.at, "files", [key(number) for number in drawn])
        self.assertEqual(values, [value] * len(drawn))

    def resident(self, edge):
        with open(f"/proc/{edge.process.pid}/status", encoding="utf-8") as status:
            return int(re.search(r"^VmRSS:\s+(\d+)", status.read(), re.M)[1]) << 10

    def test_a_million_keys_within_128_mb(self):
        server = self.server().start()
        edges = [self.edge(client, server, client=client, memory_max="128M", threads=1) for client in CLIENTS]
        before = {}
        for edge in edges:
            edge.start()
            before[edge.name] = self.resident(edge)
        for start in range(0, 1000000, 250000):
            self.add(server, start, start + 250000)
        for number in range(20):  # versions whose changes are all over it
            self.count(server, [b"files\t" + key(self.random.randrange(1000000)).encode() for _ in range(5000)])
        self.assertEqual(self.wait_equal(server, *edges)["keys"], 1000000)
        for edge in edges:
            values, _ = post_get(server.at, "files", [key(number) for number in range(0, 1000000, 400)])
            self.assertEqual(post_get(edge.at, "files", [key(number) for number in range(0, 1000000, 400)])[0], values)
            self.assertEqual(metric(edge.at, "tally_sync_refused_total"), None)
            memory = metric(edge.at, "tally_mirror_memory_bytes")
            self.assertLessEqual(memory, 128 << 20)
            more = self.resident(edge) - before[edge.name]
            print(f"{edge.name}: 1M keys of {len(key(0))} bytes in {memory / 2**20:.0f} MiB of the mirror's, {more / 2**20:.0f} MiB more of the process")
            # What the process takes beside the mirror is what is on its way: frames, the stored copy, streams.
            self.assertLess(more, (128 + 160) << 20)
        # And from its stored copy, in one piece.
        for edge in edges:
            self.assertEqual(edge.stop(), 0)
            edge.start()
            self.wait_equal(server, edge)
            edge.stop()

    def test_the_bound_is_reached(self):
        for client in CLIENTS:
            with self.subTest(client=client):
                server = self.server(f"server-{client}").start()
                edge = self.edge(f"edge-{client}", server, client=client, memory_max="64M", threads=1, max_age=1000).start()
                self.add(server, 0, 200000)
                held = self.wait_equal(server, edge)
                for start in range(200000, 1800000, 200000):
                    self.add(server, start, start + 200000)
                    if edge.has_logged("event=refused"):
                        break
                edge.wait_logged(r'event=refused .*status="out of memory"')
                held = edge.version()
                self.assertLess(held["version"], server.version()["version"])
                self.assertGreaterEqual(held["keys"], 200000)
                self.assert_some(edge, held["keys"])
                wait_until(lambda: get(edge.at, "/readyz").status == 503, "it is stale")
                self.assertIn("stale", get(edge.at, "/readyz").json["error"])
                self.assertGreater(metric(edge.at, "tally_sync_refused_total"), 0)
                self.assertLessEqual(metric(edge.at, "tally_mirror_memory_bytes"), 64 << 20)
                again = metric(edge.at, "tally_sync_refused_total")
                self.assertLess(again, 50, "it is not asked for again and again without a pause")
                # More room: it starts with what it holds and catches up.
                self.assertEqual(edge.stop(), 0)
                edge.start(memory_max="1G")
                self.wait_equal(server, edge)
                self.assert_some(edge, server.version()["keys"])
                edge.stop()
                server.stop()


if __name__ == "__main__":
    harness.main()
