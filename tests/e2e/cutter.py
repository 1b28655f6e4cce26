# SPDX-License-Identifier: Apache-2.0
"""A way to a daemon on which answers are lost."""
import contextlib
import random
import socket
import threading
import urllib.parse

import harness


class Cutter:
    """A way to a daemon by HTTP that now and then cuts a connection when the answer has come, in its stead."""

    def __init__(self, case, daemon, part):
        self.random, self.part, self.cuts = random.Random(case.random.getrandbits(32)), part, 0
        place = urllib.parse.urlsplit(daemon.at)
        self.to = (place.hostname, place.port)
        self.listener = socket.create_server(("127.0.0.1", harness.free_port()))
        self.at = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        case.addCleanup(self.listener.close)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near = self.listener.accept()[0]
                try:
                    far = socket.create_connection(self.to, timeout=60)
                except OSError:
                    near.close()
                    continue
                threading.Thread(target=self._carry, args=(near, far, 0), daemon=True).start()
                threading.Thread(target=self._carry, args=(far, near, self.part), daemon=True).start()

    def _carry(self, source, to, part):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.random.random() < part:
                    self.cuts += 1
                    break
                to.sendall(data)
        for end in (source, to):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            if part:
                end.close()
