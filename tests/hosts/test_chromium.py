# SPDX-License-Identifier: Apache-2.0
"""A page in Chromium follows an edge on a shared memory, which workers read; one of them is terminated while it reads. Another page counts."""
import hosts
from chromium import Browser


class Chromium(hosts.HostCase):
    host = "chromium"

    def test_follows_with_workers(self):
        site = self.site("guest.mjs", "page/index.html", "page/page.mjs", "page/reader.mjs")
        self.prepare(site)
        with Browser() as browser:
            page = browser.page(f"{self.control.url}/page/index.html")
            try:
                self.control.wait(lambda: page.eval("window.state?.attached") == 3, "three workers attached")
                self.assertTrue(page.eval("crossOriginIsolated"))
                self.terminated = False

                def terminate():
                    if self.terminated:
                        return
                    self.terminated = True
                    page.eval("terminateOne()")
                    self.control.wait(lambda: page.eval("state.takenBack") == 1, "the slot of the worker that was terminated")
                    self.assertEqual(page.eval("state.attached"), 2)

                self.run_through(middle=terminate)
            finally:
                faults = [fault for fault in page.faults() if "WebSocket connection to" not in fault]
        by_readers = self.check_all()
        self.assertGreater(by_readers, 200)
        self.assertGreater(min(self.control.views.values()), 100, self.control.views)
        self.assertEqual(faults, [])
        print(f"# chromium: {sum(self.control.views.values())} views by workers")
        hosts.tell(self.host, self.passed + ["views of workers on one memory", "a worker terminated"])

    def test_counts(self):
        """At an edge of another origin, which lets the page in: the browser asks first."""
        site = self.site("counts.mjs", "guest.mjs", "page/counts.html")
        self.prepare_counts(site)
        with Browser() as browser:
            page = browser.page(f"{self.control.url}/page/counts.html")
            self.run_counts()
            faults = [fault for fault in page.faults() if self.way.at not in fault and "Failed to load resource" not in fault]
        self.assertEqual(faults, [])


if __name__ == "__main__":
    hosts.main("chromium")
