# SPDX-License-Identifier: Apache-2.0
"""Where the runtimes are that the package is tried in. Deno, Bun and workerd come from npm, in the versions that package-lock.json names with their
checksums (x86-64 alone), into a folder of the user's cache that is named by that file's hash; Chromium is Debian's. TALLY_HOSTS=off: nothing is installed."""
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import chromium

HERE = Path(__file__).resolve().parent
TIMEOUT = 300
PROGRAMS = {"deno": "@deno/linux-x64-glibc/deno", "bun": "@oven/bun-linux-x64/bin/bun", "workerd": "@cloudflare/workerd-linux-64/bin/workerd"}


HOSTS = ("node", "deno", "bun", "workerd", "chromium")


class NotRun(Exception):
    """A host that is not here and cannot be had; says why."""


def _folder():
    lock = (HERE / "package-lock.json").read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "tallycast" / f"hosts-{hashlib.sha256(lock).hexdigest()[:16]}"


def _install(folder):
    npm = shutil.which("npm")
    if not npm:
        raise NotRun("npm is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, folder)
    try:
        done = subprocess.run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], cwd=folder, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        raise NotRun(f"npm ci took longer than {TIMEOUT} s") from None
    if done.returncode:
        raise NotRun(f"npm ci failed: {(done.stderr or done.stdout).strip()[-300:]}")
    if all((folder / "node_modules" / program).exists() for program in PROGRAMS.values()):
        (folder / "installed").touch() # or it is tried again the next time


def find(name):
    """The path of a runtime's program, installed if need be; NotRun."""
    if name == "chromium":
        if not chromium.PROGRAM:
            raise NotRun("chromium is not installed (Debian's package of that name)")
        return chromium.PROGRAM
    if platform.machine() != "x86_64":
        raise NotRun(f"{name}: package-lock.json names no build for {platform.machine()}")
    folder = _folder()
    if os.environ.get("TALLY_HOSTS") != "off":
        folder.parent.mkdir(parents=True, exist_ok=True)
        with open(f"{folder}.lock", "w", encoding="utf-8") as lock: # tests side by side install it once
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "installed").exists():
                _install(folder)
    program = folder / "node_modules" / PROGRAMS[name]
    if not program.exists():
        raise NotRun(f"{name} is not installed")
    return str(program)


def version(name):
    """What the program says of itself."""
    program = shutil.which("node") or shutil.which("nodejs") if name == "node" else find(name)
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=False)
    number = re.search(r"\d+([.-]\d+)+", done.stdout)
    return number.group(0) if number else "?"


if __name__ == "__main__":
    for each in HOSTS[1:]:
        try:
            print(f"{each}: {version(each)} ({find(each)})")
        except NotRun as reason:
            print(f"{each}: not run: {reason}")
