# SPDX-License-Identifier: Apache-2.0
"""The peers of bench_latency.py: how long a batch of 1,000 changed counts takes to a Redis replica, and to a watcher of NATS JetStream KV.

Neither gathers by a tick: a batch leaves at once, the next when the last has been seen, at most one each 20 ms. A figure is the time from before the
first byte is handed over until the observer has the last change of the batch.
"""
import json
import os
import shutil
import socket
import subprocess
import threading
import time

import contest
import daemons

BATCH = 1000
EVERY_MS = 20


def _names(keys):
    with open(contest.names_file(), encoding="utf-8") as file:
        return [line.split("\t")[0] for _, line in zip(range(keys), file)]


def _command(*words):
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in map(str.encode, map(str, words)))


def _dial(port):
    return daemons.wait_until(lambda: _try_dial(port), f"port {port}", 10)


def _try_dial(port):
    try:
        return socket.create_connection(("127.0.0.1", port), timeout=10)
    except OSError:
        return None


def _info(port, pattern):
    with _dial(port) as asking:
        asking.sendall(_command("INFO", "replication"))
        return pattern in asking.recv(65536)


def redis(batches, keys):
    """[ms]: the replica tells of the batch's last key by a keyspace notification; None: not run."""
    if not shutil.which("redis-server"):
        contest.not_run("Redis", "no redis-server")
        return None
    names = _names(keys)
    with daemons.World() as world:
        ports = [daemons.free_port() for _ in range(2)]
        common = ["redis-server", "--save", "", "--appendonly", "no", "--dir", world.folder, "--bind", "127.0.0.1", "--port"]
        daemons.Process(world, "primary", [*common, ports[0], "--repl-diskless-sync-delay", "0"])
        daemons.wait_until(lambda: _info(ports[0], b"role:master"), "primary", 10)
        daemons.Process(world, "replica", [*common, ports[1], "--replicaof", "127.0.0.1", ports[0], "--notify-keyspace-events", "K$"])
        daemons.wait_until(lambda: _info(ports[1], b"master_link_status:up"), "replica", 20)
        with _dial(ports[0]) as primary, _dial(ports[1]) as replica:
            replica.sendall(_command("SUBSCRIBE", "__keyspace@0__:probe"))
            replica.recv(4096)
            drain = threading.Thread(target=_drain, args=(primary,), daemon=True)
            drain.start()
            found = []
            for number in range(batches + 1):
                chosen = [names[(number * BATCH + i) * 2654435761 % len(names)] for i in range(BATCH - 1)]
                batch = b"".join(_command("INCRBY", name, 7) for name in chosen) + _command("INCRBY", "probe", 1)
                begun = time.monotonic()
                primary.sendall(batch)
                replica.recv(4096)
                if number:  # the first warms up
                    found.append((time.monotonic() - begun) * 1000)
                time.sleep(EVERY_MS / 1000)
            primary.shutdown(socket.SHUT_RDWR)
            drain.join()
    return found


def _drain(connection):
    connection.settimeout(None)
    while connection.recv(1 << 16):
        pass


def nats(batches, keys):
    """([ms], bytes a change at the watcher), or None: not run."""
    helper = contest.BUILD / "bench" / "watch_nats"
    if not shutil.which("nats-server") or not helper.exists():
        contest.not_run("NATS", "no nats-server" if helper.exists() else "built without libnats")
        return None
    with daemons.World() as world:
        port = daemons.free_port()
        daemons.Process(world, "nats", ["nats-server", "-a", "127.0.0.1", "-p", port, "-js", "-sd", world.folder / "jetstream"])
        _dial(port).close()
        done = subprocess.run([helper, f"nats://127.0.0.1:{port}", str(keys), str(BATCH), str(batches), str(EVERY_MS)], check=False,
                              capture_output=True, text=True, timeout=120,
                              env=os.environ | {"TALLY_BENCH_NAMES": str(contest.names_file())})
        if done.returncode:
            contest.not_run("NATS", done.stderr.strip())
            return None
        found = json.loads(done.stdout)
        return found["ms"], found["bytes"]
