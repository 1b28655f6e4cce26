// SPDX-License-Identifier: Apache-2.0
//
// openMirror against a server that says what the test wants: how it follows, resumes, waits, ages, and what it does about everything that is wrong.
import assert from 'node:assert/strict'
import http from 'node:http'
import { after, test } from 'node:test'
import { checkTransfers, heartbeat, refused, tallycast, transferKeys, transfers, until, vector } from './common.mjs'
import { message, streamServer } from './stream.mjs'

const { openMirror, Mirror } = tallycast
const KEYS = 100, frames = transfers(KEYS, 400), keys = transferKeys(KEYS)
const QUICK = { dataset: 'main', backoffMs: [10, 40], waitMs: 10000 }

// Digests of the versions.
const digests = ['0'.repeat(32)]
{
  const mirror = Mirror.create(await WebAssembly.compile((await import('node:fs')).readFileSync(`${process.env.TALLY_NPM_FOLDER}/wasm/tallycast.wasm`)), { dataset: 'main' })
  for (const frame of frames) {
    mirror.apply(frame)
    digests.push(mirror.digest)
  }
  mirror.close()
}

// A server whose n-th guest is told by guests[n], or else the last.
async function open(context, guests, options) {
  const seen = []
  const server = await streamServer((guest) => {
    seen.push(guest)
    guests[Math.min(seen.length, guests.length) - 1](guest)
  }, options)
  context.after(() => server.close())
  return { ...server, seen, froms: () => seen.map((guest) => guest.query.get('from')) }
}
const upTo = (version, from = 0) => (guest) => { for (const frame of frames.slice(from, version)) guest.send('F', frame) }

async function mirrorOf(context, server, options) {
  const states = [], state = ({ state, error, retryInMs }) => states.push({ state, code: error?.code, retryInMs })
  const counts = await openMirror({ url: server.url, ...QUICK, ...options, on: { state, ...options?.on } })
  context.after(() => counts.close())
  return { counts, states, codes: () => states.map(({ code }) => code).filter(Boolean) }
}

test('follows, and resumes by number with a jittered back-off', async (context) => {
  const server = await open(context, [upTo(5), upTo(8, 5), (guest) => guest.close(1001), (guest) => guest.close(1001), upTo(9, 8)])
  const draws = [0, 0.5, 0.999, 0]
  const versions = [], { counts, states } = await mirrorOf(context, server, { backoffMs: [20, 60], random: () => draws.shift() ?? 0 })
  const off = counts.on('version', ({ version }) => versions.push(version))
  await until(() => counts.version === 5, 'version 5')
  assert.equal(counts.state, 'live')
  assert.equal(counts.error, undefined)
  server.cut()
  await until(() => counts.version === 8, 'version 8')
  server.cut()
  await until(() => counts.version === 9, 'version 9')
  assert.deepEqual(server.froms(), ['0:0', '1:5', '1:8', '1:8', '1:8'])
  assert.deepEqual(states.filter(({ state }) => state === 'waiting').map(({ retryInMs }) => retryInMs), [10, 30, 60, 30])
  assert.deepEqual(versions, [2, 3, 4, 5, 6, 7, 8, 9].slice(8 - versions.length))
  assert.equal(counts.digest, digests[9])
  assert.equal(checkTransfers({ version: 9, getMany: (table, all) => counts.getMany(table, all) }, keys), 9)
  off()
  off()
  server.seen.at(-1).send('F', frames[9])
  await until(() => counts.version === 10, 'version 10')
  assert.equal(versions.at(-1), 9)
})

test('listeners: the same twice, off, one that throws', async (context) => {
  const server = await open(context, [upTo(1)])
  const { counts } = await mirrorOf(context, server)
  let calls = 0
  const listener = () => { calls++ }
  const told = context.mock.method(globalThis, 'queueMicrotask', () => {}) // where the host is told
  counts.on('version', () => { throw new Error('of the listener') })
  counts.on('version', listener)
  const off = counts.on('version', listener)
  server.seen[0].send('F', frames[1])
  await until(() => calls === 2, 'two calls')
  assert.throws(told.mock.calls[0].arguments[0], /of the listener/)
  off()
  server.seen[0].send('F', frames[2])
  await until(() => calls === 3, 'one call')
  counts.off('version', listener)
  server.seen[0].send('F', frames[3])
  await until(() => counts.version === 4, 'version 4')
  assert.equal(calls, 3)
  assert.throws(() => counts.on('version'), TypeError)
})

test('age: confirmed by heartbeats, stale by maxAgeMs, and again', async (context) => {
  let now = 1000
  const server = await open(context, [upTo(3)]), [, , , digest] = digests
  const { counts } = await mirrorOf(context, server, { now: () => now, maxAgeMs: 1100 })
  const told = []
  counts.on('stale', ({ stale, ageMs }) => told.push([stale, ageMs]))
  await until(() => counts.version === 3, 'version 3')
  assert.equal(counts.ageMs, 997) // it was cut at 3
  assert.equal(counts.stale, false)
  now = 4000
  assert.equal(counts.stale, true)
  await until(() => told.length === 1, 'stale is told')
  assert.equal(counts.get('accounts', 'version'), 3)
  const beat = (more) => server.seen[0].send('H', heartbeat({ epoch: 1n, version: 3, digest, nowMs: 3900, ...more }))
  beat({ version: 2, digest: digests[2] }) // a place that is behind confirms nothing
  beat({ nowMs: 3800 })
  await until(() => told.length === 2, 'fresh is told')
  beat()
  await until(() => counts.ageMs === 100, 'confirmed')
  assert.deepEqual(told, [[true, 3997], [false, 200]])
  assert.equal(server.seen.length, 1)
})

test('silence is the end of a connection', async (context) => {
  const server = await open(context, [upTo(3), upTo(4, 3)])
  const { counts, codes } = await mirrorOf(context, server, { silenceMs: 60 })
  await until(() => counts.version === 4, 'version 4')
  assert.equal(codes()[0], 'TALLY_TIMEOUT')
  assert.deepEqual(server.froms().slice(0, 2), ['0:0', '1:3'])
})

const broken = (frame, at) => { const copy = Buffer.from(frame); copy[at] ^= 4; return copy }
const wrongs = {
  'a damaged frame': { say: (guest) => guest.send('F', broken(frames[3], 40)), code: /TALLY_(CORRUPT|MALFORMED)/, again: '1:3' },
  'a truncated frame': { say: (guest) => guest.send('F', frames[3].subarray(0, 50)), code: /TALLY_MALFORMED/, again: '1:3' },
  'an empty frame': { say: (guest) => guest.send('F', Buffer.alloc(0)), code: /TALLY_MALFORMED/, again: '1:3' },
  'a damaged heartbeat': { say: (guest) => guest.send('H', broken(heartbeat({ epoch: 1n, version: 3, digest: digests[3], nowMs: 5 }), 20)), code: /TALLY_CORRUPT/, again: '1:3' },
  garbage: { say: (guest) => guest.send('?', Buffer.alloc(1000, 7)), code: /TALLY_MALFORMED/, again: '1:3' },
  'an empty message': { say: (guest) => guest.raw(Buffer.of(0x82, 0)), code: /TALLY_MALFORMED/, again: '1:3' },
  text: { say: (guest) => guest.raw(Buffer.of(0x81, 2, 0x68, 0x69)), code: /TALLY_MALFORMED/, again: '1:3' },
  'a message that is too long': { say: (guest) => guest.send('F', Buffer.alloc(1 << 20)), code: /TALLY_UNREACHABLE/, again: '1:3' },
  'frames that are masked': { say: (guest) => guest.raw(Buffer.of(0x82, 0x81, 1, 2, 3, 4, 5)), code: /TALLY_UNREACHABLE/, again: '1:3' },
  'an unknown opcode': { say: (guest) => guest.raw(Buffer.of(0x83, 0)), code: /TALLY_UNREACHABLE/, again: '1:3' },
  'a continuation of nothing': { say: (guest) => guest.raw(Buffer.of(0x80, 0)), code: /TALLY_UNREACHABLE/, again: '1:3' },
  'another dataset': { say: (guest) => guest.send('F', vector('frame-other-dataset.bin')), code: /TALLY_WRONG_DATASET/, again: '1:3' },
  'a gap': { say: (guest) => guest.send('F', frames[5]), code: /TALLY_GAP/, again: '0:0' },
  'a delta of another epoch': { say: (guest) => guest.send('F', vector('frame-delta.bin')), code: /TALLY_WRONG_EPOCH/, again: '0:0' }
}
for (const [name, { say, code, again }] of Object.entries(wrongs)) {
  test(`wrong in the stream: ${name}`, async (context) => {
    const server = await open(context, [(guest) => { upTo(3)(guest); say(guest) }, (guest) => { if (again === '0:0') upTo(3)(guest); upTo(6, 3)(guest) }])
    const seen = []
    const { counts, codes } = await mirrorOf(context, server, { on: { version: ({ version, digest }) => seen.push([version, digest]) } })
    await until(() => counts.version === 6, 'version 6')
    assert.deepEqual(seen, [1, 2, 3, 4, 5, 6].map((version) => [version, digests[version]]))
    assert.equal(checkTransfers({ version: 6, getMany: (table, all) => counts.getMany(table, all) }, keys), 6)
    assert.equal(codes().length, 1)
    assert.match(codes()[0], code)
    assert.deepEqual(server.froms(), ['0:0', again])
  })
}

test('a digest that does not match is never read, and all is fetched anew', async (context) => {
  const server = await open(context, [(guest) => { guest.send('F', vector('frame-first.bin')); guest.send('F', vector('frame-wrong-digest.bin')) },
    (guest) => { guest.send('F', vector('frame-first.bin')); guest.send('F', vector('frame-delta.bin')) }])
  const seen = []
  const { counts, codes } = await mirrorOf(context, server, { on: { version: ({ version, digest }) => seen.push([version, digest]) } })
  await until(() => counts.version === 2, 'version 2')
  assert.deepEqual(codes(), ['TALLY_DIGEST_MISMATCH'])
  assert.deepEqual(server.froms(), ['0:0', '0:0'])
  assert.deepEqual(seen.map(([version]) => version), [1, 2])
  assert.equal(counts.get('repos', 'nng'), 4)
})

test('bytes that are no frame, again and again: from nothing', async (context) => {
  const bad = (guest) => guest.send('F', broken(frames[3], 40))
  const server = await open(context, [(guest) => { upTo(3)(guest); bad(guest) }, bad, upTo(6)])
  const { counts } = await mirrorOf(context, server)
  await until(() => counts.version === 6, 'version 6')
  assert.deepEqual(server.froms(), ['0:0', '1:3', '0:0'])
})

test('the connection is cut within a change in chunks', async (context) => {
  const chunks = [0, 1, 2, 3].map((i) => vector(`frame-chunk-${i}.bin`))
  const server = await open(context, [(guest) => {
    for (const chunk of chunks.slice(0, 2)) guest.send('F', chunk)
    guest.socket.end()
  }, (guest) => { for (const chunk of chunks) guest.send('F', chunk) }])
  const { counts } = await mirrorOf(context, server)
  assert.ok(counts.version > 0)
  assert.deepEqual(server.froms(), ['0:0', '0:0'])
  assert.equal(counts.stats().refused, 0)
})

test('the server has another state under the same number: that one is read from then on', async (context) => {
  const other = transfers(KEYS, 4, 2)
  const server = await open(context, [upTo(3), (guest) => { for (const frame of other) guest.send('F', frame) }])
  const { counts, codes } = await mirrorOf(context, server)
  await until(() => counts.version === 3, 'version 3')
  server.seen[0].send('H', heartbeat({ epoch: 1n, version: 3, digest: 'ab'.repeat(16), nowMs: 5 }))
  await until(() => counts.version === 4, 'version 4')
  assert.ok(codes().includes('TALLY_DIGEST_MISMATCH'))
  assert.notEqual(counts.digest, digests[4])
  checkTransfers({ version: 4, getMany: (table, all) => counts.getMany(table, all) }, keys)
  await until(() => counts.state === 'live', 'live')
})

test('a WebSocket as servers may speak it: pieces, pings, bytes one by one, a close', async (context) => {
  const server = await open(context, [async (guest) => {
    const whole = message('F', frames[0]), payload = Buffer.concat([Buffer.from('F'), frames[1]]), middle = payload.length >> 1
    for (const byte of whole) {
      guest.raw(Buffer.of(byte))
      await new Promise(setImmediate)
    }
    const piece = (opcode, bytes) => guest.raw(Buffer.concat([Buffer.of(opcode, 126, bytes.length >> 8, bytes.length & 255), bytes]))
    piece(0x02, payload.subarray(0, middle))
    guest.raw(Buffer.concat([Buffer.of(0x89, 5), Buffer.from('there')]))
    piece(0x80, payload.subarray(middle))
    upTo(4, 2)(guest)
    guest.raw(Buffer.of(0x8a, 0))
    guest.close(4000)
  }, upTo(5, 4)])
  const { counts, codes } = await mirrorOf(context, server)
  await until(() => counts.version === 5, 'version 5')
  assert.deepEqual(server.seen[0].pongs, ['there'])
  assert.equal(await server.seen[0].closed, 4000)
  assert.deepEqual(codes(), ['TALLY_UNREACHABLE'])
  counts.close()
  assert.equal(await server.seen[1].closed, 1000)
})

test('what the handshake is refused with', async (context) => {
  let status = 404, body = '{"error":"another dataset is held here"}'
  const server = await open(context, [upTo(2)], { refuse: () => status && { status, body } })
  const opened = (more) => openMirror({ url: server.url, ...QUICK, waitMs: 300, ...more })
  await assert.rejects(opened(), refused('TALLY_WRONG_DATASET', /another dataset is held here/))
  body = '{"error":"no such path"}'
  await assert.rejects(opened(), refused('TALLY_NOT_FOUND', /\/v1\/stream/))
  status = 403
  body = '{"error":"this origin is not let in"}'
  await assert.rejects(opened(), refused('TALLY_FORBIDDEN', /origin/))
  status = 503
  body = '{"error":"nothing is held yet"}'
  await assert.rejects(opened(), refused('TALLY_BUSY', /no version .* 300 ms.*nothing is held yet/))
  const later = opened({ waitMs: 10000 })
  setTimeout(() => { status = 0 }, 100)
  const counts = await later
  context.after(() => counts.close())
  assert.ok(counts.version > 0)
})

test('several places, tried in turn', async (context) => {
  const wrong = await open(context, [upTo(1)], { refuse: () => ({ status: 404, body: '{"error":"another dataset is held here"}' }) })
  const one = await open(context, [upTo(3), upTo(5, 4)]), two = await open(context, [upTo(4, 3)])
  const { counts, codes } = await mirrorOf(context, one, { url: [wrong.url, one.url, 'ws://127.0.0.1:1', two.url] })
  await until(() => counts.version === 3, 'version 3')
  one.cut()
  await until(() => counts.version === 4, 'version 4')
  two.cut()
  await until(() => counts.version === 5, 'version 5')
  assert.deepEqual(codes(), ['WRONG_DATASET', 'UNREACHABLE', 'UNREACHABLE', 'UNREACHABLE', 'WRONG_DATASET'].map((name) => `TALLY_${name}`))
  await assert.rejects(openMirror({ url: [wrong.url, wrong.url], ...QUICK }), refused('TALLY_WRONG_DATASET'))
})

// As browsers do it: no word on why.
function mute(WebSocket) {
  return class extends WebSocket {
    addEventListener(name, listener) { super.addEventListener(name, name === 'error' ? () => listener({}) : listener) }
  }
}

test('a WebSocket that tells of an error and of no close', async (context) => {
  const { NodeWebSocket } = await import(`${process.env.TALLY_NPM_FOLDER}/src/websocket.node.js`)
  class Unclosed extends NodeWebSocket {
    addEventListener(name, listener) { if (name !== 'close') super.addEventListener(name, listener) }
  }
  let refuse = true
  const server = await open(context, [upTo(2)], { refuse: () => refuse && { status: 503, body: '{}' } })
  setTimeout(() => { refuse = false }, 100)
  const { counts, codes } = await mirrorOf(context, server, { webSocket: Unclosed })
  assert.ok(counts.version > 0)
  assert.deepEqual(codes(), ['TALLY_BUSY'])
})

test('a WebSocket that does not say why: the dataset is asked for', async (context) => {
  const { NodeWebSocket } = await import(`${process.env.TALLY_NPM_FOLDER}/src/websocket.node.js`)
  const server = await open(context, [upTo(2)], { refuse: () => ({ status: 404, body: '{}' }) })
  await assert.rejects(openMirror({ url: server.url, ...QUICK, dataset: 'other', webSocket: mute(NodeWebSocket) }), refused('TALLY_WRONG_DATASET', /'other'.*has 'main'/))
  await assert.rejects(openMirror({ url: server.url, ...QUICK, waitMs: 200, webSocket: mute(NodeWebSocket) }), refused('TALLY_UNREACHABLE', /no version from/))
})

test('options that are wrong', async () => {
  const given = (options) => openMirror({ url: 'ws://127.0.0.1:1', ...QUICK, ...options })
  for (const url of [undefined, '', [], 'nonsense', 'ftp://x/', 'ws://', ['ws://x', 'no']]) await assert.rejects(given({ url }), refused('TALLY_INVALID', /url/))
  for (const dataset of [undefined, 5, '', 'Not a name', 'x'.repeat(65)]) await assert.rejects(given({ dataset }), refused('TALLY_INVALID', /dataset/))
  for (const options of [{ maxAgeMs: 0 }, { maxBytes: -1 }, { maxBytes: '64M' }, { silenceMs: NaN }, { backoffMs: [1] }, { backoffMs: 5 }])
    await assert.rejects(given(options), refused('TALLY_INVALID', new RegExp(Object.keys(options)[0])))
  await assert.rejects(openMirror(), refused('TALLY_INVALID', /url/))
  await assert.rejects(given({ maxBytes: 1000 }), refused('TALLY_NO_MEMORY'))
  await assert.rejects(given({ shared: true, maxBytes: 100000 }), refused('TALLY_NO_MEMORY', /maxBytes 100000: 5242880 is the least/))
  await assert.rejects(given({ webSocket: 'ws' }), refused('TALLY_UNSUPPORTED', /webSocket/))
  await assert.rejects(given({ waitMs: 200 }), refused('TALLY_UNREACHABLE', /127\.0\.0\.1:1\/v1\/stream.*ECONNREFUSED/))
  await assert.rejects(given({ signal: AbortSignal.timeout(50) }), { name: 'TimeoutError' })
  await assert.rejects(given({ signal: AbortSignal.abort() }), { name: 'AbortError' })
  // No module of ours, and one of another ABI.
  const foreign = (bytes) => new WebAssembly.Module(Uint8Array.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, ...bytes]))
  await assert.rejects(given({ module: {} }), refused('TALLY_INVALID', /module/))
  await assert.rejects(given({ module: foreign([]) }), refused('TALLY_UNSUPPORTED', /it wants the ABI [0-9]+/))
  const abi63 = [1, 5, 1, 0x60, 0, 1, 0x7f, 3, 2, 1, 0, 7, 17, 1, 13, ...Buffer.from('tallycast_abi'), 0, 0, 10, 6, 1, 4, 0, 0x41, 63, 0x0b]
  await assert.rejects(given({ module: foreign(abi63) }), refused('TALLY_UNSUPPORTED', /it wants the ABI [0-9]+/))
  await assert.rejects(given({ shared: true, module: foreign(abi63) }), refused('TALLY_INVALID', /shared/))
})

test('reads: lists, limits, errors', async (context) => {
  const server = await open(context, [(guest) => { guest.send('F', vector('frame-first.bin')); guest.send('F', vector('frame-delta.bin')) }])
  const { counts } = await mirrorOf(context, server)
  await until(() => counts.version === 2, 'version 2')
  assert.deepEqual(counts.tables(), [{ name: 'files', kind: 'counter', rows: 3 }, { name: 'repos', kind: 'counter', rows: 2 }])
  assert.deepEqual(counts.top('repos', 1), [['nng', 4]])
  assert.deepEqual(counts.top('repos', 10), [['nng', 4], ['libuv', 2]])
  assert.deepEqual(counts.top('repos', 0), [])
  assert.deepEqual(counts.top('repos', 1, { bytes: true }), [[new Uint8Array(Buffer.from('nng')), 4]])
  assert.deepEqual([...counts.entries('repos')].sort(), [['libuv', 2], ['nng', 4]])
  assert.equal([...counts.entries('files')].length, 3)
  for (const k of [-1, 1.5, '3', undefined]) assert.throws(() => counts.top('repos', k), refused('TALLY_INVALID', /top/))
  assert.throws(() => counts.get('file', 'x'), refused('TALLY_NOT_FOUND', /table 'file': there is 'files', 'repos'/))
  assert.throws(() => counts.view((view) => view.get('file', 'x')), refused('TALLY_NOT_FOUND', /'files', 'repos'/))
  assert.throws(() => counts.top('file', 1), refused('TALLY_NOT_FOUND'))
  assert.throws(() => [...counts.entries('file')], refused('TALLY_NOT_FOUND'))
  assert.throws(() => counts.get('repos', 'é'.repeat(513)), refused('TALLY_LIMIT', /a key of 1026 bytes: 1024 is the most/))
  assert.throws(() => counts.getMany('repos', ['nng', 'x'.repeat(2000)]), refused('TALLY_LIMIT'))
  for (const key of [undefined, null, 7, {}]) assert.throws(() => counts.get('repos', key), refused('TALLY_INVALID', /key/))
  // An iteration that is left, and one that outlives its view, hold nothing.
  for (const [key] of counts.entries('files')) if (key) break
  const kept = counts.view((view) => view.entries('files'))
  assert.throws(() => kept.next(), refused('TALLY_INVALID', /gone/))
  assert.equal(counts.stats().stalledReaders, 0)
  // One that goes on over an apply reads its own version.
  const slow = counts.entries('repos')
  slow.next()
  server.seen[0].send('F', vector('frame-removals.bin'))
  await until(() => counts.version === 3, 'version 3')
  assert.equal(counts.stats().stalledReaders, 1)
  assert.equal([...slow].length, 1)
  assert.equal(counts.stats().stalledReaders, 0)
  assert.throws(() => counts.share(), refused('TALLY_UNSUPPORTED', /shared: true/))
  counts.close()
  counts.close()
  for (const read of [() => counts.get('repos', 'nng'), () => counts.view(() => 1), () => counts.version, () => counts.stats(), () => counts.top('repos', 1),
    () => [...counts.entries('repos')]]) assert.throws(read, refused('TALLY_INVALID', /closed/))
  assert.equal(counts.state, 'closed')
})

test('top against a sort', async (context) => {
  const server = await open(context, [upTo(300)])
  const { counts } = await mirrorOf(context, server)
  await until(() => counts.version === 300, 'version 300')
  const all = [...counts.entries('accounts')].sort((a, b) => b[1] - a[1])
  for (const k of [1, 2, 3, 7, 50, KEYS, 1000]) assert.deepEqual(counts.top('accounts', k).map(([, value]) => value), all.slice(0, k).map(([, value]) => value))
})

test('damage of every kind, anywhere in what the socket carries: only true versions are ever read, and the newest is reached', async (context) => {
  const seed = Number(process.env.TALLY_SEED ?? Date.now() % 2 ** 31), rounds = Number(process.env.TALLY_ROUNDS ?? 60)
  context.diagnostic(`TALLY_SEED=${seed}`)
  let state = seed
  const below = (n) => { // xorshift
    state ^= state << 13; state ^= state >>> 17; state ^= state << 5
    return (state >>> 0) % n
  }
  const outcomes = {}
  for (let round = 0; round < rounds; round++) {
    const server = await open(context, [async (guest) => {
      let bytes = Buffer.concat(frames.slice(0, 30).map((frame) => message('F', frame)))
      for (let i = below(3); i >= 0; i--) {
        const at = below(bytes.length), size = 1 + below(200)
        const kinds = [
          () => { bytes[at] ^= 1 << below(8); return bytes },
          () => Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + size)]),
          () => Buffer.concat([bytes.subarray(0, at), Buffer.alloc(size, below(256)), bytes.subarray(at)]),
          () => Buffer.concat([bytes.subarray(0, at), bytes.subarray(below(bytes.length))]),
          () => bytes.subarray(0, at)
        ]
        bytes = kinds[below(kinds.length)]()
        if (bytes.length === 0) break
      }
      for (let at = 0; at < bytes.length && guest.socket.writable;) {
        const size = 1 + below(3000)
        guest.raw(bytes.subarray(at, at + size))
        at += size
        await new Promise(setImmediate)
      }
    }, (guest) => upTo(30, Number(guest.query.get('from').split(':')[1]))(guest)])
    const wrong = []
    const { counts, codes } = await mirrorOf(context, server, { silenceMs: 40, backoffMs: [1, 5],
      on: { version: ({ version, digest }) => { if (digest !== digests[version]) wrong.push(version) } } })
    await until(() => counts.version === 30, `version 30 in round ${round}`)
    assert.deepEqual(wrong, [], `round ${round}`)
    assert.equal(counts.digest, digests[30])
    for (const code of new Set(codes())) outcomes[code] = (outcomes[code] ?? 0) + 1
    counts.close()
    await server.close()
  }
  context.diagnostic(JSON.stringify(outcomes))
  assert.ok(Object.keys(outcomes).length >= 3)
})

test('a plain HTTP server is told from a stream', async (context) => {
  const server = http.createServer((request, response) => response.end('hello')).listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  context.after(() => { server.closeAllConnections(); server.close() })
  const url = `http://127.0.0.1:${server.address().port}/`
  await assert.rejects(openMirror({ url, ...QUICK, waitMs: 200 }), refused('TALLY_UNREACHABLE', /200/))
})

after(() => setTimeout(() => { throw new Error('something keeps the process') }, 5000).unref())
