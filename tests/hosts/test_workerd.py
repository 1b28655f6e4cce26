# SPDX-License-Identifier: Apache-2.0
"""`workerd serve` with a worker that answers HTTP from its mirror: a Durable Object keeps the stream, requests read; and with one that counts."""
import collections
import http.client
import json
import shutil
import threading
import time
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

    def test_counts(self):
        """One tally for the requests of an isolate, each of which flushes beyond its answer."""
        site = self.site()
        shutil.copy(HERE / "workerd" / "counts_worker.mjs", site)
        self.prepare_counts()
        self.port, truth, lock = harness.free_port(), collections.Counter(), threading.Lock()
        (site / "config.capnp").write_text(hosts.workerd_config(site, self.port, self.way.at, ("counts_worker.mjs",)))
        self.program = Program(self, [runtimes.find("workerd"), "serve", "config.capnp"], site)
        hosts.wait_until(self.opened, self.program.log, 30)
        failures = []

        def add(number):
            try:
                for i in range(150):
                    key, n = f"key-{(number * 31 + i) % 60}", i % 7
                    answer = harness.get(f"http://127.0.0.1:{self.port}", f"/add/{key}/{n}")
                    assert answer.status == 200 and answer.json["taken"], answer.body
                    with lock:
                        truth[key] += n
                    time.sleep(0.005)  # so that many are under way one after the other
            except Exception as error:  # the test tells
                failures.append(error)
        threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for part in (100, 300):
            hosts.wait_until(lambda: len(failures) or sum(truth.values()) > part * 3, "they add")  # pylint: disable=cell-var-from-loop
            self.edge_.kill()
            self.edge_.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [], self.program.log())
        ask = lambda path: harness.get(f"http://127.0.0.1:{self.port}", path, timeout=60).json  # noqa: E731
        ask("/flush")
        # A request that ends with its fetch unanswered: neither its fetch nor its timers ever come back, and the next flush sends it again.
        self.edge_.freeze()
        before = ask("/leave/key-0/5")
        self.edge_.thaw()
        truth["key-0"] += 5
        stats = ask("/flush")
        self.assertGreater(stats["retries"], before["retries"])
        self.check_counts(truth, stats)
        self.assertEqual(stats["adds"], 601)

    def opened(self):
        """The first request opens the mirror."""
        try:
            return harness.get(f"http://127.0.0.1:{self.port}", "/").status == 200
        except (OSError, http.client.HTTPException):
            self.assertTrue(self.program.alive(), self.program.log())
            return False


if __name__ == "__main__":
    hosts.main("workerd")
