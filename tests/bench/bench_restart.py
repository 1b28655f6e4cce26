# SPDX-License-Identifier: Apache-2.0
"""Restart and late joiner with real daemons: how long until an edge that was restarted gives its first verified answer (its server there, and
away), until a restarted server answers and accepts, and how fast an edge with an empty folder gets a whole state while versions are being
cut. Peers: Redis loading an RDB of the same keys, a Redis replica's full sync, Node parsing JSON of a part of them.

Times are wall time from the exec of the process to the first HTTP answer that has the right count of a key. What the daemons read is in the page cache.
The data is loaded once and kept in the build's bench folder, by number of keys; every round works on a copy of it (hard links and
a copy of the log). --part edge, server, joiner, peers; --keys N.
"""
import collections
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from pathlib import Path

import contest

BIN = contest.BUILD / "bin"
KEYS = {"smoke": 3000, "quick": 500_000, "full": 10_000_000}
ROUNDS = {"smoke": 1, "quick": 5, "full": 5}
NODE_KEYS = 1_000_000
TABLE = "packages"
FORMAT = 1  # of what is kept in the bench folder


def free_port():
    for _ in range(1000):
        port = random.SystemRandom().randrange(10240, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass
    raise SystemExit("no free port")


def wait(what, timeout, tell, interval=0.002):
    end = time.monotonic() + timeout
    while True:
        found = what()
        if found:
            return found
        if time.monotonic() > end:
            raise SystemExit(f"not within {timeout} s: {tell() if callable(tell) else tell}")
        time.sleep(interval)


class Names:
    """Key i and its weight, by the rule of tests/data/README.md."""

    def __init__(self):
        with open(os.environ.get("TALLY_BENCH_NAMES") or contest.names_file(), "rb") as file:
            self.lines = [line.rstrip(b"\n").split(b"\t") for line in file]
        self.lines = [(name, weight or b"0") for name, weight in self.lines]  # a few have none

    def key(self, i):
        turn, line = divmod(i, len(self.lines))
        return self.lines[line][0] + (b"@%d" % turn if turn else b"")

    def weight(self, i):
        return int(self.lines[i % len(self.lines)][1])

    def blocks(self, keys, form):
        """form(key, weight) of all keys, some thousands at a time."""
        for first in range(0, keys, len(self.lines)):
            turn = first // len(self.lines)
            suffix = b"@%d" % turn if turn else b""
            part = self.lines[:keys - first]
            for at in range(0, len(part), 20000):
                yield b"".join([form(name + suffix, weight) for name, weight in part[at:at + 20000]])


# ------------------------------------------------------------------------------------------------ processes

class Daemon:
    def __init__(self, work, name, program, **settings):
        self.name, self.log = name, work / f"{name}.log"
        self.command = [str(BIN / program)]
        for key, value in settings.items():
            self.command += ["--" + key.replace("_", "-"), str(value)]
        self.http = settings["http"]
        self.process, self.log_from, self.started = None, 0, 0.0

    def start(self):
        with open(self.log, "ab") as log:
            self.log_from = log.tell()
            self.started = time.monotonic()
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return self

    def logged(self, text):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            log.seek(self.log_from)
            return [line for line in log if text in line]

    def wait_logged(self, text, timeout=120):
        def found():
            if self.process.poll() is not None:
                raise SystemExit(f"{self.name} ended with {self.process.returncode}:\n{self.log.read_text()[-2000:]}")
            return self.logged(text)
        return wait(found, timeout, lambda: f"{text} in {self.log.read_text()[-2000:]}", 0.01)

    def get(self, path):
        """The JSON of an answer; None when nobody answers, or not well."""
        host, port = self.http.split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            return json.loads(body) if answer.status == 200 else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def metric(self, name):
        host, port = self.http.split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    def first_answer(self, key, value, timeout=120):
        """Seconds from the exec to the first answer; it must be the right one."""
        path = f"/v1/get/{TABLE}/" + urllib.parse.quote(key.decode(errors="surrogateescape"), safe="@/")

        def answered():
            if self.process.poll() is not None:
                raise SystemExit(f"{self.name} ended with {self.process.returncode}:\n{self.log.read_text()[-2000:]}")
            return self.get(path)
        answer = wait(answered, timeout, lambda: f"an answer of {self.name}: {self.log.read_text()[-2000:]}")
        took = time.monotonic() - self.started
        if self.logged("event=continuity_lost"):
            raise SystemExit(f"{self.name} took its folder for another one's: {self.log.read_text()[-2000:]}")
        if answer["value"] < value:
            raise SystemExit(f"{self.name} says {answer} instead of {value}")
        return took

    def peak_mb(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))

    def rss_mb(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))

    def cpu(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self, number=signal.SIGKILL):
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(120)
        self.process = None


class World:
    """A server and an edge on copies of the loaded folders."""

    def __init__(self, keys):
        self.keys, self.names = keys, Names()
        self.base = contest.BUILD / "bench" / f"restart-{keys}-{FORMAT}"
        self.base.parent.mkdir(parents=True, exist_ok=True)
        self.work = Path(tempfile.mkdtemp(prefix="restart-work-", dir=self.base.parent))
        self.ports = [free_port() for _ in range(4)]
        self.daemons = []

    def urls(self):
        return {name: f"tcp://127.0.0.1:{port}" for name, port in zip(("ingest", "publish", "catchup"), self.ports)}

    def server(self, data, **settings):
        daemon = Daemon(self.work, "server", "tallycast-server", data=data, http=f"127.0.0.1:{self.ports[3]}", **self.urls(),
                        **{"snapshot_every": 1 << 30, **settings})
        self.daemons.append(daemon)
        return daemon

    def edge(self, data):
        urls = self.urls()
        daemon = Daemon(self.work, "edge", "tallycast-edge", data=data, http=f"127.0.0.1:{free_port()}", subscribe=urls["publish"],
                        catchup=urls["catchup"])
        self.daemons.append(daemon)
        return daemon

    def count(self, blocks, *options):
        """Counts the lines of the blocks at the server; returns when all are acknowledged."""
        process = subprocess.Popen([str(BIN / "tallycast"), "count", "--to", self.urls()["ingest"], "--quiet", *options, "-"],
                                   stdin=subprocess.PIPE)
        for block in blocks:
            process.stdin.write(block)
        process.stdin.close()
        if process.wait():
            raise SystemExit(f"count ended with {process.returncode}")

    def copy(self, name):
        """A copy of a kept folder that may be written to. What is only replaced as a whole is linked."""
        target = self.work / name
        shutil.rmtree(target, ignore_errors=True)

        def take(source, to):
            if source.endswith(".tally"):
                os.link(source, to)
            else:
                subprocess.run(["cp", "--sparse=always", source, to], check=True)
        shutil.copytree(self.base / name, target, copy_function=take)
        if (target / "log").exists():
            self.settle(target / "lock")
        return target

    def settle(self, lock):
        """A server's copied folder would begin a new epoch (server/store/data_dir.c), which is not what is measured: its lock is made to name itself."""
        inode, seconds, born = subprocess.run(["stat", "-c", "%i|%W|%w", lock], check=True, capture_output=True, text=True).stdout.split("|")
        nanoseconds = int(born.split()[1].split(".")[1]) if "." in born else 0
        lock.write_text(f"{int(inode):016x} {int(seconds):x}.{nanoseconds:x}\n")

    def load(self):
        """Makes the kept folders where they are missing: `clean` and `killed` of a server (snapshot; snapshot and a log tail), `edge`."""
        if (self.base / "done").exists():
            return
        shutil.rmtree(self.base, ignore_errors=True)
        part = self.work / "load"
        part.mkdir()
        lines = self.names.blocks(self.keys, lambda key, weight: b"%s\t%s\t%s\n" % (TABLE.encode(), key, weight))
        server = self.server(part / "server", snapshot_every=1).start()
        server.wait_logged("event=ready")
        self.count(lines)
        newest = server.get("/v1/version")["version"]
        wait(lambda: any(f" version={newest} " in line for line in server.logged("event=snapshot_written ")), 120, "the last snapshot", 0.05)
        # Two are kept: the one before is of a state that was still growing, and would be loaded as well if the newest were damaged.
        server.end(signal.SIGTERM)
        subprocess.run(["cp", "-r", "--sparse=always", part / "server", part / "clean"], check=True)
        server = self.server(part / "server").start()
        server.wait_logged("event=ready")
        edge = self.edge(part / "edge").start()
        edge.wait_logged("to=live")
        edge.end(signal.SIGTERM)
        self.count(self.tail())
        server.end(signal.SIGKILL)
        (part / "server").rename(part / "killed")
        (part / "done").touch()
        part.rename(self.base)

    def tail(self, seed=5, records=20):
        """A log tail: records that each count 1 for 1 % of the keys, drawn uniformly."""
        draw = random.Random(seed)
        for _ in range(records):
            some = sorted({draw.randrange(self.keys) for _ in range(self.keys // 1000 + 1)})
            yield b"".join(b"%s\t%s\t1\n" % (TABLE.encode(), self.names.key(i)) for i in some)

    def sample(self, seed):
        i = random.Random(seed).randrange(self.keys)
        return self.names.key(i), self.names.weight(i)

    def close(self):
        for daemon in self.daemons:
            daemon.end()
        shutil.rmtree(self.work, ignore_errors=True)


# ------------------------------------------------------------------------------------------------ ours

def edge_round(world, found, seed, there):
    """A restart of the edge that followed the server of the folder `clean`: killed before, its stored copy is there."""
    key, value = world.sample(seed)
    edge = world.edge(world.copy("edge")).start()
    found["edge, server there" if there else "edge, server away"].append(edge.first_answer(key, value))
    found["edge peak"].append(edge.peak_mb())
    if there:
        edge.wait_logged("to=live")
        found["edge live"].append(time.monotonic() - edge.started)
        time_left = edge.get("/v1/version")
        if time_left["digest"] != world.daemons[0].get("/v1/version")["digest"]:
            raise SystemExit("the edge does not have what the server has")
    edge.end()


def server_round(world, found, seed, how):
    key, value = world.sample(seed)
    server = world.server(world.copy(how)).start()
    world.daemons.insert(0, server)
    found[f"server, {how}"].append(server.first_answer(key, value))
    world.count([b"%s\tone more\t1\n" % TABLE.encode()])
    found[f"server, {how}, batch"].append(time.monotonic() - server.started)
    found["server peak"].append(server.peak_mb())
    if how == "clean":
        edge_round(world, found, seed + 1000, True)
    server.end(signal.SIGKILL if how == "killed" else signal.SIGTERM)


def joiner_rounds(world, found, rounds):
    """Edges with an empty folder join one after the other while versions are cut: ten a second of 1,000 changes."""
    server = world.server(world.copy("clean")).start()
    server.wait_logged("event=ready")
    feeding = threading.Event()

    def versions():
        draw = random.Random(9)
        while not feeding.is_set():
            keys = [world.names.key(draw.randrange(world.keys)) for _ in range(1000)]
            yield b"".join([b"%s\t%s\t1\n" % (TABLE.encode(), key) for key in keys])
            feeding.wait(0.1)
    feeder = threading.Thread(target=world.count, args=(versions(), "--batch-ms", "50"))
    feeder.start()
    cpu = {}
    try:
        for number in range(rounds):
            edge = world.edge(world.work / f"joiner-{number}").start()
            edge.wait_logged("event=connected", 20)
            start, first = time.monotonic(), edge.get("/v1/version")
            before = server.cpu()
            edge.wait_logged("to=live")
            took = time.monotonic() - start
            cpu = {"server": server.cpu() - before, "edge": edge.cpu()}
            version = edge.get("/v1/version")["version"]
            found["joiner bytes"].append(edge.metric('tally_sync_received_bytes_total{way="catch_up"}'))
            found["joiner s"].append(took)
            found["joiner"].append(found["joiner bytes"][-1] / took / 1e6)
            found["joiner peak"].append(edge.peak_mb())
            print(f"# joiner: {took:.2f} s, cpu {cpu}, first {first and first['state']}", file=sys.stderr)
            if number == rounds - 1:
                wait(lambda: edge.get("/v1/version")["version"] > version + 3, 20, "frames after the whole state")
                feeding.set()
                feeder.join()
                newest = server.get("/v1/version")
                wait(lambda: (at := edge.get("/v1/version")) and at["version"] == newest["version"], 20, "the newest version")
                if edge.get("/v1/version")["digest"] != newest["digest"]:
                    raise SystemExit("the joiner does not have what the server has")
            edge.end()
            shutil.rmtree(world.work / f"joiner-{number}", ignore_errors=True)
    finally:
        feeding.set()
        feeder.join()
        server.end()


# ------------------------------------------------------------------------------------------------ peers

class Redis:
    """Servers with the same keys: the kept RDB, and a replica of one."""

    def __init__(self, world):
        self.world, self.program = world, shutil.which("redis-server")
        self.kept = world.base / "redis"
        self.processes = []

    def start(self, folder, *more):
        port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        command = [self.program, "--port", str(port), "--dir", str(folder), "--save", "", "--appendonly", "no", "--bind", "127.0.0.1",
                   "--loglevel", "warning", "--repl-diskless-sync-delay", "0", *map(str, more)]
        start = time.monotonic()
        self.processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
        return port, start

    def ask(self, port, *words):
        try:
            with socket.create_connection(("127.0.0.1", port), 300) as connection:
                connection.sendall(b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%s\r\n" % (len(w), w) for w in words]))
                answer = b""
                while not answer.endswith(b"\r\n"):
                    answer += connection.recv(1 << 16)
                return answer
        except OSError:
            return b""

    def load(self):
        if (self.kept / "dump.rdb").exists():
            return
        port, _ = self.start(self.kept)
        wait(lambda: self.ask(port, b"PING") == b"+PONG\r\n", 20, "redis")
        with socket.create_connection(("127.0.0.1", port)) as connection:
            # Each block is answered before the next is sent; an answer is "+OK" of 5 bytes.
            form = lambda key, weight: b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(key), key, len(weight), weight)
            for block in self.world.names.blocks(self.world.keys, form):
                sender = threading.Thread(target=connection.sendall, args=(block,))
                sender.start()
                answers = 5 * block.count(b"*3\r\n$3\r\nSET\r\n")
                while answers > 0:
                    answers -= len(connection.recv(min(answers, 1 << 20)))
                sender.join()
        if self.ask(port, b"SAVE") != b"+OK\r\n":
            raise SystemExit("redis did not save")
        self.end()

    def restart(self, key):
        port, start = self.start(self.kept)
        wait(lambda: self.ask(port, b"GET", key).startswith(b"$"), 120, "redis")
        return time.monotonic() - start, port

    def replica(self, port):
        copy, start = self.start(self.world.work / "replica", "--replicaof", f"127.0.0.1 {port}")
        wait(lambda: b"master_link_status:up" in self.ask(copy, b"INFO", b"replication"), 120, "the replica", 0.01)
        return time.monotonic() - start

    def end(self):
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes = []


NODE = """
const fs = require('fs'), lines = fs.readFileSync(process.argv[1], 'utf8').trimEnd().split('\\n'), count = Number(process.argv[2])
const all = {}
for (let i = 0; i < count; i++) {
  const turn = Math.floor(i / lines.length), [name, weight] = lines[i % lines.length].split('\\t')
  all[turn ? `${name}@${turn}` : name] = Number(weight)
}
let text = JSON.stringify(all)
console.log('ready')
require('readline').createInterface({ input: process.stdin }).on('line', () => {
  const start = process.hrtime.bigint(), parsed = JSON.parse(text)
  const took = Number(process.hrtime.bigint() - start) / 1e9
  console.log(parsed[lines[0].split('\\t')[0]] === undefined ? '-' : took)
})
"""


def peers_rounds(world, found, rounds, smoke):
    redis = Redis(world)
    if redis.program and not smoke:
        try:
            redis.load()
            for seed in range(rounds):
                took, port = redis.restart(world.sample(seed)[0])
                found["redis"].append(took)
                if seed < 3:
                    found["replica"].append(redis.replica(port))
                redis.end()
        finally:
            redis.end()
    elif not smoke:
        contest.not_run("Redis", "no redis-server")
    if shutil.which("node") and not smoke:
        keys = min(NODE_KEYS, world.keys)
        names = os.environ.get("TALLY_BENCH_NAMES") or contest.names_file()
        node = contest.Contestant("Node", ["node", "-e", NODE, names, keys])
        for _ in range(rounds):
            value = node.ask("parse")
            if value is not None:
                found["node"].append(value)
        node.close()
        found["node keys"] = [keys]
    elif not smoke:
        contest.not_run("Node", "no node")


# ------------------------------------------------------------------------------------------------ all of it

def tell(world, found, big):
    def emit(subject, name, unit, *rest):
        if name in found or rest:
            contest.emit("restart", subject, found.get(name), unit, *rest)

    keys = f"{world.keys:,} keys"
    target = {"edge": "<= 2", "server": "<= 3"} if big else {"edge": "", "server": ""}
    for how in ("away", "there"):
        emit(f"edge restart, server {how}, {keys}: first verified read", f"edge, server {how}", "s", None, None, target["edge"])
    emit(f"edge restart, server there, {keys}: live", "edge live", "s", None, None, "")
    for how, said in (("clean", "clean stop"), ("killed", "kill -9 with a log tail")):
        emit(f"server restart, {said}, {keys}: first read", f"server, {how}", "s", None, None, target["server"])
        emit(f"server restart, {said}, {keys}: first batch", f"server, {how}, batch", "s", None, None, target["server"])
    emit(f"edge restart, {keys}", "edge, server away", "s", "Redis loads the same keys from RDB", found.get("redis"), "< 1")
    if found.get("node"):
        scaled = [value * world.keys / found["node keys"][0] for value in found["node"]]
        emit(f"edge restart, {keys}", "edge, server away", "s", f"Node parses {found['node keys'][0]:,} keys of JSON, scaled to as many",
             scaled, "< 1")
    emit(f"late joiner, {keys}: state received until live", "joiner", "MB/s", None, None, ">= 100" if big else "")
    emit(f"late joiner, {keys}", "joiner s", "s", "Redis replica's full sync", found.get("replica"), "< 1")
    for name in ("edge peak", "server peak", "joiner peak"):
        emit(f"{name} of memory, {keys}", name, "MB", None, None, "")


def main():
    options = contest.options(keys=0)
    smoke, rounds = options.size == "smoke", ROUNDS[options.size]
    if not (BIN / "tallycast-server").exists():
        contest.not_run("restart", f"no daemons in {BIN}")
        contest.emit("restart", "edge restart", None, "s")
        return
    world = World(options.keys or KEYS[options.size])
    found = collections.defaultdict(list)
    try:
        start = time.monotonic()
        world.load()
        print(f"# {world.keys} keys in place after {time.monotonic() - start:.1f} s", file=sys.stderr)
        for seed in range(rounds):
            if options.part in (None, "edge"):
                edge_round(world, found, seed, False)
            if options.part in (None, "server"):
                server_round(world, found, seed, "clean")
                server_round(world, found, seed, "killed")
        if options.part in (None, "joiner"):
            joiner_rounds(world, found, rounds)
        if options.part in (None, "peers"):
            peers_rounds(world, found, rounds, smoke)
        tell(world, found, world.keys >= 10_000_000)
    finally:
        world.close()
        if smoke:
            shutil.rmtree(world.base, ignore_errors=True)


if __name__ == "__main__":
    main()
