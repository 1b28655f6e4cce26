# SPDX-License-Identifier: Apache-2.0
"""GET /v1/stream on server and edge: every message is applied to a mirror that verifies it; guests that are fast, slow, behind, rude or silent."""
import asyncio
import statistics
import subprocess
import time

import harness
from guests import DELTA, HEARTBEAT, MESSAGE_BYTES_MAX, WHOLE, Mirror, Raw, connect, follow, websockets
from harness import BIN, Feeder, get, metric, stream, wait_until


def wordy(count, start=0):
    """Lines that count `count` keys of about 30 bytes."""
    return [b"words\ta-rather-long-name/of-a-file-%07d" % (start + i) for i in range(count)]


class Guests(harness.Case):
    def mirror(self):
        mirror = Mirror()
        self.addCleanup(mirror.close)
        return mirror

    def pair(self, **edge):
        """A server and an edge that hold something."""
        server = self.server().start()
        edge = self.edge("edge", server, **edge).start()
        self.count(server, [b"t\ta", b"t\tb"])
        self.wait_equal(server, edge)
        return server, edge

    def raw(self, *args, **more):
        raw = Raw(*args, **more)
        self.addCleanup(raw.close)
        return raw

    def assert_holds(self, mirror, daemon):
        found = daemon.version()
        self.assertEqual((mirror.place, mirror.digest), (f"{found['epoch']}:{found['version']}", found["digest"]))


class Follow(Guests):
    def test_from_nothing_to_live(self):
        server, edge = self.pair()

        async def run(daemon):
            mirror = self.mirror()
            async with connect(daemon.at, mirror) as guest:
                await follow(guest, mirror, lambda: mirror.version)
                self.assertEqual(mirror.messages, {WHOLE: 1, DELTA: 0, HEARTBEAT: 0})
                # Silence is told by heartbeats that are as fresh as the edge.
                await follow(guest, mirror, lambda: mirror.messages[HEARTBEAT] == 2)
                self.assertEqual(mirror.heartbeat_version, mirror.version)
                self.assertLess(abs(time.time() * 1000 - mirror.heartbeat_ms), 4000)
                for _ in range(20):
                    self.count(server, [b"t\ta", b"t\tnew-%d" % self.random.getrandbits(60)])
                    version = server.version()["version"]
                    await follow(guest, mirror, lambda: mirror.version == version)
                self.assertEqual((mirror.messages[WHOLE], mirror.messages[DELTA]), (1, 20))
                self.assert_holds(mirror, server)
                await asyncio.wait_for(await guest.ping(b"are you there"), 10)
        for daemon in (server, edge):
            with self.subTest(at=daemon.name):
                asyncio.run(run(daemon))
        for daemon in (server, edge):
            wait_until(lambda d=daemon: metric(d.at, "tally_stream_guests") == 0, "the guest is gone")
            self.assertEqual(metric(daemon.at, "tally_stream_opened_total"), 1)
            self.assertEqual(metric(daemon.at, "tally_stream_ended_total"), 0)

    def test_resume_by_number(self):
        server, edge = self.pair()

        async def run(daemon):
            mirror = self.mirror()
            async with connect(daemon.at, mirror) as guest:
                await follow(guest, mirror, lambda: mirror.version)
            async with connect(daemon.at, mirror) as guest:  # nothing happened meanwhile
                await follow(guest, mirror, lambda: mirror.messages[HEARTBEAT])
            for _ in range(3):
                self.count(server, [b"t\ta"])
            self.wait_equal(server, edge)
            async with connect(daemon.at, mirror) as guest:
                await follow(guest, mirror, lambda: mirror.messages[DELTA] == 3)
                self.assert_holds(mirror, daemon)
            for _ in range(30):  # more than go as they are
                self.count(server, [b"t\tb"])
            self.wait_equal(server, edge)
            async with connect(daemon.at, mirror) as guest:
                await follow(guest, mirror, lambda: mirror.messages[DELTA] == 4)
                self.assert_holds(mirror, daemon)
            self.assertEqual((mirror.merged, mirror.messages[WHOLE]), (1, 1))
            # At the other one, by the same number.
            other = edge if daemon is server else server
            self.count(server, [b"t\tc"])
            self.wait_equal(server, edge)
            async with connect(other.at, mirror) as guest:
                await follow(guest, mirror, lambda: mirror.messages[DELTA] == 5)
                self.assert_holds(mirror, other)
            self.assertEqual(mirror.messages[WHOLE], 1)
        for daemon in (server, edge):
            with self.subTest(at=daemon.name):
                asyncio.run(run(daemon))

    def test_the_edge_is_killed(self):
        """The guest comes again by its number, and gets nothing that it has."""
        server = self.server(tick=5).start()
        edge = self.edge("edge", server).start()
        feeder = Feeder(self, server.settings["ingest"], stream(), rate=3000, arguments=["--batch-ms", "5"])
        self.wait_version(edge, 5)
        mirror, deaths = self.mirror(), 0

        async def run():
            nonlocal deaths
            for kill in (True, True, True, False):
                try:
                    async with connect(edge.at, mirror) as guest:
                        start = mirror.version
                        await follow(guest, mirror, lambda: mirror.version > start + 30)
                        if kill:
                            edge.kill()
                            await follow(guest, mirror, lambda: False)
                        else:
                            result = feeder.stop()
                            await follow(guest, mirror, lambda: mirror.version >= result["acknowledged_version"])
                except (websockets.ConnectionClosed, OSError):
                    deaths += 1
                    edge.start()
                    self.wait_version(edge, 1)
        asyncio.run(run())
        self.assertEqual(deaths, 3)
        self.wait_equal(server, edge)
        self.assert_holds(mirror, server)

    def test_the_server_begins_anew(self):
        """Another lineage: the guest gets its whole state, by itself."""
        server, edge = self.pair()
        mirror = self.mirror()

        async def run():
            async with connect(edge.at, mirror) as guest:
                await follow(guest, mirror, lambda: mirror.version)
                first = mirror.info().epoch
                server.stop()
                server.settings["data"] = self.work / "another"
                server.start()
                self.count(server, [b"t\tx"])
                await follow(guest, mirror, lambda: mirror.info().epoch > first)
                self.wait_equal(server, edge)
                self.assert_holds(mirror, edge)
        asyncio.run(run())

    def test_an_end_that_is_told(self):
        server, edge = self.pair()

        async def run(daemon):
            mirror = self.mirror()
            async with connect(daemon.at, mirror) as guest:
                await follow(guest, mirror, lambda: mirror.version)
                self.assertEqual(await asyncio.get_running_loop().run_in_executor(None, daemon.stop), 0)
                with self.assertRaises(websockets.ConnectionClosed):
                    await follow(guest, mirror, lambda: False)
                self.assertEqual(guest.close_code, 1001)
        for daemon in (edge, server):
            asyncio.run(run(daemon))


class Large(Guests):
    def test_whole_state_in_parts_while_versions_are_cut(self):
        server = self.server(tick=5).start()
        self.count(server, wordy(120000))
        edge = self.edge("edge", server).start()
        feeder = Feeder(self, server.settings["ingest"], stream(), rate=3000, arguments=["--batch-ms", "5"])
        self.wait_version(edge, server.version()["version"])
        mirrors = {daemon: [self.mirror() for _ in range(4)] for daemon in (server, edge)}

        async def run(daemon, mirror, until):
            async with connect(daemon.at, mirror) as guest:
                while not until():
                    mirror.apply(await guest.recv())
                    await asyncio.sleep(0.002)  # no faster than others read

        async def all_of_them(until):
            await asyncio.wait_for(asyncio.gather(*(run(daemon, mirror, lambda m=mirror: until(m))
                                                    for daemon, some in mirrors.items() for mirror in some)), 120)
        asyncio.run(all_of_them(lambda mirror: mirror.versions > 30))
        result = feeder.stop()
        version = self.wait_version(server, result["acknowledged_version"])["version"]
        asyncio.run(all_of_them(lambda mirror: mirror.version >= version))
        self.wait_equal(server, edge)
        for some in mirrors.values():
            for mirror in some:
                self.assert_holds(mirror, edge)
                self.assertGreater(mirror.parts, 2)
                self.assertLessEqual(mirror.largest, MESSAGE_BYTES_MAX)
        for daemon in (server, edge):
            self.assertEqual(metric(daemon.at, "tally_stream_ended_total"), 0)

    def test_a_change_too_large_for_a_message(self):
        server = self.server(tick=1500).start()
        edge = self.edge("edge", server).start()
        self.count(server, [b"t\ta"])
        self.wait_equal(server, edge)
        mirrors = [self.mirror() for _ in range(3)]

        async def run(mirror, daemon):
            async with connect(daemon.at, mirror) as guest:
                await follow(guest, mirror, lambda: mirror.version)
                while mirror.info().rows < 80001:
                    mirror.apply(await guest.recv())

        async def all_of_them():
            producers = []
            guests = [asyncio.create_task(run(mirror, daemon)) for mirror, daemon in zip(mirrors, (server, edge, edge))]
            while not all(mirror.version for mirror in mirrors):
                await asyncio.sleep(0.02)
            for i in range(4):  # within one tick
                producers.append(subprocess.Popen(
                    [str(BIN / "tallycast"), "count", "--to", server.settings["ingest"], "--json", "-"], stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL))
                producers[-1].stdin.write(b"\n".join(wordy(20000, i * 20000)) + b"\n")
                producers[-1].stdin.close()
            await asyncio.wait_for(asyncio.gather(*guests), 60)
            for producer in producers:
                self.assertEqual(producer.wait(30), 0)
        asyncio.run(all_of_them())
        self.wait_equal(server, edge)
        for mirror in mirrors:
            self.assert_holds(mirror, edge)
            self.assertEqual(mirror.messages[WHOLE], 1)
            self.assertGreater(mirror.parts, 1, "no change of more than a message")


class Pace(Guests):
    def test_a_hundred_guests_and_one_at_a_hundredth(self):
        server = self.server(tick=50).start()
        edge = self.edge("edge", server).start()
        keys, seconds = wordy(20000), 10
        self.count(server, keys)
        self.wait_equal(server, edge)
        feeder = Feeder(self, server.settings["ingest"], self.random.choices(keys, k=400000), rate=30000, arguments=["--batch-ms", "20"])
        slow_mirror = self.mirror()
        fast = [self.mirror() for _ in range(99)]
        late = {False: [], True: []}  # ms from the cut of a version to its being applied, without and with the slow guest
        with_slow = False

        async def run(mirror, until):
            async with connect(edge.at, mirror) as guest:
                while not until():
                    message = mirror.apply(await guest.recv())
                    if message.kind == DELTA and mirror is fast[0]:
                        late[with_slow].append(time.time() * 1000 - mirror.info().cut_ms)

        async def slowly(until):
            """Reads a hundredth of what comes, a little at a time."""
            raw = Raw(edge.at, receive_bytes=4096)
            raw.socket.setblocking(False)
            start, read = time.monotonic(), 0
            while not until():
                part = b""
                if read < (time.monotonic() - start) * self.bytes_a_second / 100:
                    part = await asyncio.get_running_loop().sock_recv(raw.socket, 256)
                    read += len(part)
                    raw.data += part
                await asyncio.sleep(0.02)
            return raw

        async def all_of_them():
            nonlocal with_slow
            done = False
            guests = [asyncio.create_task(run(mirror, lambda m=mirror: done and m.version >= last)) for mirror in fast]
            while not all(mirror.version for mirror in fast):
                await asyncio.sleep(0.02)
            sent, start = metric(edge.at, "tally_stream_sent_bytes_total"), time.monotonic()
            await asyncio.sleep(seconds / 2)
            self.bytes_a_second = (metric(edge.at, "tally_stream_sent_bytes_total") - sent) / (time.monotonic() - start) / 99
            memory = metric(edge.at, "process_resident_memory_bytes")
            with_slow = True
            slow = asyncio.create_task(slowly(lambda: done))
            await asyncio.sleep(seconds)
            grown = metric(edge.at, "process_resident_memory_bytes") - memory
            result = await asyncio.get_running_loop().run_in_executor(None, feeder.stop)
            last, done = result["acknowledged_version"], True
            self.count(server, [b"t\tthe-end"])  # so that everybody hears something more
            last = server.version()["version"]
            await asyncio.wait_for(asyncio.gather(*guests), 30)
            raw = await slow
            return raw, last, grown
        raw, last, grown = asyncio.run(all_of_them())
        self.wait_equal(server, edge)
        for mirror in fast:
            self.assert_holds(mirror, edge)
            self.assertEqual(mirror.messages[WHOLE], 1)
        # The slow one is far behind; read at full speed it gets there by fewer messages.
        raw.socket.setblocking(True)
        raw.socket.settimeout(30)
        self.addCleanup(raw.close)
        before = None
        while slow_mirror.version < last:
            for opcode, payload in raw.frames():
                self.assertEqual(opcode, 2)
                slow_mirror.apply(payload)
                before = before or slow_mirror.version
            if slow_mirror.version < last:
                self.assertTrue(raw.hear())
        self.assert_holds(slow_mirror, edge)
        medians = {key: statistics.median(values) for key, values in late.items()}
        print(f"# {self.bytes_a_second / 1000:.0f} kB/s a guest; versions of the fast {fast[0].versions}, merged {fast[0].merged}; of the slow "
              f"{slow_mirror.versions}, merged {slow_mirror.merged}; ms to applied: {medians}; memory grew by {grown / 1e6:.1f} MB")
        self.assertGreater(slow_mirror.merged, 0)
        self.assertLess(slow_mirror.versions, fast[0].versions)
        # The others see no difference: they get version after version, no later than without it.
        for mirror in fast:
            self.assertLess(mirror.merged, mirror.versions / 4 + 5)
        self.assertLess(medians[True], 2 * medians[False] + 100)
        self.assertLess(grown, 40e6)

    def test_who_is_silent_is_let_go(self):
        server, edge = self.pair(stream_idle=900)

        async def answers_pings():
            mirror = self.mirror()
            async with connect(edge.at, mirror) as guest:
                end = time.monotonic() + 4
                await follow(guest, mirror, lambda: time.monotonic() > end)
        asyncio.run(answers_pings())
        self.assertEqual(metric(edge.at, "tally_stream_ended_total"), 0)
        reads_only = self.raw(edge.at)
        self.assertEqual(reads_only.hear_close()[0], 4000)
        self.assertEqual(metric(edge.at, "tally_stream_ended_total"), 1)

    def test_who_takes_nothing_is_let_go(self):
        server = self.server().start()
        edge = self.edge("edge", server, stream_idle=900).start()
        self.count(server, wordy(150000))
        self.wait_equal(server, edge)
        takes_nothing = self.raw(edge.at, receive_bytes=4096)
        wait_until(lambda: metric(edge.at, "tally_stream_ended_total") == 1, "the silent guest is ended")
        wait_until(lambda: metric(edge.at, "tally_stream_guests") == 0, "and gone")
        takes_nothing.close()

    def test_who_takes_a_whole_state_for_ever_is_let_go(self):
        """It would hold a version, and with it the memory of all since."""
        server = self.server().start()
        edge = self.edge("edge", server, stream_parts=1500, threads=1).start()
        self.count(server, wordy(150000))
        self.wait_equal(server, edge)
        slow = self.raw(edge.at, receive_bytes=4096)
        end = time.monotonic() + 30
        while metric(edge.at, 'tally_stream_ended_total') == 0:
            self.assertLess(time.monotonic(), end)
            slow.hear(4096)
            time.sleep(0.05)
        self.assertEqual(slow.hear_close()[0], 4001)
        # Nobody else is kept from it.
        mirror = self.mirror()

        async def run():
            async with connect(edge.at, mirror) as guest:
                await follow(guest, mirror, lambda: mirror.version)
        asyncio.run(run())
        self.assert_holds(mirror, edge)


class Refusals(Guests):
    def test_before_the_upgrade(self):
        server, edge = self.pair(stream_connections=3)
        epoch = server.version()["epoch"]
        for daemon in (server, edge):
            for path, heads, status, text in (
                    ("/v1/stream?dataset=other", {}, 404, "dataset"),
                    ("/v1/stream?dataset=", {}, 404, "dataset"),
                    ("/v1/stream?from=5", {}, 400, "from"),
                    ("/v1/stream?from=zz:5", {}, 400, "from"),
                    ("/v1/stream?from=0:5", {}, 400, "from"),
                    ("/v1/stream?from=" + epoch + ":", {}, 400, "from"),
                    ("/v1/stream?from=" + epoch + ":1x", {}, 400, "from"),
                    ("/v1/stream?from=" + epoch + ":99999999999999999999", {}, 400, "from"),
                    ("/v1/stream?from=1" + epoch + ":1", {}, 400, "from"),
                    ("/v1/stream?form=0:0", {}, 400, "query"),
                    ("/v1/stream?dataset", {}, 400, "query"),
                    ("/v1/stream?dataset=%4", {}, 400, "escape"),
                    ("/v1/stream?dataset=main%00", {}, 400, "NUL"),
                    ("/v1/stream", {"Upgrade": None, "Connection": None}, 426, "WebSocket"),
                    ("/v1/stream", {"Upgrade": "h2c"}, 426, "WebSocket"),
                    ("/v1/stream", {"Sec-WebSocket-Version": "8"}, 426, "13"),
                    ("/v1/stream", {"Sec-WebSocket-Key": None}, 400, "Key"),
                    ("/v1/stream", {"Sec-WebSocket-Key": "c2hvcnQ="}, 400, "Key"),
                    ("/v1/stream", {"Sec-WebSocket-Key": "x" * 300}, 400, "Key"),
                    ("/v1/stream", {"Origin": "https://elsewhere.example"}, 403, "Origin"),
                    ("/v1/stream", {"Origin": "null"}, 403, "Origin"),
                    ("/v1/stream", {"Origin": ""}, 403, "Origin")):
                with self.subTest(at=daemon.name, path=path, heads=heads):
                    raw = self.raw(daemon.at, path, heads)
                    self.assertEqual(raw.status, status, raw.head)
                    answer = harness.json.loads(raw.body())
                    self.assertIn(text, answer["error"])
                    if status == 426:
                        self.assertIn("Sec-WebSocket-Version: 13", raw.head)
            self.assertEqual(self.raw(daemon.at, method="POST").status, 405)
            self.assertEqual(self.raw(daemon.at, method="HEAD").status, 426)
            self.assertEqual(metric(daemon.at, "tally_stream_refused_total"), 23)
            for path, heads in (("/v1/stream", {}), ("/v1/stream?from=0:0", {}), ("/v1/stream?from=" + epoch + "%3A0&dataset=main", {}),
                                ("/v1/stream", {"Origin": daemon.at}), ("/v1/stream", {"Origin": daemon.at.upper()})):
                raw = self.raw(daemon.at, path, heads)
                self.assertEqual(raw.status, 101, raw.head)
                raw.close()
                wait_until(lambda d=daemon: metric(d.at, "tally_stream_guests") == 0, "it is gone")

    def test_no_more_than_so_many(self):
        server, edge = self.pair(stream_connections=3)
        some = [self.raw(edge.at) for _ in range(3)]
        self.assertEqual([raw.status for raw in some], [101] * 3)
        raw = self.raw(edge.at)
        self.assertEqual(raw.status, 503)
        self.assertIn("too many", harness.json.loads(raw.body())["error"])
        self.assertEqual(get(edge.at, "/v1/version").status, 200)
        some[0].close()
        wait_until(lambda: metric(edge.at, "tally_stream_guests") == 2, "it is gone")
        self.assertEqual(self.raw(edge.at).status, 101)

    def test_nothing_is_held_yet(self):
        server = self.server().start()
        edge = self.edge("edge", server).start()
        for daemon in (server, edge):
            raw = self.raw(daemon.at)
            self.assertEqual(raw.status, 503)
            self.assertIn("nothing is held yet", harness.json.loads(raw.body())["error"])
        self.count(server, [b"t\ta"])
        self.wait_equal(server, edge)
        self.assertEqual([self.raw(daemon.at).status for daemon in (server, edge)], [101, 101])

    def test_origins_that_are_set(self):
        server, edge = self.pair(stream_origin=["https://one.example", "http://two.example:8080"])
        for origin, status in (("https://one.example", 101), ("https://ONE.example", 101), ("http://two.example:8080", 101),
                               (edge.at, 101), ("http://one.example", 403), ("https://one.example.evil", 403),
                               ("http://two.example", 403), ("null", 403)):
            with self.subTest(origin=origin):
                self.assertEqual(self.raw(edge.at, heads={"Origin": origin}).status, status)
        edge.stop()
        edge.start(stream_origin="*")
        self.assertEqual(self.raw(edge.at, heads={"Origin": "null"}).status, 101)

    def test_a_handshake_that_does_not_come(self):
        server, edge = self.pair()
        raw = harness.socket.create_connection(("127.0.0.1", int(edge.at.rsplit(":", 1)[1])), timeout=30)
        self.addCleanup(raw.close)
        raw.sendall(b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n")
        start = time.monotonic()
        self.assertIn(b"408", raw.recv(4096))
        self.assertLess(time.monotonic() - start, 20)

    def test_what_a_guest_may_not_say(self):
        server, edge = self.pair()
        for name, say, code in (
                ("text", lambda raw: raw.say(1, b"hello"), 1003),
                ("binary", lambda raw: raw.say(2, b"\0" * 100), 1003),
                ("too long", lambda raw: raw.say(2, b"\0" * 100000), 1009),
                ("long in pieces", lambda raw: [raw.say(2 if i == 0 else 0, b"\0" * 3000, fin=False) for i in range(3)], 1009),
                ("not masked", lambda raw: raw.say(1, b"hello", mask=False), 1002),
                ("unknown opcode", lambda raw: raw.say(3, b""), 1002),
                ("a ping in pieces", lambda raw: raw.say(9, b"", fin=False), 1005),
                ("a close of one byte", lambda raw: raw.say(8, b"x"), 1005),
                ("http", lambda raw: raw.socket.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10), 1002)):
            with self.subTest(what=name):
                raw, mirror = self.raw(edge.at), self.mirror()
                say(raw)
                found = raw.hear_close(mirror)
                self.assertIsNotNone(found)
                self.assertEqual(found[0], code, found)
        for _ in range(30):
            raw = self.raw(edge.at, early=self.random.randbytes(self.random.randrange(1, 5000)))
            with harness.contextlib.suppress(OSError):
                raw.socket.shutdown(harness.socket.SHUT_WR)
            raw.hear_close()
        wait_until(lambda: metric(edge.at, "tally_stream_guests") == 0, "they are gone")
        self.assertEqual(get(edge.at, "/readyz").status, 200)

    def test_pings_and_the_end(self):
        server, edge = self.pair()
        key = b"\1\2\3\4"
        raw = self.raw(edge.at, early=b"\x89\x82" + key + bytes(b ^ key[i] for i, b in enumerate(b"hi")))  # behind the request
        pongs = []
        while not pongs:
            pongs += [payload for opcode, payload in raw.frames() if opcode == 10]
            if not pongs:
                self.assertTrue(raw.hear())
        self.assertEqual(pongs, [b"hi"])
        for _ in range(20000):
            raw.say(9, b"x" * 100)
            if len(raw.data) < 1 << 20:
                raw.socket.setblocking(False)
                try:
                    raw.hear()
                except BlockingIOError:
                    pass
                raw.socket.setblocking(True)
        raw.say(8, b"\x03\xe8bye")
        self.assertEqual(raw.hear_close()[0], 1000)
        wait_until(lambda: metric(edge.at, "tally_stream_guests") == 0, "it is gone")
        self.assertEqual(metric(edge.at, "tally_stream_ended_total"), 0)


if __name__ == "__main__":
    harness.main()
