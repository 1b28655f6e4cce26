# SPDX-License-Identifier: Apache-2.0
"""What the host tests share: the packed package laid out as npm would, the place that guests report to, the truth they are held against.

Truth is what the server answers by HTTP, from its native mirror, version by version: a thread asks it all the time while the test runs. What a guest says
that it read of a version must be what the server said of it.
"""
import contextlib
import http.client
import http.server
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import urllib.parse
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))

import harness  # noqa: E402
import runtimes  # noqa: E402
from cutter import Cutter  # noqa: E402
from harness import BIN, Feeder, recount, stream, wait_until  # noqa: E402

WATCHED = 30
TYPES = {".html": "text/html; charset=utf-8", ".mjs": "text/javascript", ".js": "text/javascript", ".wasm": "application/wasm"}


def packed():
    """The package as npm pack made it, or what is missing."""
    found = sorted((BIN.parent / "npm").glob("tallycast-*.tgz"))
    if not found:
        raise AssertionError(f"no packed package in {BIN.parent / 'npm'}: build the target tallycast_npm, with npm installed")
    return found[-1]


def unpack(folder):
    """node_modules/tallycast in `folder`, from the packed file."""
    into = folder / "node_modules"
    into.mkdir(parents=True)
    with tarfile.open(packed()) as tar:
        tar.extractall(into)
    (into / "package").rename(into / "tallycast")
    return into / "tallycast"


def workerd_config(folder, port, control, files):
    """workerd/config.capnp for the first of these files of `folder`, with the package in it."""
    package = folder / "node_modules" / "tallycast"
    modules = [(name, "esModule", name) for name in files]
    for path in sorted([*package.glob("src/*.js"), *package.glob("wasm/*.wasm")]):
        if path.name not in ("node.js", "web.js") and not path.name.endswith(".node.js"): # what is for others
            modules.append((f"tallycast/{path.relative_to(package)}", "wasm" if path.suffix == ".wasm" else "esModule", path.relative_to(folder)))
    text = (HERE / "workerd" / "config.capnp").read_text()
    lines = "\n".join(f'    (name = "{name}", {kind} = embed "{file}"),' for name, kind, file in modules)
    return text.replace("@MODULES@", lines).replace("@PORT@", str(port)).replace("@CONTROL@", control)


class Truth:
    """What the server says that the watched keys had, for as many versions as can be asked for."""

    def __init__(self, case, server, watched):
        self.server, self.watched = server, watched
        self.values = {table: {} for table in watched}  # table -> version -> values
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._ask, daemon=True)
        case.addCleanup(self.stop)
        self.thread.start()

    def _ask(self):
        place = urllib.parse.urlsplit(self.server.at)
        bodies = {table: json.dumps({"table": table, "keys": keys}) for table, keys in self.watched.items()}
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=20)
        while not self.stopping.wait(0.002):
            for table, body in bodies.items():
                try:
                    connection.request("POST", "/v1/get", body, {"Content-Type": "application/json"})
                    answer = json.loads(connection.getresponse().read())
                except (OSError, http.client.HTTPException):
                    connection.close()
                    continue
                if "values" in answer:
                    self.values[table][answer["version"]] = answer["values"]
        connection.close()

    def stop(self):
        self.stopping.set()
        self.thread.join(30)

    def check(self, case, record):
        """How many of a record's tables were held against the truth of its version."""
        checked = 0
        for table, values in record["values"].items():
            want = self.values.get(table, {}).get(record["version"])
            if want is not None:
                case.assertEqual(values, want, f"version {record['version']} of {table}")
                checked += 1
        return checked


class Control:
    """An HTTP server that guests ask for their job and report to. Serves files, too, as a page needs them that shares memory with workers."""

    def __init__(self, case, files=None):
        self.job, self.until = None, None
        self.records, self.reader_records, self.views = [], [], {}
        self.versions = 0
        self.ended = self.failure = None
        control = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self, status, body, content_type="application/json"):
                self.send_response(status)
                for name, value in (("Content-Type", content_type), ("Content-Length", str(len(body))), ("Cross-Origin-Opener-Policy", "same-origin"),
                                    ("Cross-Origin-Embedder-Policy", "require-corp"), ("Cache-Control", "no-store")):
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                path = (files / self.path.lstrip("/")) if files else None
                if not path or not path.is_file():
                    return self.answer(404, b"{}")
                return self.answer(200, path.read_bytes(), TYPES.get(path.suffix, "application/octet-stream"))

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
                self.answer(200, json.dumps(control.take(self.path, body)).encode())

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", harness.free_port()), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None # a guest that is ended leaves its connections
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        case.addCleanup(self.server.server_close)
        case.addCleanup(self.server.shutdown)

    def take(self, path, body):
        if path == "/job":
            return self.job
        if path == "/failed":
            self.failure = self.failure or body["failure"]
        elif path == "/reader":
            self.reader_records += body["records"]
            self.views[body["number"]] = body["views"]
        elif path in ("/report", "/end"):
            self.records += body["records"]
            self.versions = body["versions"]
            if path == "/end":
                self.ended = body
        return {"until": self.until}

    def wait(self, condition, what, timeout=60, alive=lambda: True):
        def found():
            if self.failure:
                raise AssertionError(f"the guest says: {self.failure}")
            value = condition()
            if not value and not alive():
                raise AssertionError(f"the guest ended before: {what}")
            return value
        return wait_until(found, what, timeout)


class Program:
    """A runtime at work; what it prints is shown when a test fails."""

    def __init__(self, case, words, cwd, name="program"):
        self.log_path = case.work / f"{name}.log"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen([str(word) for word in words], cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            preexec_fn=harness._die_with_parent, env={**os.environ, "NO_COLOR": "1", "DENO_NO_UPDATE_CHECK": "1"})
        case.addCleanup(self._clean_up)

    def alive(self):
        return self.process.poll() is None

    def log(self):
        return self.log_path.read_text(errors="replace")

    def _clean_up(self):
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()


class HostCase(harness.Case):
    """A server, an edge, a load, and a guest that follows the edge through a reconnect and a catch-up."""

    host = None

    def tearDown(self):
        super().tearDown()
        program = getattr(self, "program", None)
        if program and not getattr(self._outcome, "success", True):
            print(f"--- what {self.host} said\n{program.log()[-4000:]}", file=sys.stderr)

    def site(self, *files):
        """A folder with the unpacked package and these files of this one."""
        folder = self.work / "site"
        unpack(folder)
        for name in files:
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(HERE / name, folder / name)
        return folder

    def prepare(self, files=None, **edge_settings):
        self.control = Control(self, files)
        self.server_ = self.server(tick=10).start()
        self.lines = stream()[:30000]
        truth = recount(self.lines)
        everything = {table: [key for key, _ in truth[table].most_common()] for table in truth}
        watched = {table: keys[:WATCHED] for table, keys in everything.items()}
        self.edge_ = self.edge("edge", self.server_, **{"stream-retention-bytes": 65536, "stream-origin": self.control.url, **edge_settings}).start()
        self.feeder = Feeder(self, self.server_.settings["ingest"], self.lines, rate=2000, arguments=["--batch-ms", "10"])
        self.truth = Truth(self, self.server_, watched)
        self.wait_version(self.edge_, 5)
        self.control.job = {"url": f"ws{self.edge_.at[len('http'):]}/v1/stream", "dataset": "main", "watched": watched, "all": everything}

    def run_through(self, alive=lambda: True, middle=lambda: None, before_end=lambda: None):
        """500 versions at least; the edge is killed twice, once for a moment, once until it does not know the guest's place any more."""
        control = self.control
        control.wait(lambda: control.versions > 150, "150 versions", alive=alive)
        for behind in (0, 150):
            self.edge_.kill()
            at = self.wait_version(self.server_, self.server_.version()["version"] + behind)["version"]
            self.edge_.start()
            control.wait(lambda: control.records and control.records[-1]["version"] >= at, f"version {at} after the edge was gone", alive=alive)
            middle()
            before = control.versions
            control.wait(lambda: control.versions >= before + 120, "120 more", alive=alive)
        control.wait(lambda: control.versions >= 500, "500 versions", alive=alive)
        before_end()
        self.result = self.feeder.stop()
        control.until = self.result["acknowledged_version"]
        control.wait(lambda: control.ended, "its end", alive=alive)
        self.truth.stop()

    def prepare_counts(self, files=None):
        """For counts.mjs: an edge that counts, and a way to it that loses answers."""
        self.control = Control(self, files)
        self.server_ = self.server(tick=10).start()
        self.edge_ = self.edge("edge", self.server_, count=self.server_.settings["ingest"], **{"count-tick": 20, "stream-origin": self.control.url}).start()
        self.way = Cutter(self, self.edge_, 0.25)
        self.control.job = {"url": self.way.at, "adds": 6000}

    def run_counts(self, alive=lambda: True):
        """The edge is killed twice while it counts; all of it arrives, once."""
        control = self.control
        for part in (0.2, 0.6):
            control.wait(lambda: control.versions > part * control.job["adds"], "it counts", alive=alive)  # pylint: disable=cell-var-from-loop
            self.edge_.kill()
            self.edge_.start()
        control.wait(lambda: control.ended, "its end", alive=alive)
        self.check_counts({key: int(value) for key, value in control.ended["truth"].items()}, control.ended["stats"])

    def check_counts(self, truth, stats):
        keys = list(truth)
        wait_until(lambda: try_values(self.server_, "hits", keys) == list(truth.values()), lambda: f"{truth}\nbut {try_values(self.server_, 'hits', keys)}")
        self.assertEqual((stats["pending"], {why for why, keys in stats["refused"].items() if keys}), (0, set()))
        self.assertGreater(stats["retries"], 0)
        self.assertGreater(stats["repeats"], 0, "no answer was lost")
        print(f"# {self.host}: {stats}; {self.way.cuts} answers cut", flush=True)

    def check_all(self):
        """Every value that it told, against the server's; every key at the end, against what was counted."""
        ended, control = self.control.ended, self.control
        found = self.wait_equal(self.server_, self.edge_)
        end = ended["end"]
        for name in ("epoch", "version", "digest", "keys"):
            self.assertEqual(end[name], found[name], name)
        counted = recount(self.feeder.written.elements())
        for table, keys in self.control.job["all"].items():
            wrong = [(key, value, counted[table][key]) for key, value in zip(keys, end["values"][table]) if (value or 0) != counted[table][key]]
            self.assertEqual(wrong[:5], [], f"{len(wrong)} of {len(keys)} keys of {table}") # all at once would take minutes to be told
            self.assertEqual(ended["rows"][table], len(counted[table]))
            self.assertEqual([value for _, value in ended["top"][table]], [value for _, value in counted[table].most_common(10)])
            for key, value in ended["top"][table]:
                self.assertEqual(value, counted[table][key])
        checked = sum(self.truth.check(self, record) for record in control.records)
        by_readers = sum(self.truth.check(self, record) for record in control.reader_records)
        versions = [record["version"] for record in control.records]
        self.assertEqual(versions, sorted(set(versions)), "versions went back")
        self.assertEqual(len(versions), ended["versions"], "some were not told")
        self.assertGreaterEqual(ended["versions"], 500)
        self.assertGreater(checked, ended["versions"], "half of what was read was not checked: the server was asked too seldom")
        self.assertEqual(ended["states"].count("live"), 2, ended["states"])
        self.assertGreater(ended["jumps"], 0, "no catch-up")
        self.assertEqual(ended["stats"]["refused"], 0)
        self.assertEqual(ended["stats"]["stalledReaders"], 0)
        self.passed = [f"{ended['versions']} versions", "reconnect", "catch-up", "every key at the end"]
        reads = checked * WATCHED * 2 + by_readers * WATCHED * 2
        print(f"# {self.host}: {ended['versions']} versions, {ended['jumps']} jumps, {reads} reads of known versions checked"
              f"{f', {by_readers} tables by other threads' if by_readers else ''}", flush=True)
        return by_readers


def try_values(server, table, keys):
    """What the server has; None when that is nothing yet."""
    try:
        return harness.post_get(server.at, table, keys)[0]
    except AssertionError:
        return None


def tell(host, passed=(), not_run=()):
    """For the compatibility report (tests/compat/report.py)."""
    folder = BIN.parent / "hosts"
    folder.mkdir(exist_ok=True)
    version = runtimes.version(host) if passed else ""
    (folder / f"{host}.json").write_text(json.dumps({"host": host, "version": version, "passed": list(passed), "not_run": list(not_run)}))


def main(host):
    """Runs the tests of a host; exit code 77, and why, when it is not here."""
    try:
        runtimes.find(host)
    except runtimes.NotRun as reason:
        tell(host, not_run=[f"not run: {reason}"])
        print(f"not run: {reason}")
        sys.exit(77)
    harness.main()


__all__ = ["BIN", "Control", "HERE", "HostCase", "Program", "harness", "main", "runtimes", "tell", "wait_until"]
