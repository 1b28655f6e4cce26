# SPDX-License-Identifier: Apache-2.0
"""From an event's acceptance until it can be read in WASM at each of 100 edges: 50,000 events/s over real names, tick 20 ms.

All are real: one tallycast-server, 100 tallycast-edge with the WASM client, load_paced.c as the producer, on this machine, whose cores they share.
One latency is that of a batch of 100 events at one edge: from just before the producer hands the batch to its socket until the edge's applier
has swapped in the version that the acknowledgement names; a read in WASM that begins after the swap gives it. One clock, CLOCK_MONOTONIC;
the edge writes the time of each swap into its log (--log-level debug), so that no observer takes part. At the end the digests of all edges are
compared with the server's: what was swapped in was right. A batch waits for the tick, half of it on average, and that is part of the figure.
All edges together get each version in the same moment, so on two cores the last of them waits for the work of 50: what an edge costs is what the
99th percentile is made of. Five rounds over the same daemons, each with a producer of its own; the figures are medians of the rounds'.
"""
import collections
import itertools
import os
import re
import subprocess
import sys
import time

import contest
import daemons
import peers_latency
from contest import emit

TICK_MS = 20
RATE = 50000
BATCH = 100
APPLIED = re.compile(r"event=applied version=(\d+) bytes=(\d+) monotonic_us=(\d+)")


def percentile(values, part):
    """Of sorted values."""
    return values[min(len(values) - 1, int(len(values) * part))] if values else None


def measured(sent, logs):
    """Of one round: what it sent, and what the edges have logged until now. Every list sorted, in ms."""
    versions = sorted({version for _, _, version in sent})
    swaps = []
    for lines in logs:
        swapped = {int(version): int(at) for version, _, at in lines}
        following = None
        for version in reversed(versions):  # one that came with others in one catch-up could be read with the next that was swapped in
            following = swapped.setdefault(version, following)
        swaps.append(swapped)
    by_edge = [sorted((swapped[version] - accepted) / 1000 for accepted, _, version in sent) for swapped in swaps]
    first = {version: min(swapped[version] for swapped in swaps) for version in versions}
    frame_bytes = [int(size) for version, size, _ in logs[0] if int(version) in set(versions)]
    latencies = sorted(itertools.chain.from_iterable(by_edge))
    return {"p50": percentile(latencies, 0.5), "p99": percentile(latencies, 0.99),
            "slowest": max(percentile(own, 0.99) for own in by_edge),
            "first": percentile(sorted((first[version] - accepted) / 1000 for accepted, _, version in sent), 0.5),
            "acks": percentile(sorted((acknowledged - accepted) / 1000 for accepted, acknowledged, _ in sent), 0.5),
            "frame": sum(frame_bytes) / len(frame_bytes), "versions": len(versions)}


def ours(edges_count, seconds, keys, rounds):
    """What each round gave, name -> list, over the same server and edges."""
    found = collections.defaultdict(list)
    with daemons.World() as world:
        server = world.server(tick=TICK_MS, http_threads=1)

        def producer(turn):
            return daemons.Load(world, server, keys=keys, rate=RATE, batch=BATCH, seconds=seconds, seed=turn + 1, preload=turn == 0)
        load = producer(0)
        # Each edge has its core, as it would elsewhere: otherwise the wakes of a frame pile up on the sender's.
        cpus = sorted(os.sched_getaffinity(0))
        edges = [world.edge(f"edge{i}", server, wait=False, client="wasm", log_level="debug", threads=1, memory_max="512M",
                            popen={"cpus": {cpus[i % len(cpus)]}}) for i in range(edges_count)]
        for edge in edges:
            edge.wait_log(rf"event=applied version={load.version} ")
        for turn in range(rounds):
            load = load if turn == 0 else producer(turn)
            before = [one.cpu_seconds() for one in (server, *edges)]
            load.start()
            sent, late = load.wait()
            last = max(version for _, _, version in sent)
            for edge in edges:
                edge.wait_log(rf"event=applied version={last} ")
            cpu = [one.cpu_seconds() - was for one, was in zip((server, *edges), before)]
            digest = daemons.version(server)["digest"]
            wrong = [edge.name for edge in edges if daemons.version(edge)["digest"] != digest]
            if wrong:
                raise RuntimeError(f"another digest than the server's: {wrong}")
            one = measured(sent, [APPLIED.findall(edge.log()) for edge in edges])
            one |= {"late": late, "memory": sum(edge.memory() for edge in edges) / len(edges),
                    "server_us": cpu[0] / one["versions"] * 1e6, "edge_us": sum(cpu[1:]) / one["versions"] / edges_count * 1e6}
            for name, value in one.items():
                found[name].append(value)
    return found


def tell(found, edges, keys, targets):
    what = f"event to readable in WASM at each of {edges} edges, {RATE // 1000}k events/s of {keys} names, tick {TICK_MS} ms"
    for part, bound in ((50, TICK_MS), (99, TICK_MS + 10)):
        emit("latency", f"{what}, p{part}", found[f"p{part}"], "ms", target=f"<= {bound}" if targets else "")
    if sum(found["late"]):
        print(f"latency: {sum(found['late'])} batches left later than planned", file=sys.stderr)
    emit("latency", f"{what}: the slowest edge's p99", found["slowest"], "ms")
    emit("latency", f"{what}: the first edge, p50", found["first"], "ms")
    emit("latency", f"{what}: acknowledged (durable), p50", found["acks"], "ms")
    emit("latency", f"{what}: CPU of an edge", found["edge_us"], "us/version")
    emit("latency", f"{what}: CPU of the server", found["server_us"], "us/version")
    emit("latency", f"{what}: frame", found["frame"], "bytes")
    emit("latency", f"{what}: memory of an edge", [value / 1e6 for value in found["memory"]], "MB")


def peers(batches):
    """Redis and NATS in the same run; see peers_latency.py."""
    nats = peers_latency.nats(batches, 10000) or ([], None)
    for name, found in (("a Redis replica", peers_latency.redis(batches, 10000) or []), ("a NATS JetStream KV watcher", nats[0])):
        for part in (50, 99):
            emit("latency", f"a batch of {peers_latency.BATCH} changes at {name}, no tick, p{part}",
                 percentile(sorted(found), part / 100), "ms")
    emit("latency", "a change at a NATS JetStream KV watcher", nats[1], "bytes")


def main():
    options = contest.options(edges=0, seconds=0.0, keys=0)
    # Few names and many edges; all names and as many edges as two cores can feed.
    runs = {"smoke": [(3, 0.5, 2000)], "quick": [(100, 1, 10000)], "full": [(100, 8, 10000), (20, 8, 226993)]}[options.size]
    rounds = min(options.rounds, 5)
    if options.edges or options.seconds or options.keys:
        runs = [(options.edges or runs[0][0], options.seconds or runs[0][1], options.keys or runs[0][2])]
    with_wasm = "clients: wasm" in subprocess.run([contest.BUILD / "bin" / "tallycast-edge", "--version"], check=True,
                                                  capture_output=True, text=True).stdout
    if not with_wasm:
        contest.not_run("latency", "tallycast-edge was built without Wasmtime")
        emit("latency", "event to readable in WASM", None, "ms", target=f"<= {TICK_MS + 10}")
        return
    for edges, seconds, keys in runs:
        tell(ours(edges, seconds, keys, rounds), edges, keys, targets=edges >= 100)
    if not options.smoke:
        peers({"quick": 60, "full": 400}[options.size])


if __name__ == "__main__":
    main()
