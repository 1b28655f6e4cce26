# SPDX-License-Identifier: Apache-2.0
"""Peers that come and go, and peers that speak nothing sensible: thousands of connections, and the server stays whole."""

import contextlib
import os
import resource
import socket
import struct

import harness

CYCLES = 2000

# The SP handshake of a REQ, a SUB and a PUSH socket: 0x00 "SP" 0x00, protocol number, 0x0000.
REQ, SUB, PUSH = (b"\x00SP\x00" + struct.pack(">HH", number, 0) for number in (0x30, 0x21, 0x50))


def address(url):
    host, port = url.split("//")[1].rsplit(":", 1)
    return host, int(port)


class Peers(harness.Case):
    def dial(self, url, *parts):
        with socket.create_connection(address(url), timeout=10) as peer:
            for part in parts:
                try:
                    peer.sendall(part)
                except (BrokenPipeError, ConnectionResetError):
                    return  # refused in the middle: as good

    def descriptors(self, daemon):
        return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))

    def test_thousands_that_come_and_go(self):
        server = self.server().start()
        edge = self.edge("edge", server).start()
        self.count(server, [b"t\tbefore"])
        before = self.descriptors(server)
        endpoints = [(server.settings["ingest"], REQ), (server.settings["publish"], SUB),
                     (server.settings["catchup"], REQ)]
        frame = struct.pack(">Q", 40)  # a message of 40 bytes, cut short
        scripts = [lambda hello: (), lambda hello: (hello[:3],), lambda hello: (hello,),
                   lambda hello: (hello, frame + b"\x80\x00\x00\x01" + b"x" * 10),
                   lambda hello: (hello, struct.pack(">Q", 1 << 62)),  # a hostile length
                   lambda hello: (b"GET / HTTP/1.1\r\n\r\n",), lambda hello: (PUSH,)]
        for cycle in range(CYCLES):
            url, hello = endpoints[cycle % len(endpoints)]
            self.dial(url, *scripts[cycle % len(scripts)](hello))
        self.count(server, [b"t\tafter"])
        self.assertEqual(harness.post_get(server.at, "t", ["before", "after"])[0], [1, 1])
        self.wait_equal(server, edge)
        self.assertEqual(harness.post_get(edge.at, "t", ["before", "after"])[0], [1, 1])
        harness.wait_until(lambda: self.descriptors(server) <= before + 8,
                           lambda: f"{self.descriptors(server)} descriptors, {before} before")
        self.assertEqual(edge.stop(), 0)
        self.assertEqual(server.stop(), 0)

    def test_more_subscribers_than_a_login_may_open_files(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
        server = self.server().start()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        with contextlib.ExitStack() as peers:
            for _ in range(150):
                peer = peers.enter_context(socket.create_connection(address(server.settings["publish"]), timeout=10))
                peer.sendall(SUB)
            harness.wait_until(lambda: harness.metric(server.at, "tally_server_subscribers") == 150,
                               lambda: f'{harness.metric(server.at, "tally_server_subscribers")} subscribers')


if __name__ == "__main__":
    harness.main()
