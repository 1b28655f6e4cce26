// SPDX-License-Identifier: Apache-2.0
//
// Uses the package by its name, as it is installed: tests/package/test_npm.py. installed.mjs VECTORS
import assert from 'node:assert/strict'
import fs from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads'
import { Mirror, TallycastError, attachMirror, openMirror } from 'tallycast'
import { streamServer } from './stream.mjs'

if (isMainThread) {
  const vector = (name) => fs.readFileSync(`${process.argv[2]}/${name}`)
  const server = await streamServer((guest) => {
    guest.send('F', vector('frame-first.bin'))
    guest.send('F', vector('frame-delta.bin'))
  })
  for (const shared of [false, true]) {
    const counts = await openMirror({ url: server.url, dataset: 'main', shared })
    while (counts.version < 2) await new Promise((resolve) => setTimeout(resolve, 2))
    assert.equal(counts.get('repos', 'nng'), 4)
    assert.throws(() => counts.get('none', 'nng'), TallycastError)
    if (shared) {
      const worker = new Worker(fileURLToPath(import.meta.url), { workerData: counts.share() })
      assert.equal(await new Promise((resolve) => worker.once('message', resolve)), 4)
      await worker.terminate()
    }
    await counts.reload()
    assert.equal(counts.get('repos', 'nng'), 4)
    counts.close()
  }
  const module = new WebAssembly.Module(fs.readFileSync(fileURLToPath(import.meta.resolve('tallycast/tallycast.wasm'))))
  const mirror = Mirror.create(module, { dataset: 'main' })
  assert.equal(mirror.apply(vector('frame-first.bin')), 'ok')
  await server.close()
  console.log('installed: ok')
} else {
  parentPort.postMessage(attachMirror(workerData).get('repos', 'nng'))
}
