# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests share: real daemons in a temporary folder, their HTTP, the command line, and the input.

A test is a module with unittest cases that derive from Case and ends with `harness.main()`. TALLY_BIN names the folder of the binaries
(build/dev/bin), TALLY_SEED the seed that is printed. Nothing waits by sleeping where a condition can be waited for.
"""
import collections
import contextlib
import ctypes
import fcntl
import gzip
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.parse
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("TALLY_BIN", ROOT / "build" / "dev" / "bin")).resolve()
SLICE = ROOT / "tests" / "data" / "commits-slice.tsv.gz"
FULL = ROOT.parent / "shared" / "data" / "commits.tsv.gz"
SEED = int(os.environ.get("TALLY_SEED", "0"), 0) or random.SystemRandom().getrandbits(32)
EVENT_AWK = r'{print "files\t"$2"/"$3"\nrepos\t"$2}'
QUERY_KEYS_MAX = 4096  # TALLY_QUERY_KEYS_MAX


def wait_until(condition, what, timeout=30.0, interval=0.02):
    """Waits until condition() is true and returns what it gave; fails after `timeout` seconds."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout} s: {what() if callable(what) else what}")
        time.sleep(interval)


_ports_given = set()


def _own_ports():
    """A thousand ports that no other test process takes as long as this one lives, and the locked file that says so."""
    for number in range(21):
        try:
            lock = open(Path(tempfile.gettempdir()) / f"tallycast-test-ports-{number}", "w", encoding="utf-8")
        except OSError:
            continue  # another user's
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return range(10240 + 1000 * number, 11240 + 1000 * number), lock
        except OSError:
            lock.close()
    raise AssertionError("too many tests at once: no ports left")


_ports, _ports_lock = _own_ports()


def free_port():
    """A port that nobody listens on, below those that the system hands out by itself: it stays free for a daemon that is restarted."""
    for _ in range(1000):
        port = random.SystemRandom().choice(_ports)
        if port in _ports_given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _ports_given.add(port)
        return port
    raise AssertionError("no free port")


# ------------------------------------------------------------------------------------------------ HTTP

class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)


def request(base, method, path, body=None, headers=None, timeout=20):
    parts = urllib.parse.urlsplit(base)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def get(base, path, **more):
    return request(base, "GET", path, **more)


def try_get(base, path):
    """As get; None when nobody answers."""
    try:
        return get(base, path, timeout=5)
    except (OSError, http.client.HTTPException):
        return None


def post_get(base, table, keys):
    """values and the answer of one POST /v1/get; keys are str."""
    answer = request(base, "POST", "/v1/get", json.dumps({"table": table, "keys": keys}),
                     {"Content-Type": "application/json"})
    if answer.status != 200:
        raise AssertionError(f"POST /v1/get at {base}: {answer.status} {answer.body[:200]!r}")
    return answer.json["values"], answer.json


def metric(base, name):
    """Sum of the samples of a metric, None when there is none."""
    found = None
    for line in get(base, "/metrics").body.decode().splitlines():
        match = re.match(re.escape(name) + r"(\{.*\})? ([-+.0-9eE]+)$", line)
        if match:
            found = (found or 0) + float(match.group(2))
    return found


# ------------------------------------------------------------------------------------------------ daemons

_libc = ctypes.CDLL(None)


def _die_with_parent():
    _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: a killed test leaves no daemon


class Daemon:
    """A server or an edge. Settings are those of the command line, with _ for -; lists are given several times."""

    def __init__(self, case, name, program, settings):
        self.case, self.name, self.program = case, name, program
        self.settings = dict(settings)
        self.process = None
        self.log_path = case.work / f"{name}.log"
        self.log_start = 0
        self.starts = 0
        self.environment = {}  # on top of the test's, from the next start on

    def command(self, **more):
        words = [str(BIN / self.program)]
        for key, value in {**self.settings, **more}.items():
            if value is None:
                continue
            for item in value if isinstance(value, list) else [value]:
                words += ["--" + key.replace("_", "-"), str(item)]
        return words

    def start(self, wait=True, **more):
        assert self.process is None, f"{self.name} runs already"
        with open(self.log_path, "ab") as log:
            self.log_start = log.tell()
            self.process = subprocess.Popen(self.command(**more), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            cwd=self.case.work, env={**os.environ, **self.environment}, preexec_fn=_die_with_parent)
        self.starts += 1
        if wait:
            self.wait_ready()
        return self

    def log(self):
        """What it said since it was started last."""
        with open(self.log_path, "rb") as log:
            log.seek(self.log_start)
            return log.read().decode(errors="replace")

    def errors(self):
        """The lines of level error of all its lives."""
        return [line for line in self.log_path.read_text(errors="replace").splitlines() if " level=error " in line]

    def has_logged(self, pattern):
        return re.search(pattern, self.log(), re.M) is not None

    def wait_logged(self, pattern, timeout=30):
        return wait_until(lambda: re.search(pattern, self.log(), re.M), lambda: f"{pattern} in\n{self.log()}", timeout)

    def wait_ready(self, timeout=60):
        def ready():
            if self.has_logged(r"event=ready"):
                return True
            if self.process.poll() is not None:
                raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n{self.log()}")
            return False
        wait_until(ready, lambda: f"{self.name} ready:\n{self.log()}", timeout)

    def url(self, endpoint="http"):
        """Where it listens, as its log says."""
        found = re.findall(rf"event=listening .*endpoint={endpoint} url=(\S+)", self.log())
        if not found:
            raise AssertionError(f"{self.name} does not say where {endpoint} is:\n{self.log()}")
        return found[0]

    @property
    def at(self):
        return "http://" + self.settings["http"]

    def version(self):
        return get(self.at, "/v1/version").json

    def try_version(self):
        answer = try_get(self.at, "/v1/version")
        return answer.json if answer and answer.status == 200 else None

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        code = self.process.wait(60)
        self.process = None
        return code

    def stop(self):
        """SIGTERM; the exit code."""
        return self.kill(signal.SIGTERM)

    def wait_exit(self, timeout=60):
        code = self.process.wait(timeout)
        self.process = None
        return code

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)


# ------------------------------------------------------------------------------------------------ input

def stream(path=None):
    """The commits stream as event lines (bytes, without newline), in order."""
    lines = []
    with gzip.open(path or SLICE, "rb") as file:
        for line in file:
            _, repository, name = line.rstrip(b"\n").split(b"\t")
            lines.append(b"files\t" + repository + b"/" + name)
            lines.append(b"repos\t" + repository)
    return lines


def recount(lines):
    """{table: {key: count}} of lines without amounts; keys are str."""
    counts = collections.defaultdict(collections.Counter)
    for line, count in collections.Counter(lines).items():
        table, key = line.split(b"\t")[:2]
        counts[table.decode()][key.decode()] += count
    return counts


class Feeder:
    """`tallycast count` that is fed for as long as the test likes: a thread writes the stream, again and again, at about `rate` lines a
    second; stop() closes the input, waits for the last acknowledgement and gives what was written."""

    def __init__(self, case, to, lines, rate=5000, dataset="main", arguments=()):
        self.case, self.lines, self.rate = case, lines, rate
        self.written = collections.Counter()
        self.count = 0
        self.stopping = threading.Event()
        self.process = subprocess.Popen(
            [str(BIN / "tallycast"), "count", "--to", to, "--dataset", dataset, "--json", *arguments, "-"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=_die_with_parent)
        case.addCleanup(self._clean_up)
        self.errors = []
        self.thread = threading.Thread(target=self._feed, daemon=True)
        self.reader = threading.Thread(target=self._read_errors, daemon=True)
        self.thread.start()
        self.reader.start()

    def _read_errors(self):
        for line in self.process.stderr:
            self.errors.append(line.decode(errors="replace"))

    def _feed(self):
        start, at, step = time.monotonic(), 0, max(1, self.rate // 100)
        try:
            while not self.stopping.is_set():
                part = [self.lines[(at + i) % len(self.lines)] for i in range(step)]
                at += step
                self.process.stdin.write(b"\n".join(part) + b"\n")
                self.process.stdin.flush()
                self.written.update(part)
                self.count += step
                late = time.monotonic() - start - self.count / self.rate
                if late < 0:
                    self.stopping.wait(-late)
        except BrokenPipeError:
            pass

    def stop(self, timeout=60):
        self.stopping.set()
        self.thread.join(timeout)
        self.process.stdin.close()
        code = self.process.wait(timeout)
        self.reader.join(timeout)
        out = self.process.stdout.read().decode()
        self.case.assertEqual(code, 0, "".join(self.errors) + out)
        result = json.loads(out)
        self.case.assertEqual(result["events"], self.count)
        return result

    def _clean_up(self):
        self.stopping.set()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(Exception):
                pipe.close()


# ------------------------------------------------------------------------------------------------ the test case

class Case(unittest.TestCase):
    maxDiff = 2000

    def setUp(self):
        self.random = random.Random(SEED)
        self.work = Path(tempfile.mkdtemp(prefix="tally-e2e-"))
        self.daemons = []
        self.addCleanup(self._end)

    def _end(self):
        for daemon in self.daemons:
            if daemon.process and daemon.process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    daemon.process.kill()
                    daemon.process.wait()
        shutil.rmtree(self.work, ignore_errors=True)

    def tearDown(self):
        if getattr(self._outcome, "success", True):
            return
        for daemon in self.daemons:
            if daemon.log_path.exists():
                text = daemon.log_path.read_text(errors="replace")
                print(f"--- the end of {daemon.name}'s log\n{text[-4000:]}", file=sys.stderr)

    def server(self, name="server", **settings):
        """A server that is not started yet."""
        defaults = {"data": self.work / name, "dataset": "main",
                    "http": f"127.0.0.1:{free_port()}", "ingest": f"tcp://127.0.0.1:{free_port()}",
                    "publish": f"tcp://127.0.0.1:{free_port()}", "catchup": f"tcp://127.0.0.1:{free_port()}"}
        daemon = Daemon(self, name, "tallycast-server", {**defaults, **settings})
        self.daemons.append(daemon)
        return daemon

    def edge(self, name, *servers, **settings):
        """An edge of these servers that is not started yet."""
        defaults = {"data": self.work / name, "dataset": servers[0].settings["dataset"],
                    "subscribe": [server.settings["publish"] for server in servers],
                    "catchup": [server.settings["catchup"] for server in servers],
                    "http": f"127.0.0.1:{free_port()}"}
        daemon = Daemon(self, name, "tallycast-edge", {**defaults, **settings})
        self.daemons.append(daemon)
        return daemon

    def cli(self, *words, input=None, code=0, timeout=120, env=None):
        """Runs `tallycast ...`, asserts its exit code (None: any) and gives the finished process; output as bytes."""
        done = subprocess.run([str(BIN / "tallycast"), *map(str, words)], input=input, capture_output=True,
                              timeout=timeout, stdin=subprocess.DEVNULL if input is None else None,
                              env={**os.environ, **(env or {})})
        if code is not None:
            self.assertEqual(done.returncode, code, f"tallycast {words}: {done.stdout[-1000:]!r} {done.stderr[-2000:]!r}")
        return done

    def count(self, server, lines, *options):
        """Counts lines (bytes) at a server; the result of --json."""
        done = self.cli("count", "--to", server.settings["ingest"], "--dataset", server.settings["dataset"], "--json",
                        *options, "-", input=b"".join(line + b"\n" for line in lines))
        return json.loads(done.stdout)

    def wait_version(self, daemon, version, timeout=60):
        """Waits until a daemon serves `version` or a later one."""
        def reached():
            found = daemon.try_version()
            return found if found and found["version"] >= version else None
        return wait_until(reached, lambda: f"version {version} at {daemon.name}, which has {daemon.try_version()}", timeout)

    def wait_equal(self, server, *edges, timeout=60):
        """Waits until all edges serve what the server serves; gives the server's /v1/version."""
        want = None

        def equal():
            nonlocal want
            want = server.try_version()
            return want and all(
                found and all(found[name] == want[name] for name in ("epoch", "version", "digest", "keys"))
                for found in (edge.try_version() for edge in edges))
        wait_until(equal, lambda: f"{want} at {[(edge.name, edge.try_version()) for edge in edges]}", timeout)
        return want

    def assert_counts(self, daemon, counts):
        """Every key of {table: {key: count}} has exactly its count there, by HTTP, and there is no other key."""
        found_version = daemon.version()
        self.assertEqual(found_version["keys"], sum(len(keys) for keys in counts.values()))
        for table, want in counts.items():
            keys = list(want)
            for at in range(0, len(keys), QUERY_KEYS_MAX):
                part = keys[at:at + QUERY_KEYS_MAX]
                values, answer = post_get(daemon.at, table, part)
                wrong = [(key, want[key], value) for key, value in zip(part, values) if value != want[key]]
                self.assertEqual(wrong[:5], [], f"{len(wrong)} of {len(part)} keys of {table} at {daemon.name}, {answer['version']}")


def main():
    print(f"# TALLY_SEED={SEED}", flush=True)
    if not (BIN / "tallycast-server").exists():
        sys.exit(f"no binaries in {BIN}: set TALLY_BIN")
    unittest.main(verbosity=2)
