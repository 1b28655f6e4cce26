// SPDX-License-Identifier: Apache-2.0
//
// A guest of the npm package in Node, for test_js.py: follows a stream, holds what it reads against what the server answers by HTTP for the
// same version, and says at the end, when told by a line of input, what it saw. follow.mjs PACKAGE STREAM-URL SERVER-URL KEYS-FILE [OPTIONS]
// With {"workers": N, "reloadMs": M} N threads are attached, whose reads are held against what this thread read of the same version, and the module
// is reloaded all M ms.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import readline from 'node:readline'
import { pathToFileURL } from 'node:url'
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads'

const [folder, url, server, keysFile, options = '{}'] = process.argv.slice(2)
const { attachMirror, openMirror } = await import(pathToFileURL(path.join(folder, 'src/node.js')))
const keys = JSON.parse(fs.readFileSync(keysFile)) // {table: [key, ...]}
const WATCHED = 40, KEPT = 400
const tell = (event) => console.log(JSON.stringify(event))
const watched = Object.entries(keys).map(([table, all]) => [table, all.slice(0, WATCHED)])
const { workers = 0, reloadMs = 0 } = JSON.parse(options)

if (!isMainThread) {
  const attached = attachMirror(workerData)
  let last = 0, moved = 0
  attached.on('state', ({ state }) => { moved += state === 'moved' })
  setInterval(() => {
    for (let i = 0; i < 50; i++) {
      const [version, values] = attached.view((view) => [view.version, watched.map(([table, some]) => view.getMany(table, some))])
      assert.ok(version >= last, `version ${version} after ${last}`)
      last = version
      if (i === 0) parentPort.postMessage({ version, values, moved })
    }
  }, 5)
  await new Promise(() => {})
}

const agent = new http.Agent({ keepAlive: true })

function post(table, some) {
  return new Promise((resolve, reject) => {
    const request = http.request(`${server}/v1/get`, { method: 'POST', agent, headers: { 'Content-Type': 'application/json' } }, (response) => {
      let body = ''
      response.on('data', (data) => { body += data })
      response.on('end', () => (response.statusCode === 200 ? resolve(JSON.parse(body)) : reject(new Error(body))))
    })
    request.on('error', reject)
    request.end(JSON.stringify({ table, keys: some }))
  })
}

const seen = { versions: 0, checked: 0, jumps: 0, states: [], errors: [], reloads: 0, attached: 0, moved: 0 }
const history = new Map() // version -> what was read of it
let last = 0
const counts = await openMirror({ url, dataset: 'main', backoffMs: [50, 500], waitMs: 60000, shared: workers > 0 })

function record(view) {
  const values = watched.map(([table, some]) => {
    const many = view.getMany(table, some)
    assert.deepEqual(some.map((key) => view.get(table, key)), many)
    return many
  })
  history.set(view.version, values)
  if (history.size > KEPT) history.delete(history.keys().next().value)
}
counts.view(record)
counts.on('version', ({ version }) => {
  assert.ok(version > last, `version ${version} after ${last}`)
  seen.jumps += last > 0 && version > last + 1
  last = version
  seen.versions++
  counts.view((view) => {
    assert.equal(view.version, version)
    record(view)
  })
})
counts.on('state', ({ state, error }) => {
  seen.states.push(state)
  if (error) seen.errors.push(error.code)
})
const threads = Array.from({ length: workers }, () => {
  const worker = new Worker(new URL(import.meta.url), { argv: process.argv.slice(2), workerData: counts.share() })
  worker.on('error', (error) => { throw error })
  worker.on('message', ({ version, values, moved }) => {
    const held = history.get(version)
    if (!held) return
    assert.deepEqual(values, held, `version ${version} in a thread`)
    seen.attached++
    seen.moved = Math.max(seen.moved, moved)
  })
  return worker
})
const reloads = reloadMs && setInterval(() => {
  counts.reload().then(() => { seen.reloads++ }, (error) => { if (error.code !== 'TALLY_BUSY') throw error })
}, reloadMs)
tell({ event: 'open', version: counts.version })

let stopping = false
const stopped = new Promise((resolve) => readline.createInterface({ input: process.stdin }).once('line', (line) => {
  stopping = true
  resolve(Number(line)) // the version to reach
}))
while (!stopping) {
  for (const [i, [table, some]] of watched.entries()) {
    const found = await post(table, some).catch(() => null)
    const held = found && history.get(found.version)
    if (!held) continue
    assert.deepEqual(held[i].map((value) => value ?? null), found.values, `version ${found.version} of ${table}`)
    seen.checked += some.length
  }
  await new Promise((resolve) => setTimeout(resolve, 5))
}
const until = await stopped
while (counts.version < until) await new Promise((resolve) => setTimeout(resolve, 5))
const values = counts.view((view) => Object.fromEntries(Object.entries(keys).map(([table, all]) => [table, view.getMany(table, all)])))
const { epoch, version, digest, rows } = counts.info()
clearInterval(reloads)
for (const worker of threads) await worker.terminate()
const stats = counts.stats()
counts.close()
agent.destroy()
process.stdin.destroy() // nothing else may keep the process: close() leaves no timer and no socket
tell({ event: 'end', ...seen, epoch: epoch.toString(16).padStart(16, '0'), version, digest, keys: rows, values, stats })
