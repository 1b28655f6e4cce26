# SPDX-License-Identifier: Apache-2.0
"""Another build of the client's module, and of a guest, takes over in a running edge: under load every answer is held against the version that it
names, no version is missed, none goes back, and the memory of the build before is given back. What is no such module is refused."""
import os
import shutil
import signal
import unittest

import harness
from guests import WHOLE, Reader, Truth
from harness import BIN, Feeder, get, metric, stream, wait_until

MODULE = BIN.parent / "wasm" / "tallycast-shared.wasm"
EXAMPLES = BIN.parent / "wasm" / "examples"
HAVE_WASM = MODULE.exists() and "wasm" in harness.subprocess.run([BIN / "tallycast-edge", "--version"], capture_output=True, text=True,
                                                                 check=True).stdout
FILES = 6
RELOADS = int(os.environ.get("TALLY_RELOADS", "6"))


def leb(value):
    out = b""
    while True:
        value, byte = value >> 7, value & 0x7f
        out += bytes([byte | (0x80 if value else 0)])
        if not value:
            return out


def another_build(data, number):
    """The module with a custom section more: another file that does the same."""
    section = leb(5) + b"build" + number.to_bytes(4, "little")
    return data + b"\0" + leb(len(section)) + section


def another_abi(data):
    """The module with tallycast_abi() one higher."""
    at, imports, index, sections = 8, 0, None, {}

    def number(at):
        value = shift = 0
        while True:
            value |= (data[at] & 0x7f) << shift
            shift += 7
            at += 1
            if data[at - 1] < 0x80:
                return value, at
    while at < len(data):
        kind = data[at]
        size, start = number(at + 1)
        sections[kind] = (start, start + size)
        at = start + size
    count, at = number(sections[7][0])  # exports
    for _ in range(count):
        size, at = number(at)
        name, at = data[at:at + size], at + size
        kind, at = data[at], at + 1
        value, at = number(at)
        if name == b"tallycast_abi" and kind == 0:
            index = value - imports
    count, at = number(sections[10][0])  # code
    for function in range(count):
        size, at = number(at)
        if function == index:
            body = data[at:at + size]
            assert body[:2] == b"\0\x41" and body[-1:] == b"\x0b" and size == 4, body
            return data[:at + 2] + bytes([body[2] + 1]) + data[at + 3:]
        at += size
    raise AssertionError("no tallycast_abi")


def resident(daemon):
    return metric(daemon.at, "process_resident_memory_bytes")


@unittest.skipUnless(HAVE_WASM, "not run: the edge was built without Wasmtime, or without the module")
class Reload(harness.Case):
    def put(self, data, path):
        """As an operator does it: beside, then in its place."""
        beside = path.with_suffix(".new")
        beside.write_bytes(data)
        beside.rename(path)

    def taken(self, edge):
        return edge.log().count("event=module_reloaded")

    def test_under_load(self):
        data, module = MODULE.read_bytes(), self.work / "client.wasm"
        self.put(data, module)
        share = EXAMPLES / "share.wasm"
        guest = ["share"] if share.exists() else []
        lines = stream()[:4000]
        files = [key for key, _ in harness.recount(lines)["files"].most_common(FILES)]
        server = self.server(tick=5).start()
        edge = self.edge("edge", server, client="wasm", module=module, log_level="debug", count=server.settings["ingest"],
                         guest=[f"share={share}"] if guest else None).start()
        self.count(server, [b"many\tkey-%07d" % i for i in range(200000)])
        self.count(server, lines[:100])
        self.wait_equal(server, edge)
        first = server.version()["version"]
        identities = {metric_label(edge, "tally_edge_module", "id")}
        keys = [(b"files", file) for file in files]
        truth, beside = Truth(self, server, keys), Truth(self, edge, keys)
        wholes = beside.mirror.messages[WHOLE]  # the chunks that it began with
        feeder = Feeder(self, server.settings["ingest"], lines, rate=3000, arguments=["--batch-ms", "5"])
        readers = [Reader(self, edge, files, guest[0] if guest else None) for _ in range(3)]

        def reload(number):
            if number % 2:
                edge.process.send_signal(signal.SIGHUP)
            else:
                self.put(another_build(data, number), module)
            wait_until(lambda: self.taken(edge) == number + 1, lambda: f"reload {number}:\n{edge.log()[-2000:]}")
            version = server.version()["version"]
            self.wait_version(edge, version + 20)
            identities.add(metric_label(edge, "tally_edge_module", "id"))
        reload(0)
        before = resident(edge)
        for number in range(1, RELOADS):
            reload(number)
        refused = {"empty": b"", "cut short": data[:len(data) // 2], "of another ABI": another_abi(data),
                   "another module": (EXAMPLES / "share.wasm").read_bytes() if guest else b"\0asm\1\0\0\0"}
        for number, (what, wrong) in enumerate(refused.items()):
            self.put(wrong, module)
            wait_until(lambda: edge.log().count("event=module_refused") == number + 1, lambda: f"{what}:\n{edge.log()[-2000:]}")
        self.assertRegex(edge.log(), r"speaks ABI \d+, this host \d+")
        self.assertEqual(self.taken(edge), RELOADS)
        self.wait_version(edge, server.version()["version"] + 20)
        after = wait_until(lambda: (resident(edge) < 1.25 * before) and resident(edge), lambda: f"{before} before, {resident(edge)} after", 15)
        for reader in readers:
            reader.end()
        feeder.stop()
        self.wait_equal(server, edge)
        wait_until(lambda: beside.mirror.version == server.version()["version"], "the edge's stream has come to the end")
        truth.end()
        beside.end()
        self.assertEqual((truth.failed, beside.failed), (None, None))
        checked = sum(reader.check(self, truth) for reader in readers)
        # Every version, once: the edge's own log, and what a guest of its stream got.
        versions = [int(line.split(" version=")[1].split()[0]) for line in edge.log().splitlines() if "event=applied" in line]
        versions = [version for version in versions if version > first]
        self.assertEqual(versions, list(range(first + 1, versions[-1] + 1)))
        self.assertEqual(metric(edge.at, "tally_sync_gaps_total"), 0)
        self.assertEqual((beside.mirror.messages[WHOLE], beside.mirror.merged), (wholes, 0))
        self.assertEqual(len(identities), (RELOADS + 1) // 2 + 1)
        self.assertEqual(metric(edge.at, "tally_edge_module_reloads_total"), RELOADS + len(refused))
        print(f"{RELOADS} reloads, {checked} answers checked, {len(versions)} versions, {before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after")

    def test_a_guest_changes(self):
        share, probe = EXAMPLES / "share.wasm", EXAMPLES / "probe.wasm"
        if not probe.exists():
            self.skipTest("not run: no clang for wasm32")
        path = self.work / "guest.wasm"
        self.put(share.read_bytes(), path)
        server = self.server().start()
        edge = self.edge("edge", server, guest=f"it={path}", client="native").start()
        self.count(server, [b"files\ta/b"])
        self.wait_equal(server, edge)

        def answer():
            return get(edge.at, "/v1/guest/it/created").status
        self.assertEqual(answer(), 200)
        self.put(probe.read_bytes(), path)  # a changed file
        wait_until(lambda: answer() == 201, "the other guest answers")
        self.put(b"no module", path)
        edge.wait_logged("event=guest_refused guest=it")
        self.assertEqual(answer(), 201)
        self.put(share.read_bytes(), path)
        edge.process.send_signal(signal.SIGHUP)
        wait_until(lambda: answer() == 200, "the first guest answers again")
        self.assertEqual(metric(edge.at, "tally_guest_loads_refused_total"), 1)

    def test_nothing_is_held(self):
        """An edge that has nothing yet takes another module as well; and one that stops in the middle stops."""
        server = self.server()
        module = self.work / "client.wasm"
        shutil.copy(MODULE, module)
        edge = self.edge("edge", server, client="wasm", module=module).start()
        edge.process.send_signal(signal.SIGHUP)
        edge.wait_logged("event=module_reloaded .*version=0")
        server.start()
        self.count(server, [b"t\tk"])
        self.wait_equal(server, edge)
        edge.process.send_signal(signal.SIGHUP)
        edge.wait_logged("event=reload ")
        self.assertEqual(edge.stop(), 0)
        native = self.edge("native", server, client="native").start()
        native.process.send_signal(signal.SIGHUP)
        native.wait_logged("event=reload module=none guests=none")
        self.wait_equal(server, native)


def metric_label(daemon, name, label):
    for line in get(daemon.at, "/metrics").body.decode().splitlines():
        if line.startswith(name + "{"):
            return line.split(f'{label}="')[1].split('"')[0]
    return None


if __name__ == "__main__":
    harness.main()
