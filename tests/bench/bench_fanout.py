# SPDX-License-Identifier: Apache-2.0
"""One server on one core, many subscribers: 10 versions/s of 1,000 changed counts each to 1,000 sockets, and what that costs.

The server is bound to one core; the producer and the subscribers (subscribers.c: one process, one epoll, real TCP sockets) to the other ones. The same
with fewer subscribers gives what one more of them costs. Every subscriber must have every frame: the bench fails when the bytes that came
are not those of the frames that were published, each with its 8 bytes of SP head, times the subscribers.
"""
import json
import os
import subprocess
import urllib.parse

import contest
import daemons
from contest import emit

VERSIONS_S = 10
CHANGES = 1000
METRICS = {"messages": "published", "bytes": "published_bytes"}


def one(count, seconds, keys):
    """Real sockets, one run: what was published, what came, what the server spent."""
    cpus = sorted(os.sched_getaffinity(0))
    others = {"cpus": set(cpus[:-1]) or set(cpus)}
    with daemons.World() as world:
        server = world.server(heartbeat=60000, popen={"cpus": {cpus[-1]}})
        load = daemons.Load(world, server, popen=others, distinct=True, keys=keys, rate=VERSIONS_S * CHANGES, batch=CHANGES,
                            seconds=seconds)
        at = urllib.parse.urlsplit(server.url["publish"])
        crowd = daemons.Process(world, "subscribers", [world.helpers / "subscribers", at.hostname, at.port, count],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **others)

        def ask(line=None):
            if line:
                crowd.process.stdin.write(line + "\n")
                crowd.process.stdin.flush()
            answer = crowd.process.stdout.readline().strip()
            if not answer:
                raise RuntimeError(f"subscribers: {crowd.log()}")
            return answer

        ask()  # ready
        daemons.wait_until(lambda: daemons.metric(server, "tally_server_subscribers") == count, "all subscribers")
        ask("mark")
        before = {name: daemons.metric(server, f"tally_server_{metric}_total") for name, metric in METRICS.items()}
        cpu, wall = server.cpu_seconds(), daemons.now()
        load.start()
        _, late = load.wait()
        wall, cpu = daemons.now() - wall, server.cpu_seconds() - cpu
        published = {name: int(daemons.metric(server, f"tally_server_{METRICS[name]}_total") - was) for name, was in before.items()}
        expected = (published["bytes"] + 8 * published["messages"]) * count
        came = {}

        def all_came():
            came.update(json.loads(ask("tell")))
            return came["bytes"] >= expected
        try:
            daemons.wait_until(all_came, "all bytes", timeout=5, interval=0.1)
        except TimeoutError:
            pass  # told as lost
        return came | {"published": published, "expected": expected, "cpu": cpu / wall, "late": late, "wall": wall,
                       "version_us": cpu / published["messages"] * 1e6, "lost": published["messages"] * count - came["messages"],
                       "memory": server.memory()}


def tell(found, count, few):
    what = f"{count} subscribers, {VERSIONS_S} versions/s of {CHANGES} changes"
    emit("fanout", f"{what}: CPU of the server", found["cpu"], "cores", target="<= 1")
    emit("fanout", f"{what}: bytes that came", found["bytes"], "bytes", "frames x subscribers", found["expected"], ">= 1")
    emit("fanout", f"{what}: lost frames", found["lost"], "frames", target="<= 0")
    emit("fanout", f"{what}: sent", found["bytes"] / found["wall"] / 1e6, "MB/s")
    emit("fanout", f"{what}: a frame", found["published"]["bytes"] / found["published"]["messages"], "bytes")
    emit("fanout", f"{what}: longest wait between two frames", found["gap_ms"], "ms")
    emit("fanout", f"{what}: from the first to the last subscriber", found["spread_ms"], "ms")
    emit("fanout", f"{what}: CPU for one more subscriber", (found["version_us"] - few["version_us"]) / (count - 1), "us/frame")
    emit("fanout", f"{what}: memory for one more subscriber", (found["memory"] - few["memory"]) / (count - 1), "bytes")


def main():
    options = contest.options(subscribers=0, seconds=0.0)
    counts = {"smoke": [20], "quick": [1000], "full": [1000, 8000]}[options.size]
    if options.subscribers:
        counts = [options.subscribers]
    seconds = options.seconds or {"smoke": 0.5, "quick": 3, "full": 20}[options.size]
    keys = 2000 if options.smoke else 226993
    few = one(1, seconds, keys)
    emit("fanout", f"1 subscriber, {VERSIONS_S} versions/s of {CHANGES} changes: CPU of the server", few["version_us"], "us/version")
    for count in counts:
        found = one(count, seconds, keys)
        tell(found, count, few)
        if found["bytes"] != found["expected"]:
            raise SystemExit(f"fanout: {count} subscribers got {found['bytes']} bytes, not {found['expected']}")


if __name__ == "__main__":
    main()
