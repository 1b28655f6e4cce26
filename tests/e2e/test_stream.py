# SPDX-License-Identifier: Apache-2.0
"""The whole way on real input: events through `tallycast count`, one digest everywhere, and by HTTP exactly the counts of `sort | uniq -c`."""
import json
import subprocess
import urllib.parse

import harness
from harness import BIN, EVENT_AWK, FULL, SLICE, get


class Stream(harness.Case):
    def recount_by_shell(self, path):
        """{table: {key: count}} by tools that share nothing with ours."""
        out = subprocess.run(f"zcat {path} | awk -F'\\t' '{EVENT_AWK}' | LC_ALL=C sort | uniq -c", shell=True, check=True,
                             capture_output=True).stdout
        counts = {}
        for line in out.splitlines():
            number, row = line.strip().split(b" ", 1)
            table, key = row.split(b"\t")
            counts.setdefault(table.decode(), {})[key.decode()] = int(number)
        return counts

    def feed(self, path, server, *options):
        out = subprocess.run(
            f"zcat {path} | awk -F'\\t' '{EVENT_AWK}' | {BIN}/tallycast count --to {server.settings['ingest']} --json "
            + " ".join(options), shell=True, check=True, capture_output=True, timeout=200).stdout
        return json.loads(out)

    def test_every_count_of_the_stream(self):
        path = FULL if FULL.exists() else SLICE
        want = self.recount_by_shell(path)
        server = self.server().start()
        edges = [self.edge(f"edge{n}", server).start() for n in (1, 2)]
        result = self.feed(path, server)
        events = sum(sum(keys.values()) for keys in want.values())
        self.assertEqual(result["events"], events)
        version = self.wait_version(server, result["acknowledged_version"])
        self.assertEqual(version["keys"], sum(len(keys) for keys in want.values()))
        self.wait_equal(server, *edges)
        for daemon in (server, *edges):
            self.assert_counts(daemon, want)
        # Key by key too, through the path.
        for key in self.random.sample(list(want["files"]), 200):
            for daemon in (server, edges[0]):
                answer = get(daemon.at, "/v1/get/files/" + urllib.parse.quote(key)).json
                self.assertEqual((answer["value"], answer["key"]), (want["files"][key], key))
        # A dump of an edge is the recount, and its digest holds row by row.
        dump = self.cli("dump", "--at", edges[1].at, "--meta").stdout
        lines = dump.decode().splitlines()[1:]
        rows = {tuple(line.split("\t")[:2]): int(line.split("\t")[2]) for line in lines}
        self.assertEqual(rows, {(table, key.replace("\\", "\\\\")): value
                                for table, keys in want.items() for key, value in keys.items()})
        self.assertIn(b"digest=" + version["digest"].encode(), dump.splitlines()[0])
        self.cli("verify", "-", input=dump)
        for daemon in (server, *edges):
            self.cli("verify", "--at", daemon.at)

    def test_bytes_on_the_wire(self):
        server = self.server().start()
        edge = self.edge("edge", server).start()
        result = self.feed(SLICE, server, "--batch-bytes", "16384")
        self.wait_version(edge, result["acknowledged_version"])
        look = json.loads(self.cli("watch", "--at", server.at, "--json", "--looks", "1").stdout)["places"][0]
        print(f"# bytes per changed existing count: {look['bytes_per_changed_key']}, over {result['acknowledged_version']} versions")
        self.assertGreater(result["acknowledged_version"], 10, "enough versions for the number to mean something")
        self.assertLess(look["bytes_per_changed_key"], 6)
        self.assertGreater(look["bytes_per_changed_key"], 0.5)


if __name__ == "__main__":
    harness.main()
