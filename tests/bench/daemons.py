# SPDX-License-Identifier: Apache-2.0
"""Real daemons for the benches in Python: in a temporary folder, on free ports, gone with the bench."""
import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import contest

_libc = ctypes.CDLL(None)
_ports = set()


def die_with_parent():
    _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def free_port():
    for port in range(10300 + os.getpid() * 37 % 15000, 32000):
        if port in _ports:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _ports.add(port)
        return port
    raise RuntimeError("no free port")


now = time.monotonic


def wait_until(condition, what, timeout=60.0, interval=0.01):
    end = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {timeout} s: {what}")
        time.sleep(interval)
    return value


class Process:
    """A program whose stderr goes to a file. `cpus`: a set of CPUs that it is bound to."""

    def __init__(self, world, name, command, cpus=None, nice=0, **popen):
        self.name, self.log_path, self.url = name, world.folder / f"{name}.log", {}

        def prepare():
            die_with_parent()
            if cpus:
                os.sched_setaffinity(0, cpus)
            if nice:
                os.nice(nice)
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen([str(word) for word in command], stderr=log, preexec_fn=prepare,
                                            **({"stdout": log, "stdin": subprocess.DEVNULL} | popen))
        world.processes.append(self)

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        return self.log_path.read_text(errors="replace")

    def wait_log(self, pattern, timeout=60.0):
        def found():
            match = re.search(pattern, self.log())
            if not match and self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self.process.returncode}:\n{self.log()[-2000:]}")
            return match
        return wait_until(found, f"{pattern} of {self.name}: {self.log()[-2000:]}", timeout)

    def cpu_seconds(self):
        """Of all threads that it has, in user and kernel."""
        spent = 0
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(OSError):
                spent += int((task / "schedstat").read_text().split()[0])
        return spent / 1e9

    def memory(self, field="RssAnon"):
        """Bytes, of /proc/PID/status."""
        return int(re.search(rf"^{field}:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text(), re.M)[1]) * 1024

    def stop(self):
        """SIGTERM, and waits."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()


class World:
    """with World() as world: world.server(...), world.edge(...). `bin`: the folder of the binaries."""

    def __init__(self):
        self.bin = contest.BUILD / "bin"
        self.helpers = contest.BUILD / "bench"
        self.processes = []

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="tally-bench-"))
        return self

    def __exit__(self, *_):
        for one in self.processes:
            if one.process.poll() is None:
                one.process.kill()
        for one in self.processes:
            one.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _daemon(self, name, program, settings, wait, popen):
        words = [self.bin / program]
        for key, value in settings.items():
            words += ["--" + key.replace("_", "-"), value]
        one = Process(self, name, words, **popen)
        one.url = settings
        if wait:
            one.wait_log("event=ready")
        return one

    def server(self, name="server", popen=None, wait=True, **settings):
        settings = {"data": self.folder / name, "dataset": "main", "http": f"127.0.0.1:{free_port()}",
                    **{end: f"tcp://127.0.0.1:{free_port()}" for end in ("ingest", "publish", "catchup")}} | settings
        return self._daemon(name, "tallycast-server", settings, wait, popen or {})

    def edge(self, name, server, popen=None, wait=True, **settings):
        settings = {"data": self.folder / name, "dataset": server.url["dataset"], "http": f"127.0.0.1:{free_port()}",
                    "subscribe": server.url["publish"], "catchup": server.url["catchup"]} | settings
        return self._daemon(name, "tallycast-edge", settings, wait, popen or {})


def get(daemon, path):
    with urllib.request.urlopen(f"http://{daemon.url['http']}{path}", timeout=20) as answer:
        return answer.read().decode()


def version(daemon):
    """/v1/version, None while there is none."""
    with contextlib.suppress(OSError):
        return json.loads(get(daemon, "/v1/version"))
    return None


def metric(daemon, name):
    """The sum of a metric's samples."""
    return sum(float(value) for value in re.findall(rf"^{re.escape(name)}(?:\{{.*\}})? (\S+)$", get(daemon, "/metrics"), re.M))


class Load:
    """load_paced.c: its keys are loaded when this returns; `run` gives what it did."""

    def __init__(self, world, server, popen=None, preload=True, distinct=False, **settings):
        words = [world.helpers / "load_paced", "--to", server.url["ingest"], "--dataset", server.url["dataset"]]
        words += ["--preload"] * preload + ["--distinct"] * distinct
        for key, value in settings.items():
            words += ["--" + key.replace("_", "-"), value]
        environment = os.environ | {"TALLY_BENCH_NAMES": str(contest.names_file())}
        self.one = Process(world, "load", words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
                           **(popen or {}))
        line = self.one.process.stdout.readline().split()
        if line[:1] != ["loaded"]:
            raise RuntimeError(f"load_paced: {self.one.log()}")
        self.version = int(line[1])

    def start(self):
        self.one.process.stdin.write("\n")
        self.one.process.stdin.flush()

    def wait(self):
        """[(accepted us, acknowledged us, version)] of each batch, and how many were late."""
        sent, late = [], None
        for line in self.one.process.stdout:
            if line.startswith("late"):
                late = int(line.split()[1])
            else:
                sent.append(tuple(map(int, line.split())))
        if self.one.process.wait() or late is None:
            raise RuntimeError(f"load_paced: {self.one.log()}")
        return sent, late
