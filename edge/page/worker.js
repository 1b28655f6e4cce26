// SPDX-License-Identifier: Apache-2.0
//
// The worker of the live page: it follows the stream, holds the mirror, and does all that takes time (looking through a table), so that the page itself only
// paints. In: {table, query, shown}. Out: what there is to paint, at most TICK_MS apart, all numbers of it of one version.
import { openMirror } from '/client/src/web.js'

const TICK_MS = 100, ASK_MS = 1000, STALE_MS = 5000, AGAIN_MS = 2000
const TOP = 20, FOUND = 20
const SLICE_MS = 8       // of a search, then whoever else waits gets a turn
const SHOW_MS = 200      // what was found so far is shown so often
const SHARE = 20         // looking through a table may take one part in so many of the time
const PROBE_MS = 3, PROBE_EACH_MS = 500, PROBE_KEYS = 1024

const wish = { table: '', query: '', shown: true }
let mirror = null
let failure = null       // why there is no mirror
let edge = null          // what /v1/version said last; null when nobody answers
let top = { table: '', keys: [], at: -Infinity, costMs: 0, version: -1 }
let search = null
let probe = { keys: [], table: '', at: 0, reads: 0, ns: 0 }
const history = []       // [ms, rows changed, swaps] of the last two seconds
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
// A turn for messages and the stream; timers would wait 4 ms.
const turn = () => new Promise((resolve) => { const { port1, port2 } = new MessageChannel(); port1.onmessage = () => { port1.close(); resolve() }; port2.postMessage(0) })

// ---------------------------------------------------------------------------------------------------- what the edge says

async function ask() {
  try {
    const answer = await fetch('/v1/version', { cache: 'no-store', signal: AbortSignal.timeout(4000) })
    edge = await answer.json()
  } catch {
    edge = null
  }
}

async function open() {
  for (;;) {
    await ask()
    try {
      if (!edge) throw new Error('the edge does not answer')
      mirror = await openMirror({ url: new URL('/v1/stream', location.href).href, dataset: edge.dataset, maxAgeMs: STALE_MS, backoffMs: [250, 4000], waitMs: 15000 })
      failure = null
      return
    } catch (error) {
      failure = edge && edge.version === 0 ? 'The edge holds nothing yet.' : String(error?.message ?? error)
      tick()
      await pause(AGAIN_MS)
    }
  }
}

// ---------------------------------------------------------------------------------------------------- the greatest rows

// Which rows are the greatest is looked up as often as that is cheap; what they have now is read each time.
function updateTop(now, version, rows) {
  if (top.table === wish.table && (top.version === version || now - top.at < Math.max(TICK_MS, SHARE * top.costMs))) return
  const keys = rows ? mirror.top(wish.table, TOP).map(([key]) => key) : []
  top = { table: wish.table, keys, version, at: now, costMs: performance.now() - now }
}

// ---------------------------------------------------------------------------------------------------- search

// Keys that contain each word of the query, whatever the case; the greatest of them are shown.
async function look(query, table) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean)
  const mine = search = { query, table, keys: search?.table === table && search.query === query ? search.keys : [], total: 0, done: false, at: performance.now(), costMs: 0, version: mirror.version }
  const best = []
  let total = 0, until = performance.now() + SLICE_MS, shownAt = until
  const show = () => {
    if (total || mine.done) mine.keys = [...best].sort((a, b) => b[1] - a[1]).slice(0, FOUND).map(([key]) => key)
    mine.total = total
    shownAt = performance.now()
  }
  try {
    if (mirror.get(table, query) !== undefined) best.push([query, Infinity]), total++
    let seen = 0
    for (const [key, value] of mirror.entries(table)) {
      if ((++seen & 255) === 0 && performance.now() > until) {
        mine.costMs += SLICE_MS
        await turn()
        if (search !== mine) return
        if (performance.now() > shownAt + SHOW_MS) show()
        until = performance.now() + SLICE_MS
      }
      if (key === query) continue
      const text = key.toLowerCase()
      if (!words.every((word) => text.includes(word))) continue
      total++
      best.push([key, value])
      if (best.length > 50 * FOUND) best.sort((a, b) => b[1] - a[1]).length = FOUND
    }
    mine.done = true
    show()
  } catch { // the table is gone, or the key is none
    mine.done = true
    show()
  }
}

function updateSearch(now, version) {
  const { table, query } = wish
  if (!query) search = null
  else if (search?.query !== query || search.table !== table) look(query, table)
  else if (search.done && search.version !== version && now - search.at > Math.max(2000, SHARE * search.costMs)) look(query, table)
}

// ---------------------------------------------------------------------------------------------------- how fast reads are

// Reads keys of the table, one by one and as strings, for a few milliseconds.
function measure(now) {
  if (now - probe.at < PROBE_EACH_MS || !top.keys.length) return
  if (probe.table !== wish.table || probe.keys.length < PROBE_KEYS) {
    const keys = []
    for (const [key] of mirror.entries(wish.table)) if (keys.push(key) >= PROBE_KEYS) break
    probe = { ...probe, keys, table: wish.table }
  }
  const { keys } = probe, start = performance.now()
  let reads = 0, end
  do {
    for (let i = 0; i < keys.length; i++) mirror.get(wish.table, keys[i])
    reads += keys.length
  } while ((end = performance.now()) < start + PROBE_MS)
  const ns = (end - start) * 1e6 / reads
  probe = { ...probe, at: now, ns: probe.ns ? 0.7 * probe.ns + 0.3 * ns : ns }
}

// ---------------------------------------------------------------------------------------------------- what there is to paint

function rates(now) {
  const { rowsChanged, swaps, memoryBytes } = mirror.stats()
  history.push([now, rowsChanged, swaps])
  while (history.length > 2 && now - history[0][0] > 2000) history.shift()
  const [at, changed, swapped] = history[0], seconds = (now - at) / 1000 || 1
  return { changes: Math.max(0, rowsChanged - changed) / seconds, versions: Math.max(0, swaps - swapped) / seconds, memoryBytes }
}

// One word for how good what is shown is.
function stateOf() {
  if (!mirror) return failure && !edge ? 'gone' : 'connecting'
  if (mirror.state === 'waiting' || mirror.state === 'connecting' || mirror.state === 'closed') return 'gone'
  if (mirror.state === 'catching-up') return 'catching-up'
  return mirror.stale || edge?.state === 'stale' ? 'stale' : 'live'
}

function lagOf(info) {
  if (!edge || BigInt(`0x${edge.epoch}`) !== info.epoch) return undefined
  return edge.lag + Math.max(0, edge.version - info.version)
}

function tick() {
  const state = stateOf()
  if (!mirror) return postMessage({ state, failure, edge })
  if (!wish.shown) return
  const now = performance.now()
  const tables = mirror.tables()
  if (!tables.some(({ name }) => name === wish.table)) wish.table = tables[0]?.name ?? ''
  const { version } = mirror
  if (wish.table) {
    updateTop(now, version, true)
    updateSearch(now, version)
    measure(now)
  }
  const rows = (view, keys) => view.getMany(wish.table, keys).map((value, i) => [keys[i], value]).filter(([, value]) => value !== undefined)
    .sort((a, b) => b[1] - a[1])
  postMessage(mirror.view((view) => {
    const info = view.info()
    return {
      state,
      failure: mirror.error?.message,
      edge,
      info,
      ageMs: mirror.ageMs,
      lag: state === 'gone' ? undefined : lagOf(info),
      same: state !== 'gone' && edge?.version === info.version ? edge.digest === info.digest : undefined,
      tables,
      table: wish.table,
      top: rows(view, top.keys),
      found: search && { query: search.query, total: search.total, done: search.done, rows: rows(view, search.keys) },
      readNs: probe.ns,
      ...rates(now)
    }
  }))
}

onmessage = ({ data }) => {
  const before = { ...wish }
  Object.assign(wish, data)
  if (!mirror) return
  if (before.table !== wish.table) top.table = ''
  if (before.query !== wish.query || before.table !== wish.table || (wish.shown && !before.shown)) tick()
}

await open()
setInterval(tick, TICK_MS)
setInterval(ask, ASK_MS)
mirror.on('state', tick)
mirror.on('stale', tick)
