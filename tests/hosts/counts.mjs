// SPDX-License-Identifier: Apache-2.0
//
// What JavaScript hosts count in their test: some keys, at an edge that is killed meanwhile, by a way on which answers are lost. At the end it tells what it
// had added, which the driver (hosts.py) holds against what the server has.
import { pause, post } from './guest.mjs'

export async function count(openTally, control) {
  const { url, adds } = await post(control, '/job', {})
  const tally = openTally({ url, dataset: 'main', intervalMs: 20, backoffMs: [20, 200] }), truth = {}
  for (let i = 1; i <= adds; i++) {
    const key = `key ${i % 97} é`, n = i % 500 ? i % 9 : 2n ** 53n + 1n
    if (!tally.add('hits', i % 2 ? key : new TextEncoder().encode(key), n)) throw new Error(`add ${i} was not taken`)
    truth[key] = (truth[key] ?? 0n) + BigInt(n)
    if (i % 50 === 0) await pause(10)
    if (i % 500 === 0) await post(control, '/report', { records: [], versions: i })
  }
  await tally.close({ timeoutMs: 60000 })
  const strings = Object.fromEntries(Object.entries(truth).map(([key, n]) => [key, String(n)]))
  return post(control, '/end', { records: [], versions: adds, truth: strings, stats: tally.stats() })
}
