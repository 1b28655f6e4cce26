# SPDX-License-Identifier: Apache-2.0
"""Deno follows an edge with the packed package, and reads what the server counted."""
import hosts
import runtimes
from hosts import Program


class Deno(hosts.HostCase):
    host = "deno"

    def test_follows(self):
        site = self.site("main.mjs", "guest.mjs")
        (site / "package.json").write_text('{"type": "module", "dependencies": {"tallycast": "*"}}')
        self.prepare()
        net = "--allow-net=127.0.0.1"
        self.program = Program(self, [runtimes.find("deno"), "run", "--quiet", "--no-lock", "--node-modules-dir=manual", "--cached-only", net, "--allow-read=.",
                                      "main.mjs", self.control.url], site)
        self.run_through(self.program.alive)
        self.check_all()
        self.assertEqual(self.program.process.wait(20), 0)
        hosts.tell(self.host, self.passed)


if __name__ == "__main__":
    hosts.main("deno")
