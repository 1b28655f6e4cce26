#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
#
# Writes the test vectors of proto/vectors/ (its README.md describes them). Deliberately independent of the C code: its own
# SipHash, digest, varints and messages, straight from proto/tallycast.proto and the headers' definitions.
#
#   tests/vectors/generate.py DIR           write them
#   tests/vectors/generate.py --check DIR   compare with what is there; exit 1 and name what differs
import os
import random
import struct
import sys

M64 = (1 << 64) - 1
INT64_MAX, INT64_MIN = (1 << 63) - 1, -(1 << 63)

# ------------------------------------------------------------------------------------------------ hashes


def rotl(x, n):
    return (x << n | x >> (64 - n)) & M64


def sip_round(v0, v1, v2, v3):
    v0 = (v0 + v1) & M64
    v1 = rotl(v1, 13) ^ v0
    v0 = rotl(v0, 32)
    v2 = (v2 + v3) & M64
    v3 = rotl(v3, 16) ^ v2
    v0 = (v0 + v3) & M64
    v3 = rotl(v3, 21) ^ v0
    v2 = (v2 + v1) & M64
    v1 = rotl(v1, 17) ^ v2
    v2 = rotl(v2, 32)
    return v0, v1, v2, v3


def siphash13(key, data):
    k0, k1 = key
    v = (k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573)
    whole = len(data) // 8 * 8
    last = data[whole:] + bytes(7 - len(data) % 8) + bytes([len(data) & 0xFF])
    for at in range(0, whole + 8, 8):
        m = struct.unpack("<Q", data[at:at + 8] if at < whole else last)[0]
        v = sip_round(v[0], v[1], v[2], v[3] ^ m)
        v = (v[0] ^ m, v[1], v[2], v[3])
    v = (v[0], v[1], v[2] ^ 0xFF, v[3])
    for _ in range(3):
        v = sip_round(*v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def fingerprint(seed, key):
    return siphash13(seed, key) or 1


def seed_next(seed, version):
    message = struct.pack("<Q", version)
    return siphash13(seed, message + b"\0"), siphash13(seed, message + b"\1")


def mix64(x):
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & M64
    x = (x ^ x >> 27) * 0x94D049BB133111EB & M64
    return x ^ x >> 31


def digest_row(seed, table, key, value):
    t, f, v = siphash13(seed, table), fingerprint(seed, key), value & M64
    lo = mix64((f + v * 0x9E3779B97F4A7C15 + t) & M64)
    hi = mix64((rotl(f, 32) + v * 0xD6E8FEB86659FD93 + (t ^ M64)) & M64)
    return hi << 64 | lo


def digest_state(seed, state):
    """state: {table name: {key: value}}"""
    rows = (digest_row(seed, t, k, v) for t, keys in state.items() for k, v in keys.items())
    return sum(rows) & ((1 << 128) - 1)


# ------------------------------------------------------------------------------------------------ protobuf


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def zigzag(value):
    return (value << 1 ^ value >> 63) & M64


def f_uint(number, value):
    return varint(number << 3) + varint(value) if value else b""


def f_fixed64(number, value):
    return varint(number << 3 | 1) + struct.pack("<Q", value) if value else b""


def f_bytes(number, value):
    return varint(number << 3 | 2) + varint(len(value)) + value


def f_packed(number, values):
    return f_bytes(number, b"".join(map(varint, values))) if values else b""


def seal(message):
    return message + varint(15 << 3 | 1) + struct.pack("<Q", siphash13((0x7473616379616C6C, 0x74), message))


def gaps(ids):
    return [i - (ids[n - 1] if n else 0) for n, i in enumerate(ids)]


class Bits:
    """Bits from the least significant one of each byte on."""

    def __init__(self):
        self.value, self.count = 0, 0

    def put(self, value, width):
        self.value |= value << self.count
        self.count += width
        return self

    def bytes(self):
        return self.value.to_bytes((self.count + 7) // 8, "little")


def block_parts(u, code):
    """(zeros of the prefix or None, suffix, width of the suffix) of one number under a code without its top bit"""
    if code < 65:
        return None, u, code
    if code < 96:
        k, b = code - 65, u.bit_length()
        return (b - k, u - (1 << (b - 1)), b - 1) if b > k else (0, u, k)
    k = code - 96
    return u >> k, u & ((1 << k) - 1), k


def block(numbers, code):
    """One block under a code."""
    prefixes, suffixes = Bits(), Bits()
    for v in numbers:
        zeros, suffix, width = block_parts(zigzag(v) if code & 128 else v - 1, code & 127)
        if zeros is not None:
            prefixes.put(1 << zeros, zeros + 1)
        suffixes.put(suffix, width)
    return bytes([code]) + prefixes.put(suffixes.value, suffixes.count).bytes()


def block_code(numbers):
    """The code that a server takes: the fewest bits, of several the smallest code; of Rice only the two k that fit the mean."""
    top = 128 if min(numbers) < 1 else 0
    u = [zigzag(v) if top else v - 1 for v in numbers]
    longest = max(u).bit_length()
    fits = ((sum(u) + len(u)) * 11 // 16 // len(u)).bit_length()
    codes = [longest] + [65 + k for k in range(min(longest, 31))]
    codes += [96 + k for k in (fits - 1, fits) if 0 <= k <= 30] if 0 < longest < 50 else []

    def bits(code):
        parts = [block_parts(x, code) for x in u]
        return sum((0 if zeros is None else zeros + 1) + width for zeros, _, width in parts)

    return top | min(codes, key=lambda code: (bits(code), code))


def blocks(numbers, codes=None):
    """A column in blocks; `codes`: what to take for each block instead of what fits."""
    runs = [numbers[i:i + 128] for i in range(0, len(numbers), 128)]
    return varint(len(numbers)) + b"".join(block(run, codes[i] if codes else block_code(run)) for i, run in enumerate(runs))


KINDS = ["unspecified", "counter", "gauge", "min", "max", "distinct", "topk"]


class Table:
    """One TableChange: removed [id], changed [(id, difference)], added [(id, key, value)]. `coding`: "best", as a server writes it; "varints", as one
    that knows no blocks does; or {field: codes}: these columns in blocks."""

    def __init__(self, number, name=b"", removed=(), changed=(), added=(), coding="best", rows=0, kind=1):
        self.number, self.name, self.coding, self.rows, self.kind = number, name, coding, rows, kind
        self.removed, self.changed, self.added = list(removed), list(changed), list(added)

    def columns(self):
        """{field: (varints, numbers)}"""
        ids = {5: self.removed, 6: [c[0] for c in self.changed], 8: [a[0] for a in self.added]}
        out = {field: (gaps(of), [n + (i == 0) for i, n in enumerate(gaps(of))]) for field, of in ids.items()}
        for field, of in {7: [c[1] for c in self.changed], 11: [a[2] for a in self.added]}.items():
            out[field] = [zigzag(n) for n in of], of
        sizes = [len(a[1]) for a in self.added]
        out[9] = sizes, sizes
        return {field: columns for field, columns in sorted(out.items()) if columns[0]}

    def encode(self):
        fields = {5: 12, 6: 13, 7: 14, 8: 15, 9: 16, 11: 17}
        plain = {field: f_packed(field, varints) for field, (varints, _) in self.columns().items()}
        if self.coding == "varints":
            tight = {}
        elif self.coding == "best":
            tight = {field: f_bytes(fields[field], blocks(numbers)) for field, (_, numbers) in self.columns().items()}
            tight = {field: column for field, column in tight.items() if len(column) < len(plain[field])}
            if sum(len(plain[field]) - len(column) for field, column in tight.items()) <= 2:
                tight = {}
        else:
            tight = {field: f_bytes(fields[field], blocks(self.columns()[field][1], codes)) for field, codes in self.coding.items()}
        if self.added:
            plain[10] = f_bytes(10, b"".join(a[1] for a in self.added))
        return (f_uint(1, self.number) + (f_bytes(2, self.name) + f_uint(3, self.kind) if self.name else b"") +
                f_uint(4, 1 if tight else 0) + b"".join(column for field, column in sorted(plain.items()) if field not in tight) +
                b"".join(column for _, column in sorted(tight.items())) + f_uint(18, self.rows))


class Frame:
    def __init__(self, epoch, origin, to, cut_ms, digest, rows, tables, seed=None, chunk=0, more=False, dataset=b"main"):
        self.__dict__.update(locals())

    def body(self):
        return (f_bytes(1, self.dataset) + f_fixed64(2, self.epoch) + f_uint(3, self.origin) + f_uint(4, self.to) +
                f_uint(5, self.cut_ms) + f_bytes(6, self.digest.to_bytes(16, "little")) + f_uint(7, self.rows) +
                (f_bytes(8, struct.pack("<QQ", *self.seed)) if self.seed else b"") + f_uint(9, self.chunk) +
                f_uint(10, int(self.more)) + b"".join(f_bytes(11, t.encode()) for t in self.tables))

    def encode(self):
        return seal(self.body())

    def lines(self, name, word="frame"):
        seed = "%016x%016x" % (self.seed[1], self.seed[0]) if self.seed else "-"
        out = ["%s %s %s %016x %d %d %d %032x %d %s %d %d" % (
            word, name, self.dataset.decode(), self.epoch, self.origin, self.to, self.cut_ms, self.digest, self.rows, seed,
            self.chunk, int(self.more))]
        for t in self.tables:
            out.append("table %d %s" % (t.number, "%s %s %d" % (t.name.decode(), KINDS[t.kind], t.rows) if t.name else "- - 0"))
            out += ["removed %d" % i for i in t.removed]
            out += ["changed %d %d" % c for c in t.changed]
            out += ["added %d %s %d" % (i, k.hex(), v) for i, k, v in t.added]
        return out


def entries(table, adds=(), removed=(), kind=0, adjust=False):
    """The amounts of a distinct table are its members."""
    amounts = b"" if kind == 5 else f_packed(3, [zigzag(a) for _, a in adds])
    members = b"".join(struct.pack("<Q", m) for _, m in adds) if kind == 5 else b""
    return (f_bytes(1, table) + b"".join(f_bytes(2, k) for k, _ in adds) + amounts + b"".join(f_bytes(4, k) for k in removed) +
            f_uint(5, kind) + f_uint(6, int(adjust)) + (f_bytes(7, members) if members else b""))


class Batch:
    def __init__(self, producer, sequence, tables, dataset=b"main"):
        self.__dict__.update(locals())

    def encode(self):
        return (f_bytes(1, self.dataset) + f_fixed64(2, self.producer) + f_uint(3, self.sequence) +
                b"".join(f_bytes(4, entries(*t)) for t in self.tables))

    def lines(self):
        out = ["batch %s %016x %d" % (self.dataset.decode(), self.producer, self.sequence)]
        for table, adds, removed, *rest in self.tables:
            kind, adjust = (rest + [0, False])[:2]
            out.append("table %s%s%s" % (table.decode(), " " + KINDS[kind] if kind else "", " adjust" if adjust else ""))
            out += ["%s %s %d" % ("member" if kind == 5 else "add", k.hex(), a) for k, a in adds]
            out += ["remove " + k.hex() for k in removed]
        return out


def definition(table, kind, ttl_ms=0, max_keys=0, window=0, window_ms=0, pane_ms=0, k=0, capacity=0, precision=0, source=b""):
    numbers = (kind, ttl_ms, max_keys, window, window_ms, pane_ms, k, capacity, precision)
    return (f_bytes(1, table) + b"".join(f_uint(i + 2, n) for i, n in enumerate(numbers)) +
            (f_bytes(11, source) if source else b""))


def frame_file(*messages):
    return b"TALLYF1\n" + b"".join(struct.pack("<I", len(m)) + m for m in messages)


# ------------------------------------------------------------------------------------------------ the vectors

SEED = (0x0706050403020100, 0x0F0E0D0C0B0A0908)
EPOCH = 0x0193_5A2B_3C4D_5E6F
CUT = 1_732_300_000_000


class Writer:
    def __init__(self):
        self.files = {}

    def binary(self, name, data):
        self.files[name] = data

    def text(self, name, header, lines):
        head = ["# " + line for line in header]
        self.files[name] = ("\n".join(head + lines) + "\n").encode()


def hashes(out):
    lines = ["siphash 0f0e0d0c0b0a09080706050403020100 %s %016x" % (bytes(range(n)).hex() or "-", siphash13(SEED, bytes(range(n))))
             for n in range(64)]
    out.text("siphash.txt", ["siphash SEED MESSAGE RESULT"], lines)

    seeds = [SEED, (0, 0), (M64, M64), (0x0123456789ABCDEF, 0xFEDCBA9876543210)]
    keys = [b"a", b"nng/README.md", b"\0", b"\xff" * 7, bytes(range(8)), b"12345678", b"k" * 31, bytes(range(256)) * 4]
    lines = ["fingerprint %016x%016x %s %016x" % (s[1], s[0], k.hex(), fingerprint(s, k)) for s in seeds for k in keys]
    lines += ["seed_next %016x%016x %d %016x%016x" % (s[1], s[0], v, *reversed(seed_next(s, v)))
              for s in seeds for v in (1, 2, 1 << 40)]
    out.text("fingerprint.txt", ["fingerprint SEED KEY RESULT", "seed_next SEED VERSION RESULT"], lines)

    lines = []
    for s in seeds:
        sum_ = 0
        lines.append("seed %016x%016x" % (s[1], s[0]))
        for table, key, value in [(b"files", b"a", 0), (b"files", b"a", 1), (b"files", b"b", 1), (b"repos", b"a", 1),
                                  (b"t" * 64, b"x", -1), (b"x", b"max", INT64_MAX), (b"x", b"min", INT64_MIN)]:
            row = digest_row(s, table, key, value)
            sum_ = (sum_ + row) & ((1 << 128) - 1)
            lines.append("row %s %s %d %032x %032x" % (table.decode(), key.hex(), value, row, sum_))
    out.text("digest.txt", ["seed SEED", "row TABLE KEY VALUE DIGEST-OF-THE-ROW SUM-OF-THE-ROWS-SO-FAR"], lines)


class Model:
    """A state with ids, and the frames between its versions."""

    def __init__(self, seed=SEED, epoch=EPOCH):
        self.seed, self.epoch, self.version, self.names, self.rows = seed, epoch, 0, [], []  # rows: [{id: [key, value]}]

    def state(self):
        return {n: {k: v for k, v in rows.values()} for n, rows in zip(self.names, self.rows)}

    def digest(self):
        return digest_state(self.seed, self.state())

    def count(self):
        return sum(map(len, self.rows))

    def step(self, changes):
        """changes: {name: (removed keys, {key: difference})}; the frame of the next version"""
        tables, origin = [], self.version
        for name, (gone, moved) in changes.items():
            new = name not in self.names
            if new:
                self.names.append(name)
                self.rows.append({})
            number = self.names.index(name)
            rows = self.rows[number]
            ids = {k: i for i, (k, _) in rows.items()}
            removed = sorted(ids.pop(k) for k in gone)
            for i in removed:
                del rows[i]
            changed, added, free = [], [], 0
            for key, difference in moved.items():
                if key in ids:
                    rows[ids[key]][1] += difference
                    changed.append((ids[key], difference))
                    continue
                while free in rows:
                    free += 1
                rows[free] = [key, difference]
                added.append((free, key, difference))
            tables.append(Table(number, name if new else b"", removed, sorted(changed), sorted(added),
                                rows=len(rows) if new else 0))
        self.version += 1
        tables.sort(key=lambda t: t.number)
        return Frame(self.epoch, origin, self.version, self.cut(), self.digest(), self.count(), tables,
                     self.seed if origin == 0 else None)

    def cut(self):
        return CUT + 20 * self.version

    def whole(self, per_chunk=None):
        """The whole state, in chunks of per_chunk rows or in one. A table without rows stands where its rows would."""
        chunks, room = [[]], per_chunk or max(1, self.count())
        for n, (name, rows) in enumerate(zip(self.names, self.rows)):
            chunks[-1].append(Table(n, name, rows=len(rows)))
            for i, (k, v) in sorted(rows.items()):
                if room == 0:
                    chunks.append([Table(n, name, rows=len(rows))])
                    room = per_chunk
                chunks[-1][-1].added.append((i, k, v))
                room -= 1
        chunks = [[t for t in tables if t.added or not self.rows[t.number]] for tables in chunks]
        return [Frame(self.epoch, 0, self.version, self.cut(), self.digest(), self.count(), tables, self.seed, c,
                      c + 1 < len(chunks)) for c, tables in enumerate(chunks)]

    def lines(self):
        out = ["state %016x %d %d %032x %d %d" % (self.epoch, self.version, self.cut(), self.digest(), self.count(), len(self.names))]
        for n, (name, rows) in enumerate(zip(self.names, self.rows)):
            out.append("table %d %s %d" % (n, name.decode(), len(rows)))
            out += ["row %d %d %s %d" % (n, i, k.hex(), v) for i, (k, v) in sorted(rows.items())]
        return out


def block_frames(emit, story):
    """Columns of several blocks whose numbers are spread in several ways, as a server writes them and in every code."""
    draw, at, moved, gone = random.Random(11), 0, {}, []
    spread = [lambda: 1, lambda: draw.randint(1, 50), lambda: 1 + int(draw.expovariate(0.1)), lambda: int(draw.paretovariate(0.7)),
              lambda: draw.randint(-9, 9), lambda: draw.randint(-1 << 49, 1 << 49), lambda: 1 << draw.randrange(50)]
    for i in range(1000):
        at += [1, draw.randint(1, 8), 1 + int(draw.expovariate(0.3)), min(200, int(draw.paretovariate(0.8)))][i // 128 % 4]
        moved[b"k%d" % at] = spread[i // 128 % len(spread)]() or 1
    for i in range(200):
        at += draw.randint(1, 5)
        gone.append(b"k%d" % at)
    keys = [b"k%d" % i for i in range(at + 1)]

    def model():
        m = Model(epoch=EPOCH + 2)
        m.step({b"t": ((), dict.fromkeys(keys, 1 << 50))})
        m.step({b"t": ([k for k in keys if k not in moved and k not in gone], {})})
        return m

    m = model()
    story += ["mirror main"]
    emit("frame-blocks-whole.bin", m.whole()[0])
    emit("frame-blocks.bin", m.step({b"t": (gone, moved)}))
    forced = model().step({b"t": (gone, moved)})
    forced.tables[0].coding = {5: [73, 128 + 9], 6: [8, 65, 70, 95, 96, 100, 128 + 66, 64],
                               7: [7, 64, 97, 65, 128 + 70, 128 + 95, 85, 126]}
    story += ["mirror main", "apply frame-blocks-whole.bin OK"]
    emit("frame-blocks-forced.bin", forced, word="read")
    story += m.lines()


def frames(out):
    decoded, story = [], []

    def emit(name, frame, status="OK", word="frame"):
        out.binary(name, frame.encode())
        decoded.extend(frame.lines(name, word))
        if status:
            story.append("apply %s %s" % (name, status))

    # The main line: five versions of one dataset.
    story.append("mirror main")
    m = Model()
    first = m.step({b"files": ((), {b"nng/README.md": 3, b"libuv/README.md": 1}), b"repos": ((), {b"nng": 3, b"libuv": 1})})
    emit("frame-first.bin", first)
    story += m.lines() + ["absent 0 " + b"nng".hex(), "absent 1 " + b"x".hex(), "absent 2 " + b"nng".hex()]
    story.append("apply frame-first.bin OLD")
    second = m.step({b"files": ((), {b"nng/README.md": 1, b"libuv/LICENSE": 1}), b"repos": ((), {b"nng": 1, b"libuv": 1})})
    emit("frame-delta.bin", second)
    story += m.lines()
    third = m.step({b"files": ((b"libuv/README.md",), {b"libuv/LICENSE": 2}), b"repos": ((b"nng", b"libuv"), {})})
    emit("frame-removals.bin", third)
    story += m.lines() + ["absent 0 " + b"libuv/README.md".hex(), "absent 1 " + b"nng".hex()]
    fourth = m.step({b"files": ((), {b"new-in-the-freed-id": 7}),
                     b"extremes": ((), {b"max": INT64_MAX, b"min": INT64_MIN, b"zero": 0, b"minus": -1, bytes([0]): 1,
                                        b"\xff" * 1024: 2})})
    emit("frame-extremes.bin", fourth)
    story += m.lines()
    fifth = m.step({b"extremes": ((), {b"max": -INT64_MAX, b"min": INT64_MAX, b"zero": INT64_MIN})})
    emit("frame-extreme-differences.bin", fifth)
    story += m.lines()
    # A merged frame from version 1 to 5 in place of four.
    merged = Frame(EPOCH, 1, 5, m.cut(), m.digest(), m.count(), [
        Table(0, removed=[1], changed=[(0, 1)],
              added=[(1, b"new-in-the-freed-id", 7), (2, b"libuv/LICENSE", 3)]),
        Table(1, removed=[0, 1]),
        Table(2, b"extremes", added=[(i, k, v) for i, (k, v) in sorted(m.rows[2].items())], rows=len(m.rows[2]))])
    story += ["mirror main", "apply frame-first.bin OK"]
    emit("frame-merged.bin", merged)
    story += m.lines()
    story += ["mirror main", "apply frame-first.bin OK", "apply frame-removals.bin GAP", "apply frame-delta.bin OK",
              "apply frame-extremes.bin GAP", "apply frame-removals.bin OK"]
    # The whole state at once, into an empty mirror and over an old version.
    story += ["mirror main"]
    emit("frame-whole.bin", m.whole()[0])
    story += m.lines() + ["mirror main", "apply frame-first.bin OK", "apply frame-whole.bin OK"] + m.lines()

    # Chunked: 1000 rows in five tables, one of them empty.
    story.append("mirror main")
    draw, big = random.Random(7), Model(epoch=EPOCH + 1)
    big.step({b"t%d" % t: ((), {b"key-%d" % draw.randrange(1 << 40): draw.randrange(-1 << 40, 1 << 40) for _ in range(n)})
              for t, n in enumerate([400, 1, 0, 500, 99])})
    for _ in range(3):
        keys = [k for k, _ in big.rows[3].values()]
        big.step({b"t3": (tuple(draw.sample(keys, 20)), {b"late-%d" % draw.randrange(1 << 30): 5 for _ in range(10)})})
    chunks = big.whole(300)
    for n, frame in enumerate(chunks):
        emit("frame-chunk-%d.bin" % n, frame, "MORE" if frame.more else "OK")
    story += big.lines()
    # As a server wrote it that knew no blocks and told no rows.
    plain = big.whole()[0]
    for table in plain.tables:
        table.coding, table.rows = "varints", 0
    story += ["mirror main"]
    emit("frame-varints.bin", plain, word="read")
    story += big.lines()
    # The rows that a table is said to have are not believed.
    lying = big.whole()[0]
    for table, rows in zip(lying.tables, (1, 1 << 63, 1000, 0, 500)):
        table.rows = rows
    story += ["mirror main"]
    emit("frame-rows-lying.bin", lying)
    story += big.lines()
    block_frames(emit, story)
    # Tables of every kind, in a story of their own.
    kinds = Model(epoch=EPOCH + 3)
    story.append("mirror main")
    each = kinds.step({KINDS[k].encode(): ((), {b"a": 10 * k, b"b": -k if k in (2, 3, 4) else k}) for k in range(1, 7)})
    for table in each.tables:
        table.kind = KINDS.index(table.name.decode())
    emit("frame-kinds.bin", each)
    story += kinds.lines()
    whole = Model(epoch=EPOCH + 3)
    whole.step({KINDS[k].encode(): ((), {b"a": 2, b"b": 2}) for k in range(1, 6)})
    of_kinds = whole.whole()[0]
    for table in of_kinds.tables:
        table.kind = KINDS.index(table.name.decode())
    emit("frame-kinds-whole.bin", of_kinds, status=None)
    emit("frame-kinds-delta.bin", kinds.step({b"gauge": ((), {b"a": -INT64_MAX}), b"topk": ((b"a",), {b"c": 9})}))
    story += kinds.lines()
    story += ["mirror main", "apply frame-chunk-1.bin GAP", "apply frame-chunk-0.bin MORE", "apply frame-chunk-2.bin GAP",
              "apply frame-chunk-1.bin GAP"]
    delta = big.step({b"t0": ((), {big.rows[0][0][0]: 1}), b"t2": ((), {b"first": 1})})
    emit("frame-after-chunks.bin", delta, None)
    story += ["mirror main"] + ["apply frame-chunk-%d.bin %s" % (n, "MORE" if f.more else "OK") for n, f in enumerate(chunks)]
    story += ["apply frame-after-chunks.bin OK"] + big.lines()

    # An empty state at a version, and a new epoch with another seed.
    empty = Model(epoch=EPOCH + 2, seed=seed_next(SEED, 9))
    empty.step({b"gone": ((), {b"k": 1})})
    emit("frame-other-epoch.bin", empty.step({b"gone": ((), {b"k": 1})}), None)
    empty.step({b"gone": ((b"k",), {})})
    emit("frame-empty.bin", empty.whole()[0], None)
    story += ["mirror main", "apply frame-first.bin OK", "apply frame-other-epoch.bin WRONG_EPOCH", "apply frame-empty.bin OK"]
    story += empty.lines() + ["apply frame-whole.bin OLD"]

    # A frame of another dataset; a state that is not what was cut.
    other = Frame(EPOCH, 0, 1, CUT, first.digest, first.rows, first.tables, SEED, dataset=b"other")
    story += ["mirror main"]
    emit("frame-other-dataset.bin", other, "WRONG_DATASET")
    wrong = Frame(EPOCH, 1, 2, CUT, second.digest ^ 1, second.rows, second.tables)
    story += ["apply frame-first.bin OK"]
    emit("frame-wrong-digest.bin", wrong, "DIGEST_MISMATCH")
    story += ["apply frame-delta.bin OK"]
    out.text("frames.txt", [
        "frame FILE DATASET EPOCH FROM TO CUT-MS DIGEST ROWS SEED CHUNK MORE", "table NUMBER NAME KIND",
        "removed ID", "changed ID DIFFERENCE", "added ID KEY VALUE"], decoded)
    out.text("mirror.txt", [
        "mirror DATASET                          a new, empty mirror", "apply FILE STATUS",
        "state EPOCH VERSION CUT-MS DIGEST ROWS TABLES", "table NUMBER NAME ROWS",
        "row TABLE ID KEY VALUE                  all rows, in listing order", "absent TABLE KEY"], story)
    return m, first, second, chunks


def refusals(out, first, second):
    lines = []

    def bad(name, status, data):
        out.binary("bad-" + name + ".bin", data)
        lines.append("refused bad-%s.bin %s" % (name, status))

    good, body = first.encode(), first.body()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 0x10
    bad("flipped-bit", "CORRUPT", bytes(flipped))
    bad("no-seal", "MALFORMED", body)
    bad("empty", "MALFORMED", b"")
    bad("seal-alone", "MALFORMED", seal(b""))
    bad("cut-short", "MALFORMED", seal(body[:-1]))
    bad("group", "MALFORMED", seal(body + varint(31 << 3 | 3) + varint(31 << 3 | 4)))
    bad("field-zero", "MALFORMED", seal(body + b"\x00\x00"))
    bad("epoch-twice", "MALFORMED", seal(body + f_fixed64(2, 5)))
    bad("epoch-zero", "MALFORMED", seal(Frame(0, 0, 1, CUT, 0, 0, [], SEED).body()))
    bad("epoch-as-varint", "MALFORMED", seal(body[:6] + f_uint(2, 5) + body[15:]))
    bad("backwards", "MALFORMED", seal(Frame(EPOCH, 2, 2, CUT, 0, 0, []).body()))
    bad("seed-in-delta", "MALFORMED", seal(second.body() + f_bytes(8, bytes(16))))
    bad("whole-without-seed", "MALFORMED", seal(Frame(EPOCH, 0, 1, CUT, 0, 0, []).body()))
    bad("short-digest", "MALFORMED", seal(f_bytes(1, b"main") + f_fixed64(2, EPOCH) + f_uint(3, 1) + f_uint(4, 2) + f_bytes(6, bytes(15))))
    bad("dataset-name", "MALFORMED", seal(Frame(EPOCH, 1, 2, CUT, 0, 0, [], dataset=b"Main").body()))

    def table(name, status, *columns):
        head = Frame(EPOCH, 1, 2, CUT, 0, 0, []).body()
        bad("table-" + name, status, seal(head + b"".join(f_bytes(11, c) for c in columns)))

    table("number", "LIMIT", f_uint(1, 256))
    table("descending", "MALFORMED", f_uint(1, 1) + f_packed(5, [1]), f_packed(5, [1]))
    table("twice", "MALFORMED", f_uint(1, 1) + f_packed(5, [1]), f_uint(1, 1) + f_packed(5, [1]))
    table("column-twice", "MALFORMED", f_packed(5, [1]) + f_packed(5, [1]))
    table("column-as-varint", "MALFORMED", f_uint(5, 1))
    table("name", "MALFORMED", f_bytes(2, b"no spaces") + f_uint(3, 1))
    table("name-without-kind", "MALFORMED", f_bytes(2, b"files"))
    table("kind", "UNSUPPORTED", f_bytes(2, b"files") + f_uint(3, 99))
    table("kind-next", "UNSUPPORTED", f_bytes(2, b"files") + f_uint(3, 7))
    table("coding", "UNSUPPORTED", f_uint(4, 2) + f_packed(5, [1]))
    table("id-not-rising", "MALFORMED", f_packed(5, [3, 0]))
    table("id-over", "LIMIT", f_packed(5, [1 << 28]))
    table("id-sum-over", "LIMIT", f_packed(5, [(1 << 28) - 1, 1]))
    table("id-wraps", "LIMIT", f_packed(5, [5, (1 << 64) - 3]))
    table("id-varint-over", "MALFORMED", f_bytes(5, b"\xff" * 9 + b"\x02"))
    table("changed-unpaired", "MALFORMED", f_packed(6, [1, 1]) + f_packed(7, [1]))
    table("differences-left", "MALFORMED", f_packed(6, [1]) + f_packed(7, [1, 1]))
    table("key-empty", "MALFORMED", f_packed(8, [1]) + f_packed(9, [0]) + f_packed(11, [1]))
    table("key-long", "LIMIT", f_packed(8, [1]) + f_packed(9, [1025]) + f_bytes(10, bytes(1025)) + f_packed(11, [1]))
    table("keys-short", "MALFORMED", f_packed(8, [1]) + f_packed(9, [5]) + f_bytes(10, b"four") + f_packed(11, [1]))
    table("keys-left", "MALFORMED", f_packed(8, [1]) + f_packed(9, [3]) + f_bytes(10, b"four") + f_packed(11, [1]))
    table("value-missing", "MALFORMED", f_packed(8, [1]) + f_packed(9, [4]) + f_bytes(10, b"four"))
    table("values-left", "MALFORMED", f_packed(8, [1]) + f_packed(9, [4]) + f_bytes(10, b"four") + f_packed(11, [1, 1]))

    def tight(name, status, *columns):
        table("blocks-" + name, status, f_uint(4, 1) + b"".join(f_bytes(field, data) for field, data in columns))

    table("blocks-untold", "MALFORMED", f_bytes(12, blocks([1])))
    table("blocks-twice", "MALFORMED", f_uint(4, 1) + f_packed(5, [1]) + f_bytes(12, blocks([2])))
    tight("empty", "MALFORMED", (12, b""))
    tight("none", "MALFORMED", (12, b"\0\0"))
    tight("missing", "MALFORMED", (12, b"\1"))
    tight("second-missing", "MALFORMED", (12, varint(129) + blocks([1] * 128)[2:]))
    tight("over", "LIMIT", (12, varint((1 << 28) + 1) + b"\0"))
    tight("left", "MALFORMED", (12, blocks([1, 2]) + b"\0"))
    tight("code", "UNSUPPORTED", (12, b"\1\x7f\xff"))
    tight("fixed-short", "MALFORMED", (12, b"\3\x08\1\1"))
    tight("fixed-wide-short", "MALFORMED", (12, b"\1\x40" + b"\1" * 7))
    tight("prefix-short", "MALFORMED", (12, b"\3" + bytes([96]) + b"\3"))
    tight("rice-short", "MALFORMED", (12, b"\2" + bytes([96 + 4]) + b"\3"))
    tight("gamma-short", "MALFORMED", (12, b"\2" + bytes([65 + 4]) + b"\3"))
    tight("gamma-long", "MALFORMED", (14, b"\1" + bytes([65 + 1]) + (1 << 64).to_bytes(20, "little")), (13, blocks([1])))
    tight("gap-zero", "MALFORMED", (12, blocks([5, 0])))
    tight("gap-negative", "MALFORMED", (12, blocks([5, -1])))
    tight("gap-over", "LIMIT", (12, blocks([1, (1 << 28) + 1])))
    tight("id-over", "LIMIT", (12, blocks([1 << 28, 1])))
    tight("gap-wraps", "LIMIT", (12, blocks([1 << 62] * 4)))
    tight("differences-short", "MALFORMED", (13, blocks([1, 1])), (14, blocks([1])))
    tight("differences-left", "MALFORMED", (13, blocks([1])), (14, blocks([1, 1])))
    tight("differences-alone", "MALFORMED", (14, blocks([1])))
    tight("differences-fewer", "MALFORMED", (13, blocks([1] * 128)), (14, blocks([1] * 200)))
    table("blocks-beside-short", "MALFORMED", f_uint(4, 1) + f_packed(6, [1, 1]) + f_bytes(14, blocks([1])))
    table("blocks-key-long", "LIMIT", f_uint(4, 1) + f_packed(8, [1]) + f_bytes(10, bytes(1025)) + f_packed(11, [1]) + f_bytes(16, blocks([1025])))
    table("blocks-key-negative", "LIMIT", f_uint(4, 1) + f_packed(8, [1]) + f_bytes(10, bytes(9)) + f_packed(11, [1]) + f_bytes(16, blocks([-1])))
    table("blocks-key-empty", "MALFORMED", f_uint(4, 1) + f_packed(8, [1]) + f_bytes(10, bytes(9)) + f_packed(11, [1]) + f_bytes(16, blocks([0])))
    out.text("refused.txt", ["refused FILE STATUS     a frame that opening or walking refuses with this status"], lines)


def batches(out):
    b1 = Batch(0x1122334455667788, 1, [(b"files", [(b"nng/README.md", 1), (b"libuv/LICENSE", 2)], []), (b"repos", [(b"nng", 3)], [])])
    b2 = Batch(0x1122334455667788, 2, [(b"files", [(b"\0", INT64_MAX), (b"\xff" * 1024, 0)], [b"nng/README.md", b"gone"])])
    b3 = Batch(M64, M64, [(b"repos", [], [b"nng"]), (b"t" * 64, [(b"k", 1)], [])])
    b4 = Batch(3, 1, [])
    b5 = Batch(4, 1, [(b"visits", [(b"a", 5)], [], 1), (b"level", [(b"a", -5), (b"b", (1 << 62) - 1)], [b"c"], 2),
                      (b"level", [(b"a", -1)], [], 2, True), (b"low", [(b"a", 1 - (1 << 62))], [], 3), (b"high", [(b"a", 7)], [], 4),
                      (b"users", [(b"a", 0), (b"a", M64), (b"b", 0x0123456789ABCDEF)], [b"c"], 5), (b"hot", [(b"a", 3)], [], 6),
                      (b"users", [], [b"d"], 5)])
    lines = []
    for name, data, batch in [("request-sealed.bin", seal(f_bytes(1, b1.encode())), b1), ("request-plain.bin", f_bytes(1, b1.encode()), b1),
                              ("request-removals.bin", seal(f_bytes(1, b2.encode())), b2),
                              ("request-extremes.bin", seal(f_bytes(1, b3.encode())), b3),
                              ("request-no-tables.bin", seal(f_bytes(1, b4.encode())), b4),
                              ("request-kinds.bin", seal(f_bytes(1, b5.encode())), b5)]:
        out.binary(name, data)
        lines += ["request " + name] + batch.lines()
    out.text("batches.txt", ["request FILE", "batch DATASET PRODUCER SEQUENCE", "table NAME [KIND] [adjust]", "add KEY AMOUNT",
                             "member KEY MEMBER", "remove KEY"], lines)

    lines = []
    for name, version, time_ms, held in [("record-1.bin", 1, CUT, [b1]), ("record-2.bin", 2, CUT + 20, [b2, b3, b1]),
                                         ("record-empty.bin", 1 << 40, CUT + 40, [])]:
        out.binary(name, seal(f_uint(1, version) + f_uint(2, time_ms) + b"".join(f_bytes(3, b.encode()) for b in held)))
        lines.append("record %s %d %d %d" % (name, version, time_ms, len(held)))
        for b in held:
            lines += b.lines()
    held = [definition(b"visits", 1, ttl_ms=3600000, max_keys=1000), definition(b"level", 2), definition(b"low", 3, window=1, window_ms=60000),
            definition(b"users", 5, window=2, window_ms=60000, pane_ms=1000, precision=14), definition(b"hot", 6, k=10, capacity=200),
            definition(b"top", 6, k=3, source=b"visits")]
    out.binary("record-definitions.bin", seal(f_uint(1, 3) + f_uint(2, CUT + 30) + f_bytes(3, b5.encode()) +
                                              b"".join(f_bytes(5, d) for d in held)))
    lines += ["record record-definitions.bin 3 %d 1" % (CUT + 30)] + b5.lines()
    out.text("records.txt", ["record FILE VERSION TIME-MS BATCHES", "batch, table, add, remove as in batches.txt"], lines)


def heartbeats(out, m):
    lines = []
    for name, dataset, epoch, version, digest, now in [
            ("heartbeat.bin", b"main", EPOCH, m.version, m.digest(), m.cut() + 500),
            ("heartbeat-empty.bin", b"a" * 64, 1, 0, 0, 1), ("heartbeat-extremes.bin", b"x", M64, M64, (1 << 128) - 1, M64)]:
        out.binary(name, seal(f_bytes(1, dataset) + f_fixed64(2, epoch) + f_uint(3, version) +
                              f_bytes(4, digest.to_bytes(16, "little")) + f_uint(5, now)))
        lines.append("heartbeat %s %s %016x %d %032x %d" % (name, dataset.decode(), epoch, version, digest, now))
    out.text("heartbeats.txt", ["heartbeat FILE DATASET EPOCH VERSION DIGEST NOW-MS"], lines)


def controls(out):
    def request(number, body):
        return seal(f_bytes(number, body))

    out.binary("request-hello.bin", request(2, f_bytes(1, b"main") + f_fixed64(2, 7)))
    out.binary("request-catch-up.bin", request(3, f_bytes(1, b"main") + f_fixed64(2, EPOCH) + f_uint(3, 5)))
    cursor = f_fixed64(1, EPOCH) + f_uint(2, 5) + f_uint(3, 2) + f_uint(4, 1) + f_uint(5, 77)
    out.binary("request-catch-up-cursor.bin", request(3, f_bytes(1, b"main") + f_fixed64(2, EPOCH) + f_uint(3, 1) + f_bytes(4, cursor)))
    out.binary("request-query.bin", request(4, f_bytes(1, b"main") + f_bytes(2, b"files") + f_bytes(3, b"a") + f_bytes(3, b"\xff")))
    out.binary("answer-ok.bin", seal(f_bytes(3, b"main") + f_fixed64(4, EPOCH) + f_uint(5, 9) + f_uint(6, 3)))
    out.binary("answer-refused.bin", seal(f_uint(1, 15) + f_bytes(2, b"hole") + f_bytes(3, b"main") + f_fixed64(4, EPOCH) +
                                          f_uint(5, 9) + f_uint(6, 3)))
    out.binary("answer-query.bin", seal(f_bytes(3, b"main") + f_fixed64(4, EPOCH) + f_uint(5, 9) + f_packed(9, [1, 0]) +
                                        f_packed(10, [zigzag(INT64_MAX), 0])))


def main():
    args = sys.argv[1:]
    check = args[:1] == ["--check"]
    args = args[check:]
    if len(args) != 1:
        sys.exit("usage: generate.py [--check] DIR")
    out = Writer()
    hashes(out)
    m, first, second, chunks = frames(out)
    refusals(out, first, second)
    batches(out)
    heartbeats(out, m)
    controls(out)
    out.binary("frames.tallyf", frame_file(*(c.encode() for c in chunks)))
    wrong = 0
    for name, data in out.files.items():
        path = os.path.join(args[0], name)
        if not check:
            with open(path, "wb") as f:
                f.write(data)
        elif not os.path.exists(path) or open(path, "rb").read() != data:
            print("differs from what the generator writes:", path)
            wrong = 1
    known = set(out.files) | {"README.md"}
    for name in sorted(os.listdir(args[0])):
        if name not in known and not name.endswith(".pb.txt"):
            print("not written by the generator:", name)
            wrong = 1
    sys.exit(wrong if check else 0)


if __name__ == "__main__":
    main()
