# SPDX-License-Identifier: Apache-2.0
"""One server on one core, many subscribers: 10 versions/s of 1,000 changed counts each to 1,000 sockets, and what that costs.

The server is bound to one core; the producer and the subscribers (subscribers.c: one process, one epoll, real TCP sockets) to the other ones. The same
with fewer subscribers gives what one more of them costs. Every subscriber must have every frame: the bench fails when the bytes that came
are not those of the frames that were published, each with its 8 bytes of SP head, times the subscribers. Five rounds over the same sockets.
"""
import collections
import json
import os
import statistics
import subprocess
import urllib.parse

import contest
import daemons
from contest import emit

VERSIONS_S = 10
CHANGES = 1000
METRICS = {"messages": "published", "bytes": "published_bytes"}


class Crowd:
    """subscribers.c: so many sockets, which count what comes since the last mark."""

    def __init__(self, world, server, count, popen):
        at = urllib.parse.urlsplit(server.url["publish"])
        self.one = daemons.Process(world, "subscribers", [world.helpers / "subscribers", at.hostname, at.port, count],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **popen)
        self.ask()  # ready
        daemons.wait_until(lambda: daemons.metric(server, "tally_server_subscribers") == count, "all subscribers")

    def ask(self, line=None):
        if line:
            self.one.process.stdin.write(line + "\n")
            self.one.process.stdin.flush()
        answer = self.one.process.stdout.readline().strip()
        if not answer:
            raise RuntimeError(f"subscribers: {self.one.log()}")
        return answer

    def await_bytes(self, expected):
        """What came, when all of it has, or after five seconds."""
        came = {}

        def all_came():
            came.update(json.loads(self.ask("tell")))
            return came["bytes"] >= expected
        try:
            daemons.wait_until(all_came, "all bytes", timeout=5, interval=0.1)
        except TimeoutError:
            pass  # told as lost
        return came


def one_round(server, load, crowd, count):
    """What was published, what came, what the server spent."""
    crowd.ask("mark")
    before = {name: daemons.metric(server, f"tally_server_{metric}_total") for name, metric in METRICS.items()}
    cpu, wall = server.cpu_seconds(), daemons.now()
    load.start()
    load.wait()
    wall, cpu = daemons.now() - wall, server.cpu_seconds() - cpu
    published = {name: int(daemons.metric(server, f"tally_server_{METRICS[name]}_total") - was) for name, was in before.items()}
    expected = (published["bytes"] + 8 * published["messages"]) * count
    came = crowd.await_bytes(expected)
    if came["bytes"] != expected:
        raise SystemExit(f"fanout: {count} subscribers got {came['bytes']} bytes, not {expected}")
    return came | {"expected": expected, "cpu": cpu / wall, "version_us": cpu / published["messages"] * 1e6,
                   "frame": published["bytes"] / published["messages"], "rate": came["bytes"] / wall / 1e6,
                   "lost": published["messages"] * count - came["messages"], "memory": server.memory()}


def several(count, seconds, keys, rounds):
    """What each round gave, name -> list, over the same server and subscribers."""
    cpus = sorted(os.sched_getaffinity(0))
    others = {"cpus": set(cpus[:-1]) or set(cpus)}
    found = collections.defaultdict(list)
    with daemons.World() as world:
        server = world.server(heartbeat=60000, popen={"cpus": {cpus[-1]}})
        crowd = None
        for turn in range(rounds):
            load = daemons.Load(world, server, popen=others, distinct=True, keys=keys, rate=VERSIONS_S * CHANGES, batch=CHANGES,
                                seconds=seconds, preload=turn == 0)
            crowd = crowd or Crowd(world, server, count, others)
            for name, value in one_round(server, load, crowd, count).items():
                found[name].append(value)
    return found


def tell(found, count, few):
    what = f"{count} subscribers, {VERSIONS_S} versions/s of {CHANGES} changes"

    def more(name):
        return [(value - statistics.median(few[name])) / (count - 1) for value in found[name]]
    emit("fanout", f"{what}: CPU of the server", found["cpu"], "cores", target="<= 1")
    emit("fanout", f"{what}: bytes that came", found["bytes"], "bytes", "frames x subscribers", found["expected"], ">= 1")
    emit("fanout", f"{what}: lost frames", found["lost"], "frames", target="<= 0")
    emit("fanout", f"{what}: sent", found["rate"], "MB/s")
    emit("fanout", f"{what}: a frame", found["frame"], "bytes")
    emit("fanout", f"{what}: longest wait between two frames", found["gap_ms"], "ms")
    spread = [value for values in found["spread_ms"] for value in values]
    emit("fanout", f"{what}: from the first to the last subscriber", spread, "ms")
    emit("fanout", f"{what}: CPU for one more subscriber", more("version_us"), "us/frame")
    emit("fanout", f"{what}: memory for one more subscriber", more("memory"), "bytes")


def main():
    options = contest.options(subscribers=0, seconds=0.0)
    counts = {"smoke": [20], "quick": [1000], "full": [1000, 8000]}[options.size]
    if options.subscribers:
        counts = [options.subscribers]
    seconds = options.seconds or {"smoke": 0.5, "quick": 0.6, "full": 5}[options.size]
    rounds = min(options.rounds, 5)
    keys = 2000 if options.smoke else 226993
    few = several(1, seconds, keys, rounds)
    emit("fanout", f"1 subscriber, {VERSIONS_S} versions/s of {CHANGES} changes: CPU of the server", few["version_us"], "us/version")
    for count in counts:
        tell(several(count, seconds, keys, rounds), count, few)


if __name__ == "__main__":
    main()
