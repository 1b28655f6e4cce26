# SPDX-License-Identifier: Apache-2.0
"""Data directories that were corrupted, cut short or emptied: a clear error or a repair, never a wrong answer."""
import os
import shutil

import harness
from harness import recount, stream, wait_until


ROUNDS = int(os.environ.get("TALLY_ROUNDS", "4"))  # of each random damage to each file


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 0)


class Damage(harness.Case):
    def place(self, data):
        """A random offset in a part of the file that holds something: log files are sparse."""
        blocks = [at for at in range(0, len(data), 4096) if any(data[at:at + 4096])]
        block = self.random.choice(blocks or [0])
        return block + self.random.randrange(min(4096, len(data) - block))

    def flip(self, path, bits=1):
        data = bytearray(path.read_bytes())
        for _ in range(bits):
            data[self.place(data)] ^= 1 << self.random.randrange(8)
        path.write_bytes(data)

    def zero(self, path):
        data = bytearray(path.read_bytes())
        at = self.place(data)
        data[at:at + 4096] = bytes(len(data[at:at + 4096]))
        path.write_bytes(data)

    def cut(self, path):
        data = path.read_bytes()
        path.write_bytes(data[:self.place(data)])

    def ways(self):
        random = [("flip one bit", self.flip), ("flip many bits", lambda path: self.flip(path, 64)), ("zero a block", self.zero),
                  ("cut", self.cut)]
        return [(f"{name} ({n})", damage) for name, damage in random for n in range(ROUNDS)] + [
            ("cut the last byte", lambda path: path.write_bytes(path.read_bytes()[:-1])),
            ("empty", lambda path: path.write_bytes(b"")),
            ("garbage", lambda path: path.write_bytes(self.random.randbytes(path.stat().st_size))),
            ("append", lambda path: path.write_bytes(path.read_bytes() + self.random.randbytes(100))),
            ("remove", lambda path: path.unlink()),
        ]

    # ---------------------------------------------------------------------------------------------- the edge's copy

    def test_the_copy_of_an_edge(self):
        server = self.server().start()
        edge = self.edge("edge", server).start()
        lines = stream()[:6000]
        self.count(server, lines)
        want = self.wait_equal(server, edge)
        self.assertEqual(edge.stop(), 0)
        kept = self.work / "kept"
        shutil.copytree(edge.settings["data"], kept)
        names = [path.relative_to(kept) for path in files_of(kept)]
        self.assertTrue(names, "an edge that was stopped leaves a copy")
        for name in names:
            for way, damage in self.ways():
                with self.subTest(file=str(name), way=way):
                    shutil.rmtree(edge.settings["data"])
                    shutil.copytree(kept, edge.settings["data"])
                    damage(edge.settings["data"] / name)
                    edge.start()
                    self.wait_equal(server, edge)
                    self.assertEqual(edge.version()["digest"], want["digest"])
                    self.assertEqual(edge.stop(), 0)
        edge.start()
        self.assert_counts(edge, recount(lines))

    def test_a_damaged_copy_is_not_served_when_the_server_is_away(self):
        server = self.server().start()
        edge = self.edge("edge", server).start()
        self.count(server, stream()[:6000])
        want = self.wait_equal(server, edge)
        self.assertEqual(edge.stop(), 0)
        self.assertEqual(server.stop(), 0)
        kept = self.work / "kept"
        shutil.copytree(edge.settings["data"], kept)
        for name in [path.relative_to(kept) for path in files_of(kept)]:
            for way, damage in self.ways():
                with self.subTest(file=str(name), way=way):
                    shutil.rmtree(edge.settings["data"])
                    shutil.copytree(kept, edge.settings["data"])
                    damage(edge.settings["data"] / name)
                    edge.start(wait=False)
                    wait_until(lambda: edge.try_version() or edge.process.poll() is not None, "it answers or ends")
                    wait_until(lambda: edge.process.poll() is not None or edge.version()["state"] not in ("booting",),
                               "it has looked at its copy")
                    if edge.process.poll() is not None:
                        self.assertEqual(edge.wait_exit(), 4, edge.log())
                        continue
                    found = edge.version()
                    if found["version"] != 0:  # the damage was behind the last frame, or in nothing that matters
                        self.assertEqual((found["version"], found["digest"]), (want["version"], want["digest"]))
                    self.assertEqual(edge.stop(), 0)

    # ---------------------------------------------------------------------------------------------- the server's data

    def prepare_server(self):
        server = self.server(snapshot_every=40).start()
        edge = self.edge("edge", server).start()
        lines = stream()
        for at in range(0, 6850, 50):  # 137 versions: snapshots at 80 and 120, and a tail that only the log has
            self.count(server, lines[at:at + 50])
        want = self.wait_equal(server, edge)
        self.assertEqual(server.stop(), 0)
        kept = self.work / "kept"
        shutil.copytree(server.settings["data"], kept)
        return server, edge, kept, want, recount(lines[:6850])

    def put_back(self, kept, data):
        """All but `lock`, by which a server knows a directory that was copied: that would be a new epoch whatever the damage."""
        lock = (data / "lock").read_bytes()
        for path in data.iterdir():
            if path.name != "lock":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(kept, data, ignore=shutil.ignore_patterns("lock"), dirs_exist_ok=True)
        self.assertEqual((data / "lock").read_bytes(), lock)

    def assert_right_or_refused(self, server, want, way):
        """It either refuses with exit code 4 and a reason, or serves exactly what it had (or, in a new epoch, what it can prove)."""
        server.start(wait=False)
        wait_until(lambda: server.has_logged("event=ready") or server.process.poll() is not None, server.log, 60)
        if server.process.poll() is not None:
            self.assertEqual(server.wait_exit(), 4, server.log())
            self.assertRegex(server.log(), r"level=error .*(corrupt|malformed|refused|missing|cut|truncated|damaged|not )")
            return "refused"
        found = server.version()
        same = (found["epoch"], found["version"], found["digest"], found["keys"]) == \
            (want["epoch"], want["version"], want["digest"], want["keys"])
        if not same:
            self.assertGreater(found["epoch"], want["epoch"], f"{way}: another state in the same epoch: {found}, was {want}")
            self.assertRegex(server.log(), r"level=(warn|error|info) event=(continuity_lost|new_log|new_epoch)")
        self.assertEqual(server.stop(), 0)
        return "same" if same else "new epoch"

    def test_the_data_of_a_server(self):
        server, _, kept, want, _ = self.prepare_server()
        names = [path.relative_to(kept) for path in files_of(kept) if path.name not in ("lock.mdb", "lock")]
        told = {}
        for name in names:
            for way, damage in self.ways():
                with self.subTest(file=str(name), way=way):
                    self.put_back(kept, server.settings["data"])
                    damage(server.settings["data"] / name)
                    told[f"{name.name}: {way}"] = self.assert_right_or_refused(server, want, way)
        self.assertIn("same", told.values())
        # A lock that says nothing, or something else: a directory that may be older than what was served.
        for way, damage in (("flip one bit", self.flip), *self.ways()[4 * ROUNDS:]):
            with self.subTest(file="lock", way=way):
                self.put_back(kept, server.settings["data"])
                lock = (server.settings["data"] / "lock").read_bytes()
                damage(server.settings["data"] / "lock")
                changed = not (server.settings["data"] / "lock").exists() or (server.settings["data"] / "lock").read_bytes() != lock
                told[f"lock: {way}"] = outcome = self.assert_right_or_refused(server, want, way)
                self.assertEqual(outcome, "new epoch" if changed else "same")
        print()
        for what, outcome in told.items():
            if outcome != "same":
                print(f"# {what}: {outcome}")

    def test_an_emptied_data_directory(self):
        """Nothing left is a new lineage: the edges go over to it instead of mixing the two."""
        server, edge, _, want, _ = self.prepare_server()
        shutil.rmtree(server.settings["data"])
        server.start()
        found = server.version()
        self.assertEqual((found["version"], found["keys"]), (0, 0))
        lines = stream()[:100]
        self.count(server, lines)
        found = self.wait_equal(server, edge)
        self.assertGreater(found["epoch"], want["epoch"])
        self.assert_counts(edge, recount(lines))

    def test_an_earlier_backup(self):
        """A data directory put back to an earlier state: edges that are ahead must not keep the future that is gone."""
        server = self.server().start()
        edge = self.edge("edge", server).start()
        lines = stream()
        self.count(server, lines[:1000])
        epoch = self.wait_equal(server, edge)["epoch"]
        self.assertEqual(server.stop(), 0)
        shutil.copytree(server.settings["data"], self.work / "backup")
        server.start()
        self.count(server, lines[1000:2000])
        self.wait_equal(server, edge)
        self.assertEqual(server.stop(), 0)
        shutil.rmtree(server.settings["data"])
        shutil.copytree(self.work / "backup", server.settings["data"])
        server.start()
        for at in range(2000, 3000, 50):  # more versions than were lost
            self.count(server, lines[at:at + 50])
        found = self.wait_equal(server, edge)
        self.assertGreater(found["epoch"], epoch, "what was served and is gone is of another epoch than what comes now")
        self.assert_counts(edge, recount(lines[:1000] + lines[2000:3000]))

    def test_an_earlier_backup_and_nothing_new(self):
        """Nobody counts anything after it: edges that are ahead come back all the same, whatever way the files were put back."""
        for way in ("other files", "the same files"):
            with self.subTest(way=way):
                server = self.server(f"server {way}").start()
                edge = self.edge(f"edge {way}", server).start()
                lines = stream()
                self.count(server, lines[:1000])
                want = self.wait_equal(server, edge)
                self.assertEqual(server.stop(), 0)
                backup = self.work / f"backup of {way}"
                shutil.copytree(server.settings["data"], backup)
                server.start()
                self.count(server, lines[1000:2000])
                self.wait_equal(server, edge)
                server.kill()
                if way == "other files":
                    shutil.rmtree(server.settings["data"])
                shutil.copytree(backup, server.settings["data"], dirs_exist_ok=True)
                server.start()
                found = self.wait_equal(server, edge)
                self.assertGreater(found["epoch"], want["epoch"])
                self.assertIn("event=continuity_lost", server.log())
                self.assert_counts(edge, recount(lines[:1000]))
                # Told once: the next start is as any other.
                self.assertEqual(server.stop(), 0)
                server.start()
                self.assertEqual(self.wait_equal(server, edge)["epoch"], found["epoch"])


if __name__ == "__main__":
    harness.main()
