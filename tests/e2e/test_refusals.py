# SPDX-License-Identifier: Apache-2.0
"""What a machine can refuse: ports in use, folders that cannot be written, a full disk, a data directory that another process has."""
import contextlib
import socket
import subprocess
import unittest

import harness
from harness import get, recount, stream


class Refusals(harness.Case):
    def assert_refuses(self, daemon, code, pattern):
        daemon.start(wait=False)
        found = daemon.wait_exit(30)
        self.assertEqual(found, code, daemon.log())
        self.assertRegex(daemon.log(), pattern)
        self.assertNotIn("event=ready", daemon.log())

    # ---------------------------------------------------------------------------------------------- ports

    @contextlib.contextmanager
    def taken(self, where):
        port = int(where.rsplit(":", 1)[1])
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
            listener.listen()
            yield port

    def test_ports_in_use(self):
        for name in ("ingest", "ingest_pull", "publish", "catchup", "http"):
            with self.subTest(endpoint=name):
                server = self.server(f"server-{name}", ingest_pull=f"tcp://127.0.0.1:{harness.free_port()}")
                with self.taken(server.settings[name]) as port:
                    self.assert_refuses(server, 3, rf"level=error .*{port}.*in use")
        server = self.server().start()
        edge = self.edge("edge", server)
        with self.taken(edge.settings["http"]) as port:
            self.assert_refuses(edge, 3, rf"level=error .*{port}.*in use")

    # ---------------------------------------------------------------------------------------------- folders

    def test_a_file_where_the_folder_should_be(self):
        (self.work / "file").write_text("not a folder")
        server = self.server(data=self.work / "file")
        self.assert_refuses(server, 4, r"level=error .*" + str(self.work / "file"))
        other = self.server("other").start()
        self.assert_refuses(self.edge("edge", other, data=self.work / "file"), 4, r"level=error .*" + str(self.work / "file"))
        self.assert_refuses(self.server("below", data=self.work / "file" / "data"), 4, r"level=error .*file/data")

    @contextlib.contextmanager
    def mounted(self, options):
        """A tmpfs of the test's own; skips the test where it may not mount."""
        folder = self.work / "mount"
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
        if done.returncode:
            raise unittest.SkipTest(f"no right to mount a tmpfs here: {done.stderr.strip()}")
        try:
            yield folder
        finally:
            for daemon in self.daemons:
                if daemon.process:
                    daemon.kill()
            subprocess.run(["umount", folder], check=True)

    def test_a_folder_that_cannot_be_written(self):
        with self.mounted("size=8m") as folder:
            subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
            self.assert_refuses(self.server(data=folder / "data"), 4, r"level=error .*(ead-only|denied|cannot)")
            other = self.server("other").start()
            # An edge can do without a stored copy, and says that it does.
            edge = self.edge("edge", other, data=folder / "data").start()
            self.assertRegex(edge.log(), r"level=warn event=store_off .*ead-only")
            lines = stream()[:200]
            self.count(other, lines)
            self.wait_equal(other, edge)
            self.assert_counts(edge, recount(lines))

    # ---------------------------------------------------------------------------------------------- a full disk

    def test_a_full_disk_of_the_server(self):
        """What was acknowledged stays; what was not is told; with room again all goes on and nothing is lost or counted twice."""
        lines = stream()
        with self.mounted("size=3m") as folder:
            server = self.server(data=folder / "data", snapshot_every=1000000)
            server.start()
            edge = self.edge("edge", server).start()
            feeder = harness.Feeder(self, server.settings["ingest"], lines, rate=20000)
            # What it cannot make durable it does not acknowledge: it ends, and says why.
            self.assertEqual(server.wait_exit(60), 4, server.log())
            self.assertRegex(server.log(), r"level=error .*[Nn]o space")
            subprocess.run(["mount", "-o", "remount,size=200m", folder], check=True)
            server.start()
            result = feeder.stop(120)
            self.wait_version(server, result["acknowledged_version"])
            self.wait_equal(server, edge)
            self.assert_counts(server, recount(feeder.written.elements()))
            self.assertEqual(server.stop(), 0)

    def test_a_full_disk_of_the_edge(self):
        """An edge that cannot store its copy serves all the same, and says so."""
        with self.mounted("size=256k") as folder:
            server = self.server().start()
            edge = self.edge("edge", server, data=folder / "data").start()
            lines = stream()[:40000]
            result = self.count(server, lines)
            self.wait_version(edge, result["acknowledged_version"])
            self.wait_equal(server, edge)
            self.assert_counts(edge, recount(lines))
            edge.stop()
            self.assertRegex(edge.log(), r"level=(warn|error) .*[Nn]o space")

    # ---------------------------------------------------------------------------------------------- two at once

    def test_a_second_server_on_the_same_data(self):
        first = self.server().start()
        self.count(first, stream()[:100])
        want = first.version()
        second = self.server("second", data=first.settings["data"])
        self.assert_refuses(second, 4, r"level=error .*in use")
        self.assertEqual(first.version()["digest"], want["digest"])
        first.kill()
        second.start()  # a killed process leaves no lock behind
        self.assertEqual(second.version()["digest"], want["digest"])

    def test_a_second_edge_on_the_same_data(self):
        server = self.server().start()
        first = self.edge("first", server).start()
        self.assert_refuses(self.edge("second", server, data=first.settings["data"]), 4, r"level=error .*in use")
        self.assertEqual(get(first.at, "/healthz").status, 200)

    def test_the_data_of_another_dataset(self):
        server = self.server().start()
        self.count(server, stream()[:100])
        self.assertEqual(server.stop(), 0)
        self.assert_refuses(self.server("other", data=server.settings["data"], dataset="other"), 4, r"level=error .*dataset")


if __name__ == "__main__":
    harness.main()
