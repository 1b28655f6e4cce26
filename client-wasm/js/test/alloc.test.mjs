// SPDX-License-Identifier: Apache-2.0
//
// A read makes nothing: not in the module's memory, and not on the heap of the engine beyond what that does for itself (with mirrors of several instances
// in one process it keeps their results in boxes: so each kind has a process of its own here). Garbage would show as collections of a small young generation.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { PerformanceObserver } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'

const READS = 4e6, SPACE = ['--max-semi-space-size=1', '--no-warnings']
if (!process.execArgv.includes(SPACE[0])) {
  const options = { stdio: 'inherit', env: process.env }
  for (const kind of ['own', 'shared']) execFileSync(process.execPath, [...SPACE, fileURLToPath(import.meta.url), kind], options)
  process.exit(0)
}

const { tallycast, transferKeys, transfers, until } = await import('./common.mjs')
const { streamServer } = await import('./stream.mjs')
const frames = transfers(500, 100), keys = transferKeys(500), long = keys.map((key) => key.padEnd(60, 'x'))
const server = await streamServer((guest) => { for (const frame of frames) guest.send('F', frame) })
let collections = 0
new PerformanceObserver((list) => { collections += list.getEntries().length }).observe({ entryTypes: ['gc'] })

// Collections during `reads` calls of `once`.
async function count(once, reads) {
  const round = (n) => { for (let i = 0; i < n; i++) once(i % keys.length) }
  round(reads / 20)
  await new Promise((resolve) => setTimeout(resolve, 20))
  const before = collections
  round(reads)
  await new Promise((resolve) => setTimeout(resolve, 20))
  return collections - before
}

const garbage = []
assert.ok(await count((i) => { garbage[0] = { i } }, READS) > 20, 'an object each would be seen')
{
  const shared = process.argv[2] === 'shared'
  const counts = await tallycast.openMirror({ url: server.url, dataset: 'main', shared })
  await until(() => counts.version === 100, 'version 100')
  const before = counts.stats()
  const found = {
    get: await count((i) => counts.get('accounts', keys[i]), READS),
    absent: await count((i) => counts.get('accounts', long[i]), READS)
  }
  let collectionsBefore
  counts.view((view) => {
    for (let i = 0; i < READS / 20; i++) view.get('accounts', keys[i % keys.length])
    collectionsBefore = collections
    for (let i = 0; i < READS; i++) view.get('accounts', keys[i % keys.length])
  })
  await new Promise((resolve) => setTimeout(resolve, 20))
  found.view = collections - collectionsBefore
  console.log('#', JSON.stringify({ shared, collections: found }))
  assert.ok(Math.max(...Object.values(found)) <= 8)
  const { usedBytes, memoryBytes } = counts.stats()
  assert.deepEqual([usedBytes, memoryBytes], [before.usedBytes, before.memoryBytes])
  counts.close()
}
await server.close()
console.log('alloc: ok')
