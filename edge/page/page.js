// SPDX-License-Identifier: Apache-2.0
//
// Paints what the worker reads from its mirror, and tells it what is looked for. #table=NAME&q=TEXT in the address keeps the choice.
const $ = (id) => document.getElementById(id)
const worker = new Worker('/page/worker.js', { type: 'module' })
const whole = new Intl.NumberFormat('en'), short = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 })
const STATES = { connecting: 'connecting', 'catching-up': 'catching up', live: 'live', stale: 'stale', gone: 'gone' }
const SPARKS = 60
const ORDER_MS = 900      // rows change places no more often: who reads a list wants to find a row again
const TAIL_FROM = 16      // a match further behind is shown with the end of its key, where there is no room for all of it

const put = (id, text) => { const node = $(id); if (node.textContent !== text) node.textContent = text }
const perSecond = (rate) => (rate < 10 ? (Math.round(rate * 10) / 10).toString() : rate < 10000 ? whole.format(Math.round(rate)) : short.format(rate))

function duration(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`
  if (ms < 60000) return `${(ms / 1000).toFixed(ms < 10000 ? 1 : 0)} s`
  return ms < 3600000 ? `${Math.floor(ms / 60000)} min` : `${Math.floor(ms / 3600000)} h`
}

// ---------------------------------------------------------------------------------------------------- a list whose rows move

class List {
  #ol
  #items = new Map() // key -> {li, parts, samples, place}
  #query = ''
  #sorted = null
  #orderedAt = 0

  constructor(ol) { this.#ol = ol }

  // [[key, value], ...], greatest first; `greatest`: the value of a whole bar.
  paint(rows, greatest, query = '') {
    if (query !== this.#query) this.#forget(query)
    const now = performance.now(), left = new Set(this.#items.keys())
    let moved = false
    this.#inOrder(rows, now).forEach(([key, value], place) => {
      const item = this.#items.get(key) ?? this.#make(key)
      left.delete(key)
      moved ||= item.place !== place
      this.#update(item, value, place, greatest, now)
    })
    for (const key of left) {
      const { li } = this.#items.get(key)
      this.#items.delete(key)
      li.remove()
    }
    this.#ol.style.height = `calc(var(--row) * ${rows.length})`
    if (moved) this.#sortLater()
  }

  // As they are, or, when they were put in order a moment ago and are the same rows still, as they were then.
  #inOrder(rows, now) {
    const same = rows.length === this.#items.size && rows.every(([key]) => this.#items.has(key))
    if (same && now - this.#orderedAt < ORDER_MS) return [...rows].sort(([a], [b]) => this.#items.get(a).place - this.#items.get(b).place)
    if (same || now - this.#orderedAt >= ORDER_MS) this.#orderedAt = now
    return rows
  }

  #make(key) {
    const li = document.createElement('li'), bar = document.createElement('i'), line = document.createElement('div')
    const [rank, name, value, rate] = ['span', 'span', 'b', 'span'].map((tag) => line.appendChild(document.createElement(tag)))
    rank.className = 'rank'
    rate.className = 'rate'
    li.dataset.key = name.title = key
    const inside = name.appendChild(document.createElement('bdi'))
    inside.append(...this.#marked(key))
    if (inside.querySelector('mark') && inside.firstChild.textContent.length > TAIL_FROM) name.className = 'tail'
    li.append(bar, line)
    const item = { li, bar, rank, value, rate, samples: [], place: -1 }
    this.#items.set(key, item)
    return item
  }

  // The key with what was looked for made visible.
  #marked(key) {
    const words = this.#query.toLowerCase().split(/\s+/).filter(Boolean), text = key.toLowerCase()
    if (!words.length || text.length !== key.length) return [key]
    const hit = new Uint8Array(key.length)
    for (const word of words) for (let at = text.indexOf(word); at >= 0; at = text.indexOf(word, at + 1)) hit.fill(1, at, at + word.length)
    const parts = []
    for (let from = 0, to; from < key.length; from = to) {
      for (to = from + 1; to < key.length && hit[to] === hit[from];) to++
      const text = key.slice(from, to)
      parts.push(hit[from] ? Object.assign(document.createElement('mark'), { textContent: text }) : text)
    }
    return parts
  }

  #update(item, value, place, greatest, now) {
    const { li, bar, rank, samples } = item
    samples.push([now, value])
    while (samples.length > 2 && now - samples[0][0] > 3000) samples.shift()
    const [at, from] = samples[0], rate = now - at > 900 ? (value - from) * 1000 / (now - at) : 0
    const text = whole.format(value), speed = Math.abs(rate) >= 0.05 ? `${rate > 0 ? '+' : '−'}${perSecond(Math.abs(rate))}/s` : ''
    if (item.value.textContent !== text) item.value.textContent = text
    if (item.rate.textContent !== speed) item.rate.textContent = speed
    bar.style.transform = `scaleX(${greatest > 0 ? Math.max(0, Math.min(1, value / greatest)).toFixed(4) : 0})`
    if (item.place !== place) {
      li.style.zIndex = place < item.place ? 1 : 0 // who rises goes in front
      item.place = place
      rank.textContent = place + 1
      li.style.transform = `translateY(calc(var(--row) * ${place}))`
    }
    if (!li.isConnected) this.#ol.append(li)
  }

  // What is seen is placed by transforms; who listens to the page goes by the document's order, which follows when nothing moves any more.
  #sortLater() {
    clearTimeout(this.#sorted)
    this.#sorted = setTimeout(() => {
      this.#ol.append(...[...this.#items.values()].sort((a, b) => a.place - b.place).map(({ li }) => li))
    }, 600)
  }

  #forget(query) {
    this.#query = query
    this.#items.clear()
    this.#ol.replaceChildren()
  }
}

// ---------------------------------------------------------------------------------------------------- painting

const top = new List(document.querySelector('#top ol')), found = new List(document.querySelector('#found ol'))
const sparks = []
let sparkAt = 0, painted = '', last = null, scheduled = false

function paintTables(tables, chosen) {
  const names = tables.map(({ name }) => name).join(' ')
  const field = $('table')
  if (names !== painted) {
    painted = names
    field.querySelectorAll('label').forEach((label) => label.remove())
    for (const { name } of tables) {
      const label = document.createElement('label'), input = document.createElement('input'), span = document.createElement('span')
      Object.assign(input, { type: 'radio', name: 'table', value: name })
      span.textContent = name
      label.append(input, span)
      field.append(label)
    }
  }
  for (const input of field.querySelectorAll('input')) input.checked = input.value === chosen
  field.hidden = !tables.length
}

function paintSpark(changes, now) {
  if (now - sparkAt < 1000) return
  sparkAt = now
  sparks.push(changes)
  if (sparks.length > SPARKS) sparks.shift()
  const most = Math.max(...sparks, 1)
  document.querySelector('#spark polyline').setAttribute('points',
    sparks.map((value, i) => `${SPARKS - sparks.length + i},${(19 - 18 * value / most).toFixed(1)}`).join(' '))
}

function noticeOf({ state, failure, ageMs, info, edge }) {
  if (state === 'connecting') return failure
  if (state === 'gone') return `${info ? `No connection: what is shown is version ${whole.format(info.version)}, ${duration(ageMs)} old. ` : ''}Trying again. ${failure ? `(${failure})` : ''}`
  if (state === 'stale') return edge ? `The edge is connected, but has heard nothing new for ${duration(ageMs)}: its server may be away.` : `Nothing new was heard for ${duration(ageMs)}.`
  return null
}

function paintFigures({ info, ageMs, lag, tables, changes, versions, readNs }) {
  put('version', whole.format(info.version))
  put('versions', `${perSecond(versions)} a second`)
  put('age', duration(ageMs))
  put('lag', lag === undefined ? '–' : whole.format(lag))
  put('keys', whole.format(info.rows))
  put('tables', `in ${tables.length} ${tables.length === 1 ? 'table' : 'tables'}`)
  put('changes', perSecond(changes))
  put('reads', readNs ? short.format(1e9 / readNs) : '–')
  put('read', readNs ? `${Math.round(readNs)} ns each` : '\u00a0')
  paintSpark(changes, performance.now())
}

function paintLists({ table, tables, top: rows, found: matches }) {
  const greatest = rows[0]?.[1] ?? 0, size = tables.find(({ name }) => name === table)?.rows ?? 0
  put('top-title', `Top ${rows.length} of ${table}`)
  put('top-note', `${whole.format(size)} keys`)
  top.paint(rows, greatest)
  $('found').hidden = !matches
  if (matches) {
    const count = matches.total > matches.rows.length ? `${matches.rows.length} of ${whole.format(matches.total)}` : whole.format(matches.total)
    put('found-count', matches.done ? (matches.total ? count : 'no key has it') : (matches.total ? `${count} …` : 'looking …'))
    found.paint(matches.rows, greatest, matches.query)
  }
  $('top').hidden = !table
}

function paint() {
  scheduled = false
  const { state, edge, info } = last, notice = noticeOf(last)
  if (document.body.dataset.state !== state) document.body.dataset.state = state
  put('state', STATES[state])
  $('notice').hidden = !notice
  if (notice) put('notice', notice)
  if (edge) put('dataset', `${edge.dataset} at ${location.host}`)
  if (!info) return
  paintFigures(last)
  paintTables(last.tables, last.table)
  paintLists(last)
  $('empty').hidden = last.tables.length > 0
  put('proof', `This page reads from a copy of its own: a WebAssembly mirror of ${(last.memoryBytes / 1048576).toFixed(1)} MiB, kept up to date over one WebSocket. ` +
    `Digest ${info.digest.slice(0, 8)}…${last.same === undefined ? '' : last.same ? ', the same as the edge’s.' : ', which is NOT the edge’s.'}`)
  document.title = `${state === 'live' ? '' : `${STATES[state]}: `}Tallycast ${last.table}`
}

worker.onmessage = ({ data }) => {
  last = data
  if (!scheduled) requestAnimationFrame(paint)
  scheduled = true
}
worker.onerror = (event) => {
  last = { state: 'gone', failure: event.message || 'the worker of this page did not start' }
  paint()
}

// ---------------------------------------------------------------------------------------------------- what is asked for

const search = $('search'), kept = new URLSearchParams(location.hash.slice(1))
const wish = { table: kept.get('table') ?? '', query: kept.get('q') ?? '' }

function ask(change) {
  Object.assign(wish, change)
  worker.postMessage(wish)
  const keep = new URLSearchParams(Object.entries({ table: wish.table, q: wish.query }).filter(([, text]) => text))
  history.replaceState(null, '', `#${keep}`)
}

search.value = wish.query
worker.postMessage(wish)
$('table').addEventListener('change', ({ target }) => ask({ table: target.value }))
search.addEventListener('input', () => ask({ query: search.value.trim() }))
$('choice').addEventListener('submit', (event) => event.preventDefault())
document.addEventListener('visibilitychange', () => worker.postMessage({ shown: !document.hidden }))
document.addEventListener('keydown', (event) => {
  if (event.key === '/' && document.activeElement !== search && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault()
    search.select()
    search.focus()
  } else if (event.key === 'Escape' && (search.value || document.activeElement === search)) {
    search.value = ''
    ask({ query: '' })
    search.blur()
  }
})
