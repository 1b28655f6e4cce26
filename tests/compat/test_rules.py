# SPDX-License-Identifier: Apache-2.0
"""Each rule of rules.py is broken by a small module that does what it forbids: a rule that was never seen to find anything is none."""
import subprocess
import tempfile
import unittest
from pathlib import Path

import record
import report
import rules
from wasm_code import Module

LAYOUT = {"root": 128, "generation": 136, "announced": 0, "tally_generation": 128, "amount": 0, "top": 72}
READ = ["tallycast_read"]
PIN = """(drop (i64.atomic.load offset=136 (local.get 0)))
         (i64.atomic.store (local.get 0) (i64.const 1)) (drop (i32.atomic.load offset=128 (local.get 0)))"""
SWAP = "(i32.atomic.store offset=128 (local.get 0) (i32.const 1)) (i64.atomic.store offset=136 (local.get 0) (i64.const 1))"
ADD = """(drop (i64.atomic.rmw.add (local.get 0) (i64.const 1)))
         (drop (i32.atomic.rmw.cmpxchg (local.get 0) (i32.const 0) (i32.const 1)))
         (drop (i32.atomic.rmw.cmpxchg (local.get 0) (i32.const 0) (i32.const 1)))
         (drop (i32.atomic.rmw.cmpxchg offset=72 (local.get 0) (i32.const 0) (i32.const 1)))
         (drop (i32.atomic.rmw.cmpxchg offset=72 (local.get 0) (i32.const 0) (i32.const 1)))
         (drop (i32.atomic.rmw.xchg (local.get 0) (i32.const 0)))"""
BEGIN = "(drop (i64.atomic.rmw.add offset=128 (local.get 0) (i64.const 1)))"


class Rules(unittest.TestCase):
    def module(self, read=PIN, apply=SWAP, add=ADD, begin=BEGIN, more="", memory='(import "env" "memory" (memory 1 1 shared))'):
        text = f"""(module {memory}
          (func $inner (param i32) {more})
          (func (export "tallycast_read") (param i32) {read})
          (func $commit (param i32) {apply})
          (func (export "tallycast_apply") (param i32) (call $commit (local.get 0)))
          (func (export "tallycast_tally_add") (param i32) {add})
          (func (export "tallycast_tally_drain_begin") (param i32) {begin}))"""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "m.wat"
            path.write_text(text)
            subprocess.run(["wat2wasm", "--enable-threads", "--debug-names", path, "-o", path.with_suffix(".wasm")], check=True)
            return Module(path.with_suffix(".wasm"))

    def assert_breaks(self, found, *words):
        self.assertTrue(found, "nothing was found")
        for word in words:
            self.assertIn(word, "\n".join(found))

    def test_what_is_right(self):
        module = self.module()
        for found in (rules.reads_wait_for_nothing(module, READ), rules.reads_store_only_announcements(module, READ, LAYOUT),
                      rules.swap_is_an_atomic_store(module, LAYOUT), rules.tally_is_atomic(module, LAYOUT), rules.atomics_are_aligned(module),
                      rules.only_the_tally_waits(module), rules.imports_are(module, ["env.memory (memory)"])):
            self.assertEqual(found, [])

    def test_a_lock_in_a_read(self):
        lock = "(loop (br_if 0 (i32.atomic.rmw.cmpxchg (local.get 0) (i32.const 0) (i32.const 1))))"
        self.assert_breaks(rules.reads_wait_for_nothing(self.module(read=lock), READ), "cmpxchg in a read")

    def test_a_lock_below_a_read(self):
        module = self.module(read="(call $inner (local.get 0))", more="(drop (i32.atomic.rmw.xchg (local.get 0) (i32.const 1)))")
        self.assert_breaks(rules.reads_wait_for_nothing(module, READ), "inner: i32.atomic.rmw.xchg in a read")

    def test_a_read_that_spins(self):
        for spin in ("(loop (br_if 0 (i32.atomic.load (local.get 0))))",
                     "(block (loop (br_if 1 (i32.eqz (i32.atomic.load (local.get 0)))) (br 0)))",
                     "(loop (if (i32.atomic.load (local.get 0)) (then (br 1)) (else)))",
                     "(loop (block (block (br_table 1 0 2 (i32.atomic.load (local.get 0))))))"):
            self.assert_breaks(rules.reads_wait_for_nothing(self.module(read=spin), READ), "i32.atomic.load in a loop")

    def test_a_read_that_spins_by_a_call(self):
        module = self.module(read="(loop (call $inner (local.get 0)) (br_if 0 (i32.load (local.get 0))))", more="(drop (i32.atomic.load (local.get 0)))")
        self.assert_breaks(rules.reads_wait_for_nothing(module, READ), "calls inner")

    def test_a_loop_that_only_begins_around_a_load(self):
        """A load within the text of a loop that every way from it leaves is not one that is waited for."""
        once = "(block (loop (if (i32.load (local.get 0)) (then (drop (i32.atomic.load (local.get 0))) (br 2))) (br 0)))"
        self.assertEqual(rules.reads_wait_for_nothing(self.module(read=once), READ), [])

    def test_a_read_that_waits(self):
        wait = "(drop (memory.atomic.wait32 (local.get 0) (i32.const 0) (i64.const -1)))"
        module = self.module(read=wait)
        self.assert_breaks(rules.reads_wait_for_nothing(module, READ), "wait32 in a read")
        self.assert_breaks(rules.only_the_tally_waits(module), "wait32")
        self.assertEqual(rules.only_the_tally_waits(self.module(add=ADD + wait)), [])

    def test_a_read_that_stores(self):
        module = self.module(read="(i32.atomic.store offset=128 (local.get 0) (i32.const 1))")
        self.assert_breaks(rules.reads_store_only_announcements(module, READ, LAYOUT), "no announcement")

    def test_a_swap_that_is_none(self):
        for wrong in (SWAP.replace("i32.atomic.store", "i32.store"), SWAP.replace("offset=128", "offset=64"), SWAP + SWAP,
                      "(i64.atomic.store offset=136 (local.get 0) (i64.const 1)) (i32.atomic.store offset=128 (local.get 0) (i32.const 1))",
                      SWAP.replace("i64.atomic.store", "i64.store")):
            self.assert_breaks(rules.swap_is_an_atomic_store(self.module(apply=wrong), LAYOUT))

    def test_additions_that_are_none(self):
        for part in ("i64.atomic.rmw.add", "i32.atomic.rmw.xchg"):
            self.assert_breaks(rules.tally_is_atomic(self.module(add="\n".join(line for line in ADD.splitlines() if part not in line)), LAYOUT), part)
        self.assert_breaks(rules.tally_is_atomic(self.module(add=ADD.replace("offset=72", "offset=80")), LAYOUT), "taking room")
        self.assert_breaks(rules.tally_is_atomic(self.module(begin=BEGIN.replace("128", "120")), LAYOUT), "generations")

    def test_alignment(self):
        module = self.module()
        module.export("tallycast_read").code.append(("i64.atomic.load32_u", ["1", "0"]))  # no assembler makes one
        self.assert_breaks(rules.atomics_are_aligned(module), "i64.atomic.load32_u 1 0")

    def test_exports_and_imports(self):
        module = self.module(memory='(import "env" "memory" (memory 1 1 shared)) (import "env" "clock" (func (param i32)))')
        self.assert_breaks(rules.imports_are(module, ["env.memory (memory)"]), "env.clock (func)")
        module.exports["tallycast_peek"] = ("func", 0)
        self.assert_breaks(rules.exports_are_known(module), "tallycast_peek: rules.py does not say", "tallycast_get: is not exported")


    def test_the_abi(self):
        modules = [self.module()]
        found = report.exports_hash(modules)
        self.assertEqual(report.abi_is_told(modules, [["1", "aa"], ["2", found]], 2), [])
        self.assert_breaks(report.abi_is_told(modules, [["1", "aa"]], 1), "raise TALLYCAST_ABI", f"2 {found}")
        self.assert_breaks(report.abi_is_told(modules, [["1", "aa"]], 2), f"add: 2 {found}")
        self.assert_breaks(report.abi_is_told(modules, [["1", found], ["2", "aa"]], 1), "goes on after 1")
        self.assert_breaks(report.abi_is_told(modules, [["1", "aa"], ["1", found]], 1), "numbered")
        self.assert_breaks(report.abi_is_told(modules, [["1", found], ["2", found]], 2), "no two are of the same")
        self.assertNotEqual(found, report.exports_hash([self.module(memory='(memory (export "memory") 1)')]))

    def test_what_a_document_holds(self):
        text = f"a | 12 KB |\n{report.BEGIN_HOSTS}\nNode 20\n{report.END_HOSTS}\n"
        self.assertEqual(report.held(text), report.held(text.replace("12 KB", "13 KB").replace("Node 20", "Node 22")))
        self.assertNotEqual(report.held(text), report.held(text.replace("a |", "b |")))


class Recorded(unittest.TestCase):
    LINES = ["test_plain_c (__main__.F.test_plain_c) ... ok", "test_in_wasmtime (__main__.F.test_in_wasmtime) ... skipped 'no edge'",
             "test_long (__main__.F.test_long)", "What it does. ... # said meanwhile", "ok", "", "OK (skipped=1)"]

    def test_what_is_told(self):
        self.assertEqual(record.methods(self.LINES), [("plain c", "ok"), ("in wasmtime", "skipped 'no edge'"), ("long", "ok")])
        self.assertEqual(record.outcome("C=plain_c", "t", 0, self.LINES)["passed"], ["t: plain c"])
        self.assertEqual(record.outcome("C=in_wasmtime", "t", 0, self.LINES), {"host": "C", "version": "", "passed": [], "not_run": ["t: in wasmtime ('no edge')"]})
        self.assertEqual(record.outcome("C", "t", 0, ["threads: ok"])["passed"], ["t"])
        self.assertEqual(record.outcome("C", "t", 77, ["skipped: no clang"]), {"host": "C", "version": "", "passed": [], "not_run": ["t: skipped: no clang"]})
        self.assertIsNone(record.outcome("C", "t", 1, self.LINES))
        self.assertIsNone(record.outcome("C=gone", "t", 0, self.LINES))


class Native(unittest.TestCase):
    def library(self, **functions):
        class Faked:
            def __init__(self):
                self.functions = {name: [] for name in rules.NATIVE_READS} | functions

            def reach(self, _):
                return list(self.functions)

            def outside(self, _):
                return set()
        return Faked()

    def test_what_it_finds(self):
        self.assertEqual(rules.native_reads_wait_for_nothing(self.library(tally_view_pin=[("xchg", "%rax,(%rsi)")])), [])
        for wrong in ([("lock cmpxchg", "%r8d,(%rdx)")], [("mfence", "")], [("xchg", "%rax,(%rsi)")], [("pause", "")]):
            self.assertTrue(rules.native_reads_wait_for_nothing(self.library(tally_view_get=wrong)), wrong)
        self.assertTrue(rules.native_reads_wait_for_nothing(self.library(tally_view_pin=[("xchg", "%rax,(%rsi)")] * 2)))


if __name__ == "__main__":
    unittest.main()
