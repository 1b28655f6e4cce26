# SPDX-License-Identifier: Apache-2.0
"""The packed npm package: the same bytes from the same sources, all that belongs into it and nothing else; installed from the file, without a network,
into an empty folder, and used there; its types checked by the TypeScript compiler (fetched once into the user's cache; not run when it cannot be).

    test_npm.py PACKED-FILE PACKAGE-FOLDER SOURCE-FOLDER"""
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unittest
from pathlib import Path

PACKED, FOLDER, SOURCE = (Path(path).resolve() for path in sys.argv[1:4])
JS = SOURCE / "client-wasm" / "js"
NPM = [shutil.which("npm"), "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]


def run(words, folder, **more):
    done = subprocess.run([str(word) for word in words], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=300, **more)
    if done.returncode:
        raise AssertionError(f"{words}: {done.returncode}\n{done.stdout}")
    return done.stdout


class Npm(unittest.TestCase):
    def setUp(self):
        self.work = Path(tempfile.mkdtemp(prefix="tally-npm-"))
        self.addCleanup(shutil.rmtree, self.work, ignore_errors=True)

    def install(self):
        folder = self.work / "empty"
        folder.mkdir()
        (folder / "package.json").write_text('{"name": "x", "version": "1.0.0", "type": "module", "private": true}')
        run([*NPM, "install", "--offline", PACKED], folder)
        self.assertEqual([path.name for path in (folder / "node_modules").iterdir() if path.name[0] != "."], ["tallycast"])
        return folder

    def test_the_same_bytes_at_another_time_and_place(self):
        copy = self.work / "copy"
        shutil.copytree(FOLDER, copy)
        for number, path in enumerate(sorted(copy.rglob("*"))):
            os.utime(path, (1e9 + number, 1e9 + number))
        run([*NPM, "pack", "--offline", "--pack-destination", self.work, copy], self.work, umask=0o077)
        [again] = self.work.glob("*.tgz")
        self.assertEqual(hashlib.sha256(again.read_bytes()).hexdigest(), hashlib.sha256(PACKED.read_bytes()).hexdigest())

    def test_what_is_inside(self):
        with tarfile.open(PACKED) as packed:
            members = packed.getmembers()
            found = {member.name.removeprefix("package/") for member in members}
            self.assertEqual({(member.mtime, member.mode, member.uid) for member in members}, {(499162500, 0o644, 0)})  # npm's own time, of 1985
            package = json.load(packed.extractfile("package/package.json"))
        want = {f"src/{path.name}" for path in (JS / "src").iterdir()}
        want |= {"package.json", "README.md", "LICENSE", "index.d.ts", "wasm/tallycast.wasm", "wasm/tallycast-shared.wasm"}
        self.assertEqual(found, want)
        self.assertEqual({name: package.get(name) for name in ("dependencies", "scripts", "type", "private")},
                         {"dependencies": None, "scripts": None, "type": "module", "private": None})
        self.assertNotEqual(package["version"], "0.0.0")
        for conditions in package["exports"].values():
            for path in conditions.values() if isinstance(conditions, dict) else [conditions]:
                self.assertIn(path.removeprefix("./"), found)

    def test_installed_into_an_empty_folder(self):
        folder = self.install()
        shutil.copy(JS / "test" / "stream.mjs", folder)
        shutil.copy(JS / "test" / "installed.mjs", folder)
        vectors = SOURCE / "proto" / "vectors"
        self.assertEqual(run(["node", "--no-warnings", "installed.mjs", vectors], folder).split("\n")[-2], "installed: ok")

    def test_types(self):
        lock = JS / "test" / "types"
        key = hashlib.sha256((lock / "package-lock.json").read_bytes()).hexdigest()[:16]
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tallycast" / f"types-{key}"
        if not (cache / "done").exists():
            shutil.rmtree(cache, ignore_errors=True)
            cache.mkdir(parents=True)
            for name in ("package.json", "package-lock.json"):
                shutil.copy(lock / name, cache)
            try:
                run([*NPM, "ci"], cache)
            except (AssertionError, subprocess.TimeoutExpired) as error:
                self.skipTest(f"not run: the TypeScript compiler cannot be fetched: {str(error)[:300]}")
            (cache / "done").touch()
        folder = self.install()
        shutil.copy(lock / "use.ts", folder)
        compiler = cache / "node_modules" / "typescript" / "bin" / "tsc"
        for resolution in (["--module", "nodenext"], ["--module", "esnext", "--moduleResolution", "bundler"]):
            run(["node", compiler, "--noEmit", "--strict", "--exactOptionalPropertyTypes", "--target", "es2022", "--lib", "es2023,dom,dom.iterable", *resolution, "use.ts"], folder)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
