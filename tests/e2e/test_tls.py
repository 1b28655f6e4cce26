# SPDX-License-Identifier: Apache-2.0
"""tls+tcp on every NNG endpoint: data flows with the right certificates; a peer without one is refused, and the log says so."""
import re
import subprocess

import harness
from harness import BIN, free_port, recount, stream, wait_until


class Tls(harness.Case):
    def openssl(self, *words):
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=self.work)

    def make_ca(self, name):
        self.openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem",
                     "-subj", f"/CN=Test CA {name}", "-days", "2")

    def make_certificate(self, ca, name, names="IP:127.0.0.1,DNS:127.0.0.1,DNS:localhost"):
        self.openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", "/CN=127.0.0.1")
        (self.work / f"{name}.ext").write_text(f"subjectAltName={names}\n")
        self.openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-CAcreateserial",
                     "-out", f"{name}.pem", "-days", "2", "-extfile", f"{name}.ext")
        return {"tls_cert": self.work / f"{name}.pem", "tls_key": self.work / f"{name}.key"}

    def setUp(self):
        super().setUp()
        self.make_ca("ca")
        self.make_ca("other-ca")
        self.of_server = self.make_certificate("ca", "server")
        self.of_edge = self.make_certificate("ca", "edge")
        self.of_stranger = self.make_certificate("other-ca", "stranger")
        self.ca = {"tls_ca": self.work / "ca.pem"}

    def tls_server(self, **more):
        urls = {name: f"tls+tcp://127.0.0.1:{free_port()}" for name in ("ingest", "publish", "catchup")}
        return self.server(**urls, **self.of_server, **more)

    def count_words(self, server, **tls):
        words = ["count", "--to", server.settings["ingest"], "--json", "--timeout", "3"]
        for key, value in tls.items():
            words += ["--" + key.replace("_", "-"), value]
        return words + ["-"]

    def test_mutual(self):
        server = self.tls_server(**self.ca).start()
        edge = self.edge("edge", server, **self.ca, **self.of_edge).start()
        lines = stream()[:4000]
        text = b"".join(line + b"\n" for line in lines)
        self.cli(*self.count_words(server, **self.ca, **self.of_edge), input=text)
        self.wait_equal(server, edge)
        self.assert_counts(edge, recount(lines))

        # Without a certificate, and with one of somebody else's CA: nothing comes in, and the log tells.
        for name, tls in (("no certificate", self.ca), ("a stranger's", {**self.ca, **self.of_stranger})):
            with self.subTest(who=name):
                before = server.log().count("event=peer_refused")
                done = self.cli(*self.count_words(server, **tls), input=b"files\tforged\n", code=3)
                self.assertIn(b"not acknowledged", done.stderr)
                wait_until(lambda: server.log().count("event=peer_refused") > before, "the refusal is logged", 20)
        reasons = set(re.findall(r'event=peer_refused .*reason="([^"]*)"', server.log()))
        self.assertEqual(reasons, {"no valid certificate"}, "and who closed in good order is not told as refused")
        stranger = self.edge("stranger", server, **self.ca).start(wait=False)
        self.assertEqual(server.version()["keys"], sum(len(keys) for keys in recount(lines).values()))
        wait_until(lambda: stranger.has_logged("event=listening") or stranger.process.poll() is not None, "it runs")
        found = stranger.try_version()
        self.assertTrue(found is None or found["version"] == 0, "an edge without a certificate learns nothing")

    def test_plain_text_is_refused(self):
        server = self.tls_server(**self.ca).start()
        plain = server.settings["ingest"].replace("tls+tcp", "tcp")
        self.cli("count", "--to", plain, "--timeout", "2", "-", input=b"files\tforged\n", code=3)
        self.assertEqual(server.version()["version"], 0)

    def test_a_server_of_another_ca_is_not_trusted(self):
        server = self.tls_server().start()
        other = {"tls_ca": self.work / "other-ca.pem"}
        self.cli(*self.count_words(server, **other), input=b"files\tmine\n", code=3)
        self.cli(*self.count_words(server, **self.ca), input=b"files\tmine\n")
        wait_until(lambda: server.version()["keys"] == 1, "counted")

    def test_a_certificate_for_another_host_is_not_trusted(self):
        self.of_server = self.make_certificate("ca", "elsewhere", "DNS:elsewhere.example")
        server = self.tls_server(**self.ca).start()
        self.cli(*self.count_words(server, **self.ca, **self.of_edge), input=b"files\tmine\n", code=3)
        self.assertEqual(server.version()["version"], 0)

    def test_wrong_files(self):
        (self.work / "garbage.pem").write_text("garbage")
        for n, (name, change, word) in enumerate((
                ("no such file", {"tls_cert": self.work / "nowhere.pem"}, "nowhere.pem"),
                ("key of another", {"tls_key": self.work / "edge.key"}, "is not the key of"),
                ("garbage", {"tls_cert": self.work / "garbage.pem"}, "garbage.pem"),
                ("garbage as CA", {"tls_ca": self.work / "garbage.pem"}, "garbage.pem"))):
            with self.subTest(what=name):
                server = self.tls_server(data=self.work / f"data-{n}")
                server.settings.update(change)
                server.start(wait=False)
                self.assertEqual(server.wait_exit(), 2, server.log())
                self.assertIn(word, server.log())

    def test_tls_without_certificate_is_wrong_use(self):
        server = self.server(ingest=f"tls+tcp://127.0.0.1:{free_port()}")
        server.start(wait=False)
        self.assertEqual(server.wait_exit(), 2, server.log())


if __name__ == "__main__":
    harness.main()
