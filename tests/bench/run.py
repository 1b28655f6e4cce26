# SPDX-License-Identifier: Apache-2.0
"""Runs benches, judges their figures against the targets, prints a table, writes JSON. See run.sh and bench.h."""
import argparse
import json
import math
import os
import re
import subprocess
import sys
import time

import chart
import contest

HERE = os.path.dirname(os.path.abspath(__file__))
INTERPRETERS = {".py": [sys.executable], ".mjs": ["node"], ".sh": ["bash"]}
FIELDS = {"bench": str, "subject": str, "value": (int, float, type(None)), "unit": str, "against": (str, type(None)),
          "against_value": (int, float, type(None)), "target": str}
TARGET = re.compile(r"(<=|<|>=|>) ([0-9.]+)$")


def find(folder):
    """Name -> command of every bench: programs in the build folder, scripts beside this file."""
    found = {}
    for directory in (folder, HERE):
        for entry in sorted(os.listdir(directory)):
            stem, extension = os.path.splitext(entry)
            path = os.path.join(directory, entry)
            if not stem.startswith("bench_"):
                continue
            if extension in INTERPRETERS:
                found[stem[6:]] = INTERPRETERS[extension] + [path]
            elif not extension and os.access(path, os.X_OK):
                found[stem[6:]] = [path]
    return found


def judge(row):
    """Adds ratio and met. A ratio or a value that is missing is not met and not failed: met is null."""
    for field, kind in FIELDS.items():
        if field not in row or not isinstance(row[field], kind):
            raise ValueError(f"{field} of {row}")
    value, against = row["value"], row["against_value"]
    row["ratio"] = value / against if value is not None and against else None
    judged = row["ratio"] if row["against"] else value
    row["met"] = None
    if row["target"]:
        match = TARGET.match(row["target"])
        if not match:
            raise ValueError(f"target of {row}")
        bound = float(match[2])
        if judged is not None:
            row["met"] = {"<=": judged <= bound, "<": judged < bound, ">=": judged >= bound, ">": judged > bound}[match[1]]
    return row


def run(name, command, size, folder):
    """The bench's rows. One that fails is one row without a value, and its reason on stderr."""
    folder = os.path.abspath(folder)
    environment = os.environ | {"TALLY_BENCH_BUILD": os.path.dirname(folder), "TALLY_BENCH_NAMES": str(contest.names_file(folder))}
    process = subprocess.run(command + size, stdout=subprocess.PIPE, text=True, check=False, env=environment)
    rows = [judge(json.loads(line)) for line in process.stdout.splitlines() if line.strip()]
    if process.returncode:
        print(f"bench {name}: exit {process.returncode}", file=sys.stderr)
    return rows, process.returncode


def number(value, digits=4):
    if value is None:
        return "not run"
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(places, 3)}f}"


COLUMNS = ("what", "ours", "min to max", "peer", "", "ratio", "target", "met")


def cells(row):
    """The row as text, a cell for each of COLUMNS."""
    spread = f'{number(row["min"])} to {number(row["max"])}' if row.get("min") is not None and row["min"] != row["max"] else ""
    return (row["subject"], f'{number(row["value"])} {row["unit"]}', spread, number(row["against_value"]) if row["against"] else "",
            row["against"] or "", number(row["ratio"]) if row["ratio"] is not None else "", row["target"],
            {True: "yes", False: "NO", None: "" if not row["target"] else "not run"}[row["met"]])


def table(rows):
    lines = [COLUMNS] + [cells(row) for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def summary(rows):
    """How many targets, and which are not met."""
    targets = [row for row in rows if row["target"]]
    counts = {met: sum(row["met"] is met for row in targets) for met in (True, False, None)}
    return f"targets: {counts[True]} met, {counts[False]} not met, {counts[None]} not run"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True, help="of the built programs")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="tiny: only that they run")
    parser.add_argument("--only", action="append", help="a bench's name")
    parser.add_argument("--json")
    parser.add_argument("--charts", help="folder for a picture of each bench")
    parser.add_argument("rest", nargs="*", help="after --: for the bench itself")
    options = parser.parse_args()
    found = find(options.folder)
    unknown = [name for name in options.only or [] if name not in found]
    if unknown or not found:
        parser.exit(2, f"no such bench: {', '.join(unknown)}; there are: {', '.join(found)}\n")
    size = ["--smoke"] if options.smoke else ["--quick"] if options.quick else []
    size += options.rest
    rows, failed = [], 0
    for name, command in found.items():
        if options.only and name not in options.only:
            continue
        start = time.monotonic()
        more, code = run(name, command, size, options.folder)
        print(f"bench {name}: {time.monotonic() - start:.0f} s", file=sys.stderr)
        rows += more
        failed |= code != 0 or not more
    print(table(rows))
    print(summary(rows))
    if options.charts:
        note = f"tests/bench/run.sh{' --quick' if options.quick else ''}; each group in one run, on its own scale"
        chart.draw(rows, options.charts, note)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as out:
            json.dump(rows, out, indent=1)
            out.write("\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
