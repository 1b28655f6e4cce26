#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
#
# Writes the seeds of the targets whose inputs are several messages, from the vectors: corpus.py VECTORS CORPUS
# Targets of one message take the vectors as they are. What fuzzing found is beside them under other names.
import os
import struct
import sys

vectors, corpus = sys.argv[1:]


def read(name):
    with open(os.path.join(vectors, name), "rb") as f:
        return f.read()


def write(target, name, data):
    os.makedirs(os.path.join(corpus, target), exist_ok=True)
    with open(os.path.join(corpus, target, name), "wb") as f:
        f.write(data)


def join(messages):
    return b"".join(struct.pack("<H", len(m)) + m for m in messages)


def frames(*names):
    return [read("frame-%s.bin" % n) for n in names]


stories = {
    "main": frames("first", "delta", "removals", "extremes", "extreme-differences"),
    "merged": frames("first", "merged"),
    "whole": frames("first", "whole", "first"),
    "chunks": frames("chunk-3") + frames("chunk-0", "chunk-1", "chunk-2", "chunk-3", "after-chunks"),
    "epochs": frames("first", "other-epoch", "empty", "whole"),
    "blocks": frames("blocks-whole", "blocks-forced"),
    "gaps": frames("first", "removals", "extremes", "delta", "removals", "extremes", "extreme-differences"),
}
FRAME, BEAT, RAW, ANSWER, RAW_ANSWER, TICK, LINK, FAIL = 0, 2, 3, 4, 6, 7, 8, 9


def event(what, detail, payload=b""):
    return bytes([what, detail]) + payload


for name, story in stories.items():
    write("mirror", "vectors-" + name, join(story))
    write("sync", "published-" + name, join(event(FRAME, 0, f) for f in story))
    write("sync", "answers-" + name, join(
        e for f in story for e in (event(BEAT, 0, read("heartbeat.bin")), event(ANSWER, 0, f), event(TICK, 200))))
write("sync", "links", join([
    event(LINK, 3), event(BEAT, 1, read("heartbeat.bin")), event(TICK, 255), event(FAIL, 22), event(TICK, 255), event(LINK, 0),
    event(RAW, 1, b"main\0F" + read("frame-first.bin")), event(RAW_ANSWER, 0, read("answer-ok.bin")),
    event(RAW_ANSWER, 0, read("answer-refused.bin")), event(BEAT, 0, read("heartbeat-extremes.bin")), event(TICK, 255)]))
write("messages", "published-frame", b"main\0F" + read("frame-first.bin"))
write("messages", "published-heartbeat", b"main\0H" + read("heartbeat.bin"))

# The server: batches to the ingest endpoint, questions to the other, ticks, restarts.
INGEST, ASK, PUSH, CUT, RESTART = 0, 2, 4, 5, 7
requests = ["sealed", "plain", "removals", "extremes", "no-tables", "kinds", "hello", "catch-up", "catch-up-cursor", "query"]
write("server", "all-requests", join(
    [event(INGEST, 0, read("request-%s.bin" % r)) for r in requests] + [event(CUT, 1)] +
    [event(ASK, 0, read("request-%s.bin" % r)) for r in requests] + [event(CUT, 20)]))
write("server", "restarts", join(
    e for r in requests for e in (event(INGEST, 0, read("request-%s.bin" % r)), event(CUT, 10), event(RESTART, 1))))
write("server", "pushes", join(
    e for r in requests for e in (event(PUSH, 1, read("request-%s.bin" % r)), event(CUT, 3), event(ASK, 0, read("request-catch-up.bin")))))


# Snapshots: the producers of a state, then its whole state.
def field(number, wire, payload):
    return bytes([number << 3 | wire]) + payload


def varint(value):
    out = b""
    while value >= 0x80:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def snapshot(epoch, version, time_ms, producers, names, tables=(), parts=()):
    message = (field(1, 2, b"\x04main") + field(2, 1, struct.pack("<Q", 99)) + field(3, 1, struct.pack("<Q", epoch)) +
               field(4, 0, varint(version)) + field(5, 0, varint(time_ms)))
    columns = [b"".join(struct.pack("<Q", p) for p, _, _ in producers), b"".join(varint(s) for _, s, _ in producers),
               b"".join(varint(v) for _, _, v in producers)]
    for number, column in zip((6, 7, 8), columns):
        message += field(number, 2, varint(len(column)) + column)
    for table, kind, *more in tables:
        definition = field(1, 2, varint(len(table)) + table) + field(2, 0, varint(kind)) + b"".join(more)
        message += field(9, 2, varint(len(definition)) + definition)
    if parts:
        message += field(10, 0, varint(len(parts)))
    entries = [message + b"\x79" + bytes(8)] + [p + b"\x79" + bytes(8) for p in parts] + [read(n) for n in names]  # the target puts a check that fits
    return b"TALLYF1\n" + b"".join(struct.pack("<I", len(e)) + e for e in entries)


EPOCH, CUT_MS = 0x0193_5A2B_3C4D_5E6F, 1_732_300_000_000
write("snapshot", "one-chunk", snapshot(EPOCH, 1, CUT_MS + 20, [(7, 3, 1)], ["frame-first.bin"]))
write("snapshot", "no-producers", snapshot(EPOCH, 1, CUT_MS + 20, [], ["frame-first.bin"]))
write("snapshot", "empty-state", snapshot(EPOCH + 2, 3, CUT_MS + 60, [(1 << 63, 1 << 63, 3), (1, 2, 2)], ["frame-empty.bin"]))
write("snapshot", "chunks", snapshot(EPOCH + 1, 4, CUT_MS + 80, [(5, 1, 1), (6, 300, 4)], ["frame-chunk-%d.bin" % n for n in range(4)]))
write("snapshot", "definitions", snapshot(EPOCH, 1, CUT_MS + 20, [(7, 3, 1)], ["frame-first.bin"], [(b"files", 1), (b"repos", 1)]))
write("snapshot", "another-kind", snapshot(EPOCH, 1, CUT_MS + 20, [(7, 3, 1)], ["frame-first.bin"], [(b"files", 1), (b"repos", 2)]))
kinds = [(name, n) for n, name in enumerate([b"counter", b"gauge", b"min", b"max", b"distinct", b"topk"], 1)]
sketches = field(1, 2, varint(2) + b"\0\1") + b"".join(
    field(2, 2, varint(9) + b"\0" + struct.pack("<II", 1 << 6 | 1, 3 << 6 | 2)) for n in range(2))
sketches = field(1, 0, varint(4)) + field(2, 2, varint(len(sketches)) + sketches)
write("snapshot", "sketches", snapshot(EPOCH + 3, 1, CUT_MS + 20, [], ["frame-kinds-whole.bin"], kinds[:5], [sketches]))

# Tables that age: files with a ttl and a window of six panes, repos with a ttl; when their rows were touched, and what is in the panes.
def part(table, number, first, second, pane=None):
    body = b"" if pane is None else field(1, 0, varint(pane))
    for n, column in enumerate((first, second), 1 if pane is None else 2):
        column = b"".join(varint(value) for value in column)
        body += field(n, 2, varint(len(column)) + column)
    return (field(1, 0, varint(table)) if table else b"") + field(number, 2, varint(len(body)) + body)


NOW, PANE = CUT_MS + 20, (CUT_MS + 20) // 10000
aged = [(b"files", 1, field(3, 0, varint(5000)), field(4, 0, varint(9)), field(5, 0, varint(2)), field(6, 0, varint(60000)), field(7, 0, varint(10000))),
        (b"repos", 1, field(3, 0, varint(70)))]
touches = [part(0, 4, [1, 0], [NOW - 1000, 1000]), part(1, 4, [0, 1], [NOW - 30, 0])]
panes = [part(0, 5, [0], [4], PANE - 1), part(0, 5, [1, 0], [2, 2], PANE)]
for name, parts in (("aged", touches[:1] + panes + touches[1:]), ("aged-in-part", touches[:1] + panes[:1]), ("aged-twice", touches[:1] * 2 + panes),
                    ("aged-backwards", touches + panes[::-1])):
    write("snapshot", name, snapshot(EPOCH, 1, NOW, [(7, 3, 1)], ["frame-first.bin"], aged, parts))


# The edge's spool: the byte 1, then groups (edge/src/producer_log.c has their records).
def text(value):
    return varint(len(value)) + value


def entry(key, number):
    return b"e" + text(key) + varint(number << 1 if number >= 0 else (-number << 1) - 1)


def request(producer, sequence, tables):
    batch = field(1, 2, b"\x04main") + field(2, 1, struct.pack("<Q", producer)) + field(3, 0, varint(sequence)) + b"".join(field(4, 2, text(t)) for t in tables)
    return field(1, 2, text(batch))


def flight(sequence, taken, *tables):
    return b"B" + varint(7) + varint(sequence) + varint(taken) + text(request(7, sequence, tables))


def table(name, keys, amounts, kind=1, more=b""):
    return (field(1, 2, text(name)) + b"".join(field(2, 2, text(k)) for k in keys) +
            field(3, 2, text(b"".join(varint(a << 1) for a in amounts))) + field(5, 0, varint(kind)) + more)


HEAD = b"H\1" + varint(7) + varint(3) + text(b"main")
FILES, TWO = b"T\0" + text(b"files"), entry(b"README.md", 2) + entry(b"Makefile", 1)
ONE = table(b"files", [b"README.md"], [2])
kinds = b"".join(b"T" + varint(n) + text(b"t%d" % n) + entry(b"a", 5) + entry(b"b", 0) for n in range(7))
spools = {
    "empty": [HEAD],
    "waiting": [HEAD + FILES + TWO, FILES + entry(b"README.md", 40)],
    "kinds": [HEAD + kinds, kinds],
    "negative": [HEAD + b"T\1" + text(b"level") + entry(b"a", -5), b"T\2" + text(b"level") + entry(b"a", -(1 << 61)) + entry(b"b", -(1 << 61)) * 3],
    "on-its-way": [HEAD + FILES + TWO, flight(3, 2, ONE), FILES + entry(b"README.md", 1)],
    "all-on-its-way": [HEAD, flight(3, 0, ONE)],
    "acknowledged": [HEAD, flight(3, 0, ONE), b"D" + varint(4) + FILES + TWO, flight(4, 0, ONE), b"D" + varint(5)],
    "put-back": [HEAD, flight(3, 0, ONE, table(b"repos", [b"x"], [1])) + FILES + TWO, b"P" + FILES + entry(b"LICENSE", 1)],
    "once": [HEAD + b"".join(b"K" + varint(0xff << 56 | n) for n in range(3)), FILES + TWO + b"K" + varint(0xff << 56 | 9)],
    "goes-back": [HEAD, flight(2, 0, ONE)],
    "another-id": [HEAD, b"B" + varint(8) + varint(3) + b"\0" + text(request(8, 3, [ONE]))],
    "other-request": [HEAD, b"B" + varint(7) + varint(3) + b"\0" + text(request(7, 4, [ONE]))],
    "two-heads": [HEAD, HEAD],
}
for name, groups in spools.items():
    write("spool", name, b"\1" + join(groups))
write("spool", "file-empty", b"\0")
write("spool", "file-torn", b"\0" + struct.pack("<I", 40) + bytes(30))


# The position file of count --follow, without its check: numbers, then the batch. An odd inode is taken for the log's.
def position(numbers, batch=b""):
    return b"TALLYP1\n" + b"".join(struct.pack("<Q", n) for n in numbers + [len(batch)]) + batch


write("follow", "nothing-yet", position([0, 0, 0, 0, 0, 0, 0, 0, 0, 0]))
write("follow", "in-the-middle", position([1, 1, 4, 1, 0, 0, 0, 7, 1, 1], b"batch"))
write("follow", "behind-the-end", position([1, 1, 400, 90, 2, 14, 5, 7, 2, 90], b"batch"))
write("follow", "another-file", position([1, 2, 4, 1, 0, 4, 9, 7, 3, 1], b"batch"))

# Lines of logs: format, kind, lines.
ACCESS = b'1.2.3.4 - frank [10/Oct/2000:13:55:36 -0700] "GET /a%20b?x=1 HTTP/1.0" 200 2326'
write("logs", "lines", b"\0\0files\tREADME\t2\nfiles\tMakefile\nFiles\tx\nfiles\t\t1\nfiles\tx\t-1\t\n")
write("logs", "lines-escaped", b"\x82\4files\ta\\tb\\n\\\\\t\\rm\nfiles\tx\\q\ty\n")
write("logs", "lines-levels", b"\0\1level\ta\t-4611686018427387903\nlevel\ta\t4611686018427387904\n")
write("logs", "common", b"\1\0" + ACCESS + b"\n" + ACCESS.replace(b"2326", b"-") + b'\nx "GET" y')
write("logs", "combined", b"\2\0" + ACCESS + b' "http://x/\\"y" "Mozilla/4.08 [en]"\n' + ACCESS)
write("logs", "json", b'\3\0{"a":"x","n":5,"c":{"d":[1,{}]}}\n{"a":{"b":7},"c":true,"n":1e3}\n{"a":"\\u0000\\ud83d\\ude00"}\n{')
write("logs", "tsv", b"\4\0" + b"7\tb\tc\n" + b"\t" * 300 + b"x\n")

# What people write.
write("settings", "file", b"\0# comment\ndata: \"from file\"\nurl:\n  - tcp://b\n  - tcp://c\ntick: 2s\ndurable: none\nmemory: 3G\n")
write("settings", "file-wrong", b"\0data: {a: b}\nurl: *x\n--- \ntick: 99999999999999999999\ntick: 1\n")
for n, words in enumerate([b"files", b"hot topk k=10 capacity=1000", b"best topk of=files k=5", b"seen distinct precision=14 max-keys=10",
                           b"views counter ttl=1h window=1h/1m", b"low min window=60s max-keys=99999999999999999999", b"x gauge ttl=1d k=3"]):
    write("settings", "definition-%d" % n, b"\1" + words)
write("settings", "rule", b"\2api.=requests")
write("settings", "rule-for-all", b"\2=everything")
for n, words in enumerate([b"127.0.0.1:80", b"[::1]:8080", b"*:0", b"[::1", b"host:99999"]):
    write("settings", "address-%d" % n, b"\3" + words)
for name, kind, *more in aged:
    write("settings", "bytes-" + name.decode(), b"\4" + field(1, 2, text(name)) + field(2, 0, varint(kind)) + b"".join(more))


# Requests of HTTP.
def http(line, *headers, body=b""):
    length = [b"Content-Length: %d" % len(body)] if body else []
    return b"\r\n".join([line + b" HTTP/1.1", b"Host: x", *length, *headers, b"", body])


def masked(first, payload):
    return bytes([first, 0x80 | len(payload)]) + b"\1\2\3\4" + bytes(b ^ (1, 2, 3, 4)[i % 4] for i, b in enumerate(payload))


STREAM = [b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
for path in (b"/v1/version", b"/v1/tables", b"/v1/get/files/ke%79-7?x=1", b"/v1/get/files/%00%fF", b"/v1/snapshot", b"/metrics", b"/readyz", b"/v1/get/nope/%zz"):
    write("http", "get-" + path.decode().strip("/").split("?")[0].replace("/", "-").replace("%", ""), http(b"GET " + path))
write("http", "post-get", http(b"POST /v1/get", body=b'{"table":"files","keys":["key-3","x"]}') * 2)
write("http", "post-count", http(b"POST /v1/count?dataset=main&wrong=skip", b"Idempotency-Key: k1", body=b'{"table":"files","key":"a","amount":2}\n{"table":""}'))
write("http", "post-table", http(b"POST /v1/tables/hot", body=b"topk k=10"))
write("http", "chunked", http(b"POST /v1/count", b"Transfer-Encoding: chunked", b"Expect: 100-continue") +
      b'1e\r\n{"table":"files","key":"a",\n\n\n\r\n0\r\n\r\n')
write("http", "stream", http(b"GET /v1/stream?from=0000000000000007:1", *STREAM) + masked(0x82, b"hello") + masked(0x89, b"ping") + masked(0x88, b"\x03\xe8bye"))
write("http", "stream-wrong", http(b"GET /v1/stream?from=x&dataset=other", b"Origin: http://evil", *STREAM[:3]))
write("http", "stream-whole", http(b"GET /v1/stream", *STREAM) + bytes([0x01, 0xFE, 0xFF, 0xFF]))
write("http", "not-http", b"\x16\3\1\2\0\1\0\1\xfc\3\3")
