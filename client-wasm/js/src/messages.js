// SPDX-License-Identifier: Apache-2.0
//
// What the stream sends beside frames (docs/protocol.md): the heartbeat, taken apart. Frames go to the module as they are.
import { STATUS, TallycastError } from './errors.js'
import { hex } from './hex.js'

export const FRAME = 0x46, HEARTBEAT = 0x48 // the first byte of a message
const SEAL_BYTES = 9, SEAL_TAG = 0x79

const rotl = (x, n) => BigInt.asUintN(64, x << n) | (x >> (64n - n))

// SipHash-1-3 under the seal's key. Slow, for messages of some 60 bytes, one a second.
export function sealOf(bytes) {
  const word = (at, size) => {
    let value = 0n
    for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[at + i])
    return value
  }
  const k0 = 0x7473616379616c6cn, k1 = 0x74n
  let v0 = k0 ^ 0x736f6d6570736575n, v1 = k1 ^ 0x646f72616e646f6dn, v2 = k0 ^ 0x6c7967656e657261n, v3 = k1 ^ 0x7465646279746573n
  const round = () => {
    v0 = BigInt.asUintN(64, v0 + v1); v1 = rotl(v1, 13n) ^ v0; v0 = rotl(v0, 32n)
    v2 = BigInt.asUintN(64, v2 + v3); v3 = rotl(v3, 16n) ^ v2
    v0 = BigInt.asUintN(64, v0 + v3); v3 = rotl(v3, 21n) ^ v0
    v2 = BigInt.asUintN(64, v2 + v1); v1 = rotl(v1, 17n) ^ v2; v2 = rotl(v2, 32n)
  }
  const absorb = (m) => { v3 ^= m; round(); v0 ^= m }
  const whole = bytes.length & ~7
  for (let at = 0; at < whole; at += 8) absorb(word(at, 8))
  absorb(word(whole, bytes.length - whole) | (BigInt(bytes.length & 255) << 56n))
  v2 ^= 0xffn
  round(); round(); round()
  return v0 ^ v1 ^ v2 ^ v3
}

// {dataset, epoch, version, digest, nowMs} of a sealed Heartbeat (a Uint8Array); epoch, version and nowMs are BigInts, digest as /v1/version shows it.
// A TallycastError for anything else.
export function readHeartbeat(message) {
  const malformed = () => new TallycastError(STATUS.MALFORMED, 'a heartbeat', 'the bytes are none: is the URL that of a Tallycast stream?')
  const end = message.length - SEAL_BYTES
  if (end < 0 || message[end] !== SEAL_TAG) throw malformed()
  const data = new DataView(message.buffer, message.byteOffset, message.length), inner = message.subarray(0, end)
  if (data.getBigUint64(end + 1, true) !== sealOf(inner)) throw new TallycastError(STATUS.CORRUPT, 'a heartbeat', 'it was damaged on its way')
  let at = 0
  const varint = () => {
    let value = 0n
    for (let shift = 0n; shift < 64n; shift += 7n) {
      if (at >= end) throw malformed()
      const byte = inner[at++]
      value |= BigInt(byte & 127) << shift
      if (byte < 128) return BigInt.asUintN(64, value)
    }
    throw malformed()
  }
  const bytes = (size) => {
    if (size > end - at) throw malformed()
    at += size
    return inner.subarray(at - size, at)
  }
  const fields = []
  while (at < end) {
    const tag = Number(varint()), kind = tag & 7
    if (kind === 0) fields[tag >> 3] = varint()
    else if (kind === 1) fields[tag >> 3] = bytes(8) && data.getBigUint64(at - 8, true)
    else if (kind === 2) fields[tag >> 3] = bytes(Number(varint()))
    else if (kind === 5) bytes(4)
    else throw malformed()
  }
  const [, dataset, epoch, version = 0n, digest, nowMs = 0n] = fields
  if (!(dataset instanceof Uint8Array && digest instanceof Uint8Array && digest.length === 16)) throw malformed()
  if (![epoch, version, nowMs].every((value) => typeof value === 'bigint')) throw malformed()
  return { dataset: new TextDecoder().decode(dataset), epoch, version, digest: hex(digest.slice().reverse()), nowMs }
}
