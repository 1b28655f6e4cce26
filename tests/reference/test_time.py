# SPDX-License-Identifier: Apache-2.0
"""What expires, slides and overflows, over the commits stream at the times of its commits, against a few lines of Python.

test_time.py DRIVE_STATE: the real state, its snapshots and a mirror behind it, by drive_state.c. They must agree in every row, at many times.
"""
import collections
import gzip
import random
import subprocess
import sys
import unittest
from pathlib import Path

SLICE = Path(__file__).resolve().parents[1] / "data" / "commits-slice.tsv.gz"
DRIVE = sys.argv.pop(1) if len(sys.argv) > 1 else ""
DAY = 86400000


def events():
    """(time in ms, repository, path); a record's time is never before the last one's."""
    now, found = 0, []
    with gzip.open(SLICE, "rt", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            seconds, repository, path = line.rstrip("\n").split("\t")
            now = max(now, int(seconds) * 1000)
            found.append((now, repository, f"{repository}/{path}"))
    return found


EVENTS = events()


# ------------------------------------------------------------------------------------------------ the reference

def window(seen, now, length, pane):
    """SELECT key, sum(amount) ... WHERE time >= begin GROUP BY key."""
    begin = now // pane * pane + pane - length
    rows = collections.defaultdict(list)
    for time, key, amount in seen:
        if time >= begin:
            rows[key].append(amount)
    return rows


def idle(seen, now, ttl):
    rows, last = {}, {}
    for time, key, amount in seen:
        rows[key] = (rows[key] if key in rows and time < last[key] + ttl else 0) + amount
        last[key] = time
    return {key: value for key, value in rows.items() if now < last[key] + ttl}


def first_keys(seen, most):
    rows = {}
    for _, key, amount in seen:
        key = key if key in rows or len(rows) - ("__overflow__" in rows) < most else "__overflow__"
        rows[key] = rows.get(key, 0) + amount
    return rows


# ------------------------------------------------------------------------------------------------ the comparison

class Time(unittest.TestCase):
    def compare(self, definition, reference, amount=lambda n: 1, key=2, shows=24):
        draw = random.Random(definition)
        wanted, lines, seen = [], [f"define t {definition}"], []
        at = set(draw.sample(range(len(EVENTS)), shows))
        for n, event in enumerate(EVENTS):
            seen.append((event[0], event[key], amount(n)))
            lines.append(f"{event[0]}\tt\t{event[key]}\t{seen[-1][2]}")
            if n in at:
                if draw.random() < 0.3:
                    lines.append("restart")
                # Now, or before the next event.
                until = EVENTS[n + 1][0] if n + 1 < len(EVENTS) else event[0] + 100 * DAY
                now = event[0] if draw.random() < 0.5 else draw.randint(event[0], max(event[0], until - 1))
                lines.append(f"show {now} t")
                wanted.append((n, now, reference(seen, now)))
        done = subprocess.run([DRIVE], input="\n".join(lines).encode(errors="surrogateescape"), capture_output=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        shown = done.stdout.decode(errors="surrogateescape").split("\n\n")
        rows = 0
        for (n, now, want), text in zip(wanted, shown, strict=False):
            got = {line.rsplit("\t", 1)[0]: int(line.rsplit("\t", 1)[1]) for line in text.strip("\n").split("\n") if line}
            self.assertEqual(got, dict(want), f"{definition}, after event {n}, at {now}")
            rows += len(got)
        self.assertGreaterEqual(len(shown), len(wanted))
        self.assertGreater(rows, 0)
        print(f"# {definition}: {rows} rows at {len(wanted)} times agree")

    def test_tumbling(self):
        for days in (1, 7, 30):
            self.compare(f"counter window={days}d", lambda seen, now, length=days * DAY:
                         {key: sum(amounts) for key, amounts in window(seen, now, length, length).items()})

    def test_sliding(self):
        for length, pane in ((7 * DAY, DAY), (30 * DAY, DAY), (DAY, DAY // 24), (360 * DAY, 10 * DAY)):
            self.compare(f"counter window={length}ms/{pane}ms", lambda seen, now, length=length, pane=pane:
                         {key: sum(amounts) for key, amounts in window(seen, now, length, pane).items()})

    def test_least_and_greatest(self):
        for kind, fold in (("min", min), ("max", max)):
            self.compare(f"{kind} window=20d/1d", lambda seen, now, fold=fold:
                         {key: fold(amounts) for key, amounts in window(seen, now, 20 * DAY, DAY).items()},
                         amount=lambda n: n * 7919 % 1009 - 500, key=1)

    def test_idle(self):
        for ttl in (3600000, DAY, 14 * DAY):
            self.compare(f"counter ttl={ttl}ms", lambda seen, now, ttl=ttl: idle(seen, now, ttl), amount=lambda n: n % 3)

    def test_overflow(self):
        for most in (1, 100, 5000):
            self.compare(f"counter max-keys={most}", lambda seen, now, most=most: first_keys(seen, most))


if __name__ == "__main__":
    unittest.main(verbosity=2)
