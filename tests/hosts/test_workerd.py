# SPDX-License-Identifier: Apache-2.0
"""`workerd serve` with a worker that answers HTTP from its mirror: a Durable Object keeps the stream, requests read."""
import http.client
import json
import shutil
import threading
import urllib.parse

import hosts
import runtimes
from hosts import HERE, Program, harness


class Workerd(hosts.HostCase):
    host = "workerd"

    def ask(self):
        """Asks the worker for watched keys, one after the other, until the test says to stop: (table, place, version, value)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        while not self.stop_asking.wait(0.003):
            for table, keys in self.control.job["watched"].items():
                place = len(self.answers) % len(keys)
                connection.request("GET", f"/{table}/{urllib.parse.quote(keys[place], safe='')}")
                answer = json.loads(connection.getresponse().read())
                self.answers.append((table, place, answer["version"], answer["value"]))
        connection.close()

    def test_follows_and_answers(self):
        site = self.site("guest.mjs")
        shutil.copy(HERE / "workerd" / "worker.mjs", site)
        self.prepare()
        self.port = harness.free_port()
        (site / "config.capnp").write_text(hosts.workerd_config(site, self.port, self.control.url, ("worker.mjs", "guest.mjs")))
        self.program = Program(self, [runtimes.find("workerd"), "serve", "config.capnp"], site)
        hosts.wait_until(self.opened, self.program.log, 30)
        self.answers, self.stop_asking = [], threading.Event()
        asker = threading.Thread(target=self.ask, daemon=True)
        asker.start()
        self.addCleanup(self.stop_asking.set)

        def stop_asking():  # the mirror is closed at the end
            self.stop_asking.set()
            asker.join(60)

        alive = lambda: self.program.alive() and (asker.is_alive() or self.stop_asking.is_set())  # noqa: E731
        self.run_through(alive, before_end=stop_asking)
        self.check_all()
        checked, versions = 0, [version for _, _, version, _ in self.answers]
        self.assertEqual(versions, sorted(versions), "an answer of an older version")
        for table, place, version, value in self.answers:
            want = self.truth.values[table].get(version)
            if want is not None:
                self.assertEqual(value, want[place])
                checked += 1
        self.assertGreater(checked, len(self.answers) // 2)
        hosts.tell(self.host, self.passed + ["answers of requests"])
        print(f"# workerd: {len(self.answers)} answers by HTTP, {checked} of known versions checked")

    def opened(self):
        """The first request opens the mirror."""
        try:
            return harness.get(f"http://127.0.0.1:{self.port}", "/").status == 200
        except (OSError, http.client.HTTPException):
            self.assertTrue(self.program.alive(), self.program.log())
            return False


if __name__ == "__main__":
    hosts.main("workerd")
