# SPDX-License-Identifier: Apache-2.0
"""Ingest: acknowledged, durable batches of counts over 1M real names into tallycast-server, beside Redis INCRBY and statsd by TCP.

Every server is pinned to one core and its sender to another; the rounds are taken in turn. An event is one entry of a batch, one INCRBY, one line. The
batches are those of edges that merge before they send: names drawn uniformly, so that nearly none comes twice in one. At the end the
server's sums are held against the sender's.

Beside that, StatsD's lines by TCP, into tallycast-server and into statsd: until the connection is closed, which both do when they have read to its end.
"""
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path

import contest
from contest import BUILD, CACHE, HERE, Contestant, emit, not_run

SIZES = {  # keys, events of a round: ours, Redis, statsd
    "smoke": (20_000, 100_000, 20_000, 10_000),
    "quick": (1_000_000, 2_000_000, 300_000, 150_000),
    "full": (1_000_000, 10_000_000, 1_000_000, 500_000),
}
BATCH = 5000  # events
IN_FLIGHT = 250  # batches, of as many producers
STATSD = "0.9.0"
TICK_MS = 100


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cores():
    """(the servers', the senders')."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[-1], allowed[0]


def pinned(core, command):
    return ["taskset", "-c", str(core), *[str(word) for word in command]] if shutil.which("taskset") else command


def cpu_seconds(pid):
    """Of all threads that the process has, in user and kernel."""
    spent = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            spent += int((task / "schedstat").read_text().split()[0])
    return spent / 1e9


def wait_for_port(port, process, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"{process.args} does not listen on {port}")


class Subject:
    """A server, its sender, and what a round of it took. Whatever is missing makes it "not run"."""

    def __init__(self, name, start, kind, batch, in_flight, events, shape):
        self.name, self.events, self.wall_ns, self.cpu_s = name, events, [], []
        self.folder = tempfile.mkdtemp(prefix="tally-bench-")
        self.process = self.sender = None
        server_core, sender_core = cores()
        try:
            self.process, where = start(self.folder, lambda command: pinned(server_core, command))
            self.sender = Contestant(name, pinned(sender_core, [
                BUILD / "bench" / "load_ingest", kind, where, contest.names_file(), shape.keys, batch, in_flight, events, shape.seed]))
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            not_run(name, error)

    def ready(self):
        return self.sender is not None and self.sender.ready()

    def round(self):
        if not self.ready():
            return
        before = cpu_seconds(self.process.pid)
        ns = self.sender.ask("round")
        if ns is not None:
            self.wall_ns.append(ns)
            self.cpu_s.append((cpu_seconds(self.process.pid) - before) / self.events * 1e6)

    def close(self):
        if self.sender:
            self.sender.close()
        if self.process:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


# ------------------------------------------------------------------------------------------------ the servers

class Tally(Subject):
    def __init__(self, durable, shape, events, statsd=False):
        self.table = "statsd" if statsd else "downloads"
        super().__init__(f"tallycast-server, {'StatsD by TCP' if statsd else durable}", lambda folder, pin: self.start(folder, pin, durable, statsd),
                         "statsd" if statsd else "tally", shape.batch, 1 if statsd else IN_FLIGHT, events, shape)

    def start(self, folder, pin, durable, statsd):
        command = [BUILD / "bin" / "tallycast-server", "--data", f"{folder}/data", "--tick", TICK_MS, "--durable",
                   "sync" if durable == "durable" else "none"]
        for endpoint in ("ingest", "publish", "catchup"):
            command += [f"--{endpoint}", "tcp://127.0.0.1:0"]
        command += ["--statsd", "127.0.0.1:0"] if statsd else []
        process = subprocess.Popen(pin(command + ["--http", "127.0.0.1:0"]), stderr=subprocess.PIPE, text=True)
        urls = {}
        for line in process.stderr:
            found = re.search(r"event=listening endpoint=(\S+) url=(\S+)", line)
            if found:
                urls[found[1]] = found[2]
            if "event=ready" in line:
                break
        else:
            raise RuntimeError("tallycast-server does not start")
        # What it logs must not fill the pipe.
        threading.Thread(target=lambda: [None for _ in process.stderr], daemon=True).start()
        self.http = urls["http"]
        return process, urls["statsd"].split("//")[1] if statsd else urls["ingest"]

    def verify(self):
        """The sum of all, and some keys, read over HTTP."""
        if not self.ready():
            return
        for _ in range(100):  # what came by StatsD is counted with the next ticks
            metrics = urllib.request.urlopen(f"{self.http}/metrics").read().decode()
            total = int(float(re.search(r"^tally_server_amounts_total\S* (\S+)", metrics, re.M)[1]))
            if total == int(self.text("sum")):
                break
            time.sleep(0.1)
        names, values = [], []
        for key in range(0, 2000, 20):
            names.append(self.text(f"name {key}"))
            values.append(int(self.text(f"key {key}")))
        answer = json.load(urllib.request.urlopen(f"{self.http}/v1/get", json.dumps({"table": self.table, "keys": names}).encode()))
        if total != int(self.text("sum")) or answer["values"] != values:
            sys.exit(f"{self.name}: counted {total}, sent {self.text('sum')}; keys {answer['values']}, sent {values}")

    def text(self, command):
        self.sender.process.stdin.write(command + "\n")
        self.sender.process.stdin.flush()
        return self.sender.line()


def redis(appendonly):
    def start(folder, pin):
        if not shutil.which("redis-server"):
            raise RuntimeError("no redis-server")
        port = free_port()
        process = subprocess.Popen(pin(["redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", folder, "--save", "",
                                        "--appendonly", appendonly, "--appendfsync", "everysec", "--daemonize", "no"]),
                                   stdout=subprocess.DEVNULL)
        wait_for_port(port, process)
        return process, f"127.0.0.1:{port}"
    return start


def statsd_folder():
    """npm's, of a pinned version, checked by the checksums of its lock file; fetched once."""
    source, folder = HERE / "statsd", CACHE / f"bench-statsd-{STATSD}"
    if not (folder / "node_modules" / "statsd").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(source / name, folder)
        subprocess.run(["npm", "ci", "--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, check=True,
                       capture_output=True, timeout=60)
    return folder / "node_modules" / "statsd"


def statsd(folder, pin):
    if not shutil.which("node"):
        raise RuntimeError("no node")
    source, port, config = statsd_folder(), free_port(), Path(folder) / "config.js"
    # No backend, and no flush while it is measured.
    config.write_text(json.dumps({"servers": [{"server": "./servers/tcp", "address": "127.0.0.1", "port": port}], "backends": [],
                                  "mgmt_address": "127.0.0.1", "mgmt_port": free_port(), "flushInterval": 3_600_000}))
    process = subprocess.Popen(pin(["node", "stats.js", config]), cwd=source, stdout=subprocess.DEVNULL)
    wait_for_port(port, process)
    return process, f"127.0.0.1:{port}"


# ------------------------------------------------------------------------------------------------ all of it

def rate(subject):
    return [1e3 / ns for ns in subject.wall_ns]


def main():
    options = contest.options(batch=BATCH)
    smoke = options.size == "smoke"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    options.keys, ours, theirs, lines = SIZES[options.size]
    plain, aof, stats = "redis-server, no log", "redis-server, log by the second", f"statsd {STATSD}, TCP"
    durable = Tally("durable", options, ours)
    lines_here = Tally("durable", options, lines * 8, statsd=True)
    found = {"durable": durable, "lines": lines_here}
    try:
        if not smoke:
            found |= {plain: Subject(plain, redis("no"), "redis", 100, 16, theirs, options),
                      aof: Subject(aof, redis("yes"), "redis", 100, 16, theirs, options),
                      stats: Subject(stats, statsd, "statsd", 1000, 1, lines, options)}
        if options.part == "ours":
            found = {"durable": durable, "lines": lines_here}
        for subject in found.values():
            subject.ready()
        for _ in range(options.rounds):
            for subject in found.values():
                subject.round()
        durable.verify()
        lines_here.verify()
        what = f"ingest of {options.keys:,} names, acknowledged and durable, one core"
        for peer, target in ((plain, ">= 8"), (aof, ">= 8"), (stats, ">= 20")):
            emit("ingest", what, rate(durable), "M events/s", peer, rate(found[peer]) if peer in found else None, target)
        emit("ingest", "StatsD's lines of the same names by TCP, one core", rate(lines_here), "M lines/s", stats,
             rate(found[stats]) if stats in found else None)
        emit("ingest", "CPU of tallycast-server, a million lines", lines_here.cpu_s, "s")
        emit("ingest", "CPU of tallycast-server, a million events", durable.cpu_s, "s")
        for peer in (plain, aof, stats):
            emit("ingest", f"CPU of {peer}, a million events", found[peer].cpu_s if peer in found else None, "s")
        if durable.ready():
            emit("ingest", "the same names for the first time", 1e3 / durable.sender.facts["first_ns"], "M events/s")
    finally:
        for subject in found.values():
            subject.close()


if __name__ == "__main__":
    main()
