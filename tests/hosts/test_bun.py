# SPDX-License-Identifier: Apache-2.0
"""Bun follows an edge with the packed package, and reads what the server counted."""
import hosts
import runtimes
from hosts import Program


class Bun(hosts.HostCase):
    host = "bun"

    def test_follows(self):
        site = self.site("main.mjs", "guest.mjs")
        (site / "package.json").write_text('{"type": "module", "dependencies": {"tallycast": "*"}}')
        self.prepare()
        self.program = Program(self, [runtimes.find("bun"), "--no-install", "main.mjs", self.control.url], site)
        self.run_through(self.program.alive)
        self.check_all()
        self.assertEqual(self.program.process.wait(20), 0)
        hosts.tell(self.host, self.passed)


if __name__ == "__main__":
    hosts.main("bun")
