# SPDX-License-Identifier: Apache-2.0
"""What must hold in the instructions of the modules and of the native library. Each rule gives the lines of what breaks it, none if it holds.
test_rules.py has a small module that breaks each."""
import re

# Every function that a module exports is one of these; one that is not named here is reported, so that nobody forgets to say what it is.
READS = ("get", "get_many", "info", "next", "pin", "read", "read_table", "table", "table_info", "unpin", "view_read", "write_chunk")
APPLIES = ("abandon", "alloc", "apply", "buffer", "confirm", "free", "open")
OTHERS = ("abi", "reader_close", "reader_open", "reader_scratch", "reader_scratch_size", "stack", "stats")
NATIVE_READS = ("tally_get", "tally_view_get", "tally_view_get_many", "tally_view_info", "tally_view_next", "tally_view_pin", "tally_view_table",
                "tally_view_table_info", "tally_view_unpin", "tally_view_write_chunk")
# A pin announces itself by one sequentially consistent store (src/reader.c), which x86-64 does by an exchange with its own slot.
NATIVE_EXCHANGES = {"tally_view_pin": 1, "tally_get": 1}  # which may have the pin inline
WIDTHS = {"8": 0, "16": 1, "32": 2, "64": 3}


def full(names):
    return [f"tallycast_{name}" for name in names]


def tally_exports(module):
    return [name for name in module.exports if name.startswith("tallycast_tally_")]


def is_atomic(what):
    return ".atomic." in what or what == "atomic.fence"


def is_rmw(what):
    return ".atomic.rmw" in what


def waits(what):
    return what.startswith("memory.atomic.wait")


def reached(module, names):
    return module.reach([module.export(name) for name in names if name in module.exports])


def exports_are_known(module):
    known = {*full(READS), *full(APPLIES), *full(OTHERS), *tally_exports(module)}
    there = {name for name, (kind, _) in module.exports.items() if kind == "func"}
    return [f"{name}: rules.py does not say whether it is a read" for name in sorted(there - known)] + \
           [f"{name}: is not exported any more" for name in sorted(known - there)]


def imports_are(module, expected):
    found = [f"{one['name']} ({one['kind']})" for one in module.imports]
    return [] if found == expected else [f"imports {found}, and not {expected}"]


def atomics_are_aligned(module):
    """The alignment of an atomic instruction is its width."""
    broken = []
    for function in module.functions.values():
        for what, arguments in function.code:
            if not is_atomic(what) or what == "atomic.fence":
                continue
            width = re.search(r"(?:load|store|rmw|wait|notify)(8|16|32|64)?", what)[1]
            natural = WIDTHS[width] if width else 2 if what.startswith(("i32", "memory.atomic.notify")) else 3
            if not arguments or arguments[0] != str(natural):
                broken.append(f"{function.name}: {what} {' '.join(arguments)}")
    return broken


def reads_wait_for_nothing(module, names):
    """In all that a read can call: no read-modify-write, no wait, no fence, and no loop that comes back to an atomic load, which is what a lock, or a
    wait for another thread, is made of."""
    broken = []
    functions = reached(module, names)
    atomic = {function.index for function in functions if any(is_atomic(what) for what, _ in function.code)}
    for function in functions:
        cyclic = function.cyclic()
        for place, (what, _) in enumerate(function.code):
            if is_rmw(what) or waits(what) or what in ("atomic.fence", "memory.atomic.notify"):
                broken.append(f"{function.name}: {what} in a read")
            elif is_atomic(what) and place in cyclic:
                broken.append(f"{function.name}: {what} in a loop of a read")
        for place, callee in module.callees(function):
            if place in cyclic and any(one.index in atomic for one in module.reach([callee])):
                broken.append(f"{function.name}: calls {callee.name}, which has atomic instructions, in a loop of a read")
    return broken


def stores_of_reads(module, names):
    """What reads store atomically: where (the announcement of their own slot) and how often."""
    return [f"{function.name}: {what} {' '.join(arguments)}" for function in reached(module, names)
            for what, arguments in function.code if ".atomic.store" in what]


def reads_store_only_announcements(module, names, layout):
    place = str(layout["announced"])
    return [line + ", which is no announcement" for line in stores_of_reads(module, names)
            if not line.endswith(f"i64.atomic.store 3 {place}")]


def swap_is_an_atomic_store(module, layout):
    """Of all that an apply can call, one function stores the root, atomically and once, and after it the generation."""
    root, generation, swaps = ("i32.atomic.store", ["2", str(layout["root"])]), ("i64.atomic.store", ["3", str(layout["generation"])]), 0
    broken = []
    for function in reached(module, ["tallycast_apply"]):
        roots = [place for place, one in enumerate(function.code) if one == root]
        generations = [place for place, one in enumerate(function.code) if one == generation]
        swaps += len(roots)
        if roots and not (len(roots) == len(generations) == 1 and roots[0] < generations[0]):
            broken.append(f"{function.name}: {len(roots)} stores of the root, {len(generations)} of the generation, or in another order")
    return broken if swaps == 1 else broken + [f"{swaps} atomic stores of the root in what an apply calls, and not 1"]


def only_the_tally_waits(module):
    """Waits for a lock are the sharded tally's; the start function waits for the instance that is setting the data up."""
    names = [name for name, (kind, _) in module.exports.items() if kind == "func" and not name.startswith("tallycast_tally_")]
    return [f"{function.name}: {what}, reached from an export that is not the tally's" for function in reached(module, names)
            for what, _ in function.code if waits(what)]


def has(module, functions, what, offset, at_least, meaning):
    count = sum(1 for function in module.reach(functions) for found, arguments in function.code
                if found == what and (offset is None or arguments[1:2] == [str(offset)]))
    return [] if count >= at_least else [f"{functions[0].name}: {meaning}: {count} of {what}, and not {at_least} or more"]


def tally_is_atomic(module, layout):
    """In the module as it is linked."""
    add, begin = [module.export("tallycast_tally_add")], [module.export("tallycast_tally_drain_begin")]
    return (has(module, add, "i64.atomic.rmw.add", layout["amount"], 1, "adding to a count")
            + has(module, add, "i32.atomic.rmw.cmpxchg", layout["top"], 2, "taking room, and giving it back")
            + has(module, add, "i32.atomic.rmw.cmpxchg", 0, 2, "a chain's head, a shard's lock")
            + has(module, add, "i32.atomic.rmw.xchg", 0, 1, "giving a lock back")
            + has(module, begin, "i64.atomic.rmw.add", layout["tally_generation"], 1, "the swap of generations"))


def tally_parts_are_atomic(cas, sharded, layout):
    """In the two maps as compiled by themselves, where the instructions of one cannot stand for the other's."""
    named = {function.name: [function] for module in (cas, sharded) for function in module.functions.values()}
    if missing := [name for name in ("cas_add", "cas_exchange", "sharded_add") if name not in named]:
        return [f"{name} is not there" for name in missing]
    add, sharded_add = named["cas_add"], named["sharded_add"]
    return (has(cas, add, "i64.atomic.rmw.add", layout["amount"], 1, "adding to a count")
            + has(cas, named["cas_exchange"], "i64.atomic.rmw.xchg", layout["amount"], 1, "exchanging a count")
            + has(cas, add, "i32.atomic.rmw.cmpxchg", 0, 1, "linking an entry by its chain's head")
            + has(cas, add, "i32.atomic.rmw.cmpxchg", layout["top"], 2, "taking room, and giving it back")
            + has(sharded, sharded_add, "i32.atomic.rmw.cmpxchg", 0, 3, "taking the lock, and saying that one waits")
            + has(sharded, sharded_add, "i32.atomic.rmw.xchg", 0, 1, "giving the lock back")
            + has(sharded, sharded_add, "i64.atomic.store", layout["amount"], 1, "the new count, under the lock"))


# ---------------------------------------------------------------------------------------------------- native (x86-64)

def native_reads_wait_for_nothing(library):
    """No locked instruction, no exchange but a pin's, no fence, no pause, no call out of the library but to plain functions of memory."""
    broken = []
    for function in library.reach(NATIVE_READS):
        exchanges = 0
        for what, arguments in library.functions[function]:
            exchanges += what.startswith("xchg") and "(" in arguments
            if what.startswith("lock") or what in ("mfence", "pause") or (what.startswith("xchg") and "lock" in what):
                broken.append(f"{function}: {what} {arguments}")
        if exchanges > NATIVE_EXCHANGES.get(function, 0):
            broken.append(f"{function}: {exchanges} exchanges with memory, and not {NATIVE_EXCHANGES.get(function, 0)}")
    return broken + [f"{function}: is not in the library" for function in NATIVE_READS if function not in library.functions] + \
        [f"calls {name} of another library" for name in sorted(library.outside(NATIVE_READS))
         if name not in ("memcpy", "memmove", "memset", "memcmp", "__assert_fail", "__stack_chk_fail")]
