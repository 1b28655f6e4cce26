// SPDX-License-Identifier: Apache-2.0
//
// Counts in Node by the npm package, for test_js_count.py: adds until it is told to end by a line of input, then flushes and says what it had added.
// count.mjs PACKAGE URL {"seed": N, "options": {...}}: three tables of 150 keys each, of which every counter has some. Amounts are mostly small.
// Other lines are "add TABLE KEY", "flush TIMEOUT-MS" and "pause"; "end" is the last.
import path from 'node:path'
import readline from 'node:readline'
import { pathToFileURL } from 'node:url'

const [folder, url, given] = process.argv.slice(2), { seed, options } = JSON.parse(given)
const { openTally } = await import(pathToFileURL(path.join(folder, 'src/node.js')))
const tell = (event, more) => console.log(JSON.stringify({ event, ...more }, (_, value) => (typeof value === 'bigint' ? String(value) : value)))

let state = seed >>> 0
const draw = (n) => { // xorshift
  state ^= state << 13
  state ^= state >>> 17
  state ^= state << 5
  state >>>= 0
  return state % n
}

const KINDS = { pages: 'counter', best: 'topk', load: 'gauge' }, refused = []
const tally = openTally({ url, dataset: 'main', kinds: KINDS, ...options, on: { refused: ({ error, body, ...event }) => refused.push({ ...event, code: error.code, message: error.message }) } })
const truth = Object.fromEntries(Object.keys(KINDS).map((table) => [table, {}]))
let full = 0

function addSome() {
  for (let i = 0; i < 50; i++) {
    const table = Object.keys(KINDS)[draw(3)], number = draw(150), key = `key ${number}`
    let n = draw(20) ? 1 + draw(9) : 2n ** BigInt(20 + draw(30))
    if (table === 'load' && draw(2)) n = -n
    // Every tenth key is no UTF-8.
    const bytes = number % 10 ? (draw(4) ? key : Buffer.from(key)) : Buffer.from([255, number])
    const name = Buffer.from(bytes).toString('hex')
    if (tally.add(table, bytes, n)) truth[table][name] = (truth[table][name] ?? 0n) + BigInt(n)
    else full++
  }
}

const timer = setInterval(addSome, 5)
tell('open')
for await (const line of readline.createInterface({ input: process.stdin })) {
  const [what, table, key] = line.split(' ')
  if (what === 'add') tell('added', { taken: tally.add(table, key) })
  if (what === 'flush') {
    const found = await tally.flush({ timeoutMs: Number(table) }).catch(({ code }) => ({ code }))
    tell('flushed', { ...found, stats: tally.stats(), refused })
  }
  if (what === 'pause') {
    clearInterval(timer)
    tell('paused')
  }
  if (what !== 'end') continue
  clearInterval(timer)
  const flushed = await tally.flush()
  await tally.close()
  tell('end', { flushed, truth, full, refused, stats: tally.stats() })
  break
}
process.stdin.destroy() // nothing else may keep the process: close() leaves no timer
