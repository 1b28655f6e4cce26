# SPDX-License-Identifier: Apache-2.0
"""What a read costs a guest of the edge: tallycast.get, get_many and get_mine of random real names, and a call of the edge that does nothing. Of the time that the
edge itself counts for calls of guests (tally_guest_seconds_total)."""
import random
import struct
import subprocess
import urllib.request

import contest
from daemons import World, metric, version, wait_until

OPTIONS = contest.options()
KEYS, SIZE = {"smoke": (2000, "2k")}.get(OPTIONS.size, (1000000, "1M"))
DRAWN = min(KEYS, 20000)
ROUNDS_INSIDE = {"smoke": 1, "quick": 5, "full": 10}[OPTIONS.size]
PROBE = contest.BUILD / "wasm" / "examples" / "probe.wasm"


def names(count):
    found = []
    with open(contest.names_file(), encoding="utf-8") as file:
        for line in file:
            found.append(line.split("\t")[0])
    return [name if turn == 0 else f"{name}/{turn}" for turn in range(count // len(found) + 1) for name in found][:count]


def spent(edge, path, body=b""):
    """Nanoseconds that the edge counts for one call."""
    before = metric(edge, "tally_guest_seconds_total")
    with urllib.request.urlopen(urllib.request.Request(f"http://{edge.url['http']}/v1/guest/probe{path}", data=body, method="POST"), timeout=60) as answer:
        answer.read()
    return (metric(edge, "tally_guest_seconds_total") - before) * 1e9


def main():
    if not PROBE.exists():
        contest.not_run("a guest of the edge", "no clang for wasm32")
        return
    keys = names(KEYS)
    drawn = [key.encode() for key in random.Random(OPTIONS.seed).sample(keys, DRAWN)]
    body = b"".join(struct.pack("<I", len(key)) + key for key in drawn)
    reads = DRAWN * ROUNDS_INSIDE
    with World() as world:
        server = world.server()
        subprocess.run([world.bin / "tallycast", "count", "--to", server.url["ingest"], "--quiet", "-"], check=True,
                       input="".join(f"files\t{key}\n" for key in keys).encode())
        edges = {client: world.edge(client, server, client=client, guest=f"probe={PROBE}", guest_deadline="10s", threads=1,
                                    count=server.url["ingest"]) for client in ("wasm", "native")}
        for edge in edges.values():
            wait_until(lambda: (version(edge) or {}).get("version") == version(server)["version"], "the edge holds it")
        found = {}
        for edge in edges.values():
            spent(edge, "/reads/1", body)  # makes the instance
        for _ in range(OPTIONS.rounds):
            for client, edge in edges.items():
                for what, path, count, given in (("get", f"/reads/{ROUNDS_INSIDE}", reads, body), ("many", f"/many/{ROUNDS_INSIDE}", reads, body),
                                                 ("mine", "/mines/1", DRAWN, body), ("call", f"/versions/{reads}", reads, b"")):
                    found.setdefault((client, what), []).append(spent(edge, path, given) / count)
        for client, text in (("wasm", "client in WASM"), ("native", "native client")):
            call = found[client, "call"]
            contest.emit("guest", f"tallycast.get in a guest, {SIZE} real names, {text}", found[client, "get"], "ns", "a call that does nothing", call)
            contest.emit("guest", f"tallycast.get_mine, {SIZE} real names, {text}", found[client, "mine"], "ns", "tallycast.get", found[client, "get"])
            contest.emit("guest", f"tallycast.get_many of 512, {SIZE} real names, {text}", found[client, "many"], "ns/key", "tallycast.get",
                         found[client, "get"])


if __name__ == "__main__":
    main()
