# SPDX-License-Identifier: Apache-2.0
"""What tables hold after each record of a log, in the plainest way: kinds, windows, ttl and bounds on keys (server/src/aging.h has the rules in words).

Table("counter", window=2000, pane=250, ttl=0, max_keys=0): times in ms; 0: none. For each record: age(its time), then count() each of its entries."""
OVERFLOW = b"__overflow__"


def fold(kind, old, amount, how):
    """A row's value, which was `old` (None: it is new), with one entry more."""
    if kind == "distinct":
        return (old or set()) | {amount}
    if kind in ("counter", "topk") or how == "adjust":
        return (old or 0) + amount
    if old is None or kind == "gauge":
        return amount
    return {"min": min, "max": max}[kind](old, amount)


class Table:
    def __init__(self, kind, window=0, pane=0, ttl=0, max_keys=0):
        self.kind, self.window, self.pane, self.ttl, self.max_keys = kind, window, pane or window, ttl, max_keys
        self.panes = {}  # of each key: {begin of the pane: value}; without a window there is one pane
        self.touched = {}

    def age(self, now):
        """What is due at this time leaves: panes that are in the window no more, rows without any, rows that were idle."""
        if self.window:
            begin = now // self.pane * self.pane + self.pane - self.window
            for key, panes in list(self.panes.items()):
                for pane in [pane for pane in panes if pane < begin]:
                    del panes[pane]
                if not panes:
                    del self.panes[key]
        if self.ttl:
            for key in [key for key, time in self.touched.items() if time + self.ttl <= now]:
                del self.panes[key], self.touched[key]

    def count(self, now, key, amount, how="add"):
        if self.max_keys and key not in self.panes and len(self.panes) - (OVERFLOW in self.panes) >= self.max_keys:
            key = OVERFLOW
        pane = now // self.pane * self.pane if self.window else 0
        panes = self.panes.setdefault(key, {})
        if self.kind == "distinct" and pane in panes:
            panes[pane].add(amount)  # the same as fold, without a copy
        else:
            panes[pane] = fold(self.kind, panes.get(pane), amount, how)
        if self.ttl:
            self.touched[key] = now

    def rows(self):
        """{key: value}; of a distinct table how many members there are."""
        found = {}
        for key, panes in self.panes.items():
            value = None
            for part in panes.values():
                value = part if value is None else fold(self.kind, value, part, "add")
            found[key] = len(value) if self.kind == "distinct" else value
        return found
