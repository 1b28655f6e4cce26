// SPDX-License-Identifier: Apache-2.0
//
// Reads by string from JavaScript, as a contestant (contest.py): node js.mjs MODULE.wasm FRAMES KEYS DRAWS SEED NAMES
// The package's Mirror, loaded from a frame file, beside a Map of the same names and values.
//
// `fresh`: each string was made from bytes just before (outside of what is measured), by Buffer.latin1Slice: flat, used once, not
// interned, its hash not computed yet. So is what a program has that reads its keys from a request. `known`: the strings that the
// Map holds as keys, with their hash.
import fs from 'node:fs'
import readline from 'node:readline'
import { Mirror } from '../../../client-wasm/js/src/mirror.js'

const [modulePath, framesPath, keys, draws, seed, namesPath] = process.argv.slice(2)
const count = Number(keys), reads = Number(draws) & ~15

const lines = fs.readFileSync(namesPath, 'latin1').trimEnd().split('\n').map((line) => line.slice(0, line.indexOf('\t')))
const names = Array.from({ length: count }, (_, i) => {
  const round = Math.floor(i / lines.length), name = lines[i % lines.length]
  return round ? `${name}@${round}` : name
})
// Bytes of all names, end to end.
const starts = new Uint32Array(count + 1)
names.forEach((name, i) => { starts[i + 1] = starts[i] + name.length })
const text = Buffer.from(names.join(''), 'latin1')

const mirror = Mirror.create(new WebAssembly.Module(fs.readFileSync(modulePath)), { dataset: 'main' })
const frames = fs.readFileSync(framesPath)
for (let at = 8; at < frames.length;) {
  const size = frames.readUInt32LE(at)
  mirror.apply(frames.subarray(at + 4, at + 4 + size))
  at += 4 + size
}
const map = new Map()
names.forEach((_, i) => map.set(text.latin1Slice(starts[i], starts[i + 1]), i + 1))
const held = [...map.keys()]
if (mirror.info().rows !== map.size) throw new Error('the mirror does not hold what the map holds')

let state = Number(seed) >>> 0 // xorshift32
function below(bound) {
  state = (state ^ state << 13) >>> 0
  state ^= state >>> 17
  state = (state ^ state << 5) >>> 0
  return state % bound
}

const fresh = (i) => text.latin1Slice(starts[i], starts[i + 1])
const known = (i) => held[i]

function ofMap(strings) {
  let sum = 0
  for (let i = 0; i < strings.length; i++) sum += map.get(strings[i])
  return sum
}

function ofMirror(strings) {
  let sum = 0
  for (let i = 0; i < strings.length; i++) sum += mirror.get('t', strings[i])
  return sum
}

function ofMirrorMany(strings) {
  let sum = 0
  for (let i = 0; i < strings.length; i += 16)
    for (const value of mirror.getMany('t', strings.slice(i, i + 16))) sum += value
  return sum
}

const measurements = { 'map.fresh': [ofMap, fresh], 'map.known': [ofMap, known], 'mirror.fresh': [ofMirror, fresh],
  'mirror.known': [ofMirror, known], 'many.fresh': [ofMirrorMany, fresh] }

function measure(what, times) {
  const [loop, make] = measurements[what], strings = new Array(times)
  let expected = 0
  for (let i = 0; i < times; i++) {
    const drawn = below(count)
    expected += drawn + 1
    strings[i] = make(drawn)
  }
  const start = process.cpuUsage(), sum = loop(strings), used = process.cpuUsage(start)
  if (sum !== expected) throw new Error(`${what}: wrong values were read`)
  return (used.user + used.system) * 1000 / times
}

// Until V8 has compiled what is measured.
for (let i = 0; i < 200; i++) for (const what in measurements) measure(what, 160)
globalThis.gc?.()
console.log('ready')
for await (const line of readline.createInterface({ input: process.stdin }))
  console.log(measurements[line] ? measure(line, reads).toFixed(3) : '-')
