// SPDX-License-Identifier: Apache-2.0
//
// Every part of the package's types, used as it is meant; and, under @ts-expect-error, as it is not.
import { Mirror, TallycastError, attachMirror, openMirror, openTally } from 'tallycast'
import type { Flushed, Info, LiveMirror, RefusedEvent, ShareHandle, StateEvent, Tally, View } from 'tallycast'

const counts: LiveMirror = await openMirror({
  url: ['ws://127.0.0.1:8091/v1/stream', new URL('ws://127.0.0.1:8092')],
  dataset: 'main',
  shared: true,
  maxAgeMs: 5000,
  maxBytes: 64 << 20,
  backoffMs: [100, 1000],
  on: { state: ({ state, error, retryInMs }: StateEvent) => console.log(state, error?.code, retryInMs) },
  signal: AbortSignal.timeout(1000)
})
const one: number | undefined = counts.get('files', 'nng/README.md')
const exact: bigint | undefined = counts.getBigInt('files', new Uint8Array(3))
const many: (number | undefined)[] = counts.getMany('files', ['a', new Uint8Array(1)])
const pair: [number, number | undefined] = counts.view((view: View) => [view.version, view.get('files', 'a')])
const best: [string, number][] = counts.top('files', 10)
const raw: [Uint8Array, number][] = counts.top('files', 10, { bytes: true })
for (const [key, value] of counts.entries('files')) console.log(key.length + value)
for (const [key] of counts.entries('files', { bytes: true })) console.log(key.byteLength)
const { version, epoch, digest }: Info = counts.info()
const off: () => void = counts.on('version', (info) => console.log(info.version))
counts.on('stale', ({ stale, ageMs }) => console.log(stale, ageMs))
off()
const handle: ShareHandle = counts.share()
const attached = attachMirror(handle, { maxAgeMs: 1000 })
attached.on('state', ({ state }) => console.log(state === 'moved'))
attached.move(counts.share())
const gone: number = counts.reclaim(handle)
await counts.reload(WebAssembly.compileStreaming(fetch('x.wasm')), { waitMs: 1000 })
const plain: Mirror = Mirror.create(await WebAssembly.compile(new Uint8Array(8)), { dataset: 'main' })
const outcome: 'ok' | 'more' | 'old' = plain.apply(new Uint8Array(1))
try {
  counts.close()
} catch (error) {
  if (error instanceof TallycastError) console.log(error.code, error.status, error.httpStatus)
}
const tally: Tally = openTally({
  url: new URL('http://127.0.0.1:8091'),
  dataset: 'main',
  kinds: { load: 'gauge' },
  keysMax: 1000,
  on: { refused: ({ table, reason, keys, amount, inDoubt }: RefusedEvent) => console.log(table, reason === 'doubt', keys, amount + 1n, inDoubt) },
  fetch
})
const taken: boolean = tally.add('files', 'nng/README.md')
tally.add('files', new Uint8Array(3), 5n)
const flushed: Flushed = await tally.flush({ timeoutMs: 1000 })
tally.on('retry', ({ tries, retryInMs, error }) => console.log(tries, retryInMs, error.httpStatus))
console.log(taken, flushed.version, tally.stats().refused.full, (await tally.close()).refused)
console.log(one, exact, many, pair, best, raw, version, epoch, digest, gone, outcome, counts.tables()[0]?.kind, counts.ageMs, counts.stale)

// @ts-expect-error: a dataset is needed
openMirror({ url: 'ws://x' })
// @ts-expect-error: a key is text or bytes
counts.get('files', 5)
// @ts-expect-error: no such event
counts.on('closed', () => {})
// @ts-expect-error: a value may be missing
const missing: number = counts.get('files', 'x')
// @ts-expect-error: other threads do not apply
attached.apply(new Uint8Array(1))
// @ts-expect-error: an amount is a number
tally.add('files', 'a', '1')
// @ts-expect-error: no kind that add is for
openTally({ url: 'http://x', dataset: 'main', kinds: { best: 'max' } })
// @ts-expect-error: only by create and attach
new Mirror()
console.log(missing)
