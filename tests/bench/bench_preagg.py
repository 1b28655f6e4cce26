# SPDX-License-Identifier: Apache-2.0
"""What an edge that counts sends, beside its raw events: a real tallycast-edge that is counted at by POST /v1/count, and a real server.

Two loads, 20,000 events a second: the commits in their order (tests/data/commits-slice.tsv.gz, two events a line, again from the start at its end), and names of
npm-downloads drawn by their weights, seeded. The edge merges for `count-tick` and while a batch is on its way, then sends what it has as one
batch; its bytes are those of the Requests (tally_producer_sent_bytes_total), resends among them. Raw is what the events take as lines of
`tallycast count`: table, tab, key, newline. Each event is in the server's sums at the end, or the bench fails.
"""
import bisect
import functools
import gzip
import http.client
import itertools
import json
import random
import time

import contest
import daemons
from contest import emit

RATE = 20000
POST_S = 0.01
DATA = contest.HERE.parent / "data"


def commits():
    with gzip.open(DATA / "commits-slice.tsv.gz", "rt") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    return itertools.cycle([event for _, repository, path in rows
                            for event in (("files", f"{repository}/{path}"), ("repos", repository))])


@functools.cache
def weighted_names():
    """The names, and the sums of their weights up to each."""
    with gzip.open(DATA / "npm-downloads.tsv.gz", "rt") as file:
        names, weights = zip(*(line.rstrip("\n").split("\t") for line in file))
    return names, list(itertools.accumulate(int(weight or 0) for weight in weights))


def downloads(seed):
    names, sums = weighted_names()
    draw = random.Random(seed)
    while True:
        yield "packages", names[bisect.bisect_right(sums, draw.randrange(sums[-1]))]


def play(edge, events, seconds):
    """Posts `seconds` of events, in time; how many there were and their bytes as lines."""
    connection = http.client.HTTPConnection(edge.url["http"])
    count = raw = 0
    start = time.monotonic()
    while count < RATE * seconds:
        part = list(itertools.islice(events, int(RATE * POST_S)))
        body = "".join(json.dumps({"table": table, "key": key}) + "\n" for table, key in part)
        connection.request("POST", "/v1/count", body, {"Content-Type": "application/x-ndjson"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"POST /v1/count: {answer.status} {text[:200]!r}")
        count += len(part)
        raw += sum(len(table) + len(key.encode()) + 2 for table, key in part)
        late = time.monotonic() - start - count / RATE
        if late < 0:
            time.sleep(-late)
    connection.close()
    return count, raw


def measure(world, server, number, events, tick_ms, seconds):
    before = daemons.metric(server, "tally_server_amounts_total")
    edge = world.edge(f"edge{number}", server, count=server.url["ingest"], count_tick=tick_ms)
    count, raw = play(edge, events, seconds)
    daemons.wait_until(lambda: daemons.metric(edge, "tally_spool_entries") == 0, "everything to be acknowledged")
    sent, batches = (daemons.metric(edge, f"tally_producer_{what}_total") for what in ("sent_bytes", "acknowledged"))
    edge.stop()
    daemons.wait_until(lambda: daemons.metric(server, "tally_server_amounts_total") - before == count, f"{count} events to be counted, once")
    return sent, raw, count, batches


def main():
    options = contest.options()
    seconds = {"smoke": 0.2, "quick": 1, "full": 5}[options.size]
    rounds = {"smoke": 1}.get(options.size, min(options.rounds, 5))
    loads = ("npm-downloads by weight",) if options.size == "quick" else ("commits", "npm-downloads by weight")
    ticks = {"smoke": (50,), "quick": (1000,), "full": (50, 1000)}[options.size]
    found, number = {}, itertools.count()
    with daemons.World() as world:
        server = world.server()
        for turn in range(rounds):
            for name, tick_ms in itertools.product(loads, ticks):
                events = commits() if name == "commits" else downloads(turn + 1)
                found.setdefault((name, tick_ms), []).append(measure(world, server, next(number), events, tick_ms, seconds))
    for (name, tick_ms), runs in found.items():
        what = f"{name}, {RATE // 1000}k events/s, count-tick {tick_ms} ms"
        emit("preagg", f"{what}: sent by the edge", [sent / count for sent, _, count, _ in runs], "bytes/event")
        emit("preagg", f"{what}: raw", [raw / count for _, raw, count, _ in runs], "bytes/event")
        emit("preagg", f"{what}: sent of raw", [sent / raw for sent, raw, _, _ in runs], "x raw")
        emit("preagg", f"{what}: batches", [batches / seconds for _, _, _, batches in runs], "1/s")


if __name__ == "__main__":
    main()
