# SPDX-License-Identifier: Apache-2.0
"""Runs a test of a host, and writes what passed to FOLDER/TEST-N.json, for report.py: {"host", "version", "passed", "not_run"}.

    record.py --out FOLDER --test NAME --host HOST[=METHOD] ... [--version TEXT] -- COMMAND ...

With METHOD a host is told only what that method of a unittest says; otherwise all methods, or NAME if there are none. A method that skips itself is not
run, and so is the whole when the command ends with 77. When it fails nothing is written, and what was there is taken away. Ends as the command does.
"""
import argparse
import ctypes
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
METHOD = re.compile(r"^test_(\w+) \(")
OUTCOME = re.compile(r"(?:^|\.\.\. )(ok|skipped .*|FAIL|ERROR|expected failure)$")


def methods(lines):
    """(name, outcome) of each method that unittest told of (verbosity 2), whatever it printed meanwhile."""
    found, name = [], None
    for line in lines:
        if match := METHOD.match(line):
            name = match[1].replace("_", " ")
        if name and (match := OUTCOME.search(line)):
            found.append((name, match[1]))
            name = None
    return found


def version_of(host):
    """What it says of itself."""
    if host in ("deno", "bun", "workerd", "chromium"):
        sys.path.insert(0, str(ROOT / "tests" / "hosts"))
        import runtimes  # pylint: disable=import-outside-toplevel
        return re.search(r"\d+([.-]\d+)+", runtimes.version(host))[0]
    if host == "node":
        node = shutil.which("node") or shutil.which("nodejs")
        return subprocess.run([node, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip().lstrip("v")
    if host.startswith("Wasmtime"):
        return re.search(r'name = "wasmtime"\nversion = "(.*)"', (ROOT / "edge/wasmtime/capi/Cargo.lock").read_text())[1]
    return ""


def outcome(host, test, code, lines):
    """What is written for a host, or None."""
    host, _, method = host.partition("=")
    told = [(name, how) for name, how in methods(lines) if not method or name == method.replace("_", " ")]
    if code == 77:
        return {"host": host, "version": "", "passed": [], "not_run": [f"{test}: {lines[-1] if lines else ''}"]}
    if code or (method and not told):
        return None
    passed = [f"{test}: {name}" for name, how in told if how == "ok"] if told else [test]
    not_run = [f"{test}: {name} ({how[8:]})" for name, how in told if how.startswith("skipped")]
    return {"host": host, "version": version_of(host) if passed else "", "passed": passed, "not_run": not_run}


def run(command):
    """(exit code, lines); what it says is shown as it comes."""
    def die_with_parent():
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)

    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=die_with_parent) as process:
        for line in process.stdout:
            sys.stdout.buffer.write(line)
            sys.stdout.flush()
            lines.append(line.decode(errors="replace").rstrip())
    return process.returncode, lines


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--host", action="append", required=True)
    parser.add_argument("--version", default="")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    files = [options.out / f"{options.test}-{n}.json" for n in range(len(options.host))]
    for file in files:
        file.unlink(missing_ok=True)
    code, lines = run(options.command)
    options.out.mkdir(parents=True, exist_ok=True)
    for file, host in zip(files, options.host):
        if found := outcome(host, options.test, code, lines):
            if found["passed"] and not found["version"]:
                found["version"] = options.version
            file.write_text(json.dumps(found) + "\n")
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
