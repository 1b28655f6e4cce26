// SPDX-License-Identifier: Apache-2.0
//
// A WebSocket client for Node, for versions that have none of their own: RFC 6455 over node:http's upgrade, with what a guest of the stream
// needs. It takes messages (to MESSAGE_BYTES_MAX), answers pings and closes; it sends nothing else. Events as in a browser; `message` has the
// bytes as a Uint8Array that is good during the call; `error` has {message, status, body} where HTTP refused the handshake.
import { createHash, randomBytes } from 'node:crypto'
import http from 'node:http'
import https from 'node:https'

const MESSAGE_BYTES_MAX = 1 << 20 // TALLY_STREAM_MESSAGE_BYTES_MAX
const BODY_BYTES_MAX = 4096
const CONTINUATION = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10
const CLOSE_MS = 2000 // for the other side's close
const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'

export class NodeWebSocket {
  #listeners = { open: [], message: [], error: [], close: [] }
  #request
  #socket = null
  #head = Buffer.alloc(10) // of the frame that is arriving
  #headBytes = 0
  #frame = null            // {opcode, fin, payload, filled} when its head is there
  #parts = []              // of a message in pieces
  #partsBytes = 0
  #partsText = false
  #sentClose = false
  #code = 1006
  #reason = ''
  #ended = false
  #timer = null

  constructor(href) {
    const url = new URL(href), secure = url.protocol === 'wss:'
    if (!secure && url.protocol !== 'ws:') throw new SyntaxError(`a WebSocket's URL begins with ws: or wss:, not ${url.protocol}`)
    url.protocol = secure ? 'https:' : 'http:'
    const key = randomBytes(16).toString('base64')
    const accept = createHash('sha1').update(key + GUID).digest('base64')
    const headers = { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': key }
    this.#request = (secure ? https : http).request(url, { headers, agent: false })
    this.#request.on('upgrade', (response, socket, head) => this.#upgraded(response.headers['sec-websocket-accept'] === accept, socket, head))
    this.#request.on('response', (response) => this.#refused(response))
    this.#request.on('error', (error) => this.#fail({ message: error.message || error.code }))
    this.#request.end()
  }

  addEventListener(name, listener) { this.#listeners[name].push(listener) }

  close(code = 1000) {
    if (this.#socket) this.#sendClose(code)
    else this.#fail({ message: 'closed before it was open' })
  }

  #emit(name, event) { for (const listener of this.#listeners[name]) listener(event) }

  #fail(error) {
    if (this.#ended) return
    this.#emit('error', error)
    this.#end()
  }

  #end() {
    if (this.#ended) return
    this.#ended = true
    clearTimeout(this.#timer)
    this.#request.destroy()
    this.#socket?.destroy()
    this.#emit('close', { code: this.#code, reason: this.#reason, wasClean: this.#code !== 1006 })
  }

  #refused(response) {
    let body = ''
    response.setEncoding('utf8')
    response.on('data', (text) => { if (body.length < BODY_BYTES_MAX) body += text })
    const done = () => this.#fail({ message: `HTTP ${response.statusCode}`, status: response.statusCode, body: body.slice(0, BODY_BYTES_MAX) })
    response.on('end', done)
    response.on('error', done)
  }

  #upgraded(accepted, socket, head) {
    if (this.#ended) return socket.destroy()
    this.#socket = socket
    socket.setTimeout(0)
    socket.setNoDelay(true)
    socket.on('error', (error) => this.#fail({ message: error.message }))
    socket.on('close', () => this.#end())
    socket.on('end', () => this.#end())
    if (!accepted) return this.#fail({ message: 'the answer to the handshake is of no WebSocket' })
    this.#emit('open', {})
    if (head.length) this.#feed(head)
    socket.on('data', (chunk) => this.#feed(chunk))
  }

  #feed(chunk) {
    for (let at = 0; at < chunk.length && !this.#ended;) at = this.#frame ? this.#fill(chunk, at) : this.#begin(chunk, at)
  }

  // Takes one byte of a head; begins the frame when that is whole.
  #begin(chunk, at) {
    const head = this.#head
    head[this.#headBytes++] = chunk[at++]
    if (this.#headBytes < 2) return at
    const short = head[1] & 127, whole = short < 126 ? 2 : short === 126 ? 4 : 10
    if (this.#headBytes < whole) return at
    this.#headBytes = 0
    const size = short < 126 ? short : short === 126 ? head.readUInt16BE(2) : Number(head.readBigUInt64BE(2))
    const opcode = head[0] & 15, fin = (head[0] & 128) !== 0, control = opcode >= CLOSE
    const known = [CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG].includes(opcode)
    const continues = this.#parts.length > 0
    if (head[0] & 0x70 || head[1] & 128 || !known || (control && (!fin || size > 125)) || (!control && (opcode === CONTINUATION) !== continues)) {
      this.#broken(1002, 'the server breaks the protocol')
      return chunk.length
    }
    if (this.#partsBytes + size > MESSAGE_BYTES_MAX) {
      this.#broken(1009, 'a message of the stream is too long')
      return chunk.length
    }
    if (!control && opcode !== CONTINUATION) this.#partsText = opcode === TEXT
    this.#frame = { opcode, fin, size, payload: null, filled: 0 }
    if (chunk.length - at < size) {
      this.#frame.payload = new Uint8Array(size)
      return at
    }
    this.#whole(chunk.subarray(at, at + size))
    return at + size
  }

  #fill(chunk, at) {
    const frame = this.#frame, count = Math.min(frame.size - frame.filled, chunk.length - at)
    frame.payload.set(chunk.subarray(at, at + count), frame.filled)
    frame.filled += count
    if (frame.filled === frame.size) this.#whole(frame.payload)
    return at + count
  }

  #whole(payload) {
    const { opcode, fin } = this.#frame
    this.#frame = null
    if (opcode === PING) return this.#send(PONG, payload)
    if (opcode === PONG) return
    if (opcode === CLOSE) return this.#heardClose(payload)
    if (this.#sentClose) return
    if (!fin || this.#parts.length) {
      this.#parts.push(Uint8Array.from(payload))
      this.#partsBytes += payload.length
      if (!fin) return
      payload = Buffer.concat(this.#parts)
      this.#parts = []
      this.#partsBytes = 0
    }
    this.#emit('message', { data: this.#partsText ? Buffer.from(payload).toString() : payload })
  }

  #heardClose(payload) {
    this.#code = payload.length >= 2 ? (payload[0] << 8) | payload[1] : 1005
    this.#reason = Buffer.from(payload.subarray(2)).toString()
    this.#sendClose(this.#code === 1005 ? 1000 : this.#code)
    this.#socket.end(() => this.#end())
  }

  #broken(code, message) {
    this.#sendClose(code)
    this.#fail({ message })
  }

  #sendClose(code) {
    if (this.#sentClose || this.#ended) return
    this.#sentClose = true
    this.#send(CLOSE, Uint8Array.of(code >> 8, code & 255))
    this.#timer = setTimeout(() => this.#end(), CLOSE_MS)
  }

  // To 125 bytes, which is all that is ever sent. Masked with zeros would do; intermediaries are why it is random.
  #send(opcode, payload) {
    const mask = randomBytes(4), frame = Buffer.alloc(6 + payload.length)
    frame[0] = 128 | opcode
    frame[1] = 128 | payload.length
    frame.set(mask, 2)
    for (let i = 0; i < payload.length; i++) frame[6 + i] = payload[i] ^ mask[i & 3]
    this.#socket.write(frame)
  }
}
