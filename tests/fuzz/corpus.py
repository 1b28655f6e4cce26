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
