# SPDX-License-Identifier: Apache-2.0
"""The command line as a person and a script meet it."""
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time

import harness
from harness import BIN, free_port, get, recount, stream, wait_until

COMMANDS = ("count", "version", "get", "watch", "dump", "verify")


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, case, *words, rows=30, columns=110):
        self.out = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm-256color"
            os.execv(words[0], [str(word) for word in words])
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.set_blocking(self.fd, False)
        self.code = None
        case.addCleanup(self.end)

    def read(self):
        try:
            while part := os.read(self.fd, 65536):
                self.out += part
        except (BlockingIOError, OSError):
            pass
        return self.out.decode(errors="replace")

    def wait_shown(self, pattern, timeout=20):
        return wait_until(lambda: re.search(pattern, self.read()), lambda: f"{pattern} in {self.read()[-2000:]!r}", timeout)

    def press(self, text):
        os.write(self.fd, text)

    def wait_exit(self, timeout=20):
        def ended():
            self.read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
            return pid
        wait_until(ended, "the program ends", timeout)
        return self.code

    def end(self):
        if self.code is None:
            try:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass
        os.close(self.fd)


class Cli(harness.Case):
    def test_help(self):
        usage = self.cli("--help").stdout.decode()
        self.assertEqual(self.cli(code=2).stdout, b"")
        for command in COMMANDS:
            self.assertIn(f"  {command} ", usage)
            text = self.cli(command, "--help").stdout.decode()
            self.assertRegex(text, r"(?m)^Examples?:$")
            self.assertIn("Exit codes:", text)
            for flag in re.findall(r"^  --([a-z-]+)", text, re.M):
                # What help names is known: what is complained of is the next word, or a value.
                done = self.cli(command, f"--{flag}", "--no-such", "--no-such-option", code=0 if flag == "help" else 2)
                self.assertNotIn(f"unknown option --{flag}".encode(), done.stderr)
            self.cli(command, "--no-such-option", code=2)
        self.cli("nonsense", code=2)
        self.assertRegex(self.cli("--version").stdout, rb"^tallycast \d+\.\d+\.\d+\n$")

    def test_wrong_use(self):
        for words in (["count", "--rate", "fast"], ["count", "--to", "http://x"], ["count", "--dataset", "A B"],
                      ["count", "one", "two"], ["count", "/no/such/file"], ["count", "--producer", "me"], ["count", "--batch-bytes", "1"],
                      ["version", "extra"], ["version", "--at", "nowhere"], ["version", "--at", "ftp://x"], ["get"], ["get", "t"],
                      ["get", "BAD!", "k"], ["dump", "extra"], ["dump", "--meta", "--table", "t"], ["verify"], ["verify", "a", "b"], ["verify", "/no/such/file"],
                      ["watch", "extra"], ["watch", "--interval", "0"]):
            with self.subTest(words=words):
                done = self.cli(*words, code=2)
                self.assertIn(f"tallycast {words[0]}: ".encode(), done.stderr)
                self.assertEqual(done.stdout, b"")

    def test_nobody_there(self):
        nobody = f"http://127.0.0.1:{free_port()}"
        for words in (["version"], ["get", "t", "k"], ["dump"], ["verify"], ["watch"]):
            done = self.cli(*words[:1], "--at", nobody, *words[1:], code=3)
            self.assertIn(b"cannot", done.stderr)
        done = self.cli("count", "--to", f"tcp://127.0.0.1:{free_port()}", "--timeout", "1", "-", input=b"t\tk\n", code=3)
        self.assertIn(b"cannot reach", done.stderr)
        self.assertIn(b"not acknowledged", done.stderr)

    # ---------------------------------------------------------------------------------------------- count

    def test_count_and_read_back(self):
        server = self.server().start()
        at, to = server.at, server.settings["ingest"]
        text = b"pages\t/home\npages\t/about\t3\n\npages\t/home\t2\nother.table_1-x\tk\t0\npages\t/last"  # the last line without a newline
        done = json.loads(self.cli("count", "--to", to, "--json", "-", input=text).stdout)
        self.assertEqual((done["events"], done["bad_lines"], done["repeats"]), (5, 0, 0))
        self.assertGreaterEqual(done["acknowledged_version"], 1)
        self.assertEqual(self.cli("get", "--at", at, "pages", "/home", "/about", "/last").stdout, b"/home\t3\n/about\t3\n/last\t1\n")
        self.assertEqual(self.cli("get", "--at", at, "other.table_1-x", "k").stdout, b"k\t0\n")
        rows = sorted(self.cli("dump", "--at", at).stdout.splitlines())
        self.assertEqual(rows, [b"other.table_1-x\tk\t0", b"pages\t/about\t3", b"pages\t/home\t3", b"pages\t/last\t1"])
        self.assertEqual(self.cli("dump", "--at", at, "--table", "other.table_1-x").stdout, b"other.table_1-x\tk\t0\n")
        done = self.cli("dump", "--at", at, "--table", "other", code=1)
        self.assertEqual(done.stdout, b"")
        self.assertRegex(done.stderr, rb'version \d+ .*no table "other"')
        path = self.work / "events.tsv"
        path.write_bytes(text)
        self.cli("count", "--to", to, path)
        self.assertEqual(self.cli("get", "--at", at, "pages", "/home").stdout, b"/home\t6\n")
        self.assertEqual(json.loads(self.cli("count", "--to", to, "--json", "-", input=b"").stdout)["events"], 0)

    def test_bad_lines(self):
        server = self.server().start()
        to = server.settings["ingest"]
        text = b"t\tgood\nt\tgood\nbad line\nt\tgood\n"
        done = self.cli("count", "--to", to, "-", input=text, code=2)
        self.assertIn(b"line 3: no tab", done.stderr)
        self.assertEqual(self.cli("get", "--at", server.at, "t", "good").stdout, b"good\t2\n")
        done = self.cli("count", "--to", to, "--skip-bad", "--json", "-", input=text + b"t\tk\t-1\nt\t" + b"x" * 300000 + b"\nt\tgood\n")
        self.assertEqual(json.loads(done.stdout)["bad_lines"], 3)
        self.assertIn(b"line 5 skipped", done.stderr)
        self.assertEqual(self.cli("get", "--at", server.at, "t", "good").stdout, b"good\t6\n")
        self.assertEqual(server.version()["keys"], 1)
        path = self.work / "events.tsv"
        path.write_bytes(b"t\tk\t1e9\n")
        self.assertIn(f"{path} line 1".encode(), self.cli("count", "--to", to, path, code=2).stderr)

    def test_keys_are_bytes(self):
        server = self.server().start()
        rows = {b"tab\there": 1, b"new\nline": 2, b"back\\slash": 3, b"carriage\rreturn": 4, b"\xff\x00\xfe": 5, "ü".encode(): 6}

        def escape(key):
            return key.replace(b"\\", b"\\\\").replace(b"\t", b"\\t").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
        text = b"".join(b"t\t%s\t%d\n" % (escape(key), value) for key, value in rows.items())
        self.cli("count", "--to", server.settings["ingest"], "--escaped", "-", input=text)
        dump = self.cli("dump", "--at", server.at).stdout
        self.assertEqual(sorted(dump.splitlines()), sorted(text.splitlines()))
        got = self.cli("get", "--at", server.at, "--escaped", "t", "-", input=b"".join(escape(key) + b"\n" for key in rows)).stdout
        self.assertEqual(sorted(got.splitlines()), sorted(line[2:] for line in text.splitlines()))
        # What dump wrote, count reads.
        other = self.server("other").start()
        self.cli("count", "--to", other.settings["ingest"], "--escaped", "-", input=dump)
        self.assertEqual(self.cli("dump", "--at", other.at).stdout, dump)
        for line in self.cli("dump", "--at", server.at, "--json").stdout.splitlines():
            self.assertIn("value", json.loads(line))

    def test_great_amounts(self):
        server = self.server().start()
        most = 2 ** 63 - 1
        self.cli("count", "--to", server.settings["ingest"], "-", input=b"t\tk\t%d\nt\tk\t5\nt\tj\t%d\n" % (most, 2 ** 53 + 1))
        self.assertEqual(self.cli("get", "--at", server.at, "t", "k", "j").stdout, b"k\t%d\nj\t%d\n" % (most, 2 ** 53 + 1))

    def test_count_waits_for_the_server(self):
        server = self.server()
        process = subprocess.Popen([BIN / "tallycast", "count", "--to", server.settings["ingest"], "--json", "-"], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdin.write(b"t\tk\n" * 1000)
        process.stdin.close()
        line = process.stderr.readline()
        self.assertIn(b"cannot reach", line)
        self.assertIn(b"trying again", line)
        server.start()
        self.assertEqual(process.wait(30), 0)
        self.assertEqual(json.loads(process.stdout.read())["events"], 1000)
        self.assertIn(b"connected", process.stderr.read())
        process.stdout.close(), process.stderr.close()

    def test_a_producer_goes_on_with_its_sequence(self):
        server = self.server().start()
        for _ in range(3):
            self.cli("count", "--to", server.settings["ingest"], "--producer", "0x77", "--batch-bytes", "4096", "-",
                     input=b"".join(b"t\tkey-%d\n" % n for n in range(1000)))
        self.assertEqual(self.cli("get", "--at", server.at, "t", "key-0", "key-999").stdout, b"key-0\t3\nkey-999\t3\n")

    def test_rate(self):
        server = self.server().start()
        start = time.monotonic()
        self.cli("count", "--to", server.settings["ingest"], "--rate", "1000", "-", input=b"t\tk\n" * 1500)
        self.assertGreater(time.monotonic() - start, 1.3)

    def test_interrupted(self):
        server = self.server().start()
        process = subprocess.Popen([BIN / "tallycast", "count", "--to", server.settings["ingest"], "--json", "--rate", "2000", "-"],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdin.write(b"t\tk\n" * 10000)
        process.stdin.flush()
        wait_until(lambda: server.version()["version"] > 5, "it counts")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
        self.assertEqual(process.returncode, 0)
        result = json.loads(out)
        self.assertTrue(result["interrupted"])
        self.assertLess(result["events"], 10000)
        self.assertEqual(self.cli("get", "--at", server.at, "t", "k").stdout, b"k\t%d\n" % result["events"])

    def test_a_wrong_dataset_is_refused(self):
        server = self.server().start()
        done = self.cli("count", "--to", server.settings["ingest"], "--dataset", "other", "-", input=b"t\tk\n", code=4)
        self.assertIn(b"refused a batch: wrong dataset\n", done.stderr)
        self.assertIn(b"none of its 1 events were counted", done.stderr)
        self.assertNotIn(b"may or may not", done.stderr)

    # ---------------------------------------------------------------------------------------------- reads

    def test_get(self):
        server = self.server().start()
        edge = self.edge("edge", server).start()
        lines = stream()
        result = self.count(server, lines)
        self.wait_version(edge, result["acknowledged_version"])
        want = recount(lines)
        keys = "".join(key + "\n" for key in want["files"]).encode()
        got = self.cli("get", "--at", edge.at, "files", "-", input=keys).stdout.decode().splitlines()
        self.assertEqual({line.split("\t")[0]: int(line.split("\t")[1]) for line in got}, want["files"])
        done = self.cli("get", "--at", edge.at, "repos", "vector", "nobody", code=1)
        self.assertEqual(done.stdout.decode(), f"vector\t{want['repos']['vector']}\n")
        self.assertIn(b"nobody", done.stderr)
        done = self.cli("get", "--at", edge.at, "nowhere", "a", "b", code=1)
        self.assertIn(b"not found: a", done.stderr)
        row = json.loads(self.cli("get", "--at", edge.at, "--json", "repos", "vector").stdout)
        self.assertEqual((row["value"], row["version"]), (want["repos"]["vector"], result["acknowledged_version"]))

    def test_top(self):
        """The greatest counts of a table that is looked through, of one that the server keeps, and why not of a large one."""
        server = self.server(table="hot topk k=5 of=files").start()
        edge = self.edge("edge", server).start()
        lines = stream()
        self.wait_version(edge, self.count(server, lines)["acknowledged_version"])
        want = sorted(recount(lines)["files"].items(), key=lambda row: (-row[1], row[0].encode()))
        for daemon in (server, edge):
            got = [line.split("\t") for line in self.cli("top", "--at", daemon.at, "--k", "30", "files").stdout.decode().splitlines()]
            self.assertEqual(got, [[key, str(count)] for key, count in want[:30]])
            self.assertEqual(len(self.cli("top", "--at", daemon.at, "repos").stdout.splitlines()), len(recount(lines)["repos"]))
            hot = self.cli("top", "--at", daemon.at, "hot").stdout.decode().splitlines()
            self.assertEqual([int(row.split("\t")[1]) for row in hot], [count for _, count in want[:5]])
        answer = json.loads(self.cli("top", "--at", edge.at, "--json", "--k", "1", "files").stdout)
        self.assertEqual((answer["rows"][0]["value"], answer["version"]), (want[0][1], edge.version()["version"]))
        self.assertIn(b"no table nowhere", self.cli("top", "--at", edge.at, "nowhere", code=1).stderr)
        self.cli("top", "--at", edge.at, "Nowhere", code=2)
        self.cli("top", "--at", edge.at, "--k", "0", "files", code=2)
        self.wait_version(edge, self.count(server, (b"large\t%d" % number for number in range((1 << 18) + 1)))["acknowledged_version"])
        self.assertIn(b"topk table", self.cli("top", "--at", edge.at, "large", code=4).stderr)

    def test_version(self):
        server = self.server().start()
        self.count(server, [b"t\tk"])
        found = json.loads(self.cli("version", "--at", server.at, "--json").stdout)
        self.assertEqual({name: found[name] for name in ("version", "digest", "epoch")},
                         {name: server.version()[name] for name in ("version", "digest", "epoch")})
        self.assertIn(found["digest"].encode(), self.cli("version", "--at", server.at + "/").stdout)
        self.assertRegex(self.cli("version", "--at", server.at).stdout, rb"age +\d+ ms")
        cold = self.edge("cold", self.server("nobody")).start(wait=False)
        cold.wait_logged("endpoint=http")
        self.assertRegex(self.cli("version", "--at", cold.at).stdout, rb"cut at +-\nage +-\nlag +0\nstate +cold")

    def test_verify(self):
        server = self.server().start()
        self.assertIn(b"version 0", self.cli("verify", "--at", server.at, code=1).stderr)
        self.assertEqual(self.cli("dump", "--at", server.at).stdout, b"")
        cold = self.edge("cold", self.server("nobody")).start(wait=False)
        cold.wait_logged("endpoint=http")
        self.assertIn(b"nothing is held", self.cli("dump", "--at", cold.at, code=3).stderr)
        self.count(server, stream()[:2000])
        dump = self.cli("dump", "--at", server.at, "--meta").stdout
        path = self.work / "main.dump"
        path.write_bytes(dump)
        self.assertIn(b"good", self.cli("verify", path).stdout)
        self.assertTrue(json.loads(self.cli("verify", "--json", "--at", server.at).stdout)["ok"])
        lines = dump.splitlines(keepends=True)
        table, key, value = lines[5].rstrip(b"\n").split(b"\t")
        for name, changed in (("a count", lines[:5] + [b"%s\t%s\t%d\n" % (table, key, int(value) + 1)] + lines[6:]),
                              ("a key", lines[:5] + [b"%s\t%sx\t%s\n" % (table, key, value)] + lines[6:]),
                              ("a row less", lines[:5] + lines[6:]), ("a row twice", lines[:6] + lines[5:]),
                              ("two counts exchanged", None)):
            if changed is None:
                rows = [line.rstrip(b"\n").split(b"\t") for line in lines[1:]]
                one = next(n for n, row in enumerate(rows) if row[2] != rows[0][2])
                rows[0][2], rows[one][2] = rows[one][2], rows[0][2]
                changed = lines[:1] + [b"\t".join(row) + b"\n" for row in rows]
            with self.subTest(changed=name):
                self.assertIn(b"bad", self.cli("verify", "-", input=b"".join(changed), code=1).stdout)
        self.cli("verify", "-", input=b"".join(lines[1:]), code=2)
        self.cli("verify", "-", input=b"", code=2)
        self.cli("verify", "-", input=dump + b"t\tk\tmany\n", code=2)
        self.cli("verify", "-", input=b"".join(self.random.sample(lines[1:], len(lines) - 1)), code=2)
        self.cli("verify", "-", input=lines[0] + b"".join(self.random.sample(lines[1:], len(lines) - 1)))  # order does not matter

    def test_what_is_no_tallycast(self):
        import http.server
        import threading

        class Other(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = b"<html>hello</html>" if self.path != "/v1/snapshot" else b"TALLYF1\n\x10\0\0\0garbage"
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *words):
                pass
        other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other)
        threading.Thread(target=other.serve_forever, daemon=True).start()
        self.addCleanup(other.server_close)
        self.addCleanup(other.shutdown)
        at = f"http://127.0.0.1:{other.server_port}"
        for words in (["version"], ["dump"], ["verify"]):
            self.cli(*words, "--at", at, code=4)
        self.cli("get", "--at", at, "t", "k", code=4)

    def test_output_that_cannot_be_written(self):
        server = self.server().start()
        self.count(server, stream()[:4000])
        with open("/dev/full", "wb") as full:
            done = subprocess.run([BIN / "tallycast", "dump", "--at", server.at], stdout=full, stderr=subprocess.PIPE)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(b"cannot write", done.stderr)

    # ---------------------------------------------------------------------------------------------- watch

    def test_watch_lines_and_json(self):
        server = self.server().start()
        edge = self.edge("edge", server).start()
        self.count(server, stream()[:1000])
        version = self.wait_equal(server, edge)["version"]
        out = self.cli("watch", "--at", server.at, "--at", edge.at, "--json", "--looks", "3", "--interval", "100").stdout
        looks = [json.loads(line) for line in out.splitlines()]
        self.assertEqual(len(looks), 3)
        for look in looks:
            self.assertEqual([place["version"] for place in look["places"]], [version] * 2)
        self.assertEqual(looks[2]["places"][0]["events_per_second"], 0)
        text = self.cli("watch", "--at", server.at, "--at", edge.at, "--looks", "2", "--interval", "100").stdout.decode()
        self.assertEqual(len(text.splitlines()), 2)
        self.assertIn(f"version {version}", text)
        edge.stop()
        look = json.loads(self.cli("watch", "--at", server.at, "--at", edge.at, "--json", "--looks", "1").stdout)
        self.assertEqual([place["reached"] for place in look["places"]], [True, False])

    def test_watch_on_a_terminal(self):
        server = self.server().start()
        edge = self.edge("edge", server).start()
        terminal = Terminal(self, BIN / "tallycast", "watch", "--at", server.at, "--at", edge.at, "--interval", "100", "--progress", "1000")
        terminal.wait_shown("dataset main")
        self.count(server, [b"files\tkey-%d" % n for n in range(1000)])
        terminal.wait_shown(r"100 %")
        terminal.wait_shown(r"edge 1 .*live")
        self.count(server, [b"files\tkey-%d" % n for n in range(1000)])  # now they are there already
        terminal.wait_shown(r"bytes on the wire per changed existing key .*, [0-9.]+ in all")
        self.assertIn("\033[?25l", terminal.read())
        terminal.press(b"\x03")
        self.assertEqual(terminal.wait_exit(), 0)
        self.assertTrue(terminal.read().rstrip().endswith("\033[?25h"), "the cursor is back")

    def test_count_on_a_terminal(self):
        server = self.server().start()
        path = self.work / "events.tsv"
        path.write_bytes(b"t\tk\n" * 5000)
        terminal = Terminal(self, BIN / "tallycast", "count", "--to", server.settings["ingest"], "--rate", "5000", path)
        terminal.wait_shown(r"events acknowledged .*version")
        self.assertEqual(terminal.wait_exit(), 0)
        self.assertIn("5,000 events in", terminal.read())


if __name__ == "__main__":
    harness.main()
