#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a read costs in each host: `get` of one of a million real names, by a string; `getMany` of 16, a key; `get` of one of a thousand.

All hosts hold the same mirror of one edge at the same time and are asked in turn, five rounds; medians are printed, as a table, with the least and the most of `get`.
Beside them the same reads as C and the edge's Wasmtime do them (tests/bench/wasm): there the key is bytes already.

  TALLY_BIN=build/release/bin python3 tests/hosts/cost.py
"""
import contextlib
import queue
import shutil
import socket
import statistics
import sys
import threading
import urllib.request

import hosts
import runtimes
from chromium import Browser
from hosts import BIN, HERE, Program, harness

sys.argv = sys.argv[:1]
sys.path.insert(0, str(HERE.parent / "bench"))
import contest  # noqa: E402

KEYS, FEW, ROUNDS, SEED = 1000000, 1000, 5, 1
WHATS = ("get", "many", "few")


def names():
    """The names by the rule of tests/data/README.md."""
    lines = [line.split("\t")[0] for line in contest.names_file().read_text(encoding="latin1").splitlines()]
    return [lines[i % len(lines)] + (f"@{i // len(lines)}" if i >= len(lines) else "") for i in range(KEYS)]


class Turns(hosts.Control):
    """Hosts wait at /turn until they are asked."""

    def __init__(self, case, files):
        super().__init__(case, files)
        self.asked, self.answers = {}, queue.Queue()

    def take(self, path, body):
        if path == "/turn":
            self.answers.put(body)
            return {"what": self.asked.setdefault(body["host"], queue.Queue()).get()}
        return super().take(path, body)

    def ask(self, host, what):
        self.asked[host].put(what)
        answer = self.answers.get(timeout=60)
        assert answer["host"] == host
        return answer["ns"]


class C:
    """tests/bench/wasm's programs, in the same words. `one`: what they call a read by its own call."""

    def __init__(self, one, *words):
        self.all, self.few = (contest.Contestant(words[0].name, [*words, "names", size, SEED, 160000, contest.names_file()]) for size in (KEYS, FEW))
        self.all.ready()
        self.few.ready()
        self.asks = {"get": (self.all, one), "many": (self.all, "many"), "few": (self.few, one)}

    def ask(self, what):
        contestant, name = self.asks[what]
        return contestant.ask(name)


class Cost(hosts.HostCase):
    def start(self, host):
        """True when it is there; it waits for its turn then."""
        try:
            program = runtimes.find(host) if host != "node" else shutil.which("node") or shutil.which("nodejs")
        except runtimes.NotRun as reason:
            print(f"not run: {host}: {reason}", file=sys.stderr)
            return False
        url = self.control.url
        if host == "chromium":
            self.browser = Browser()
            self.addCleanup(self.browser.close)
            self.browser.page(f"{url}/page/cost.html")
        elif host == "workerd":
            port = harness.free_port()
            (self.folder / "config.capnp").write_text(hosts.workerd_config(self.folder, port, url, ("cost_worker.mjs", "cost.mjs")))
            Program(self, [program, "serve", "config.capnp"], self.folder, "workerd")
            threading.Thread(target=self.wake, args=(port,), daemon=True).start()
        else:
            words = {"node": [program, "--no-warnings"], "bun": [program, "--no-install"], "deno": [program, "run", "-A", "--no-lock", "--node-modules-dir=manual"]}
            Program(self, [*words[host], "cost_main.mjs", url, host], self.folder, host)
        answer = self.control.answers.get(timeout=60)
        self.assertEqual((answer["host"], answer["rows"]), (host, KEYS))
        return True

    def wake(self, port):
        """Asks workerd once it listens; the answer comes when all is done."""
        def asked():
            try:
                with socket.create_connection(("127.0.0.1", port)):
                    return True
            except OSError:
                return False
        hosts.wait_until(asked, "workerd listens")
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=600).close()

    def test_cost(self):
        self.folder = self.site("cost.mjs", "cost_main.mjs", "page/cost.html")
        shutil.copy(HERE / "workerd" / "cost_worker.mjs", self.folder)
        (self.folder / "package.json").write_text('{"type": "module", "dependencies": {"tallycast": "*"}}')
        self.control = Turns(self, self.folder)
        all_names = names()
        (self.folder / "names").write_text("".join(f"{name}\n" for name in all_names), encoding="latin1")
        server = self.server(tick=50).start()
        edge = self.edge("edge", server, **{"stream-origin": self.control.url}).start(wait=False)
        self.count(server, [f"t\t{name}\t{i + 1}".encode("latin1") for i, name in enumerate(all_names)])
        self.wait_equal(server, edge)
        self.control.job = {"url": f"ws{edge.at[len('http'):]}/v1/stream", "dataset": "main"}
        found = {host: {what: [] for what in WHATS} for host in ("node", "deno", "bun", "workerd", "chromium") if self.start(host)}
        bench = BIN.parent / "bench"
        asked = {host: (lambda what, host=host: self.control.ask(host, what)) for host in found}
        for name, words in {"C": ["independent", bench / "contest_wasm_native"],
                            "Wasmtime": ["host", bench / "contest_wasm_wasmtime", BIN.parent / "wasm" / "bench-guest-shared.wasm", "shared", "huge"]}.items():
            if words[1].exists():
                asked[name], found[name] = C(*words).ask, {what: [] for what in WHATS}
        for round_ in range(ROUNDS + 1):
            for host, ask in asked.items():
                for what in WHATS:
                    value = ask(what)
                    if round_ and value is not None: # the first one warms up
                        found[host][what].append(value)
        print("\n| host | version | `get`, ns | least to most | `getMany` of 16, ns a key | `get` of 1,000 keys, ns |\n| --- | --- | --- | --- | --- | --- |")
        for host, values in found.items():
            if not values["get"]:
                continue
            medians = {what: round(statistics.median(values[what])) for what in WHATS}
            version = runtimes.version(host) if host in runtimes.HOSTS else ""
            print(f"| {host} | {version} | {medians['get']} | {min(values['get']):.0f} to {max(values['get']):.0f} | {medians['many']} | {medians['few']} |")
        for host in found:
            if host in self.control.asked:
                self.control.asked[host].put(None)


if __name__ == "__main__":
    harness.main()
