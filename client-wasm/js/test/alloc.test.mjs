// SPDX-License-Identifier: Apache-2.0
//
// A read makes nothing, nor does counting a key that waits already: not in the module's memory, and not on the heap of the engine beyond what that does for itself (with mirrors of several instances
// in one process it keeps their results in boxes: so each kind has a process of its own here). Garbage would show as collections of a small young generation.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { PerformanceObserver } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'

const READS = 2e6, TRIES = 8, FEW = 4, SPACE = ['--max-semi-space-size=1', '--no-warnings']
if (Number(process.versions.node.split('.')[0]) < 20) {
  console.log(`skipped: the engine of Node ${process.versions.node} boxes what a call answers with`)
  process.exit(77)
}
if (!process.execArgv.includes(SPACE[0])) {
  const options = { stdio: 'inherit', env: process.env }
  // On a busy machine the engine compiles later, and then, in one process of three, for all of its life so that it boxes a result. Garbage of ours
  // would be there in every process.
  const passes = (kind, left) => {
    try {
      execFileSync(process.execPath, [...SPACE, fileURLToPath(import.meta.url), kind], options)
    } catch (error) {
      if (!left) throw error
      passes(kind, left - 1)
    }
  }
  for (const kind of ['own', 'shared']) passes(kind, 4)
  process.exit(0)
}

const { tallycast, transferKeys, transfers, until } = await import('./common.mjs')
const { streamServer } = await import('./stream.mjs')
const frames = transfers(500, 100), keys = transferKeys(500), long = keys.map((key) => key.padEnd(60, 'x'))
const server = await streamServer((guest) => { for (const frame of frames) guest.send('F', frame) })
let collections = 0
new PerformanceObserver((list) => { collections += list.getEntries().length }).observe({ entryTypes: ['gc'] })

// Collections while `run` runs; the least of some tries, as code that is not optimised yet boxes each number, and when it is, is the engine's (and a
// busy machine's) to say.
async function least(run, triesMax) {
  let found = Infinity
  for (let tries = 0; tries < triesMax && found > FEW; tries++) {
    const before = collections
    run()
    await new Promise((resolve) => setTimeout(resolve, 20))
    found = Math.min(found, collections - before)
  }
  return found
}
// During READS calls of `once`.
const count = (once, triesMax = TRIES) => least(() => { for (let i = 0; i < READS; i++) once(i % keys.length) }, triesMax)

const garbage = []
assert.ok(await count((i) => { garbage[0] = { i } }) > 2 * FEW, 'an object each would be seen')
{
  const shared = process.argv[2] === 'shared'
  const counts = await tallycast.openMirror({ url: server.url, dataset: 'main', shared })
  await until(() => counts.version === 100, 'version 100')
  const before = counts.stats(), tally = tallycast.openTally({ url: server.url, dataset: 'main', intervalMs: 0 })
  const encoder = new TextEncoder(), room = new Uint8Array(2000)
  const found = {
    get: await count((i) => counts.get('accounts', keys[i])),
    long: await count((i) => counts.get('accounts', long[i]), 2),
    encode: await count((i) => encoder.encodeInto(long[i], room), 2), // what it answers with is an object, which may or may not be optimised away
    add: await count((i) => tally.add('accounts', keys[i])),
    view: await least(() => counts.view((view) => { for (let i = 0; i < READS; i++) view.get('accounts', keys[i % keys.length]) }), TRIES)
  }
  console.log('#', JSON.stringify({ shared, collections: found }))
  assert.ok(Math.max(found.get, found.add, found.view) <= FEW)
  assert.equal(tally.stats().pending, keys.length)
  assert.ok(found.long <= Math.max(found.encode, READS * 40 / 2 ** 20) + FEW)
  const { usedBytes, memoryBytes } = counts.stats()
  assert.deepEqual([usedBytes, memoryBytes], [before.usedBytes, before.memoryBytes])
  counts.close()
}
await server.close()
console.log('alloc: ok')
