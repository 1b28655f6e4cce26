// SPDX-License-Identifier: Apache-2.0
//
// Runs a WASI program with the project's folder as /source, and exits as it does: node wasi.mjs PROGRAM.wasm
import fs from 'node:fs'
import { WASI } from 'node:wasi'

const source = process.env.TALLY_SOURCE_DIR
const env = process.env.TALLY_SEED ? { TALLY_SEED: process.env.TALLY_SEED } : {}
const wasi = new WASI({ version: 'preview1', args: ['test'], env, preopens: { '/source': source }, returnOnExit: true })
// Node 18, Debian 12's own, has no getImportObject yet.
const imports = wasi.getImportObject?.() ?? { wasi_snapshot_preview1: wasi.wasiImport }
// Called directly, Node 20's fd_write aborts the process once the memory has grown far. Not so through a function.
for (const [name, call] of Object.entries(imports.wasi_snapshot_preview1))
  imports.wasi_snapshot_preview1[name] = (...args) => call(...args)
const module = new WebAssembly.Module(fs.readFileSync(process.argv[2]))
process.exitCode = wasi.start(new WebAssembly.Instance(module, imports))
