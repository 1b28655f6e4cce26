# SPDX-License-Identifier: Apache-2.0
"""The examples of docs/protocol.md for producers in other languages, as they stand there: by nngcat, and by pynng."""
import os
import re
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

import harness
from harness import ROOT, free_port, metric, post_get, wait_until

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tallycast"
PACKAGES = ["pynng==0.8.1", "protobuf==6.33.1", "grpcio-tools==1.76.0"]


def example(language):
    """The first one behind the note that names this test."""
    text = (ROOT / "docs" / "protocol.md").read_text()
    return re.search(rf"```{language}\n(.*?)```", text[text.index("tests/e2e/test_other_producers.py"):], re.S)[1]


class Other(harness.Case):
    def setUp(self):
        super().setUp()
        self.place = self.server().start()

    def values(self):
        return post_get(self.place.at, "pages", ["/home", "/about"])[0]

    def test_nngcat(self):
        if not shutil.which("nngcat") or not shutil.which("protoc"):
            raise unittest.SkipTest("not run: no nngcat or no protoc")
        script = example("sh").replace("tcp://127.0.0.1:7701", self.place.settings["ingest"]).replace("batch.bin", str(self.work / "batch.bin"))
        for status in (None, 14):
            done = subprocess.run(["sh", "-e"], input=script, cwd=ROOT, capture_output=True, text=True, timeout=30)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("expected_sequence: 2", done.stdout)
            self.assertIn("version: 1", done.stdout)
            self.assertEqual(re.findall(r"status: (\d+)", done.stdout), [str(status)] if status else [])
            self.assertEqual(self.values(), [1, 3])

    def test_push(self):
        """Batches that nobody waits for, at --ingest-pull: counted once, however often they come; what is none harms nobody."""
        if not shutil.which("nngcat") or not shutil.which("protoc"):
            raise unittest.SkipTest("not run: no nngcat or no protoc")
        server = self.server("pulls", ingest_pull=f"tcp://127.0.0.1:{free_port()}").start()
        batch, garbage = self.work / "push.bin", self.work / "garbage.bin"
        text = re.search(r"<<'END'\n(.*?)END\n", example("sh"), re.S)[1]
        with batch.open("wb") as out:
            subprocess.run(["protoc", "-Iproto", "--encode=tallycast.v1.Request", "tallycast.proto"], cwd=ROOT, input=text.encode(), stdout=out, check=True)
        garbage.write_bytes(b"garbage")
        for n, path in enumerate((batch, batch, garbage, batch)):
            # It does not tell when it was sent, and a first message waits for the connection.
            subprocess.run(["nngcat", "--push", "--connect", server.settings["ingest_pull"], "--delay", "1", "--file", path], check=True, timeout=30)
            wait_until(lambda: metric(server.at, "tally_server_pushes_total") == n + 1, "it arrives")
            wait_until(lambda: post_get(server.at, "pages", ["/home", "/about"])[0] == [1, 3], "it is counted")
        self.assertEqual(metric(server.at, 'tally_server_batches_refused_total{reason="repeat"}'), 2)
        self.assertEqual(metric(server.at, 'tally_server_batches_refused_total{reason="other"}'), 1)

    def test_pynng(self):
        folder = CACHE / ("test-pynng-" + "-".join(name.split("==")[1] for name in PACKAGES) + f"-{sys.version_info[0]}.{sys.version_info[1]}")
        if not (folder / "pynng").exists():
            try:
                subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), "--only-binary", ":all:", *PACKAGES],
                               check=True, capture_output=True, timeout=120)
            except (OSError, subprocess.SubprocessError) as error:
                shutil.rmtree(folder, ignore_errors=True)
                raise unittest.SkipTest(f"not run: pynng cannot be had ({error})") from error
        env = {**os.environ, "PYTHONPATH": f"{folder}:{self.work}"}
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT}/proto", f"--python_out={self.work}", "tallycast.proto"], check=True, env=env,
                       timeout=60)
        script = example("python").replace("tcp://127.0.0.1:7701", self.place.settings["ingest"])
        for times in (1, 2):
            done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=60)
            self.assertEqual((done.returncode, done.stdout.strip()), (0, str(times)), done.stderr)
            self.assertEqual(self.values(), [times, 3 * times])


if __name__ == "__main__":
    harness.main()
