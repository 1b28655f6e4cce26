# SPDX-License-Identifier: Apache-2.0
"""What the benches in Python share: options, contestants, medians, and the lines that run.py reads (see bench.h).

A contestant is another process that holds what is to be measured (a map in Go, in Node, in Java, or ours in C): it is started with its size
and seed, loads its data once, prints `ready` (facts may follow it as JSON: {"bytes": 123}), and then, for each line on stdin, the name of
a measurement, runs one round of it and prints one number: what an operation took, in ns of CPU time. `-` means: not to be had.
It ends at the end of stdin. So processes in different languages are measured in turn, round by round, on a machine in the same state.
"""
import argparse
import gzip
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tallycast"  # what peers need and was fetched once
BUILD = Path(os.environ.get("TALLY_BENCH_BUILD") or ROOT / "build" / "release").resolve()
ROUNDS = {"smoke": 1, "quick": 5, "full": 9}


def options(**more):
    """--smoke, --quick, --seed, --part, as bench.h's; `more`: name -> default of what a bench adds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--part")
    for name, default in more.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    found = parser.parse_args()
    found.size = "smoke" if found.smoke else "quick" if found.quick else "full"
    found.rounds = ROUNDS[found.size]
    return found


def names_file(folder=BUILD / "bench"):
    """The real names and weights as plain text, `name<TAB>weight`; the rule for more keys than lines is in tests/data/README.md."""
    plain = Path(folder) / "npm-downloads.tsv"
    packed = ROOT / "tests" / "data" / "npm-downloads.tsv.gz"
    if not plain.exists() or plain.stat().st_mtime < packed.stat().st_mtime:
        plain.parent.mkdir(parents=True, exist_ok=True)
        part = plain.with_suffix(f".{os.getpid()}")
        with gzip.open(packed) as source, open(part, "wb") as out:
            shutil.copyfileobj(source, out)
        part.rename(plain)
    return plain


def not_run(what, why):
    """A peer that is missing is told, and is no error."""
    print(f"not run: {what}: {why}", file=sys.stderr)


class Contestant:
    """See above. Whatever goes wrong with it makes all of its figures None, and is told once."""

    def __init__(self, name, command, **popen):
        self.name, self.facts, self.process = name, {}, None
        try:
            self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            text=True, bufsize=1, **popen)
        except OSError as error:
            self.lost(error)

    def lost(self, why):
        not_run(self.name, why)
        if self.process:
            self.process.kill()
            self.process.wait()
        self.process = None

    def line(self):
        line = self.process.stdout.readline()
        if not line:
            self.lost(f"ended with {self.process.wait()}")
        return line.strip()

    def ready(self):
        """Waits until it has loaded its data. May be left out: the first `ask` does it."""
        if self.process and not self.facts:
            line = self.line()
            if self.process and not line.startswith("ready"):
                self.lost(f"said {line!r}")
            self.facts = json.loads(line[5:] or "{}") | {"ready": True} if self.process else {}
        return self.process is not None

    def ask(self, measurement):
        if not self.ready():
            return None
        try:
            self.process.stdin.write(measurement + "\n")
            self.process.stdin.flush()
        except OSError:
            pass  # its end is seen by what follows
        line = self.line()
        return float(line) if self.process and line != "-" else None

    def close(self):
        if self.process:
            self.process.stdin.close()
            self.process.wait()
            self.process = None


def contest(contestants, measurements, rounds):
    """{(contestant's name, measurement): [values]}: every measurement of every contestant, in turn, `rounds` times."""
    found = {(one.name, what): [] for one in contestants for what in measurements}
    for _ in range(rounds):
        for what in measurements:
            for one in contestants:
                value = one.ask(what)
                if value is not None:
                    found[one.name, what].append(value)
    return found


def emit(bench, subject, values, unit, against=None, against_values=None, target=""):
    """One line for run.py. `values` may be one number, a list of rounds, or nothing: not run."""
    def figures(given):
        given = [] if given is None else given if isinstance(given, list) else [given]
        return (statistics.median(given), min(given), max(given)) if given else (None, None, None)

    value, low, high = figures(values)
    against_value = figures(against_values)[0] if against else None
    print(json.dumps({"bench": bench, "subject": subject, "value": value, "min": low, "max": high, "unit": unit,
                      "against": against, "against_value": against_value, "target": target}), flush=True)
