# SPDX-License-Identifier: Apache-2.0
"""Guests of /v1/stream for the tests: a mirror (the native client by ctypes) that every message is applied to, and two WebSocket clients.
Stream is the library's (Debian's python3-websockets), for what a well-behaved guest does; Raw is a socket that says and hears exactly the bytes
a test wants, at the pace that it wants."""
import asyncio
import base64
import contextlib
import ctypes
import hashlib
import http.client
import json
import os
import socket
import struct
import sys
import threading
import urllib.parse

from harness import BIN, wait_until

try:
    import websockets
except ImportError:  # another Python than Debian's: the library is pure Python
    sys.path.append("/usr/lib/python3/dist-packages")
    import websockets

MESSAGE_BYTES_MAX = 1 << 20  # TALLY_STREAM_MESSAGE_BYTES_MAX
OK, OLD, MORE = 0, 9, 26
WHOLE, DELTA, HEARTBEAT = "whole", "delta", "heartbeat"


# ------------------------------------------------------------------------------------------------ messages

def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7f) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def fields(data):
    """{number: value} of the scalar fields of a protobuf message; of repeated ones the last."""
    found, at = {}, 0
    while at < len(data):
        tag, at = varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = varint(data, at)
        elif kind == 1:
            value, at = int.from_bytes(data[at:at + 8], "little"), at + 8
        elif kind == 2:
            size, at = varint(data, at)
            value, at = data[at:at + size], at + size
        else:
            raise AssertionError(f"wire type {kind}")
        found[tag >> 3] = value
    return found


class Message:
    """A message of the stream, taken apart: kind F or H, and the header's fields."""

    def __init__(self, data):
        self.data, self.size = data, len(data)
        self.sealed = data[1:]
        found = fields(self.sealed)
        self.dataset, self.epoch = found[1].decode(), found[2]
        if data[:1] == b"H":
            self.kind, self.version, self.digest, self.now_ms = HEARTBEAT, found.get(3, 0), found[4], found[5]
        elif data[:1] == b"F":
            self.begin, self.version, self.digest = found.get(3, 0), found[4], found[6]
            self.kind = DELTA if self.begin else WHOLE
            self.chunk, self.more = found.get(9, 0), bool(found.get(10, 0))
        else:
            raise AssertionError(f"a message that begins with {data[:8]!r}")


# ------------------------------------------------------------------------------------------------ mirror

class _Memory(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t), ("size_max", ctypes.c_size_t), ("grow", ctypes.c_void_p)]


class _Bytes(ctypes.Structure):
    _fields_ = [("data", ctypes.c_char_p), ("size", ctypes.c_size_t)]


class _Options(ctypes.Structure):
    _fields_ = [("dataset", _Bytes), ("retired_bytes_max", ctypes.c_uint64)]


class _Reader(ctypes.Structure):
    _fields_ = [("mirror", ctypes.c_void_p), ("slot", ctypes.c_uint32)]


class _View(ctypes.Structure):
    _fields_ = [("reader", ctypes.c_void_p), ("root", ctypes.c_void_p)]


class _Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in
                ("epoch", "version", "cut_ms", "fresh_ms", "digest_lo", "digest_hi", "k0", "k1", "rows")] + [("tables", ctypes.c_uint32)]


_library = None


def library():
    global _library
    if _library is None:
        _library = ctypes.CDLL(os.environ.get("TALLY_CLIENT_LIBRARY", str(BIN.parent / "client-wasm" / "libtallycast.so")))
        _library.tally_mirror_apply.argtypes = [ctypes.c_void_p, ctypes.c_void_p, _Bytes]
        _library.tally_mirror_confirm.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64]
        _library.tally_mirror_confirm.restype = None
    return _library


class Mirror:
    """What a guest holds. apply() asserts that each message follows from what is held, and verifies."""

    def __init__(self, dataset="main", bytes_max=256 << 20):
        self.memory, self.mirror, self.reader, self.closed = _Memory(), ctypes.c_void_p(), _Reader(), False
        options = _Options(_Bytes(dataset.encode(), len(dataset)), 0)
        assert library().tally_memory_map(ctypes.c_size_t(bytes_max), 0, ctypes.byref(self.memory)) == OK
        assert library().tally_mirror_init(ctypes.byref(self.memory), ctypes.byref(options), ctypes.byref(self.mirror)) == OK
        assert library().tally_reader_open(self.mirror, ctypes.byref(self.reader)) == OK
        self.messages = {WHOLE: 0, DELTA: 0, HEARTBEAT: 0}
        self.versions = self.merged = self.parts = self.largest = self.heartbeat_version = self.heartbeat_ms = 0

    def info(self):
        view, info = _View(), _Info()
        library().tally_view_pin(ctypes.byref(self.reader), ctypes.byref(view))
        library().tally_view_info(ctypes.byref(view), ctypes.byref(info))
        library().tally_view_unpin(ctypes.byref(view))
        return info

    @property
    def place(self):
        info = self.info()
        return f"{info.epoch:016x}:{info.version}"

    @property
    def digest(self):
        info = self.info()
        return f"{info.digest_hi:016x}{info.digest_lo:016x}"

    @property
    def version(self):
        return self.info().version

    def apply(self, data):
        message = Message(data)
        self.messages[message.kind] += 1
        self.largest = max(self.largest, message.size)
        assert message.size <= MESSAGE_BYTES_MAX, message.size
        held = self.info()
        if message.kind == HEARTBEAT:
            self.heartbeat_version, self.heartbeat_ms = message.version, message.now_ms
            if (message.epoch, message.version) == (held.epoch, held.version):
                assert int.from_bytes(message.digest, "little") == held.digest_hi << 64 | held.digest_lo
            library().tally_mirror_confirm(self.mirror, message.epoch, message.version, message.now_ms)
            return message
        status = library().tally_mirror_apply(self.mirror, ctypes.byref(self.memory), _Bytes(message.sealed, len(message.sealed)))
        wanted = MORE if message.more else OK
        assert status == wanted, f"status {status} for {message.kind} {message.begin} to {message.version} chunk {message.chunk}, held {held.version}"
        self.parts += message.chunk > 0 or message.more
        if status == OK:
            self.versions += 1
            self.merged += message.kind == DELTA and message.version > message.begin + 1
        return message

    def close(self):
        if not self.closed:
            self.closed = True
            library().tally_memory_unmap(ctypes.byref(self.memory))


# ------------------------------------------------------------------------------------------------ clients

def stream_url(base, mirror=None, **query):
    """ws://HOST:PORT/v1/stream from where the mirror is."""
    words = {"dataset": "main", **({"from": mirror.place} if mirror else {}), **query}
    return "ws" + base[len("http"):] + "/v1/stream?" + urllib.parse.urlencode({k: v for k, v in words.items() if v is not None})


def connect(base, mirror=None, headers=None, **query):
    """The library's client, to be used with `async with`."""
    return websockets.connect(stream_url(base, mirror, **query), compression=None, max_size=MESSAGE_BYTES_MAX, max_queue=4,
                              extra_headers=headers, ping_interval=None, open_timeout=30, close_timeout=10)


async def follow(stream, mirror, until, timeout=60):
    """Applies messages until until() is true."""
    async def run():
        while not until():
            mirror.apply(await stream.recv())
    await asyncio.wait_for(run(), timeout)


class Truth(threading.Thread):
    """What every version said of some keys, as a mirror of its own has it that follows the server's stream message by message."""

    def __init__(self, case, server, keys):
        super().__init__(daemon=True)
        self.case, self.server, self.keys = case, server, keys
        self.found, self.ending, self.failed = {}, threading.Event(), None
        self.mirror = Mirror()
        case.addCleanup(self.end)
        self.start()
        wait_until(lambda: self.found or self.failed, "a version")

    def value(self, table, key):
        value, key = ctypes.c_int64(), key.encode()
        status = library().tally_get(ctypes.byref(self.mirror.reader), _Bytes(table, len(table)), _Bytes(key, len(key)), ctypes.byref(value))
        return value.value if status == 0 else None

    def note(self):
        info = self.mirror.info()
        if info.version and (info.epoch, info.version) not in self.found:
            self.found[info.epoch, info.version] = {(table, key): self.value(table, key) for table, key in self.keys}

    async def follow(self):
        async with connect(self.server.at, self.mirror) as guest:
            while not self.ending.is_set():
                try:
                    self.mirror.apply(await asyncio.wait_for(guest.recv(), 0.2))
                except asyncio.TimeoutError:
                    continue
                self.note()

    def run(self):
        try:
            asyncio.run(self.follow())
        except Exception as error:  # told by the test's own thread
            self.failed = error

    def end(self):
        self.ending.set()
        self.join(10)
        self.mirror.close()


class Asker(threading.Thread):
    """One connection that asks again and again, and keeps every answer; by their places they must not go back. Subclasses say what a round of
    asking brings (round) and where an answer stands (place)."""

    def __init__(self, case, daemon, files):
        super().__init__(daemon=True)
        self.asked, self.files = daemon, files
        self.answers, self.failed, self.ending = [], None, threading.Event()
        case.addCleanup(self.end)
        self.start()

    def run(self):
        parts = urllib.parse.urlsplit(self.asked.at)
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
        last = None
        try:
            while not self.ending.is_set():
                for answer in self.round(connection):
                    place = self.place(answer)
                    assert last is None or place >= last, f"from {last} back to {place}"
                    last = place
                    self.answers.append(answer)
                self.ending.wait(0.001)
        except Exception as error:
            self.failed = error
        connection.close()

    def end(self):
        self.ending.set()
        self.join(30)


class Reader(Asker):
    """Reads keys one by one, several at once and by a guest. An answer: version, files, values."""

    def __init__(self, case, edge, files, guest):
        self.guest = guest
        super().__init__(case, edge, files)

    def ask(self, connection, method, path, body=None):
        connection.request(method, path, body=body)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status in (200, 404), (answer.status, text)
        return json.loads(text)

    def place(self, answer):
        return answer[0]

    def round(self, connection):
        file = self.files[len(self.answers) % len(self.files)]
        one = self.ask(connection, "GET", f"/v1/get/files/{file}")
        many = self.ask(connection, "POST", "/v1/get", json.dumps({"table": "files", "keys": self.files}))
        found = [(one["version"], [file], [one.get("value")]), (many["version"], self.files, many["values"])]
        if self.guest:
            said = self.ask(connection, "GET", f"/v1/guest/{self.guest}/{file}")
            found.append((said["version"], [file], [said["file"]]))
        return found

    def check(self, case, truth):
        case.assertIsNone(self.failed)
        known = {version: values for (_, version), values in truth.found.items()}
        checked = 0
        for version, files, values in self.answers:
            if version in known:
                case.assertEqual(values, [known[version][b"files", file] for file in files], f"version {version}")
                checked += 1
        case.assertGreater(checked, 0.9 * len(self.answers))
        return checked


class Raw:
    """A socket that asked for the stream. heads: more header lines, None leaves one of the usual ones out."""

    def __init__(self, base, path="/v1/stream?dataset=main", heads=None, receive_bytes=None, early=b"", method="GET"):
        parts = urllib.parse.urlsplit(base)
        self.socket = socket.socket()
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(30)
        self.socket.connect((parts.hostname, parts.port))
        key = base64.b64encode(os.urandom(16)).decode()
        lines = {"Host": parts.netloc, "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                 "Sec-WebSocket-Key": key, **(heads or {})}
        text = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items() if v is not None) + "\r\n"
        self.socket.sendall(text.encode() + early)
        self.data = b""
        while b"\r\n\r\n" not in self.data:
            part = self.socket.recv(65536)
            if not part:
                raise ConnectionError("closed before an answer")
            self.data += part
        head, self.data = self.data.split(b"\r\n\r\n", 1)
        self.head = head.decode()
        self.status = int(self.head.split(" ")[1])
        if self.status == 101:
            want = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
            assert f"Sec-WebSocket-Accept: {want}" in self.head, self.head

    def body(self):
        """The rest of an HTTP answer, to the end of the connection."""
        with contextlib.suppress(ConnectionError):
            while part := self.socket.recv(65536):
                self.data += part
        return self.data

    def hear(self, size_max=65536):
        """One read; False at the end."""
        part = self.socket.recv(size_max)
        self.data += part
        return bool(part)

    def frames(self):
        """The whole frames that arrived: (opcode, payload)."""
        while len(self.data) >= 2:
            size, at = self.data[1], 2
            assert size < 0x80, "a server does not mask"
            if size == 126:
                size, at = struct.unpack_from("!H", self.data.ljust(4), 2)[0], 4
            elif size == 127:
                size, at = struct.unpack_from("!Q", self.data.ljust(10), 2)[0], 10
            if len(self.data) < at + size:
                return
            assert self.data[0] & 0x80 and not self.data[0] & 0x70, "messages come in one piece, without extensions"
            opcode, payload = self.data[0] & 15, self.data[at:at + size]
            self.data = self.data[at + size:]
            yield opcode, payload

    def say(self, opcode, payload=b"", fin=True, mask=True):
        size = len(payload)
        head = bytes([(0x80 if fin else 0) | opcode])
        flag = 0x80 if mask else 0
        head += bytes([flag | size]) if size < 126 else bytes([flag | 126]) + struct.pack("!H", size) if size < 65536 else \
            bytes([flag | 127]) + struct.pack("!Q", size)
        key = os.urandom(4) if mask else b""
        if mask:
            payload = bytes(b ^ key[i % 4] for i, b in enumerate(payload))
        self.socket.sendall(head + key + payload)

    def hear_close(self, mirror=None):
        """Hears on until the connection is closed: (code, reason) of the close frame, None when there was none."""
        found = None
        with contextlib.suppress(ConnectionError):
            while True:
                for opcode, payload in self.frames():
                    if opcode == 2 and mirror:
                        mirror.apply(payload)
                    if opcode == 8:
                        found = (struct.unpack("!H", payload[:2])[0], payload[2:].decode()) if payload else (1005, "")
                        with contextlib.suppress(OSError):
                            self.socket.shutdown(socket.SHUT_WR)
                if not self.hear():
                    return found
        return found

    def close(self):
        self.socket.close()
