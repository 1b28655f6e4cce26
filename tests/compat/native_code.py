# SPDX-License-Identifier: Apache-2.0
"""A native library as objdump and nm show it: what it exports, what it asks for, and its functions' instructions with who calls whom."""
import re
import subprocess

FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")
LINE = re.compile(r"^ +[0-9a-f]+:\s+(.*)$")
GOES_TO = re.compile(r"<([^>+]+)>$")


class Library:
    def __init__(self, path):
        self.path, self.functions = path, {}
        name = None
        for line in _run("objdump", "-d", "--no-show-raw-insn", path).splitlines():
            if match := FUNCTION.match(line):
                name = match[1]
                self.functions[name] = []
            elif name and (match := LINE.match(line)):
                words = match[1].split("#")[0].strip()
                what, _, arguments = words.partition(" ")
                if what in ("lock", "rep", "repz", "repnz", "notrack", "bnd", "data16", "cs"):
                    rest, _, arguments = arguments.strip().partition(" ")
                    what = f"{what} {rest}"
                self.functions[name].append((what, arguments.strip()))
        self.machine = re.search(r"Machine: +(.*)", _run("readelf", "-h", path))[1]
        self.exports = [line.split()[-1].split("@")[0] for line in _run("nm", "-D", "--defined-only", path).splitlines() if " A " not in line]
        self.undefined = sorted({line.split()[-1].split("@")[0] for line in _run("nm", "-D", "--undefined-only", path).splitlines()
                                 if " w " not in line})
        self.needed = re.findall(r"\(NEEDED\).*\[(.*)\]", _run("readelf", "-d", path))

    def calls(self, name):
        for what, arguments in self.functions.get(name, ()):
            match = GOES_TO.search(arguments)
            if match and what.split()[-1].startswith(("call", "j")):
                callee = match[1].split("@")[0]  # what the library exports it calls as others do: name@plt
                if callee != name:
                    yield callee

    def reach(self, names):
        found, work = {}, [name for name in names if name in self.functions]
        while work:
            name = work.pop()
            if name not in found:
                found[name] = True
                work.extend(callee for callee in self.calls(name) if callee in self.functions)
        return list(found)

    def outside(self, names):
        """Functions of other libraries that these call."""
        return {callee for name in self.reach(names) for callee in self.calls(name) if callee not in self.functions}


def _run(*command):
    return subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True).stdout
