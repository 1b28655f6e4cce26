// SPDX-License-Identifier: Apache-2.0
//
// openTally in a world of the test's own (world.mjs): what it takes and refuses, what it sends, and that each count is counted once whatever is answered.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import { test } from 'node:test'
import { refused, tallycast } from './common.mjs'
import { Place, World, chance, never } from './world.mjs'

const { openTally } = tallycast
const seed = Number(process.env.TALLY_SEED ?? Date.now() % 2 ** 31)
console.log(`# tally: TALLY_SEED=${seed}`)

const unavailable = (headers) => ({ status: 503, json: { error: 'busy' }, headers })
const lines = (request) => new TextDecoder().decode(request.body).split('\n').filter(Boolean)
const limit = (name) => {
  const text = fs.readFileSync(`${process.env.TALLY_SOURCE_DIR}/proto/include/tallycast/limits.h`, 'utf8')
  const [, value] = new RegExp(`#define ${name}\\s+(.*?)(?://.*)?\n`).exec(text)
  return Number(new Function(`return ${value.replaceAll('u', '')}`)())
}

function opened(options, world = new World()) {
  const events = []
  const tally = openTally({ ...world.options, on: { refused: (event) => events.push(event) }, ...options })
  return { tally, world, events, place: world.place }
}
const check = ({ adds, merged, acknowledged, pending, refused: { answered, doubt, closed } }) => assert.equal(adds - merged, acknowledged + pending + answered + doubt + closed)

test('merges by table and key, and sends one request a table', async () => {
  const { tally, world, place } = opened()
  assert.equal(world.timers, 0)
  for (let i = 0; i < 3; i++) assert.equal(tally.add('pages', '/home'), true)
  tally.add('pages', '/about', 5)
  tally.add('users', 'anna', 0)
  assert.equal(world.requests.length, 0)
  assert.deepEqual(await tally.flush(), { epoch: 255n, version: 2, refused: 0 })
  assert.deepEqual(world.requests.map(({ url, method, headers }) => [url, method, headers['Content-Type']]),
    Array(2).fill(['http://place/v1/count?dataset=main', 'POST', 'application/x-ndjson']))
  assert.deepEqual(place.bodies, ['{"table":"pages","key":"/home","amount":3}\n{"table":"pages","key":"/about","amount":5}\n', '{"table":"users","key":"anna","amount":0}\n'])
  assert.equal(new Set(world.requests.map(({ key }) => key)).size, 2)
  assert.match(world.requests[0].key, /^[0-9a-f]{32}$/)
  assert.deepEqual(tally.stats(), { adds: 5, merged: 2, sent: 2, sentBytes: 129, retries: 0, acknowledged: 3, repeats: 0,
    refused: { invalid: 0, full: 0, answered: 0, doubt: 0, closed: 0 }, pending: 0, pendingBytes: 0 })
  assert.deepEqual(await tally.flush(), { epoch: null, version: null, refused: 0 })
  await world.pass(5000)
  assert.deepEqual([world.requests.length, world.timers], [2, 0])
})

test('an interval sends, until nothing waits; without one only flush does', async () => {
  const { tally, world, place } = opened({ intervalMs: 200 })
  tally.add('t', 'a')
  await world.pass(199)
  assert.equal(world.requests.length, 0)
  tally.add('t', 'a')
  await world.pass(1)
  assert.equal(place.of('t', 'a'), 2n)
  tally.add('t', 'a')
  await world.pass(400)
  assert.deepEqual([place.of('t', 'a'), world.requests.length, world.timers], [3n, 2, 0])
  const by = opened({ intervalMs: 0 })
  by.tally.add('t', 'a')
  assert.equal(by.world.timers, 0)
  await by.world.pass(100000)
  assert.equal(by.world.requests.length, 0)
  await by.tally.flush()
  assert.equal(by.place.of('t', 'a'), 1n)
})

test('amounts: BigInts, sums beyond 2^53, and what is none', async () => {
  const { tally, place } = opened({ kinds: { load: 'gauge', best: 'topk' } })
  for (let i = 0; i < 3; i++) tally.add('t', 'large', Number.MAX_SAFE_INTEGER)
  tally.add('t', 'mixed', 2n ** 60n)
  tally.add('t', 'mixed', 7)
  tally.add('t', 'most', 2n ** 63n - 1n)
  tally.add('t', 'most', 2n ** 63n - 1n) // stops there, as it would at the server
  tally.add('t', 'zero', -0)
  tally.add('load', 'down', -3)
  tally.add('load', 'up', 1)
  tally.add('load', 'least', 1n - 2n ** 62n)
  tally.add('best', 'x')
  tally.add('best', 'y', 2n)
  const wrong = [[NaN, 'INVALID'], [Infinity, 'INVALID'], [1.5, 'INVALID'], [2 ** 53, 'INVALID'], [-1, 'INVALID'], [-1n, 'INVALID'], ['1', 'INVALID'], [null, 'INVALID'],
    [{}, 'INVALID'], [2n ** 63n, 'LIMIT']]
  for (const [amount, code] of wrong) assert.throws(() => tally.add('t', 'k', amount), refused(`TALLY_${code}`, /amount/), String(amount))
  assert.throws(() => tally.add('load', 'k', 2n ** 62n), refused('TALLY_LIMIT'))
  assert.throws(() => tally.add('load', 'least', -1), refused('TALLY_LIMIT', /sum/))
  assert.throws(() => tally.add('best', 'k', -1), refused('TALLY_INVALID', /topk only grows/))
  assert.equal(tally.stats().refused.invalid, wrong.length + 3)
  await tally.flush()
  assert.equal(place.of('t', 'large'), 3n * (2n ** 53n - 1n))
  assert.equal(place.of('t', 'mixed'), 2n ** 60n + 7n)
  assert.equal(place.of('t', 'most'), 2n ** 63n - 1n)
  assert.equal(place.of('t', 'k'), undefined)
  assert.match(place.bodies[0], /"key":"large","amount":27021597764222973\}/)
  assert.match(place.bodies[0], /"key":"zero","amount":0\}/)
  assert.equal(place.bodies[1], '{"table":"load","key":"down","adjust":-3}\n{"table":"load","key":"up","adjust":1}\n{"table":"load","key":"least","adjust":-4611686018427387903}\n')
  assert.equal(place.bodies[2], '{"table":"best","key":"x","kind":"topk"}\n{"table":"best","key":"y","amount":2,"kind":"topk"}\n')
})

test('keys are bytes, and names are names', async () => {
  const { tally, place } = opened(), all = Uint8Array.from({ length: 256 }, (_, i) => i)
  tally.add('t', 'é\u0000"\n')
  tally.add('t', new TextEncoder().encode('é\u0000"\n'))
  tally.add('t', '\ufeffx')
  tally.add('t', Uint8Array.of(0xef, 0xbb, 0xbf, 0x78)) // the same, with its byte order mark
  tally.add('t', all, 2)
  tally.add('t', Buffer.from(all))
  tally.add('t', Uint8Array.of(0xff))
  tally.add('t', new Uint8Array(new SharedArrayBuffer(1)))
  tally.add('t', 'k'.repeat(1024))
  tally.add('t', '€'.repeat(341) + 'k')
  tally.add('t', '😀'.repeat(256))
  tally.add('a.b-c_9'.padEnd(64, 'z'), 'k')
  const wrong = [['', 'INVALID'], [new Uint8Array(0), 'INVALID'], ['k'.repeat(1025), 'LIMIT'], ['€'.repeat(342), 'LIMIT'], ['é'.repeat(512) + 'k', 'LIMIT'],
    ['😀'.repeat(256) + 'k', 'LIMIT'], ['😀'.repeat(257), 'LIMIT'], ['k'.repeat(1e6), 'LIMIT'], [new Uint8Array(1025), 'LIMIT'], ['a\ud800', 'INVALID'], ['\udc00a', 'INVALID'], [5, 'INVALID'],
    [undefined, 'INVALID'], [new Uint16Array(1), 'INVALID']]
  for (const [key, code] of wrong) assert.throws(() => tally.add('t', key), refused(`TALLY_${code}`, /key/), String(key).slice(0, 20))
  for (const table of ['', 'A', 'a b', 'é', 'x'.repeat(65), 5, undefined, '__proto__'.toUpperCase()]) assert.throws(() => tally.add(table, 'k'), refused('TALLY_INVALID', /table/))
  tally.add('__proto__', 'k')
  tally.add('constructor', 'k')
  const { pending, pendingBytes } = tally.stats()
  assert.deepEqual([pending, pendingBytes], [11, 5 + 4 + 256 + 1 + 1 + 1024 + 1024 + 1024 + 1 + 1 + 1])
  await tally.flush()
  assert.deepEqual([place.of('t', 'é\u0000"\n'), place.of('t', '\ufeffx'), place.of('t', all), place.of('t', Uint8Array.of(255)), place.of('t', '\0')], [2n, 2n, 3n, 1n, 1n])
  assert.deepEqual([place.of('t', '😀'.repeat(256)), place.of('__proto__', 'k'), place.of('constructor', 'k'), place.counts.size], [1n, 1n, 1n, 11])
})

test('a request is sent again as it is until it is answered; what comes meanwhile goes with the next', async () => {
  const answers = [() => { throw new TypeError('fetch failed') }, () => unavailable(), () => ({ status: 502, text: '<html>' }), () => ({ status: 200, text: '<html>a portal' }),
    () => ({ status: 429, text: '' })]
  const world = new World({ serve: ({ body, key }) => (answers.shift() ?? (() => world.place.take(body, key)))() })
  world.random = () => 0
  const retries = []
  const { tally, place } = opened({ intervalMs: 0, backoffMs: [100, 300] }, world)
  tally.on('retry', ({ error: { code, httpStatus }, tries, retryInMs }) => retries.push([code, httpStatus, tries, retryInMs]))
  tally.add('t', 'a', 1)
  const flushed = tally.flush()
  await world.pass(1)
  tally.add('t', 'a', 10)
  tally.add('t', 'b', 100)
  const second = tally.flush()
  await world.pass(2000)
  assert.deepEqual(await flushed, { epoch: 255n, version: 1, refused: 0 })
  assert.deepEqual(await second, { epoch: 255n, version: 2, refused: 0 })
  assert.deepEqual(retries, [['TALLY_UNREACHABLE', undefined, 1, 50], ['TALLY_BUSY', 503, 2, 100], ['TALLY_UNREACHABLE', 502, 3, 150], ['TALLY_UNREACHABLE', 200, 4, 150],
    ['TALLY_UNREACHABLE', 429, 5, 150]])
  const first = world.requests.slice(0, 6)
  assert.equal(new Set(first.map(({ key, body }) => key + Buffer.from(body))).size, 1)
  assert.deepEqual(first.map(({ at }) => at - 1000), [0, 50, 150, 300, 450, 600])
  assert.deepEqual(place.bodies, ['{"table":"t","key":"a"}\n', '{"table":"t","key":"a","amount":10}\n{"table":"t","key":"b","amount":100}\n'])
  assert.notEqual(world.requests[6].key, first[0].key)
  assert.deepEqual([tally.stats().retries, tally.stats().sent, world.timers], [5, 7, 0])
})

test('back-off is jittered; Retry-After is waited for, and more', async () => {
  const waits = async (headers, random) => {
    const world = new World({ serve: () => unavailable(headers) }), found = []
    world.random = () => random
    const { tally } = opened({ intervalMs: 0, on: { retry: ({ retryInMs }) => found.push(retryInMs) } }, world)
    tally.add('t', 'a')
    tally.flush({ timeoutMs: 20000 }).catch(() => {})
    await world.pass(30000)
    return found.slice(0, 4)
  }
  assert.deepEqual(await waits({}, 0), [125, 250, 500, 1000])
  assert.deepEqual(await waits({}, 0.5), [188, 375, 750, 1500])
  assert.deepEqual(await waits({ 'Retry-After': '2' }, 0), [2125, 2250, 2500, 3000])
  assert.deepEqual(await waits({ 'Retry-After': 'Mon, 23 Nov 2026 10:00:03 GMT', Date: 'Mon, 23 Nov 2026 10:00:00 GMT' }, 0), [3125, 3250, 3500, 4000])
  assert.deepEqual((await waits({ 'Retry-After': '100000000' }, 0)).slice(0, 1), [3600125])
  assert.deepEqual(await waits({ 'Retry-After': 'soon' }, 0), [125, 250, 500, 1000])
})

test('an answer that is lost is not counted twice; one that never comes is not waited for', async () => {
  let number = 0
  const world = new World({
    serve: ({ body, key }) => {
      const answer = world.place.take(body, key)
      return ++number === 1 ? Promise.reject(new TypeError('reset')) : number === 2 ? never() : answer
    }
  })
  const { tally, place } = opened({ intervalMs: 0, timeoutMs: 3000 }, world)
  tally.add('t', 'a', 7)
  const flushed = tally.flush()
  await world.pass(4000)
  assert.deepEqual(await flushed, { epoch: 255n, version: 1, refused: 0 })
  assert.equal(place.of('t', 'a'), 7n)
  assert.deepEqual([tally.stats().repeats, tally.stats().retries, world.timers], [1, 2, 0])
})

test('the runtime ends a request with who sent it (workerd): the next flush goes on, as it is', async () => {
  const world = new World()
  const settings = { ...world.options }
  let alive = false // timers and network
  const timers = { ...settings.timers, setTimeout: (...a) => (alive ? settings.timers.setTimeout(...a) : 0) }
  const fetch = (...a) => (alive ? settings.fetch(...a) : (world.requests.push({ key: a[1].headers['Idempotency-Key'] }), never()))
  const { tally, place } = opened({ intervalMs: 0, timeoutMs: 1000, timers, fetch }, world)
  tally.add('t', 'b', 3)
  tally.flush() // never comes back
  await world.settle()
  // Within another request.
  alive = true
  tally.add('t', 'c', 4)
  const flushed = tally.flush()
  await world.pass(3000)
  assert.deepEqual(await flushed, { epoch: 255n, version: 2, refused: 0 })
  assert.equal(world.requests[0].key, world.requests[1].key)
  assert.deepEqual([place.of('t', 'b'), place.of('t', 'c'), tally.stats().retries], [3n, 4n, 1])
})

test('what is refused is told, counted, and takes no other table along', async () => {
  const answers = { a: { status: 422, json: { error: 'table "a" is a gauge' } }, b: { status: 403, json: { error: 'may not begin' } }, c: { status: 404, json: { error: 'another dataset' } },
    d: { status: 413, text: 'nginx' }, e: { status: 400, json: { error: '1 of 1 events is wrong', refused: [{ line: 1, event: 1, error: 'too odd' }] } } }
  const world = new World({ serve: ({ body, key }) => answers[JSON.parse(new TextDecoder().decode(body).split('\n')[0]).table] ?? world.place.take(body, key) })
  const { tally, events, place } = opened({ intervalMs: 0 }, world)
  for (const table of 'abcdef') tally.add(table, 'k', 2n ** 60n)
  tally.add('a', new Uint8Array([255]), 3)
  tally.add('a', '"amount":9}', 4)
  tally.add('a', 'one')
  assert.deepEqual(await tally.flush(), { epoch: 255n, version: 1, refused: 8 })
  assert.equal(place.of('f', 'k'), 2n ** 60n)
  assert.equal(place.counts.size, 1)
  assert.deepEqual(events.map(({ table, reason, error: { code, httpStatus }, keys, inDoubt }) => [table, reason, code, httpStatus, keys, inDoubt]).sort(), [
    ['a', 'answered', 'TALLY_INVALID', 422, 4, false], ['b', 'answered', 'TALLY_FORBIDDEN', 403, 1, false], ['c', 'answered', 'TALLY_WRONG_DATASET', 404, 1, false],
    ['d', 'answered', 'TALLY_LIMIT', 413, 1, false], ['e', 'answered', 'TALLY_INVALID', 400, 1, false]])
  assert.equal(events.find(({ table }) => table === 'a').amount, 2n ** 60n + 8n)
  assert.match(events.find(({ table }) => table === 'a').error.message, /table "a" is a gauge/)
  assert.match(events.find(({ table }) => table === 'e').error.message, /line 1: too odd/)
  assert.match(new TextDecoder().decode(events.find(({ table }) => table === 'b').body), /^\{"table":"b","key":"k","amount":1152921504606846976\}\n$/)
  assert.deepEqual([tally.stats().refused.answered, tally.stats().acknowledged, tally.stats().pending, tally.stats().pendingBytes], [8, 1, 0, 0])
  check(tally.stats())
  // It goes on taking counts of that table, and says of each that it is refused; one that was tried before may have been counted.
  delete answers.a
  tally.add('a', 'k')
  assert.equal((await tally.flush()).refused, 0)
  let first = true
  answers.b = null
  world.serve = ({ body, key }) => { if (first) { first = false; throw new Error('reset') } return { status: 422, json: { error: 'no' } } }
  tally.add('b', 'k')
  const flushed = tally.flush()
  await world.pass(1000)
  assert.equal((await flushed).refused, 1)
  assert.equal(events.at(-1).inDoubt, true)
})

test('bounded: what does not fit is refused with false, and keys that wait go on counting', async () => {
  let answering = false
  const world = new World({ serve: ({ body, key }) => (answering ? world.place.take(body, key) : unavailable()) })
  const { tally, place } = opened({ keysMax: 3, keyBytesMax: 2000 }, world)
  assert.deepEqual(['a', 'b', 'c', 'd'].map((key) => tally.add('t', key)), [true, true, true, false])
  assert.deepEqual([tally.add('u', 'a'), tally.add('t', 'a'), tally.add('t', Uint8Array.of(255))], [false, true, false])
  await world.pass(3000) // they are under way now, and count as long as they are
  assert.equal(tally.add('t', 'a'), false)
  answering = true
  await world.pass(20000)
  assert.deepEqual([tally.add('t', 'd'), tally.add('t', 'x'.repeat(1024)), tally.add('t', 'y'.repeat(976)), tally.add('t', 'y'.repeat(975))], [true, true, false, true])
  assert.deepEqual([tally.stats().refused.full, tally.stats().pending, tally.stats().pendingBytes], [5, 3, 2000])
  await tally.flush()
  assert.deepEqual([place.of('t', 'a'), place.of('t', 'd'), place.of('u', 'a'), tally.stats().pendingBytes], [2n, 1n, undefined, 0])
  check(tally.stats())
})

test('bodies keep within every limit of the protocol', async () => {
  const { tally, world, place } = opened({ keysMax: 1e6, keyBytesMax: 1e9 })
  for (let i = 0; i < 90000; i++) tally.add('t', i.toString(36), i)
  for (let i = 0; i < 900; i++) tally.add('t', `${i}`.padEnd(1024, '\u0001'), 2n ** 62n)
  for (let i = 0; i < 900; i++) tally.add('t', Buffer.alloc(1024, 255).fill(`${i}`.padStart(3, '0'), 0, 3), 2n ** 62n)
  tally.add('u', 'k')
  assert.equal((await tally.flush()).refused, 0)
  assert.equal(place.counts.size, 91801)
  assert.equal(place.of('t', 'zz'), 35n * 36n + 35n)
  const seen = { bodies: 0, lines: 0 }
  for (const request of world.requests) {
    const size = request.body.length, events = lines(request)
    assert.ok(size <= limit('TALLY_COUNT_BODY_BYTES_MAX') && events.length <= limit('TALLY_BATCH_ENTRIES_MAX'))
    assert.ok(Math.max(...events.map((line) => Buffer.byteLength(line))) <= limit('TALLY_COUNT_EVENT_BYTES_MAX'))
    // From above: an entry with its key's size and an amount of ten bytes, and what is around them.
    const batch = events.reduce((all, line) => { const { key, key_base64: packed } = JSON.parse(line); return all + Buffer.byteLength(key ?? packed) + 14 }, 400)
    assert.ok(batch <= limit('TALLY_BATCH_BYTES_MAX'), `${batch}`)
    seen.bodies++
    seen.lines += events.length
  }
  assert.equal(seen.lines, 91801)
  tally.add('t', '\u0001'.repeat(1024))
  await tally.flush()
  assert.deepEqual([world.requests.length, place.of('t', '\u0001'.repeat(1024))], [seen.bodies + 1, 1n])
  assert.ok(seen.bodies >= 9 && seen.bodies < 16, `${seen.bodies}`)
  assert.equal(limit('TALLY_KEY_BYTES_MAX'), 1024)
})

test('flush: what was added before it, within its time; several at once; a signal', async () => {
  const world = new World({ serve: () => unavailable() })
  const { tally } = opened({ intervalMs: 0, timeoutMs: 5000 }, world)
  tally.add('t', 'a')
  const late = assert.rejects(tally.flush({ timeoutMs: 1500 }), refused('TALLY_TIMEOUT', /busy/))
  const ended = new AbortController(), aborted = assert.rejects(tally.flush({ signal: ended.signal }), /enough/)
  await world.pass(1000)
  ended.abort(new Error('enough'))
  await world.pass(1000)
  await Promise.all([late, aborted])
  const tries = world.requests.length
  await world.pass(60000)
  assert.equal(world.requests.length, tries, 'nobody waits: nothing is sent')
  assert.equal(tally.stats().pending, 1)
  world.serve = ({ body, key }) => world.place.take(body, key)
  // Added while a flush is under way: it does not wait for that.
  const flushes = [tally.flush(), tally.flush()]
  tally.add('t', 'b')
  await world.pass(1)
  assert.deepEqual((await Promise.all(flushes)).map(({ version }) => version), [1, 1])
  assert.equal(tally.stats().pending, 1)
  assert.equal((await tally.flush()).version, 2)
})

test('no more requests at a time than requestsMax, one a table, and none starves', async () => {
  let under = 0, most = 0
  const tables = new Map()
  const world = new World({
    serve: async ({ body, key }) => {
      const { table } = JSON.parse(new TextDecoder().decode(body).split('\n')[0])
      most = Math.max(most, ++under)
      assert.equal(tables.get(table) ?? 0, 0)
      tables.set(table, 1)
      await new Promise((resolve) => world.options.timers.setTimeout(resolve, 10))
      tables.set(table, 0)
      under--
      return world.place.take(body, key)
    }
  })
  const { tally, place } = opened({ intervalMs: 5, requestsMax: 3 }, world)
  for (let round = 0; round < 40; round++) {
    for (let table = 0; table < 10; table++) tally.add(`t${table}`, 'k')
    await world.pass(7)
  }
  await world.pass(500)
  for (let table = 0; table < 10; table++) assert.equal(place.of(`t${table}`, 'k'), 40n)
  assert.equal(most, 3)
  assert.deepEqual([tally.stats().pending, world.timers], [0, 0])
})

test('doubtMaxMs: what got no answer for so long is given up, not sent again', async () => {
  const world = new World({ serve: ({ body, key }) => { world.place.take(body, key); throw new Error('reset') } })
  const { tally, events } = opened({ intervalMs: 0, doubtMaxMs: 4000 }, world)
  tally.add('t', 'a', 5)
  const flushed = tally.flush()
  await world.pass(20000)
  assert.equal((await flushed).refused, 1)
  assert.deepEqual(events.map(({ reason, inDoubt, amount }) => [reason, inDoubt, amount]), [['doubt', true, 5n]])
  assert.ok(world.requests.at(-1).at - world.requests[0].at < 4000 + 15000)
  assert.equal(tally.stats().refused.doubt, 1)
  check(tally.stats())
})

test('doubtMaxMs: by whichever clock has gone further', async () => {
  for (const [which, still] of [['date', 'now'], ['now', 'date']]) {
    const world = new World({ serve: () => unavailable() })
    let ahead = 0 // asleep: the other one stood still
    const { tally, events } = opened({ intervalMs: 0, backoffMs: [100, 100], doubtMaxMs: 3600000, [which]: () => world.time + ahead, [still]: () => Math.min(world.time, 5000) }, world)
    tally.add('t', 'a')
    const waiting = tally.flush()
    await world.pass(3000)
    assert.equal(events.length, 0)
    ahead = 3600000
    await world.pass(1000)
    assert.equal((await waiting).refused, 1, which)
  }
})

test('an answer that comes when its request was taken for lost changes nothing', async () => {
  const answers = [], world = new World()
  const fetch = (url, { headers }) => new Promise((resolve) => answers.push({ key: headers['Idempotency-Key'], resolve })) // deaf to signals
  const { tally, events } = opened({ intervalMs: 0, timeoutMs: 1000, fetch }, world)
  const say = (at, status, json) => answers[at].resolve({ status, headers: new Headers(), text: async () => JSON.stringify(json) })
  tally.add('t', 'a')
  const flushed = tally.flush()
  await world.pass(3000)
  assert.deepEqual([answers.length, answers[0].key === answers[1].key], [2, true])
  say(0, 422, { error: 'late' })
  await world.pass(500)
  assert.deepEqual([events, answers.length, tally.stats().pending], [[], 2, 1])
  say(1, 200, { dataset: 'main', epoch: 'ff', version: 9, accepted: 1, repeat: true, refused: [] })
  assert.deepEqual(await flushed, { epoch: 255n, version: 9, refused: 0 })
})

test('a place that is gone for long: what is added waits with it, in bounded time and memory', async () => {
  const world = new World({ serve: () => unavailable() })
  const { tally, place } = opened({ intervalMs: 100, backoffMs: [100, 1000] }, world)
  for (let i = 0; i < 500; i++) {
    tally.add('t', `k${i % 5}`)
    await world.pass(100)
    assert.ok(world.timers <= 2, `${world.timers} timers`)
  }
  assert.ok(world.requests.length < 500 / 5, `${world.requests.length} requests`)
  assert.equal(tally.stats().pending, 1 + 5)
  world.serve = ({ body, key }) => place.take(body, key)
  await world.pass(1500)
  assert.deepEqual([place.of('t', 'k0'), place.of('t', 'k4'), place.bodies.length, world.timers], [100n, 100n, 2, 0])
})

test('close flushes, and tells what it leaves; nothing is taken after it', async () => {
  const { tally, world, place } = opened()
  tally.add('t', 'a')
  const closed = tally.close()
  assert.throws(() => tally.add('t', 'a'), refused('TALLY_INVALID', /closed/))
  assert.deepEqual(await closed, { epoch: 255n, version: 1, refused: 0 })
  assert.equal(await tally.close(), await closed)
  assert.deepEqual([place.of('t', 'a'), world.timers], [1n, 0])

  const stuck = new World({ serve: never }), { tally: other, events } = opened({}, stuck)
  other.add('t', 'a')
  const flushing = other.flush()
  await stuck.pass(10)
  other.add('t', 'b', 2)
  other.add('u', 'c', 3)
  const left = assert.rejects(other.close({ timeoutMs: 500 }), refused('TALLY_TIMEOUT'))
  await stuck.pass(500)
  await left
  assert.equal((await flushing).refused, 2)
  assert.deepEqual(events.map(({ table, reason, amount, inDoubt }) => [table, reason, amount, inDoubt]), [['t', 'closed', 1n, true], ['t', 'closed', 2n, false], ['u', 'closed', 3n, true]])
  assert.deepEqual([other.stats().refused.closed, other.stats().pending, other.stats().pendingBytes], [3, 0, 0])
  check(other.stats())
  await stuck.pass(60000)
  assert.equal(stuck.timers, 0)
})

test('keepalive: small bodies alone', async () => {
  const { tally, world } = opened({ intervalMs: 0 })
  tally.add('t', 'a')
  for (let i = 0; i < 4000; i++) tally.add('u', `key ${i}`)
  const flushed = tally.flush({ keepalive: true })
  assert.equal(world.requests.length, 2, 'a page that ends has no later turn')
  await flushed
  assert.deepEqual(world.requests.map(({ keepalive }) => keepalive), [true, undefined])
  tally.add('t', 'a')
  await tally.flush()
  assert.equal(world.requests[2].keepalive, undefined)
})

test('an edge answers without a version', async () => {
  const { tally } = opened({}, new World({ place: new Place({ edge: true }) }))
  tally.add('t', 'a')
  assert.deepEqual(await tally.flush(), { epoch: null, version: null, refused: 0 })
})

test('options', () => {
  const { options } = new World(), url = 'http://place'
  for (const given of ['http://place', 'http://place/', 'http://place/v1/count', 'ws://place/v1/stream', new URL('http://place')]) {
    const world = new World(), tally = openTally({ ...world.options, url: given })
    tally.add('t', 'k')
    tally.flush()
    assert.equal(world.requests[0].url, 'http://place/v1/count?dataset=main', String(given))
  }
  const wrong = [{ url: undefined }, { url: 'place' }, { url: 'ftp://place' }, { url: [url] }, { dataset: undefined }, { intervalMs: -1 }, { intervalMs: '1' }, { keysMax: 0 },
    { keyBytesMax: 10 }, { timeoutMs: 0 }, { backoffMs: 5 }, { backoffMs: [0, 1] }, { requestsMax: 0 }, { kinds: { t: 'max' } }, { kinds: { T: 'topk' } }]
  for (const option of wrong) assert.throws(() => openTally({ ...options, ...option }), refused('TALLY_INVALID'), JSON.stringify(option))
  assert.throws(() => openTally({ url, dataset: 'main', fetch: 5 }), refused('TALLY_UNSUPPORTED'))
  assert.throws(() => openTally({ url, dataset: 'main' }).on('refused'), TypeError)
})

// Whatever happens to requests, answers and clients' patience: at the end the place has each count once, or it was told that it has not.
test('exact under a network that loses, delays, repeats and refuses', async () => {
  for (let turn = 0; turn < 30; turn++) {
    const draw = chance(seed + turn), pick = (n) => Math.floor(draw() * n)
    const world = new World({
      seed: seed + turn,
      serve: async ({ body, key }) => {
        const wait = () => new Promise((resolve) => world.options.timers.setTimeout(resolve, pick(2500)))
        switch (pick(8)) {
          case 0: throw new Error('never arrived')
          case 1: world.place.take(body, key); throw new Error('the answer was lost')
          case 2: return unavailable({ 'Retry-After': '1' })
          case 3: await wait(); return world.place.take(body, key)
          case 4: wait().then(() => world.place.take(body, key)); return { status: 504, text: '' } // it arrives later all the same
          case 5: return pick(4) ? never() : { status: 422, json: { error: 'no' } }
          default: return world.place.take(body, key)
        }
      }
    })
    const { tally, events, place } = opened({ intervalMs: pick(3) * 300, timeoutMs: 1000, backoffMs: [10, 400], requestsMax: 1 + pick(4), keysMax: 60 }, world)
    const want = new Map()
    for (let i = 0; i < 400; i++) {
      const table = `t${pick(3)}`, key = `k${pick(30)}`, n = pick(5) ? pick(100) : 2n ** BigInt(pick(55)), at = `${table}\0${key}`
      if (tally.add(table, key, n)) want.set(at, (want.get(at) ?? 0n) + BigInt(n))
      if (pick(10) === 0) tally.flush({ timeoutMs: pick(2000) }).catch(() => {})
      if (pick(4) === 0) await world.pass(pick(200))
      check(tally.stats())
    }
    const end = tally.flush()
    await world.pass(400000)
    await end
    // Refused ones: the place may have counted some of those that are in doubt.
    let lost = 0n, doubt = 0n
    for (const event of events) { if (event.inDoubt) doubt += event.amount; else lost += event.amount }
    const sum = (map) => [...map.values()].reduce((all, one) => all + one, 0n), counted = sum(place.counts)
    assert.ok(counted <= sum(want) - lost && counted >= sum(want) - lost - doubt, `turn ${turn}`)
    if (!events.length) assert.deepEqual([...place.counts].filter(([, n]) => n).sort(), [...want].filter(([, n]) => n).sort(), `turn ${turn}`)
    assert.deepEqual([tally.stats().pending, world.timers > 40], [0, false])
    check(tally.stats())
  }
})
