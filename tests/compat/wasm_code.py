# SPDX-License-Identifier: Apache-2.0
"""A module as wasm-objdump (wabt) shows it: what it imports and exports, its memories, and its functions' instructions with who calls whom
and which instructions are in a loop."""
import re
import subprocess

FUNCTION = re.compile(r"^[0-9a-f]+ func\[(\d+)\](?: <(.*)>)?:$")
LINE = re.compile(r"^ [0-9a-f]+: (?:[0-9a-f]{2} )+ *\| *(.*)$")
OPENS = ("block", "loop", "if", "try")
# What an instruction needs beyond the first version of WebAssembly, by the names of target_features.
FEATURES = (
    ("atomics", re.compile(r".*\.atomic\.|atomic\.fence")),
    ("simd128", re.compile(r"(v128|i8x16|i16x8|i32x4|i64x2|f32x4|f64x2)\.")),
    ("bulk-memory", re.compile(r"memory\.(copy|fill|init)$|data\.drop$|table\.(copy|init)$|elem\.drop$")),
    ("sign-ext", re.compile(r"i(32|64)\.extend(8|16|32)_s$")),
    ("nontrapping-fptoint", re.compile(r".*\.trunc_sat_")),
    ("reference-types", re.compile(r"ref\.|table\.(get|set|grow|size|fill)$")),
    ("tail-call", re.compile(r"return_call")),
    ("exception-handling", re.compile(r"try$|catch|throw|rethrow")),
)


class Function:
    def __init__(self, index, name):
        self.index, self.name = index, name
        self.code = []  # (instruction, arguments)
        self._cyclic = None

    def calls(self):
        """Indices of the functions called, with the places of the calls."""
        for place, (what, arguments) in enumerate(self.code):
            if what in ("call", "return_call"):
                yield place, int(arguments[0])

    def indirect_calls(self):
        """(place, number of the type)."""
        for place, (what, arguments) in enumerate(self.code):
            if what in ("call_indirect", "return_call_indirect"):
                yield place, int(re.search(r"type (\d+)", " ".join(arguments)).group(1))

    def successors(self):
        """For each instruction, those that may come next."""
        ends, elses, stack = {}, {}, []
        for place, (what, _) in enumerate(self.code):
            if what in OPENS:
                stack.append(place)
            elif what == "else":
                elses[stack[-1]] = place
            elif what == "end" and stack:
                ends[stack.pop()] = place
        last, stack, found = len(self.code), [], []
        for place, (what, arguments) in enumerate(self.code):
            def target(depth):
                if int(depth) >= len(stack):
                    return last  # out of the function
                opener = stack[-1 - int(depth)]
                return opener if self.code[opener][0] == "loop" else ends[opener]
            following = [place + 1]
            if what == "br":
                following = [target(arguments[0])]
            elif what == "br_if":
                following.append(target(arguments[0]))
            elif what == "br_table":
                following = [target(depth) for depth in arguments]
            elif what in ("return", "unreachable", "throw", "rethrow") or what.startswith("return_call"):
                following = []
            elif what == "if":
                following.append(elses[place] + 1 if place in elses else ends[place])
            elif what == "else":
                following = [ends[stack[-1]]]
            if what in OPENS:
                stack.append(place)
            elif what == "end" and stack:
                stack.pop()
            found.append([next_place for next_place in following if next_place < last])
        return found

    def cyclic(self):
        """The places of the instructions that can come again after themselves (Tarjan's strongly connected components, without recursion)."""
        if self._cyclic is not None:
            return self._cyclic
        after, number, low, on, stack, found, counter = self.successors(), {}, {}, set(), [], set(), 0
        for root in range(len(self.code)):
            if root in number:
                continue
            work = [(root, 0)]
            while work:
                place, edge = work.pop()
                if edge == 0:
                    number[place] = low[place] = counter
                    counter += 1
                    stack.append(place)
                    on.add(place)
                if edge < len(after[place]):
                    work.append((place, edge + 1))
                    other = after[place][edge]
                    if other not in number:
                        work.append((other, 0))
                    elif other in on:
                        low[place] = min(low[place], number[other])
                    continue
                if low[place] == number[place]:
                    component = []
                    while not component or component[-1] != place:
                        component.append(stack.pop())
                        on.discard(component[-1])
                    if len(component) > 1 or place in after[place]:
                        found.update(component)
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[place])
        self._cyclic = found
        return found


class Module:
    def __init__(self, path):
        self.path = path
        self.functions, self.types, self.signatures, self.table = {}, [], {}, []
        self.imports, self.exports, self.memories, self.declared = [], {}, [], []
        self._sections(_objdump("-x", path))
        self._code(_objdump("-d", path))

    def _sections(self, text):
        section = ""
        for line in text.splitlines():
            if line and not line.startswith(" "):
                section = line.split("[")[0].rstrip(":")
            if section == "Type" and (match := re.match(r" - type\[\d+\] \((.*)\) -> (.*)", line)):
                self.types.append(f"({match[1]}) -> {match[2]}")
            elif section == "Import" and (match := re.match(r" - (\w+)\[\d+\] (.*?)<?- (\S+)$", line)):
                self.imports.append({"name": match[3], "kind": match[1], "of": re.sub(r" <.*>", "", match[2]).strip(" <")})
                if match[1] == "func":
                    self.signatures[len(self.signatures)] = int(re.search(r"sig=(\d+)", line)[1])
            elif section == "Function" and (match := re.match(r" - func\[(\d+)\] sig=(\d+)", line)):
                self.signatures[int(match[1])] = int(match[2])
            elif section == "Export" and (match := re.match(r' - (\w+)\[(\d+)\].* -> "(.*)"$', line)):
                self.exports[match[3]] = (match[1], int(match[2]))
            elif section == "Global" and (match := re.match(r" - global\[(\d+)\] (\w+) mutable=(\d)", line)):
                self.exports.setdefault("", {})[int(match[1])] = (match[2], match[3] == "1")
            elif section == "Elem" and (match := re.match(r" +- elem\[\d+\] = (?:ref\.)?func[:\[](\d+)", line)):
                self.table.append(int(match[1]))
            elif section == "Custom" and (match := re.match(r"  - \[(.)\] (\S+)", line)):
                self.declared.append(match[1].strip("+") + match[2])
            if match := re.match(r" - memory\[\d+\] pages: initial=(\d+)(?: max=(\d+))?( shared)?(?: <- (\S+))?", line):
                self.memories.append({"initial_pages": int(match[1]), "maximum_pages": int(match[2]) if match[2] else None,
                                      "shared": bool(match[3]), "imported": match[4]})
        self.globals = self.exports.pop("", {})

    def _code(self, text):
        function = None
        for line in text.splitlines():
            if match := FUNCTION.match(line):
                function = Function(int(match[1]), match[2] or f"func[{match[1]}]")
                self.functions[function.index] = function
            elif function and (match := LINE.match(line)) and match[1] and not match[1].startswith("local["):
                words = match[1].split()
                function.code.append((words[0], words[1:]))

    def export(self, name):
        """The exported function."""
        return self.functions[self.exports[name][1]]

    def signature(self, name):
        kind, index = self.exports[name]
        if kind == "func":
            return self.types[self.signatures[index]]
        return f"{'mutable ' if self.globals[index][1] else ''}{self.globals[index][0]}" if kind == "global" else kind

    def callees(self, function):
        """(place, function called); whatever is in the table, and of the type, for an indirect call."""
        for place, index in function.calls():
            if index in self.functions:
                yield place, self.functions[index]
        for place, kind in function.indirect_calls():
            for index in self.table:
                if self.types[self.signatures[index]] == self.types[kind] and index in self.functions:
                    yield place, self.functions[index]

    def reach(self, functions):
        """These functions and all that they can call."""
        found, work = {}, list(functions)
        while work:
            function = work.pop()
            if function.index not in found:
                found[function.index] = function
                work.extend(callee for _, callee in self.callees(function))
        return list(found.values())

    def used(self):
        """The features that the code and the sections really need."""
        words = {what for function in self.functions.values() for what, _ in function.code}
        found = {name for name, pattern in FEATURES if any(pattern.match(word) for word in words)}
        if any(memory["shared"] for memory in self.memories):
            found.add("atomics")
        if any("," in kind.split(" -> ")[1] for kind in self.types):
            found.add("multivalue")
        if any(kind == "global" and self.globals[index][1] for kind, index in self.exports.values()):
            found.add("mutable-globals")
        return sorted(found)


def _objdump(flag, path):
    return subprocess.run(["wasm-objdump", flag, str(path)], check=True, stdout=subprocess.PIPE, text=True).stdout
