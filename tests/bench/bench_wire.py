#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Bytes that a change takes on its way to an edge, beside the entropy bound and what others send; what writing and reading a frame takes.

Uniform: k of a million keys, drawn evenly, each up by 1 to 50. No coding of these takes less than log2 C(10^6, k) / k + log2 50 bits a change.
Real: the files of tests/data/commits-slice.tsv.gz in their order, N events a version; and draws of npm's packages by their weights, N a
version. Ids are given in the order in which keys first come, and only changes of keys that are there already are counted.

What others send is counted on a socket: Redis' replication stream of INCRBY, what a watcher of a NATS key-value bucket receives of puts. Both for
the real names of the keys; JSON, {name: new value}, through zstd -3.
"""
import gzip
import json
import math
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from collections import Counter
from pathlib import Path

import contest

KEYS, MOST = 1_000_000, 50
DENSITIES = {"0.1 %": 1_000, "1 %": 10_000, "10 %": 100_000, "50 %": 500_000}
PEER_CHANGES = {"smoke": 0, "quick": 20_000, "full": 100_000}  # the bytes of one do not depend on how many there are
REDIS, NATS, JSON = "Redis replication", "NATS KV watch", "JSON, zstd -3"


# ------------------------------------------------------------------------------------------------ changes


def uniform(draw, count):
    return [sorted((i, draw.randint(1, MOST)) for i in draw.sample(range(KEYS), count))]


def versions(events, per, after=0):
    """The changes of each version of `per` events; ids in the order of coming; versions that begin after `after` events."""
    ids, out = {}, []
    for at in range(0, len(events), per):
        moved = Counter(events[at:at + per])
        changed = sorted((ids[key], moved[key]) for key in moved if key in ids)
        for key in moved:
            ids.setdefault(key, len(ids))
        if changed and at >= after:
            out.append(changed)
    return out


def commits():
    with gzip.open(contest.ROOT / "tests" / "data" / "commits-slice.tsv.gz", "rt", encoding="utf-8") as lines:
        return [line.split("\t", 1)[1] for line in lines]


def packages(draw, count):
    with open(contest.names_file(), encoding="utf-8") as lines:
        weights = [int(line.rstrip("\n").split("\t")[1] or 0) for line in lines]
    return draw.choices(range(len(weights)), weights, k=count)


def names():
    """{id: name} of the million, by the rule of tests/data/README.md."""
    with open(contest.names_file(), encoding="utf-8") as lines:
        line_names = [line.split("\t", 1)[0] for line in lines]
    rounds, rest = divmod(KEYS, len(line_names))
    return [name + (f"@{i}" if i else "") for i in range(rounds + 1) for name in (line_names if i < rounds else line_names[:rest])]


def write_lists(lists, path):
    words = array("Q")
    for frames in lists:
        words.append(len(frames))
        for changes in frames:
            words.append(len(changes))
            words.extend(number for change in changes for number in change)
    with open(path, "wb") as out:
        words.tofile(out)


def entropy_bytes(count):
    ways = math.lgamma(KEYS + 1) - math.lgamma(count + 1) - math.lgamma(KEYS - count + 1)
    return (ways / math.log(2) / count + math.log2(MOST)) / 8


# ------------------------------------------------------------------------------------------------ peers


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def dial(port, process):
    for _ in range(500):
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=20)
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.01)  # until it listens
    raise RuntimeError(f"ended with {process.wait()}" if process.poll() is not None else "does not listen")


class Server:
    """A peer's server in a folder of its own, as long as the `with` lasts."""

    def __init__(self, program, arguments):
        if not shutil.which(program):
            raise RuntimeError(f"no {program}")
        self.folder, self.port = tempfile.TemporaryDirectory(prefix="tally-bench-"), free_port()
        self.process = subprocess.Popen([program, *(a.format(port=self.port, folder=self.folder.name) for a in arguments)],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()

    def dial(self):
        return dial(self.port, self.process)


def read_until(stream, wanted):
    line = stream.readline()
    while line and not line.startswith(wanted):
        if line.startswith((b"-ERR", b"$-", b"!")):
            raise RuntimeError(line.decode().strip())
        line = stream.readline()
    if not line:
        raise RuntimeError("closed")
    return line


def redis_bytes(changes):
    """A replica is synchronised, then its stream is counted up to a mark that is written last."""
    with Server("redis-server", ["--port", "{port}", "--bind", "127.0.0.1", "--dir", "{folder}", "--save", "", "--repl-diskless-sync", "no",
                                 "--repl-ping-replica-period", "3600"]) as server, server.dial() as replica, server.dial() as client:
        stream = replica.makefile("rb")
        replica.sendall(b"SYNC\r\n")
        stream.read(int(read_until(stream, b"$")[1:]))
        # The first command of the stream also brings a SELECT: before what is counted.
        client.sendall(b"SET first 1\r\n")
        read_until(stream, b"first")
        stream.readline(), stream.readline()
        answers = client.makefile("rb")
        answers.readline()
        commands = b"".join(b"*3\r\n$6\r\nINCRBY\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(k), k, len(a), a)
                            for k, a in ((name.encode(), str(amount).encode()) for name, _, amount in changes))
        threading.Thread(target=client.sendall, args=(commands + b"SET last 1\r\n",), daemon=True).start()
        threading.Thread(target=answers.read, daemon=True).start()
        size, line = 0, b""
        while line != b"last\r\n":
            line = stream.readline()
            if not line:
                raise RuntimeError("the stream ended")
            size += len(line)
        return (size - len(b"*3\r\n$3\r\nSET\r\n$4\r\nlast\r\n")) / len(changes)


def nats_request(client, stream, subject, what):
    body = json.dumps(what).encode()
    client.sendall(b"PUB %s _INBOX.me %d\r\n%s\r\n" % (subject.encode(), len(body), body))
    size = int(read_until(stream, b"MSG _INBOX.me").split()[-1])
    answer = json.loads(stream.read(size + 2))
    if "error" in answer:
        raise RuntimeError(answer["error"])


def nats_key(name):
    return "".join(c if c.isalnum() or c in "-_=./" else "_" for c in name).strip(".").replace("..", "_")


def nats_bytes(changes):
    """A bucket is a stream KV_x of the subjects $KV.x.>; a watcher has an ordered consumer, which is pushed every message."""
    with Server("nats-server", ["-js", "-sd", "{folder}", "-a", "127.0.0.1", "-p", "{port}"]) as server, server.dial() as client, \
            server.dial() as watcher:
        stream, watched = client.makefile("rb"), watcher.makefile("rb")
        for connection in (client, watcher):
            connection.sendall(b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n')
        client.sendall(b"SUB _INBOX.me 1\r\n")
        nats_request(client, stream, "$JS.API.STREAM.CREATE.KV_x", {
            "name": "KV_x", "subjects": ["$KV.x.>"], "max_msgs_per_subject": 1, "discard": "new", "allow_rollup_hdrs": True, "storage": "memory",
            "num_replicas": 1, "retention": "limits", "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "max_age": 0})
        watcher.sendall(b"SUB _INBOX.watch 1\r\nPING\r\n")
        read_until(watched, b"PONG")
        nats_request(client, stream, "$JS.API.CONSUMER.CREATE.KV_x", {
            "stream_name": "KV_x", "config": {"deliver_subject": "_INBOX.watch", "deliver_policy": "new", "ack_policy": "none", "max_deliver": 1,
                                              "filter_subject": "$KV.x.>", "replay_policy": "instant", "mem_storage": True, "num_replicas": 1}})
        puts = b"".join(b"PUB $KV.x.%s %d\r\n%s\r\n" % (nats_key(name).encode(), len(v), v)
                        for name, v in ((name, str(value).encode()) for name, value, _ in changes))
        threading.Thread(target=client.sendall, args=(puts,), daemon=True).start()
        size, seen = 0, 0
        while seen < len(changes):
            line = watched.readline()
            if not line:
                raise RuntimeError("the connection ended")
            if line.startswith(b"PING"):
                watcher.sendall(b"PONG\r\n")
            elif line.startswith((b"MSG", b"HMSG")):
                body = watched.read(int(line.split()[-1]) + 2)
                size += len(line) + len(body)
                seen += 1
        return size / len(changes)


def json_bytes(changes):
    text = json.dumps({name: value for name, value, _ in changes}, separators=(",", ":"), ensure_ascii=False).encode()
    return len(subprocess.run(["zstd", "-3", "-q", "-c"], input=text, stdout=subprocess.PIPE, check=True).stdout) / len(changes)


def peer(name, measure, changes):
    try:
        return measure(changes) if changes else None
    except (RuntimeError, OSError, ValueError, subprocess.SubprocessError) as error:
        contest.not_run(name, error)
        return None


# ------------------------------------------------------------------------------------------------ the bench


def report_uniform(options, draw, lists, measured):
    size = PEER_CHANGES[options.size]
    known = names() if size else []
    # Counts that have been going on for a while, as npm's do: the value is what NATS and JSON send.
    named = [[(known[i], draw.randint(1, 10_000) + by, by) for i, by in lists[n][0]] if size else [] for n in range(len(DENSITIES))]
    sample = draw.sample(named[1], min(size, len(named[1])))
    redis, nats = peer(REDIS, redis_bytes, sample), peer(NATS, nats_bytes, sample)
    for n, (share, count) in enumerate(DENSITIES.items()):
        what = f"frame bytes a change, {share} of 1M changed"
        against = {"entropy bound": (entropy_bytes(count), "<= 1.25"), "plain varints": (measured["varints", n], "<= 1"), REDIS: (redis, ""),
                   NATS: (nats, ""), JSON: (peer(JSON, json_bytes, named[n]), "")}
        if options.smoke:
            against["entropy bound"] = (entropy_bytes(count), "")
        for name, (value, target) in against.items():
            contest.emit("wire", what, measured["bytes", n], "bytes/change", name, value, target)


def main():
    options = contest.options()
    smoke, draw = options.smoke, random.Random(options.seed)
    densities = {share: max(10, count // (100 if smoke else 1)) for share, count in DENSITIES.items()}
    if smoke:
        DENSITIES.update(densities)
    warm, drawn = (5_000, 10_000) if smoke else (1_000_000, 1_400_000)
    events, picks = commits(), packages(draw, drawn)
    real = {f"commits, {per} events a version": versions(events, per) for per in (20, 100, 1_000)}
    for per in (1_000, 100_000):
        real[f"npm by weights, {per:,} events a version"] = versions(picks, 5_000 if smoke else per, warm)
    lists = [uniform(draw, count) for count in DENSITIES.values()] + list(real.values())
    with tempfile.TemporaryDirectory(prefix="tally-bench-") as folder:
        path = Path(folder) / "lists"
        write_lists(lists, path)
        ours = contest.Contestant("frames in C", [contest.BUILD / "bench" / "contestant_wire", "--lists", path])
        measured = {(what, n): ours.ask(f"{what} {n}") for what in ("bytes", "varints") for n in range(len(lists))}
        times = contest.contest([ours], [f"{what} {n}" for what in ("encode", "decode") for n in range(len(lists))], options.rounds)
        ours.close()
    report_uniform(options, draw, lists, measured)
    for n, what in enumerate(real, len(DENSITIES)):
        contest.emit("wire", f"frame bytes a change, {what}", measured["bytes", n], "bytes/change", "plain varints", measured["varints", n], "<= 1")
    subjects = [f"{share} of 1M changed" for share in DENSITIES] + list(real)
    for what, verb in (("decode", "reading a frame"), ("encode", "writing a frame")):
        for n, subject in enumerate(subjects):
            # Small frames pay for their header and seal.
            large = sum(map(len, lists[n])) / len(lists[n]) >= 1_000
            contest.emit("wire", f"{verb}, {subject}", times[ours.name, f"{what} {n}"], "ns/change", target="<= 5" if large and not smoke else "")
    return 0


if __name__ == "__main__":
    sys.exit(main())
