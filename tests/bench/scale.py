# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/scale.md, from the figures of a run: tests/bench/run.sh --only latency --only fanout --json FILE; scale.py FILE.

A cost that the file does not have is taken from COSTS, which says where it comes from; the tables name the ones that were used.
"""
import json
import re
import sys

CHANGES = 1000  # of a version

# name: (value, unit, where it is in the JSON: (bench, subject), or how it was had)
COSTS = {
    "frame": (1968, "bytes", ("fanout", r"^1000 subscribers.*: a frame$")),
    "version": (722, "us of the server", ("fanout", r"^1 subscriber.*CPU of the server$")),
    "subscriber": (8.3, "us a frame and subscriber", ("fanout", r"^8000 subscribers.*CPU for one more")),
    "subscriber_bytes": (4965, "bytes", ("fanout", r"^1000 subscribers.*memory for one more")),
    "edge": (150, "us a version (10,000 names, some 340 changes)", ("latency", r"100 edges.*CPU of an edge$")),
    "share": (0.8, "of a core, of which we plan", "assumed"),
    "packet": (66, "bytes of Ethernet, IP and TCP in a packet of 1,448", "known"),
}
NICS = {"1 Gbit/s": 125e6, "10 Gbit/s": 1250e6}
RATES = (1, 10, 50)  # versions/s


def costs(rows):
    found = {}
    for name, (value, unit, where) in COSTS.items():
        source = where if isinstance(where, str) else "this document's run"
        for row in rows:
            if not isinstance(where, str) and row["bench"] == where[0] and re.search(where[1], row["subject"]) and row["value"] is not None:
                value, source = row["value"], "the file"
        found[name] = (value, unit, source)
    return found


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def short(number):
    if number >= 1e9:
        return "> 1 G"
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:.0f}"


def main():
    rows = []
    if len(sys.argv) > 1:
        with open(sys.argv[1], encoding="utf-8") as file:
            rows = json.load(file)
    of = costs(rows)
    print(table(["cost", "value", "unit", "from"], [[name, f"{value:g}", unit, source] for name, (value, unit, source) in of.items()]))
    value = {name: found[0] for name, found in of.items()}
    message = value["frame"] + 8
    wire = message + -(-message // 1448) * value["packet"]
    print(f"\nA frame of {CHANGES} changes is {wire:.0f} bytes on the wire.\n")
    lines = []
    for rate in RATES:
        core = (1e6 * value["share"] / rate - value["version"]) / value["subscriber"]
        nics = [speed / rate / wire for speed in NICS.values()]
        least = [min(core, nic) for nic in nics]
        lines.append([f"{rate}/s", short(core), *map(short, nics), *(f"{short(one)} / {short(one ** 2)} / {short(one ** 3)}" for one in least)])
    print(table(["versions", "one core", *(f"NIC {name}" for name in NICS), *(f"server / + one level / + two, {name}" for name in NICS)], lines))
    print(f"\nOne core of an edge's machine follows {1e6 * value['share'] / value['edge']:.0f} versions/s of this kind.")


if __name__ == "__main__":
    main()
