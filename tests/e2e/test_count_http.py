# SPDX-License-Identifier: Apache-2.0
"""POST /v1/count: what is counted, what is refused and how, and that a request with an Idempotency-Key is counted once, whoever is killed.

TALLY_KILLS sets how often the server is killed (10; the long form is 200).
"""
import base64
import collections
import gzip
import http.client
import json
import os
import shutil
import subprocess
import threading
import time
import uuid

import harness
from harness import post_get, request, wait_until

KILLS = int(os.environ.get("TALLY_KILLS", "10"))


def post(daemon, body, query="", timeout=20, **headers):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return request(daemon.at, "POST", "/v1/count" + query, body, {k.replace("_", "-"): v for k, v in headers.items()}, timeout)


def event(table, key, amount=1):
    return {"table": table, "key": key, "amount": amount}


def lines(events):
    return b"".join(json.dumps(one).encode() + b"\n" for one in events)


class Count(harness.Case):
    def setUp(self):
        super().setUp()
        self.place = self.server().start()

    def values(self, table, *keys):
        return post_get(self.place.at, table, list(keys))[0]

    def test_an_answer_names_the_version_that_holds_it(self):
        answer = post(self.place, lines([event("t", "a", 2), event("t", "b"), event("t", "a", 3)]), "?dataset=main")
        self.assertEqual(answer.status, 200, answer.body)
        held = self.place.version()
        self.assertEqual(answer.json, {"dataset": "main", "epoch": held["epoch"], "version": 1, "accepted": 3, "repeat": False,
                                       "refused": []})
        # It was answered after that version was there: a read that follows sees it.
        self.assertEqual(self.values("t", "a", "b"), [5, 1])
        for number in range(2, 12):
            self.assertEqual(post(self.place, [event("t", "a")]).json["version"], number)
            self.assertEqual(self.values("t", "a"), [number + 4])

    def test_forms(self):
        for body in (event("t", "k"), [event("t", "k"), event("t", "k")], lines([event("t", "k")] * 3),
                     json.dumps(event("t", "k"), indent=2).encode()):
            self.assertEqual(post(self.place, body).status, 200)
        self.assertEqual(self.values("t", "k"), [7])
        gauges = [{"table": "g", "key": "a", "set": -7}, {"table": "g", "key": "b", "adjust": 5},
                  {"table": "low", "key": "a", "kind": "min", "amount": 4}, {"table": "low", "key": "a", "kind": "min", "amount": -4},
                  {"table": "high", "key": "a", "kind": "max", "amount": 9}]
        self.assertEqual(post(self.place, lines(gauges)).status, 200)
        self.assertEqual(post(self.place, {"table": "g", "key": "b", "adjust": -1}).status, 200)
        self.assertEqual((self.values("g", "a", "b"), self.values("low", "a"), self.values("high", "a")), ([-7, 4], [-4], [9]))

    def test_packed(self):
        body = lines([event("t", f"key-{number}") for number in range(20000)])
        self.assertEqual(post(self.place, gzip.compress(body), Content_Encoding="gzip").json["accepted"], 20000)
        if shutil.which("zstd"):
            packed = subprocess.run(["zstd", "-c", "-"], input=body, capture_output=True, check=True).stdout
            self.assertEqual(post(self.place, packed, Content_Encoding="zstd").json["accepted"], 20000)
            self.assertEqual(self.values("t", "key-7", "key-19999"), [2, 2])
        else:
            print("# no zstd: not run")
        for packed, encoding, status in ((gzip.compress(b" " * (8 << 20) + b"{"), "gzip", 413), (gzip.compress(bytes(300 << 20)), "gzip", 413),
                                         (gzip.compress(body)[:-1], "gzip", 400), (body, "gzip", 400), (b"", "gzip", 400), (body, "zstd", 400),
                                         (body, "br", 415), (body, "gzip, gzip", 415)):
            answer = post(self.place, packed, Content_Encoding=encoding)
            self.assertEqual(answer.status, status, answer.body)
            self.assertIn("error", answer.json)

    def test_keys_are_bytes(self):
        key = bytes(range(256))
        self.assertEqual(post(self.place, {"table": "t", "key_base64": base64.b64encode(key).decode(), "amount": 3}).status, 200)
        found = request(self.place.at, "GET", "/v1/get/t/" + "".join(f"%{byte:02x}" for byte in key)).json
        self.assertEqual((found["value"], base64.b64decode(found["key_base64"])), (3, key))

    def test_wrong_events(self):
        wrong = [b'{"table":"T","key":"k"}', b'{"table":"' + b"t" * 65 + b'","key":"k"}', b'{"table":"t","key":""}',
                 json.dumps(event("t", "k" * 1025)).encode(), b'{"table":"t","key":"\xff"}', b'{"table":"t","key":"k","amount":-1}',
                 b'{"table":"t","key":"k","amount":NaN}', b'{"table":"t","key":"k","amount":1e300}', b'{"table":"t","key":"k","amount":1.0}',
                 b'{"table":"t","key":"k","amount":9223372036854775808}', b'{"table":"t","key":"k","amuont":1}', b"t\tk\t1", b"{", b"]"]
        good = json.dumps(event("t", "k")).encode()
        body = b"\n".join(part for one in wrong for part in (good, one))
        answer = post(self.place, body)
        self.assertEqual(answer.status, 400)
        self.assertEqual([one["line"] for one in answer.json["refused"]], list(range(2, 2 * len(wrong) + 1, 2)), answer.body)
        self.assertEqual(self.place.version()["version"], 0, "all or nothing")
        answer = post(self.place, body, "?wrong=skip")
        self.assertEqual((answer.status, answer.json["accepted"], len(answer.json["refused"])), (200, len(wrong), len(wrong)))
        self.assertEqual(self.values("t", "k"), [len(wrong)])
        for body, query, status in ((b"", "", 400), (b"[]", "", 400), (good, "?dataset=other", 404), (good, "?what=ever", 400),
                                    (good, "?wrong=perhaps", 400), (good, "?wrong", 400)):
            self.assertEqual(post(self.place, body, query).status, status)
        self.assertEqual(request(self.place.at, "GET", "/v1/count").status, 405)
        self.assertEqual(post(self.place, good, Idempotency_Key="").status, 400)
        self.assertEqual(post(self.place, good, Idempotency_Key="k" * 256).status, 400)
        self.assertEqual(post(self.place, good, Idempotency_Key="k" * 255).status, 200)

    def test_what_the_state_refuses(self):
        self.assertEqual(post(self.place, event("t", "k")).status, 200)
        answer = post(self.place, {"table": "t", "key": "k", "set": 3}, Idempotency_Key="one")
        self.assertEqual(answer.status, 422)
        self.assertIn('table "t"', answer.json["error"])
        # Its key was not used up.
        self.assertEqual(post(self.place, event("t", "k"), Idempotency_Key="one").json["repeat"], False)
        many = [event("t", f"{number:0500}") for number in range(3000)]
        self.assertEqual(post(self.place, many).status, 413)
        self.place.stop()
        self.place.start(tables="closed")
        answer = post(self.place, event("new", "k"))
        self.assertEqual(answer.status, 403, answer.body)

    def test_pages_of_others_may_not_count(self):
        host = self.place.settings["http"]
        for origin, status in (("http://elsewhere.example", 403), (f"http://{host}", 200), ("null", 403)):
            self.assertEqual(post(self.place, event("t", "k"), Origin=origin).status, status)

    def test_pages_that_are_let_in(self):
        """What a browser asks before it lets a page of another origin count, and needs in the answers (CORS)."""
        page = "https://counting.example"
        self.place.stop()
        self.place.start(stream_origin=page)
        ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,idempotency-key"}
        answer = request(self.place.at, "OPTIONS", "/v1/count?dataset=main", headers={"Origin": page, **ask})
        self.assertEqual((answer.status, answer.body, answer.headers["Content-Length"]), (204, b"", None))
        self.assertEqual((answer.headers["Access-Control-Allow-Origin"], answer.headers["Access-Control-Allow-Methods"]), (page, "POST"))
        allowed = {name.strip().lower() for name in answer.headers["Access-Control-Allow-Headers"].split(",")}
        self.assertEqual(allowed, {"content-type", "content-encoding", "idempotency-key"})
        for body, status in ((event("t", "k"), 200), ({"table": "T"}, 400), (b"", 400), (event("t", "k", 5) | {"kind": "gauge"}, 422)):
            answer = post(self.place, body, Origin=page)
            self.assertEqual((answer.status, answer.headers["Access-Control-Allow-Origin"]), (status, page), answer.body)
            self.assertEqual((answer.headers["Vary"], answer.headers["Access-Control-Expose-Headers"]), ("Origin", "Retry-After"))
        answer = post(self.place, event("t", "k"), "?dataset=other", Origin=page)
        self.assertEqual((answer.status, answer.headers["Access-Control-Allow-Origin"]), (404, page))
        # Others learn nothing, and who is no page needs nothing of it.
        other = request(self.place.at, "OPTIONS", "/v1/count", headers={"Origin": "https://elsewhere.example", **ask})
        self.assertEqual((other.status, other.headers["Access-Control-Allow-Origin"]), (403, None))
        self.assertIsNone(post(self.place, event("t", "k"), Origin="https://elsewhere.example").headers["Access-Control-Allow-Origin"])
        self.assertIsNone(post(self.place, event("t", "k")).headers["Access-Control-Allow-Origin"])
        plain = request(self.place.at, "OPTIONS", "/v1/count")
        self.assertEqual((plain.status, plain.headers["Allow"], plain.headers["Access-Control-Allow-Origin"]), (204, "OPTIONS, POST", None))
        for path in ("/v1/version", "/v1/get", "/v1/tables/t"):
            self.assertEqual(request(self.place.at, "OPTIONS", path, headers={"Origin": page, **ask}).status, 405)
        # The longest origin that is looked at, on one connection with others: nothing of one request stays for the next.
        longest = "https://" + "a" * (255 - 8)
        self.place.stop()
        self.place.start(stream_origin=[longest, "*"])
        self.assertEqual(post(self.place, event("t", "k"), Origin=longest).headers["Access-Control-Allow-Origin"], longest)
        self.assertEqual(post(self.place, event("t", "k"), Origin=longest + "a").status, 403)
        connection = http.client.HTTPConnection(self.place.settings["http"], timeout=20)
        for headers, want in (({"Origin": "null"}, "null"), ({}, None)):
            connection.request("POST", "/v1/count", json.dumps(event("t", "k")), headers)
            answer = connection.getresponse()
            self.assertEqual((answer.status, answer.headers["Access-Control-Allow-Origin"]), (200, want), answer.read())
            answer.read()
        connection.close()

    def test_counters_stop_at_the_greatest_value(self):
        for _ in range(2):
            self.assertEqual(post(self.place, event("t", "k", 2**63 - 1)).status, 200)
        self.assertEqual(self.values("t", "k"), [2**63 - 1])

    def test_a_key_counts_once(self):
        first = post(self.place, event("t", "k", 5), Idempotency_Key="one").json
        again = post(self.place, event("t", "k", 5), Idempotency_Key="one").json
        self.assertEqual((first["repeat"], again["repeat"], first["version"], again["version"]), (False, True, 1, 1))
        self.assertEqual(post(self.place, event("t", "k", 5), Idempotency_Key="two").json["repeat"], False)
        self.assertEqual(self.values("t", "k"), [10])
        self.place.kill()
        self.place.start()
        self.assertEqual(post(self.place, event("t", "k", 5), Idempotency_Key="one").json["repeat"], True)
        # And after a snapshot took the place of the log.
        self.place.stop()
        self.place.start(snapshot_every=2)
        for number in range(30):
            post(self.place, event("t", "other"))
        self.place.wait_logged("event=snapshot_written")
        self.place.kill()
        self.place.start()
        self.assertEqual(post(self.place, event("t", "k", 5), Idempotency_Key="two").json["repeat"], True)
        self.assertEqual(self.values("t", "k", "other"), [10, 30])

    def test_the_same_key_at_the_same_time(self):
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(post(self.place, event("t", "k"), Idempotency_Key="same").status))
                   for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual((answers, self.values("t", "k")), ([200] * 16, [1]))

    def test_what_is_not_acknowledged_in_time(self):
        """The loop stands still: the client hears so, and may send it again with its key."""
        self.place.stop()
        self.place.start(tick=60000)
        with self.assertRaises(TimeoutError):
            post(self.place, event("t", "k"), timeout=1, Idempotency_Key="slow")
        answer = post(self.place, event("t", "k"), timeout=20, Idempotency_Key="slow")
        self.assertEqual(answer.status, 503)
        self.assertIn("same Idempotency-Key", answer.json["error"])
        self.assertEqual(self.place.stop(), 0)
        self.place.start()
        self.assertEqual(post(self.place, event("t", "k"), Idempotency_Key="slow").json["repeat"], True)
        self.assertEqual(self.values("t", "k"), [1])


class Killed(harness.Case):
    def test_acknowledged_is_counted_once(self):
        server = self.server(snapshot_every=100).start()
        want, stop, failures, lock = collections.Counter(), threading.Event(), [], threading.Lock()
        repeats = [0]

        def send(number):
            try:
                while not stop.is_set():
                    key, name, amount = str(uuid.UUID(int=rng.getrandbits(128))), f"{number}-{rng.randrange(50)}", rng.randrange(1, 9)
                    body = lines([event("t", name, amount), {"table": "high", "key": name, "kind": "max", "amount": amount}])
                    while True:
                        try:
                            answer = post(server, body, Idempotency_Key=key, timeout=30)
                        except (OSError, http.client.HTTPException):
                            time.sleep(0.01)
                            continue
                        if answer.status == 200:
                            break
                        assert answer.status == 503, answer.body
                    with lock:
                        want[name] += amount
                        repeats[0] += answer.json["repeat"]
            except Exception as error:  # the test tells
                failures.append(error)
        rng = self.random
        threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(KILLS):
            start = sum(want.values())
            wait_until(lambda: sum(want.values()) > start, "counting goes on")
            time.sleep(0.05 * rng.random())
            server.kill()
            server.start()
        stop.set()
        for thread in threads:
            thread.join()
        print(f"# {sum(want.values())} in {len(want)} keys, {repeats[0]} acknowledged as repeats, {KILLS} kills")
        self.assertEqual(failures, [])
        values, _ = post_get(server.at, "t", list(want))
        self.assertEqual(dict(zip(want, values)), dict(want))


if __name__ == "__main__":
    harness.main()
