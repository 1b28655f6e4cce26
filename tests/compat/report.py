# SPDX-License-Identifier: Apache-2.0
"""What the artefacts are and what holds in them: compat-report.json, and the tables of docs/compat.md.

    report.py --build build/dev            writes build/dev/compat/compat-report.json; fails if a check fails, or if docs/compat.md says something
                                           else (sizes, and the table of hosts, aside: those are of the machine and the run)
    report.py --build build/dev --write    writes docs/compat.md, too

Hosts: each test of a host leaves BUILD/hosts/NAME.json (record.py); one that is older than the modules that it was of is not told.
"""
import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import rules
from native_code import Library
from wasm_code import Module

ROOT = Path(__file__).resolve().parent.parent.parent
ABI_FILE, DOCUMENT = ROOT / "client-wasm" / "wasm" / "abi.txt", ROOT / "docs" / "compat.md"
PAGE = 65536


class Report:
    def __init__(self, build):
        self.build = build
        self.artefacts, self.checks, self.hosts = [], [], []

    def check(self, artefact, what, found):
        """`found`: the lines of what is wrong, or a text: why it was not run."""
        status = "not run" if isinstance(found, str) else "failed" if found else "passed"
        self.checks.append({"artefact": artefact, "check": what, "status": status, "found": found})

    def failed(self):
        return [one for one in self.checks if one["status"] == "failed"]


# ---------------------------------------------------------------------------------------------------- the ABI

def abi_number():
    return int(re.search(r"#define TALLYCAST_ABI\s+(\d+)u", (ROOT / "client-wasm/wasm/module.h").read_text())[1])


def exports_hash(modules):
    lines = sorted({f"{module.path.name} {name} {module.signature(name)}" for module in modules for name in module.exports})
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


def abi_rows():
    return [line.split() for line in ABI_FILE.read_text().splitlines() if line and not line.startswith("#")]


def abi_is_told(modules, rows, number):
    """The exports with their types are those that abi.txt has for this number, and no number stands twice."""
    found, numbers = exports_hash(modules), [row[0] for row in rows]
    if numbers != [str(n + 1) for n in range(len(rows))] or len({row[1] for row in rows}) != len(rows):
        return ["abi.txt: the lines are numbered 1, 2, 3 ..., and no two are of the same exports"]
    told = dict(rows).get(str(number))
    if told == found:
        return [] if number == len(rows) else [f"abi.txt goes on after {number}, which module.h says"]
    if told:
        return [f"the exports, or their types, are not those of ABI {number}: raise TALLYCAST_ABI in client-wasm/wasm/module.h, tell the hosts "
                f"(docs/HACKING.md), and add to client-wasm/wasm/abi.txt: {len(rows) + 1} {found}"]
    return [f"client-wasm/wasm/abi.txt has no line for ABI {number}; add: {number} {found}"]


def abi_is_kept():
    """No line that was in a commit was changed or taken out: that ABI may be in use."""
    git = shutil.which("git")
    history = git and subprocess.run([git, "-C", ROOT, "log", "--format=", "-p", "--", ABI_FILE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                     text=True, check=False)
    if not history or history.returncode:
        return "no history of the repository at hand"
    now = {" ".join(row) for row in abi_rows()}
    return [f"abi.txt had the line {line[1:]!r} once" for line in sorted(set(history.stdout.splitlines()))
            if re.match(r"\+\d", line) and line[1:] not in now]


# ---------------------------------------------------------------------------------------------------- artefacts

def validate(path, *flags):
    done = subprocess.run(["wasm-validate", *flags, path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout.splitlines() or ["invalid"] if done.returncode else []


def describe_module(module, **more):
    memories = [memory | {"initial_bytes": memory["initial_pages"] * PAGE} for memory in module.memories]
    return {"name": module.path.name, "kind": "module", "bytes": module.path.stat().st_size, "imports": module.imports,
            "exports": {name: module.signature(name) for name in sorted(module.exports)}, "features_declared": sorted(module.declared),
            "features_used": module.used(), "memories": memories} | more


def add_modules(report, layout, parts):
    folder = report.build / "wasm"
    own, shared = Module(folder / "tallycast.wasm"), Module(folder / "tallycast-shared.wasm")
    reads = rules.full(rules.READS)
    for module, imports, flags in ((own, [], []), (shared, ["env.memory (memory)"], ["--enable-threads"])):
        name = module.path.name
        report.artefacts.append(describe_module(module, abi=abi_number()))
        report.check(name, "it is valid (wasm-validate), " + ("with threads" if flags else "without threads"), validate(module.path, *flags))
        report.check(name, "it imports " + (" and ".join(imports) or "nothing"), rules.imports_are(module, imports))
        report.check(name, "each export is known as a read, or as something else", rules.exports_are_known(module))
        report.check(name, "what it uses it declares", [one for one in module.used() if one not in module.declared])
        report.check(name, "reads: no lock, no wait, no read-modify-write, no loop that comes back to an atomic load",
                     rules.reads_wait_for_nothing(module, reads))
        report.check(name, "atomic instructions are naturally aligned", rules.atomics_are_aligned(module))
    name = shared.path.name
    report.check(name, "reads store atomically nothing but their slot's announcement", rules.reads_store_only_announcements(shared, reads, layout))
    report.check(name, "the swap is one atomic store of the root, before that of the generation", rules.swap_is_an_atomic_store(shared, layout))
    report.check(name, "nothing but the tally's locks waits", rules.only_the_tally_waits(shared))
    report.check(name, "the tally's additions, links, locks and swap are atomic instructions",
                 rules.tally_is_atomic(shared, layout) + rules.tally_parts_are_atomic(*(Module(path) for path in parts), layout))
    report.check("both modules", f"their exports and types are those of ABI {abi_number()}", abi_is_told([own, shared], abi_rows(), abi_number()))
    report.check("both modules", "no line of abi.txt was ever changed", abi_is_kept())


def add_native(report, path):
    name = re.sub(r"\.so.*", ".so", path.name)
    library = Library(path)
    report.artefacts.append({"name": name, "kind": f"native, {library.machine}", "bytes": path.stat().st_size, "imports": library.undefined,
                             "needs": library.needed, "exports": sorted(library.exports)})
    report.check(name, "it exports tally_ names only", [one for one in library.exports if not one.startswith("tally_")])
    report.check(name, "it needs the C library only", [one for one in library.needed if not one.startswith(("libc.so", "ld-linux"))])
    what = "reads: no locked instruction, no fence, no call out; one exchange in a pin, with the reader's own slot"
    report.check(name, what, rules.native_reads_wait_for_nothing(library) if "X86-64" in library.machine else f"a machine of {library.machine}")


def add_component(report):
    """By the test of the component, which builds it: BUILD/wasm/component/component.json."""
    told, what = report.build / "wasm" / "component" / "component.json", "it is valid, and imports nothing"
    core = report.build / "wasm" / "tallycast-component.core.wasm"
    if core.exists():
        module = Module(core)
        report.artefacts.append(describe_module(module))
        handles = [f"[export]tallycast:client/{one}@0.1.0.[resource-new]{one} (func)" for one in ("concurrent-map", "mirror")]
        report.check(core.name, "it is valid (wasm-validate), without threads", validate(core))
        report.check(core.name, "it imports nothing but the numbering of its own handles", rules.imports_are(module, handles))
    component = told.parent / "tallycast-component.wasm"  # validated by wit-component when it was made
    if not told.exists() or not core.exists() or told.stat().st_mtime < core.stat().st_mtime:
        report.check(component.name, what, "the component was not built: no tools for it, or its test was not run yet")
        return
    facts = json.loads(told.read_text())
    report.artefacts.append({"name": component.name, "kind": "component", "bytes": component.stat().st_size} | facts)
    report.check(component.name, what, [f"imports {one}" for one in facts["imports"]])


def add_hosts(report):
    """One line a host, of all that its tests left."""
    newest, hosts = max((path.stat().st_mtime for path in (report.build / "wasm").glob("tallycast*.wasm")), default=0), {}
    for path in sorted((report.build / "hosts").glob("*.json")):
        if path.stat().st_mtime < newest:
            print(f"hosts/{path.name} is of an older module: not told", file=sys.stderr)
            continue
        found = json.loads(path.read_text())
        host = hosts.setdefault(found["host"], {"host": found["host"], "version": "", "passed": [], "not_run": []})
        host["version"] = host["version"] or found.get("version", "")
        host["passed"] += found.get("passed", [])
        host["not_run"] += found.get("not_run", [])
    report.hosts = [hosts[name] for name in sorted(hosts, key=str.lower)]


# ---------------------------------------------------------------------------------------------------- the document

BEGIN_HOSTS, END_HOSTS = "<!-- hosts: of the run that wrote this -->", "<!-- end -->"


def memory_text(artefact):
    return ", ".join((f"{'imported, ' if one['imported'] else 'own, '}{'shared, ' if one['shared'] else ''}from {one['initial_pages']} pages "
                      f"{'to ' + str(one['maximum_pages']) if one['maximum_pages'] else 'on'}") for one in artefact.get("memories", [])) or "-"


def imports_text(artefact):
    if "needs" in artefact:
        return "the C library"
    names = [one["name"] if isinstance(one, dict) else one for one in artefact["imports"]]
    return ", ".join(f"`{one}`" for one in names) or "nothing"


def document(report):
    lines = ["# What the artefacts are", "",
             "Written by `tests/run.sh`, then `tests/compat/report.py --build build/dev --write`; a test holds it to what is built (sizes and hosts aside). "
             "`compat-report.json` in the build folder has all of it, with every export and its type.", "",
             "| artefact | imports | exports | memory (pages of 64 KiB) | features declared | of these used | size |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for one in report.artefacts:
        if one["kind"] == "component":
            continue  # it depends on tools that a machine may not have: its line is below
        exports = len(one["exports"]) if one["kind"] == "module" else "`tally_*`"
        lines.append(f"| `{one['name']}` | {imports_text(one)} | {exports} | {memory_text(one)} | {', '.join(one.get('features_declared', [])) or '-'} | "
                     f"{', '.join(one.get('features_used', [])) or '-'} | {one['bytes'] // 1024} KB |")
    lines += ["", f"The ABI of the two modules is {abi_number()}. `client-wasm/wasm/abi.txt` has a hash of exports and types for each ABI there was: other exports "
              "without a new number do not pass.", "",
              "`tallycast.wasm` asks the host for nothing, and needs no threads: any runtime with the features above runs it.", "",
              "## What is checked, each time that all tests run", "", "| artefact | what holds |", "| --- | --- |"]
    lines += [f"| {one['artefact']} | {one['check']} |" for one in report.checks if one["artefact"] != "tallycast-component.wasm"]
    lines += ["", "What a pin costs is no secret: it announces the version that it is about to read by a sequentially consistent store to its reader's own line. On x86-64 "
              "that is one `xchg` natively, and a store with `mfence` in Wasmtime: it waits for the processor's own stores, for no other thread. Reads within a view "
              "have none.", "", "## Hosts", "",
              "What the tests of each host found on the machine that wrote this. A test that did not pass, or not with these modules, is not here.", "", BEGIN_HOSTS, "",
              "| host | version | passed | not run |", "| --- | --- | --- | --- |"]
    component = next((one for one in report.artefacts if one["kind"] == "component"), None)
    if component:
        lines.append(f"| component, by {component['jco']} in Node | {component['node'].lstrip('v')} | {', '.join(component['passed'])} | |")
    for one in report.hosts:
        units = [name for name in one["passed"] if name.startswith("wasm.core.")]
        passed = [name for name in one["passed"] if name not in units] + ([f"{len(units)} unit tests of the core"] if units else [])
        lines.append(f"| {one['host']} | {one['version']} | {', '.join(passed)} | {', '.join(one['not_run'])} |")
    return "\n".join(lines + ["", END_HOSTS, ""])


def held(text):
    """What a document must have in common with the artefacts of another run."""
    text = re.sub(re.escape(BEGIN_HOSTS) + ".*" + re.escape(END_HOSTS), "", text, flags=re.DOTALL)
    return re.sub(r"\d+ KB", "KB", text)


# ---------------------------------------------------------------------------------------------------- main

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--layout", type=Path, help="the program that tells where words lie")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    build = options.build.resolve()
    if not shutil.which("wasm-objdump") or not (build / "wasm" / "tallycast-shared.wasm").exists():
        print("skipped: wabt is missing, or the modules were not built")
        return 77
    layout = json.loads(subprocess.run([options.layout or build / "tests" / "compat_layout"], check=True, stdout=subprocess.PIPE).stdout)
    report = Report(build)
    add_modules(report, layout, [build / "wasm" / "compat" / f"tally_{part}.o" for part in ("cas", "sharded")])
    add_native(report, next((build / "client-wasm").glob("libtallycast.so.*.*")))
    add_component(report)
    add_hosts(report)
    text, out = document(report), build / "compat" / "compat-report.json"
    if options.write:
        if not report.failed():
            DOCUMENT.write_text(text)
    else:
        report.check("docs/compat.md", "says what is", [] if DOCUMENT.exists() and held(DOCUMENT.read_text()) == held(text) else
                     ["it is not what the artefacts are: tests/compat/report.py --build ... --write"])
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps({"abi": abi_number(), "artefacts": report.artefacts, "checks": report.checks, "hosts": report.hosts}, indent=1) + "\n")
    for one in report.checks:
        print(f"{one['status']:8} {one['artefact']}: {one['check']}" + (f" ({one['found']})" if one["status"] == "not run" else ""))
        for line in one["found"] if one["status"] == "failed" else []:
            print(f"           {line}")
    return 1 if report.failed() else 0


if __name__ == "__main__":
    sys.exit(main())
