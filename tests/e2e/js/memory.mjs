// SPDX-License-Identifier: Apache-2.0
//
// A guest of the npm package in Node for test_js.py that says how much memory it takes. memory.mjs PACKAGE STREAM-URL OPTIONS
// Each line of input is what to do: `read KEYS-FILE` (all of them, value by value; the result is their sum), `sample`, `reload BYTES`, `close`.
import fs from 'node:fs'
import path from 'node:path'
import readline from 'node:readline'
import { pathToFileURL } from 'node:url'

const [folder, url, options] = process.argv.slice(2)
const { openMirror } = await import(pathToFileURL(path.join(folder, 'src/node.js')))
const tell = (event) => console.log(JSON.stringify(event))
const errors = [], peak = { heap: 0, all: 0, resident: 0 }

function sample() {
  const { rss, heapTotal, external } = process.memoryUsage()
  peak.heap = Math.max(peak.heap, heapTotal)
  peak.all = Math.max(peak.all, heapTotal + external)
  peak.resident = Math.max(peak.resident, rss)
}
setInterval(sample, 20).unref()
sample()
const start = { ...peak }
let counts
const on = { state: ({ error }) => error && errors.push(error.code), version: sample }
try {
  counts = await openMirror({ url, dataset: 'main', waitMs: 120000, backoffMs: [50, 200], on, ...JSON.parse(options) })
} catch (error) {
  tell({ event: 'open', error: error.code, message: error.message })
  process.exit(0)
}
tell({ event: 'open', version: counts.version, keys: counts.info().rows })
for await (const line of readline.createInterface({ input: process.stdin })) {
  const [word, argument] = line.split(' ')
  if (word === 'read') {
    let sum = 0, found = 0
    const { version } = counts
    for (const key of fs.readFileSync(argument, 'utf8').split('\n')) {
      const value = counts.get('words', key)
      if (value !== undefined) found++
      sum += value ?? 0
    }
    tell({ event: 'read', version, sum, found })
  } else if (word === 'reload') {
    try {
      await counts.reload(undefined, { maxBytes: Number(argument), waitMs: 120000 })
      tell({ event: 'reload', version: counts.version })
    } catch (error) {
      tell({ event: 'reload', error: error.code })
    }
  } else if (word === 'close') {
    counts.close()
    break
  } else {
    sample()
    const { digest, version } = counts
    tell({ event: 'sample', start, peak, errors, digest, version, state: counts.state, stale: counts.stale, keys: counts.info().rows, stats: counts.stats() })
  }
}
process.stdin.destroy() // nothing else may keep the process
