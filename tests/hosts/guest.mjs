// SPDX-License-Identifier: Apache-2.0
//
// What every JavaScript host does in its test, by nothing but what all of them have: it follows a stream with a mirror, reads some keys of each version
// by `get` and by `getMany` of one view, and tells the driver (hosts.py) all that it read, which the driver holds against what the server answers by HTTP
// for the same version. At the end it tells every key's value. A check that fails is told, too.
const REPORT_MS = 100

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

export async function post(control, path, body) {
  const answer = await fetch(control + path, { method: 'POST', body: JSON.stringify(body) })
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`)
  return answer.json()
}

export function equal(found, want, what) {
  const a = JSON.stringify(found), b = JSON.stringify(want)
  if (a !== b) throw new Error(`${what}: ${a}, expected ${b}`)
}

const hex = (epoch) => epoch.toString(16).padStart(16, '0')

// Reads the watched keys of one version, each of them twice.
export function read(view, watched) {
  const { epoch, version, digest } = view.info()
  const values = Object.fromEntries(Object.entries(watched).map(([table, keys]) => {
    const many = view.getMany(table, keys)
    equal(keys.map((key) => view.get(table, key)), many, `get and getMany of version ${version}`)
    return [table, many.map((value) => value ?? null)]
  }))
  equal(view.version, version, 'the version of one view')
  return { epoch: hex(epoch), version, digest, values }
}

// Opens a mirror and follows until the driver says to which version. {counts, done}: the mirror, once it is open, and the promise of the end.
export async function follow(openMirror, control, options = {}) {
  const job = await post(control, '/job', {})
  const counts = await openMirror({ url: job.url, dataset: job.dataset, backoffMs: [50, 500], waitMs: 60000, ...options })
  let records = [], last = 0, failure = null
  const seen = { versions: 0, jumps: 0, states: [], errors: [] }
  const take = () => {
    try {
      const record = counts.view((view) => read(view, job.watched))
      if (record.version <= last) throw new Error(`version ${record.version} after ${last}`)
      seen.jumps += last > 0 && record.version > last + 1
      last = record.version
      seen.versions++
      records.push(record)
    } catch (error) {
      failure ??= String(error?.stack ?? error)
    }
  }
  take()
  counts.on('version', take)
  counts.on('state', ({ state, error }) => {
    seen.states.push(state)
    if (error) seen.errors.push(error.code)
  })

  async function run() {
    let until = null
    while (until === null || counts.version < until) {
      await pause(REPORT_MS)
      const part = records
      records = []
      if (failure) return post(control, '/failed', { failure })
      until = (await post(control, '/report', { records: part, versions: seen.versions })).until
    }
    const end = counts.view((view) => ({ ...read(view, job.all), keys: view.info().rows }))
    const top = Object.fromEntries(Object.keys(job.all).map((table) => [table, counts.top(table, 10)]))
    const rows = Object.fromEntries(Object.keys(job.all).map((table) => [table, [...counts.entries(table)].length]))
    const stats = counts.stats(), ageMs = counts.ageMs
    counts.close()
    return post(control, '/end', { records, ...seen, end, top, rows, stats, ageMs })
  }
  const done = run().catch((error) => post(control, '/failed', { failure: String(error?.stack ?? error) }))
  return { counts, done }
}
