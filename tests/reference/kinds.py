#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What each kind of table means, in the plainest way: the reference that the server is held against (tests/e2e/test_kinds.py).

    kinds.py KIND [K] <LINES     LINES as `tallycast count --kind KIND` takes them: table<TAB>key[<TAB>amount, value or member]
                                 prints table<TAB>key<TAB>value, sorted; of topk the K greatest keys of each table
"""
import collections
import sys

INT64_MAX = 2**63 - 1


def split(lines):
    """(table, key, third column or None) of each line; bytes."""
    for line in lines:
        table, key, *third = line.rstrip(b"\n").split(b"\t")
        yield table, key, third[0] if third else None


def counter(events):
    rows = collections.Counter()
    for table, key, amount in events:
        rows[table, key] += int(amount or 1)
    return {row: min(count, INT64_MAX) for row, count in rows.items()}


def gauge(events):
    return {(table, key): int(value) for table, key, value in events}


def adjusted(events):
    rows = collections.Counter()
    for table, key, change in events:
        rows[table, key] += int(change)
    return dict(rows)


def least(events):
    rows = {}
    for table, key, value in events:
        rows[table, key] = min(rows.get((table, key), INT64_MAX), int(value))
    return rows


def greatest(events):
    rows = {}
    for table, key, value in events:
        rows[table, key] = max(rows.get((table, key), -INT64_MAX), int(value))
    return rows


def distinct(events):
    rows = collections.defaultdict(set)
    for table, key, member in events:
        rows[table, key].add(member)
    return {row: len(members) for row, members in rows.items()}


def top(rows, k):
    """The k greatest rows of each table; of equal ones those whose keys come first, byte by byte."""
    tables = collections.defaultdict(list)
    for (table, key), value in rows.items():
        tables[table].append((-value, key))
    return {(table, key): -value for table, found in tables.items() for value, key in sorted(found)[:k]}


KINDS = {"counter": counter, "gauge": gauge, "adjust": adjusted, "min": least, "max": greatest, "distinct": distinct,
         "topk": counter}

if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[1] not in KINDS:
        sys.exit(__doc__)
    result = KINDS[sys.argv[1]](split(sys.stdin.buffer))
    if sys.argv[1] == "topk":
        result = top(result, int(sys.argv[2]) if len(sys.argv) > 2 else 100)
    for (name, row), number in sorted(result.items()):
        sys.stdout.buffer.write(b"%s\t%s\t%d\n" % (name, row, number))
