# SPDX-License-Identifier: Apache-2.0
"""Settings: flags and YAML, what is refused and how, the examples of deploy/, and a clean end by SIGTERM."""
import re
import signal
import subprocess
import time

import harness
from harness import BIN, ROOT, Feeder, recount, stream, wait_until

PROGRAMS = ("tallycast-server", "tallycast-edge")
NO_SETTINGS = ("config", "example-config", "help", "version")


def run(program, *words, code=None):
    done = subprocess.run([BIN / program, *words], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    if code is not None and done.returncode != code:
        raise AssertionError(f"{program} {words}: exit {done.returncode}, wanted {code}\n{done.stdout}{done.stderr}")
    return done


def flags_of_help(program):
    return re.findall(r"^ +--([a-z0-9-]+)", run(program, "--help", code=0).stdout, re.M)


class Settings(harness.Case):
    def test_help_and_version(self):
        for program in PROGRAMS:
            text = run(program, "--help", code=0).stdout
            self.assertIn(program, text)
            self.assertIn("--config", text)
            self.assertRegex(run(program, "--version", code=0).stdout, r"\d+\.\d+\.\d+")

    def test_every_setting_is_in_the_example(self):
        """deploy/examples/ is what the programs print: every setting with its default, unit and range."""
        for program, example in zip(PROGRAMS, ("server.yaml", "edge.yaml")):
            with self.subTest(example=example):
                text = (ROOT / "deploy" / "examples" / example).read_text()
                for flag in flags_of_help(program):
                    if flag not in NO_SETTINGS:
                        self.assertRegex(text, rf"(?m)^#? ?{re.escape(flag)}:", f"{flag} is not in {example}")
                self.assertEqual(run(program, "--example-config", code=0).stdout, text,
                                 f"made by: {program} --example-config > deploy/examples/{example}")

    def test_the_examples_are_accepted(self):
        """As they stand, and with every line that is commented out switched on."""
        for program, example in zip(PROGRAMS, ("server.yaml", "edge.yaml")):
            text = (ROOT / "deploy" / "examples" / example).read_text()
            path = self.work / example
            for what, found in (("as it stands", text), ("all on", re.sub(r"(?m)^#([a-z-]+: .+)$", r"\1", text))):
                with self.subTest(example=example, what=what):
                    path.write_text(found)
                    # A flag that is wrong on purpose: it is looked at after the file was read without complaint.
                    done = run(program, "--config", str(path), "--http", "nonsense", code=2)
                    self.assertIn("nonsense", done.stderr)
                    self.assertNotIn(f"{example}:", done.stderr)

    def test_what_is_refused_in_a_file(self):
        cases = [
            ("dataset: main\ntikc: 20\n", 2, "tikc"),
            ("dataset: main\n\ntick: soon\n", 3, "tick"),
            ("tick: 0\n", 1, "tick"),
            ("tick: 99999999\n", 1, "tick"),
            ("dataset: Main!\n", 1, "dataset"),
            ("tables: maybe\n", 1, "tables"),
            ("tick: 20\ntick: 30\n", 2, "tick"),
            ("tick: [20\n", None, ""),
            ("tick:\n  nested: 1\n", None, "tick"),
        ]
        for text, line, word in cases:
            with self.subTest(text=text):
                path = self.work / "bad.yaml"
                path.write_text(text)
                done = run("tallycast-server", "--config", str(path), code=2)
                self.assertIn(word, done.stderr)
                self.assertIn(f"bad.yaml:{line}" if line else "bad.yaml", done.stderr)
        # What is seen to be wrong only after the whole file was read is told with its line, too.
        late = [("http: nonsense", "http"), ("dataset: A B", "dataset"), ("stream-origin: example.org", "stream-origin"),
                ("statsd-rule: no-equals-sign", "statsd-rule"), ("tls-cert: cert.pem", "tls-cert")]
        late_of = {"tallycast-server": late + [("ingest: http://127.0.0.1", "ingest"), ("publish: tcp://127.0.0.1:99999", "publish"),
                                               ("table: name kind", "table"), ("statsd: nowhere", "statsd")],
                   "tallycast-edge": late + [("subscribe: nowhere", "subscribe"), ("catchup: nowhere", "catchup"), ("guest: nameless", "guest"),
                                             ("count: http://127.0.0.1", "count"), ("statsd: 127.0.0.1:0", "statsd"),
                                             ("count-spool: 1M", "count-spool")]}
        for program, cases in late_of.items():
            for text, word in cases:
                with self.subTest(program=program, text=text):
                    path.write_text(f"# a comment\n\n{text}\n")
                    done = run(program, "--config", str(path), "--data", str(self.work / "data"), code=2)
                    self.assertRegex(done.stderr, rf"^{program}: {path}:3: {word}\b")
                    self.assertFalse((self.work / "data").exists(), "nothing was touched")
        done = run("tallycast-server", "--config", str(self.work / "nowhere.yaml"), code=2)
        self.assertIn("nowhere.yaml", done.stderr)

    def test_what_is_refused_on_the_command_line(self):
        cases = [
            ("tallycast-server", ["--tikc", "20"], "tikc"),
            ("tallycast-server", ["--tick"], "tick"),
            ("tallycast-server", ["--tick", "-1"], "tick"),
            ("tallycast-server", ["--ingest", "http://127.0.0.1:1"], "ingest"),
            ("tallycast-server", ["--ingest", "tcp://127.0.0.1:99999"], "ingest"),
            ("tallycast-server", ["--http", "127.0.0.1"], "http"),
            ("tallycast-server", ["--dataset", "a b"], "dataset"),
            ("tallycast-server", ["stray"], "stray"),
            ("tallycast-edge", ["--threads", "0"], "threads"),
            ("tallycast-edge", ["--client", "magic"], "client"),
            ("tallycast-edge", ["--subscribe", "tcp://127.0.0.1:1", "--subscribe", "tcp://127.0.0.1:2",
                                "--catchup", "tcp://127.0.0.1:3"], "catchup"),
        ]
        for program, words, word in cases:
            with self.subTest(words=words):
                done = run(program, "--data", str(self.work / "data"), *words, code=2)
                self.assertIn(word, done.stderr)
                self.assertFalse((self.work / "data").exists(), "nothing was touched")

    def test_a_flag_wins_over_the_file(self):
        server = self.server()
        (self.work / "server.yaml").write_text(
            f"# a comment\ndataset: fromfile\ntick: 30\ndata: {self.work}/data-of-file\nhttp: 127.0.0.1:1\n")
        del server.settings["dataset"]
        server.start(config=self.work / "server.yaml")
        self.assertEqual(server.version()["dataset"], "fromfile")
        self.assertTrue(server.settings["data"].exists())
        self.assertFalse((self.work / "data-of-file").exists())
        self.assertEqual(server.stop(), 0)

    def test_closed_tables(self):
        server = self.server().start()
        self.count(server, [b"known\tkey"])
        self.assertEqual(server.stop(), 0)
        server.start(tables="closed", table="wanted")
        self.count(server, [b"known\tkey", b"wanted\tkey"])
        done = self.cli("count", "--to", server.settings["ingest"], "-", input=b"unknown\tkey\n", code=4)
        self.assertIn(b"refused", done.stderr)
        self.assertEqual(harness.post_get(server.at, "known", ["key"])[0], [2])

    def test_json_logs(self):
        import json
        server = self.server()
        edge = self.edge("edge", server)
        for daemon in (server, edge):
            daemon.start(wait=False, log_format="json")
            daemon.wait_logged(r'"event": ?"ready"')
        self.assertEqual([edge.stop(), server.stop()], [0, 0])
        for daemon in (server, edge):
            for line in daemon.log().splitlines():
                self.assertLessEqual({"time", "level", "event"}, json.loads(line).keys(), line)

    def test_sigterm_keeps_what_was_acknowledged(self):
        server = self.server(grace=3000).start()
        edge = self.edge("edge", server).start()
        feeder = Feeder(self, server.settings["ingest"], stream(), rate=10000)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            wait_until(lambda: server.version()["version"] > 20, "some versions")
            server.process.send_signal(number)
            self.assertEqual(server.wait_exit(4), 0, server.log())
            server.start()
        result = feeder.stop()
        self.wait_version(server, result["acknowledged_version"])
        self.wait_equal(server, edge)
        self.assert_counts(edge, recount(feeder.written.elements()))
        edge.process.send_signal(signal.SIGTERM)
        self.assertEqual(edge.wait_exit(10), 0, edge.log())

    def test_sigterm_while_peers_connect(self):
        """NNG's close can wait for ever while a connection is being made: the daemon's end must not hang on it."""
        server = self.server()
        for _ in range(20):
            server.start()
            peers = [subprocess.Popen([BIN / "tallycast", "count", "--to", server.settings["ingest"], "--quiet", "--timeout", "1", "-"],
                                      stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(6)]
            for peer in peers:
                peer.stdin.write(b"t\tk\n")
                peer.stdin.close()
            time.sleep(0.02 * self.random.random())  # somewhere in their coming and going
            server.process.send_signal(signal.SIGTERM)
            self.assertEqual(server.wait_exit(15), 0, server.log())
            for peer in peers:
                peer.kill()
                peer.wait()

    def test_the_log_says_where_it_listens(self):
        """Loopback alone unless told otherwise; every address shows as one."""
        server = self.server(http="*:0", statsd=":0").start(wait=False)
        server.wait_logged("event=ready")
        self.assertRegex(server.log(), r"endpoint=http url=http://\*:\d+")
        self.assertRegex(server.log(), r"endpoint=statsd url=udp://\*:\d+")
        for program in PROGRAMS:
            defaults = re.findall(r"default [^()]*?(?:tcp://)?([0-9.*]+):\d+\)", run(program, "--help", code=0).stdout)
            self.assertGreaterEqual(len(defaults), 3, program)
            self.assertEqual(set(defaults), {"127.0.0.1"}, program)

    def test_sigterm_while_nobody_listens(self):
        """No peer, no data, in the middle of nothing: it ends at once."""
        server = self.server().start()
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(server.wait_exit(5), 0)
        edge = self.edge("edge", server).start(wait=False)
        edge.wait_logged("event=listening")
        edge.process.send_signal(signal.SIGTERM)
        self.assertEqual(edge.wait_exit(5), 0)


if __name__ == "__main__":
    harness.main()
