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
        self.program = Program(self, [BUN, "--no-install", "main.mjs", self.control.url], site)
        self.run_through(self.program.alive)
        self.check_all()
        self.assertEqual(self.program.process.wait(20), 0)


if __name__ == "__main__":
    skipped = None
    try:
        BUN = runtimes.find("bun")
    except runtimes.NotRun as reason:
        skipped = str(reason)
    hosts.main(skipped)
