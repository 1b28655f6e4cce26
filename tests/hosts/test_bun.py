# SPDX-License-Identifier: Apache-2.0
"""Bun follows an edge with the packed package, and reads what the server counted; and counts."""
import hosts
import runtimes
from hosts import Program


class Bun(hosts.HostCase):
    host = "bun"

    def start(self, main, *more):
        site = self.site(main, *more)
        (site / "package.json").write_text('{"type": "module", "dependencies": {"tallycast": "*"}}')
        self.program = Program(self, [runtimes.find("bun"), "--no-install", main, self.control.url], site)

    def test_follows(self):
        self.prepare()
        self.start("main.mjs", "guest.mjs")
        self.run_through(self.program.alive)
        self.check_all()
        self.assertEqual(self.program.process.wait(20), 0)
        hosts.tell(self.host, self.passed)

    def test_counts(self):
        self.prepare_counts()
        self.start("counts_main.mjs", "counts.mjs", "guest.mjs")
        self.run_counts(self.program.alive)
        self.assertEqual(self.program.process.wait(20), 0)


if __name__ == "__main__":
    hosts.main("bun")
