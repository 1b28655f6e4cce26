// SPDX-License-Identifier: Apache-2.0
//
// Calls of the component from JavaScript, as a contestant (contest.py): node component.mjs CORE MODULE FRAMES KEYS DRAWS OUT NAMES
// CORE is made into a component and into JavaScript (client-wasm/wit/make.mjs), to OUT. Beside it: the package's Mirror on MODULE, and a Map.
import fs from 'node:fs'
import path from 'node:path'
import readline from 'node:readline'
import { pathToFileURL } from 'node:url'
import { Mirror } from '../../../client-wasm/js/src/mirror.js'
import { makeComponent } from '../../../client-wasm/wit/make.mjs'

const [core, module, framesPath, keys, draws, out, namesPath] = process.argv.slice(2)
const count = Number(keys), calls = Number(draws)
await makeComponent(core, out)
const { instantiate } = await import(pathToFileURL(path.join(out, 'js', 'tallycast.js')))
const component = await instantiate((name) => new WebAssembly.Module(fs.readFileSync(path.join(out, 'js', name))), {})

const mirror = component.mirror.Mirror.open('main', 512n << 20n)
const direct = Mirror.create(new WebAssembly.Module(fs.readFileSync(module)), { dataset: 'main' })
const frames = fs.readFileSync(framesPath)
for (let at = 8; at < frames.length;) {
  const size = frames.readUInt32LE(at)
  mirror.apply(frames.subarray(at + 4, at + 4 + size))
  direct.apply(frames.subarray(at + 4, at + 4 + size))
  at += 4 + size
}
const lines = fs.readFileSync(namesPath, 'latin1').split('\n', count).map((line) => line.slice(0, line.indexOf('\t')))
const drawn = Array.from({ length: calls }, (_, i) => lines[(i * 2654435761) % lines.length])
const counts = new component.concurrentMap.ConcurrentMap(64 << 20, 1n), map = new Map()
for (const name of lines) {
  counts.insert(name, 1n)
  map.set(name, 1n)
}

let sink = 0
const sixteens = Array.from({ length: Math.floor(calls / 16) }, (_, i) => drawn.slice(i * 16, i * 16 + 16))
const measured = {
  'mirror.get': () => { for (const name of drawn) sink += Number(mirror.get('t', name)) },
  'mirror.getMany': () => { for (const some of sixteens) sink += mirror.getMany('t', some).values.length },
  'direct.get': () => { for (const name of drawn) sink += direct.get('t', name) },
  'map.add': () => { for (const name of drawn) counts.add(name, 1n) },
  'map.insert': () => { for (const name of drawn) sink += Number(counts.insert(name, 1n)) },
  'map.get': () => { for (const name of drawn) sink += Number(counts.get(name)) },
  'js.add': () => { for (const name of drawn) map.set(name, map.get(name) + 1n) },
  'js.get': () => { for (const name of drawn) sink += Number(map.get(name)) },
}
for (const run of Object.values(measured)) run()
console.log('ready')
for await (const what of readline.createInterface({ input: process.stdin })) {
  const begin = process.cpuUsage(), run = measured[what.trim()]
  run?.()
  const took = process.cpuUsage(begin)
  console.log(run ? ((took.user + took.system) * 1000) / calls : '-')
}
if (Number.isNaN(sink)) throw new Error('a key was not there')
