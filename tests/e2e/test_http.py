# SPDX-License-Identifier: Apache-2.0
"""The HTTP face of server and edge: every path, its answers, its errors and limits, and clients that are slow or rude."""
import base64
import json
import socket
import threading
import time
import urllib.parse

import harness
from harness import QUERY_KEYS_MAX, get, post_get, request, wait_until

KEYS = {"plain": 1, "with/slash": 2, "with space": 3, "percent%41": 4, "plus+and&=?#": 5, "ünïcödé ✓": 6, 'quote"back\\slash': 7,
        "a": 8, ".": 9, "..": 10, "x" * 1024: 11, "new": 9007199254740993}


class Http(harness.Case):
    @classmethod
    def setUpClass(cls):
        # One server and one edge for all cases: nothing here changes them.
        cls.shared = cls("setUp")
        harness.Case.setUp(cls.shared)
        shared = cls.shared
        shared.the_server = shared.server().start()
        shared.the_edge = shared.edge("edge", shared.the_server).start()
        lines = [b"keys\t" + key.encode() + b"\t%d" % value for key, value in KEYS.items()]
        lines += [b"raw\t\xff\xfe\t5", b"raw\t\x00\t6", b"zero\tnothing\t0"]
        shared.count(shared.the_server, lines)
        shared.the_version = shared.wait_equal(shared.the_server, shared.the_edge)

    @classmethod
    def tearDownClass(cls):
        cls.shared.doCleanups()

    def setUp(self):
        self.work = self.shared.work
        self.daemons = []
        self.random = self.shared.random

    def places(self):
        for daemon in (self.shared.the_server, self.shared.the_edge):
            with self.subTest(at=daemon.name):
                yield daemon

    def assert_names_version(self, answer):
        for name in ("dataset", "epoch", "version", "age_ms"):
            self.assertIn(name, answer)
            if name != "age_ms":
                self.assertEqual(answer[name], self.shared.the_version[name])
        self.assertGreaterEqual(answer["age_ms"], 0)

    # ---------------------------------------------------------------------------------------------- reads

    def test_version(self):
        for daemon in self.places():
            answer = get(daemon.at, "/v1/version")
            self.assertEqual(answer.status, 200)
            self.assertTrue(answer.headers["Content-Type"].startswith("application/json"))
            found = answer.json
            self.assert_names_version(found)
            self.assertRegex(found["digest"], r"^[0-9a-f]{32}$")
            self.assertRegex(found["epoch"], r"^[0-9a-f]{16}$")
            self.assertRegex(found["cut_at"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
            self.assertEqual((found["state"], found["lag"], found["keys"]), ("live", 0, len(KEYS) + 3))
            self.assertEqual(found["name"], "server" if daemon is self.shared.the_server else "edge")
        self.assertIn(self.shared.the_edge.version()["client"], ("wasm", "native"))

    def test_tables(self):
        for daemon in self.places():
            found = get(daemon.at, "/v1/tables").json
            self.assert_names_version(found)
            self.assertEqual([(table["table"], table["kind"], table["keys"]) for table in found["tables"]],
                             [("keys", "counter", len(KEYS)), ("raw", "counter", 2), ("zero", "counter", 1)])

    def test_get(self):
        for daemon in self.places():
            for key, value in KEYS.items():
                for path in {"/v1/get/keys/" + urllib.parse.quote(key, safe=""), "/v1/get/keys/" + urllib.parse.quote(key)}:
                    answer = get(daemon.at, path)
                    self.assertEqual(answer.status, 200, path)
                    found = answer.json
                    self.assert_names_version(found)
                    self.assertEqual((found["table"], found["key"], found["value"]), ("keys", key, value))
            self.assertEqual(get(daemon.at, "/v1/get/zero/nothing").json["value"], 0)

    def test_get_of_bytes_that_are_no_text(self):
        for daemon in self.places():
            found = get(daemon.at, "/v1/get/raw/%FF%FE").json
            self.assertEqual((found["value"], found["key"]), (5, "\ufffd\ufffd"))
            self.assertEqual(base64.b64decode(found["key_base64"]), b"\xff\xfe")
            self.assertEqual(get(daemon.at, "/v1/get/raw/%00").json["value"], 6)

    def test_get_of_what_is_not_there(self):
        for daemon in self.places():
            for path in ("/v1/get/keys/nobody", "/v1/get/nowhere/plain"):
                answer = get(daemon.at, path)
                self.assertEqual(answer.status, 404)
                self.assertIn("error", answer.json)
                self.assert_names_version(answer.json)

    def test_get_many(self):
        keys = list(KEYS) + ["nobody"]
        for daemon in self.places():
            values, answer = post_get(daemon.at, "keys", keys)
            self.assertEqual(values, [*KEYS.values(), None])
            self.assertEqual(answer["table"], "keys")
            self.assert_names_version(answer)
            self.assertEqual(post_get(daemon.at, "keys", [])[0], [])
            most = ["plain"] * QUERY_KEYS_MAX
            self.assertEqual(post_get(daemon.at, "keys", most)[0], [1] * QUERY_KEYS_MAX)

    def test_head(self):
        for daemon in self.places():
            answer = request(daemon.at, "HEAD", "/v1/version")
            self.assertEqual((answer.status, answer.body), (200, b""))
            self.assertGreater(int(answer.headers["Content-Length"]), 50)

    def test_snapshot(self):
        first = None
        for daemon in self.places():
            answer = get(daemon.at, "/v1/snapshot")
            self.assertEqual(answer.status, 200)
            self.assertEqual(answer.headers["Content-Type"], "application/octet-stream")
            self.assertEqual(answer.body[:8], b"TALLYF1\n")
            first = first or answer.body
            self.assertEqual(answer.body, first, "a function of the version alone: equal bytes everywhere")

    def test_health_and_metrics(self):
        for daemon in self.places():
            self.assertEqual(get(daemon.at, "/healthz").status, 200)
            self.assertEqual(get(daemon.at, "/readyz").status, 200)
            answer = get(daemon.at, "/metrics")
            self.assertTrue(answer.headers["Content-Type"].startswith("text/plain"))
            text = answer.body.decode()
            self.assertTrue(text.endswith("\n"))
            seen = set()
            for line in text.splitlines():
                if line.startswith("# TYPE "):
                    name = line.split()[2]
                    self.assertNotIn(name, seen, "one head a metric")
                    seen.add(name)
                elif not line.startswith("#"):
                    self.assertRegex(line, r'^[a-z_:][a-z0-9_:]*(\{([a-z_]+="[^"\\]*",?)+\})? [-+.0-9eE]+$')
                    self.assertIn(line.split("{")[0].split(" ")[0], seen)
            self.assertTrue(any(name.startswith("tally_") for name in seen))

    # ---------------------------------------------------------------------------------------------- errors and limits

    def assert_error(self, answer, *statuses):
        self.assertIn(answer.status, statuses)
        self.assertIn("error", answer.json)

    def test_paths_that_are_not_there(self):
        for daemon in self.places():
            for path in ("/nothing", "/v1", "/v1/", "/v2/version", "/v1/version/more", "/v1/versions"):
                self.assert_error(get(daemon.at, path), 404)

    def test_methods(self):
        for daemon in self.places():
            for method, path in (("POST", "/v1/version"), ("PUT", "/v1/get/keys/plain"), ("DELETE", "/v1/tables"), ("PATCH", "/metrics")):
                self.assert_error(request(daemon.at, method, path, b""), 405)

    def test_bad_paths(self):
        for daemon in self.places():
            for path in ("/v1/get/keys/", "/v1/get/keys", "/v1/get/keys/%", "/v1/get/keys/%zz", "/v1/get/keys/%4",
                         "/v1/get/BAD/key", "/v1/get//key", "/v1/get/keys/" + "x" * 1025):
                self.assert_error(get(daemon.at, path), 400, 404, 414)
            self.assertIn(get(daemon.at, "/v1/get/keys/" + "x" * 5000).status, (400, 414, 431))

    def test_bad_bodies(self):
        bodies = [b"", b"{", b"[]", b"1", b"null", b'{"table":"keys"}', b'{"keys":[]}', b'{"table":1,"keys":[]}',
                  b'{"table":"keys","keys":"plain"}', b'{"table":"keys","keys":[1]}', b'{"table":"keys","keys":[null]}',
                  b'{"table":"keys","keys":["\xff"]}', b'{"table":"BAD","keys":["a"]}', b'{"table":"keys","keys":[""]}',
                  json.dumps({"table": "keys", "keys": ["x" * 1025]}).encode(),
                  json.dumps({"table": "keys", "keys": ["a"] * (QUERY_KEYS_MAX + 1)}).encode(),
                  b'{"table":"keys","keys":["a"]} trailing', b"[" * 100000]
        for daemon in self.places():
            for body in bodies:
                answer = request(daemon.at, "POST", "/v1/get", body)
                self.assertIn(answer.status, (400, 404, 413), body[:60])
                self.assertIn("error", answer.json)

    def test_a_body_that_is_too_large(self):
        for daemon in self.places():
            port = int(daemon.settings["http"].rsplit(":", 1)[1])
            with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                connection.sendall(b"POST /v1/get HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n")
                self.assertIn(b" 413 ", connection.recv(4096).split(b"\r\n")[0])

    def test_headers_that_are_too_large(self):
        for daemon in self.places():
            port = int(daemon.settings["http"].rsplit(":", 1)[1])
            with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                try:
                    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"X-Long: " + b"y" * 200000 + b"\r\n\r\n")
                    first = connection.recv(4096).split(b"\r\n")[0]
                except ConnectionError:
                    first = b""
                self.assertTrue(first == b"" or b" 431 " in first or b" 400 " in first, first)
            self.assertEqual(get(daemon.at, "/healthz").status, 200)

    def test_garbage(self):
        for daemon in self.places():
            port = int(daemon.settings["http"].rsplit(":", 1)[1])
            for _ in range(50):
                with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                    connection.sendall(self.random.randbytes(self.random.randrange(1, 2000)) + b"\r\n\r\n")
            self.assertEqual(get(daemon.at, "/healthz").status, 200)

    # ---------------------------------------------------------------------------------------------- connections

    def test_keep_alive_and_pipelining(self):
        for daemon in self.places():
            port = int(daemon.settings["http"].rsplit(":", 1)[1])
            with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                connection.sendall(b"GET /v1/get/keys/plain HTTP/1.1\r\nHost: x\r\n\r\n" * 5)
                data = b""
                while data.count(b'"value":1') < 5:
                    part = connection.recv(65536)
                    self.assertTrue(part, f"closed after {data.count(b'HTTP/1.1 200')} answers")
                    data += part
                self.assertEqual(data.count(b"HTTP/1.1 200"), 5)

    def test_slow_clients_are_let_go_and_hinder_nobody(self):
        for daemon in self.places():
            port = int(daemon.settings["http"].rsplit(":", 1)[1])
            slow = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(40)]
            try:
                for connection in slow:
                    connection.sendall(b"GET /v1/version HTTP/1.1\r\nHo")  # and not a byte more
                for _ in range(20):
                    self.assertEqual(get(daemon.at, "/v1/version", timeout=5).status, 200)
                for connection in slow:  # each is closed by a deadline
                    connection.settimeout(60)
                    try:
                        while connection.recv(4096):
                            pass
                    except ConnectionError:
                        pass
            finally:
                for connection in slow:
                    connection.close()

    def test_readers_side_by_side(self):
        for daemon in self.places():
            failures = []

            def read():
                try:
                    for _ in range(100):
                        values, _ = post_get(daemon.at, "keys", list(KEYS))
                        if values != list(KEYS.values()):
                            failures.append(values)
                except Exception as error:
                    failures.append(error)
            threads = [threading.Thread(target=read) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(failures, [])


class OneVersion(harness.Case):
    def test_an_answer_is_of_one_version(self):
        """Two keys that are always counted together in one batch: never seen apart, at the server or the edge."""
        server = self.server(tick=5).start()
        edge = self.edge("edge", server).start()
        self.count(server, [b"t\ta", b"t\tb"])
        self.wait_version(edge, 1)
        stop, wrong, seen = threading.Event(), [], set()

        def read(daemon):
            last = 0
            while not stop.is_set():
                values, answer = post_get(daemon.at, "t", ["a", "b"])
                seen.add(answer["version"])
                if values[0] != values[1] or answer["version"] < last:
                    wrong.append((daemon.name, values, last, answer["version"]))
                last = answer["version"]
        threads = [threading.Thread(target=read, args=(daemon,)) for daemon in (server, edge, edge)]
        for thread in threads:
            thread.start()
        for _ in range(60):
            self.count(server, [b"t\ta", b"t\tb"] * 3)
        stop.set()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])
        self.assertGreater(len(seen), 20)


class Empty(harness.Case):
    def test_before_the_first_version(self):
        server = self.server().start()
        edge = self.edge("edge", server).start(wait=False)
        edge.wait_logged("endpoint=http")
        for daemon in (server, edge):
            found = get(daemon.at, "/v1/version").json
            self.assertEqual((found["version"], found["keys"], found["cut_at"]), (0, 0, None))
            self.assertEqual(get(daemon.at, "/healthz").status, 200)
        self.assertEqual(get(server.at, "/v1/tables").json["tables"], [])
        self.assertEqual(get(server.at, "/v1/get/t/k").status, 404)
        # An edge that holds nothing cannot say that a key is absent.
        for path in ("/v1/tables", "/v1/get/t/k", "/readyz"):
            found = get(edge.at, path)
            self.assertEqual(found.status, 503)
            self.assertIn("nothing", found.json["error"])
        self.assertEqual(get(server.at, "/readyz").status, 200)


if __name__ == "__main__":
    harness.main()
