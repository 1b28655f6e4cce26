# SPDX-License-Identifier: Apache-2.0
"""What tests of tables of every kind share: counting as a kind, and holding what daemons have against tests/reference."""
import sys

import harness
from harness import ROOT

sys.path.insert(0, str(ROOT / "tests" / "reference"))
import kinds  # noqa: E402


class KindsCase(harness.Case):
    def dump(self, daemon):
        """{(table, key): value} of all that a daemon has; keys as they are."""
        rows = {}
        for line in self.cli("dump", "--at", daemon.at).stdout.splitlines():
            table, key, value = line.split(b"\t")
            rows[table, key] = int(value)
        return rows

    def kinds_of(self, daemon):
        return {table["table"]: table["kind"] for table in harness.get(daemon.at, "/v1/tables").json["tables"]}

    def setUp(self):
        super().setUp()
        self.events = {}  # kind of the reference: what was counted so

    @staticmethod
    def words(kind):
        """The options of `tallycast count`; "adjust": a gauge that is adjusted."""
        return ["--kind", "gauge", "--adjust"] if kind == "adjust" else ["--kind", kind]

    def note(self, kind, lines):
        """These lines were counted as `kind`."""
        self.events.setdefault(kind, []).extend(kinds.split(lines))

    def feed(self, server, kind, lines, *options):
        self.note(kind, lines)
        self.count(server, lines, *self.words(kind), *options)

    def want(self):
        rows = {}
        for kind, events in self.events.items():
            if kind != "topk":
                rows.update(kinds.KINDS[kind](events))
        return rows

    def assert_topk(self, found, name, k, capacity):
        """Every row of a topk table lies within its error, and no key that is not there is greater than that."""
        name = name.encode()
        truth = {key: count for (table, key), count in kinds.counter(self.events["topk"]).items() if table == name}
        rows = {key: value for (table, key), value in found.items() if table == name}
        errors = {key: value for (table, key), value in found.items() if table == name + b".error"}
        self.assertEqual(len(rows), min(k, len(truth)))
        self.assertEqual(set(rows), set(errors))
        for key, value in rows.items():
            self.assertLessEqual(value - errors[key], truth[key], key)
            self.assertGreaterEqual(value, truth[key], key)
        self.assertLessEqual(max(errors.values()), sum(truth.values()) // capacity)
        least = min(rows.values())
        for key, count in truth.items():
            if key not in rows:
                self.assertLessEqual(count, least, key)
        return rows, truth

    def check(self, daemon, k_top, estimates):
        """All that a daemon has is what the reference says: nothing is missing, nothing is there beside it."""
        found, want = self.dump(daemon), self.want()
        want.update({(b"top", key): value for (table, key), value in kinds.top(want, k_top).items() if table == b"files"})
        derived = (b"hot", b"hot.error")
        self.assertEqual({row for row in found if row[0] not in derived}, set(want))
        for row, value in want.items():
            if row[0] in estimates and value > estimates[row[0]] // 4:
                # 4 x the standard error of 1.04 / sqrt(registers).
                self.assertLess(abs(found[row] - value) / value, 4 * 1.04 / estimates[row[0]] ** 0.5, row)
            else:
                self.assertEqual(found[row], value, row)
        return found
