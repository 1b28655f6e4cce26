// SPDX-License-Identifier: Apache-2.0
//
// proto/vectors/mirror.txt and refused.txt (see the README there) through both modules.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { Host, load, sharedMemory } from './host.mjs'

const folder = path.join(process.env.TALLY_SOURCE_DIR, 'proto/vectors')
const statusHeader = fs.readFileSync(path.join(process.env.TALLY_SOURCE_DIR, 'proto/include/tallycast/status.h'), 'utf8')
const statuses = Object.fromEntries([...statusHeader.matchAll(/X\((\w+), (\d+),/g)].map(([, name, n]) => [name, Number(n)]))
const statements = (name) => fs.readFileSync(path.join(folder, name), 'utf8').split('\n')
  .map((text, i) => ({ words: text.split(' '), where: `${name}:${i + 1}` })).filter(({ words: [first] }) => first && first[0] !== '#')
const bytes = (hex) => (hex === '-' ? Buffer.alloc(0) : Buffer.from(hex, 'hex'))

function mirrorScript(makeHost) {
  let host, reader, view, rows
  const run = {
    mirror(dataset) {
      host = makeHost()
      assert.equal(host.open(dataset), 0)
      reader = host.reader()
      view = reader.pin()
    },
    apply(file, status) { assert.equal(host.apply(fs.readFileSync(path.join(folder, file))), statuses[status]) },
    state(epoch, version, cutMs, digest, count, tables) {
      assert.equal(rows?.length ?? 0, 0)  // the last state's are all told
      view.unpin()
      view = reader.pin()
      const info = view.info()
      assert.deepEqual([info.epoch, info.version, info.cutMs, info.digest, info.rows, info.tables],
        [epoch, Number(version), Number(cutMs), digest, Number(count), Number(tables)])
      rows = [...view.rows()]
    },
    table(number, name, count) {
      const info = view.tableInfo(Number(number))
      assert.deepEqual([info.name, info.rows], [name, Number(count)])
    },
    row(table, id, key, value) {
      const row = rows.shift()
      assert.deepEqual([row.table, row.id, Buffer.from(row.key).toString('hex'), row.value],
        [Number(table), Number(id), key, BigInt(value)])
      assert.equal(view.get(Number(table), bytes(key)), BigInt(value))
    },
    absent(table, key) { assert.equal(view.get(Number(table), bytes(key)), null) }
  }
  let count = 0
  for (const { words: [statement, ...words], where } of statements('mirror.txt')) {
    try {
      run[statement](...words)
    } catch (error) {
      error.message = `${where}: ${error.message}`
      throw error
    }
    count++
  }
  return count
}

function refused(makeHost) {
  let count = 0
  for (const { words: [, file, status], where } of statements('refused.txt')) {
    const host = makeHost()
    assert.equal(host.open('main'), 0)
    assert.equal(host.apply(fs.readFileSync(path.join(folder, 'frame-first.bin'))), 0)
    const got = host.apply(fs.readFileSync(path.join(folder, file)))
    assert.ok(![statuses.OK, statuses.MORE].includes(got), `${where}: ${got}, ${status}`)
    assert.equal(host.reader().pin().info().version, 1)
    count++
  }
  return count
}

const own = load('tallycast.wasm'), shared = load('tallycast-shared.wasm')
for (const makeHost of [() => new Host(own), () => new Host(shared, sharedMemory(1024))])
  console.log(`vectors: ${mirrorScript(makeHost)} statements, ${refused(makeHost)} refusals`)
