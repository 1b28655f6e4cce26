// SPDX-License-Identifier: Apache-2.0
//
// For the tests: a server of streams that says exactly what a test wants. `guest(guest)` is called for each that comes; guest.query is what it
// asked for, send(kind, bytes), raw(bytes) and close(code) speak to it, guest.closed resolves with its close code.
import { createHash } from 'node:crypto'
import http from 'node:http'

const header = (opcode, size) => {
  if (size < 126) return Buffer.of(0x80 | opcode, size)
  if (size < 65536) return Buffer.of(0x80 | opcode, 126, size >> 8, size & 255)
  const head = Buffer.alloc(10)
  head[0] = 0x80 | opcode
  head[1] = 127
  head.writeBigUInt64BE(BigInt(size), 2)
  return head
}
export const message = (kind, bytes) => Buffer.concat([header(2, bytes.length + 1), Buffer.from(kind), bytes])

// A close code of a client's frames (which are short and masked), as they arrive; answers to pings are counted.
function listen(socket, guest, resolve) {
  let data = Buffer.alloc(0)
  socket.on('data', (part) => {
    data = Buffer.concat([data, part])
    while (data.length >= 6 && data.length >= 6 + (data[1] & 127)) {
      const size = data[1] & 127, payload = data.subarray(6, 6 + size).map((byte, i) => byte ^ data[2 + (i & 3)])
      if (!(data[1] & 128)) throw new Error('a guest must mask')
      if ((data[0] & 15) === 10) guest.pongs.push(Buffer.from(payload).toString())
      if ((data[0] & 15) === 8) resolve(payload.length ? payload.readUInt16BE(0) : 1005)
      data = data.subarray(6 + size)
    }
  })
  socket.on('close', () => resolve(1006))
  socket.on('error', () => {})
}

export async function streamServer(guest, { refuse } = {}) {
  const sockets = new Set()
  const server = http.createServer((request, response) => {
    response.writeHead(200, { 'Content-Type': 'application/json' })
    response.end(JSON.stringify({ dataset: 'main' }))
  })
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  server.on('upgrade', (request, socket) => {
    socket.on('error', () => {}) // a guest that goes away while it is answered
    const no = refuse?.(request)
    if (no) return socket.end(`HTTP/1.1 ${no.status} No\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: ${no.body.length}\r\n\r\n${no.body}`)
    const accept = createHash('sha1').update(`${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`)
    socket.setNoDelay(true)
    const made = {
      query: new URL(request.url, 'http://x').searchParams,
      socket,
      pongs: [],
      send: (kind, bytes) => socket.write(message(kind, bytes)),
      raw: (bytes) => socket.write(bytes),
      drained: () => (socket.writableLength < 1 << 20 ? null : new Promise((resolve) => { socket.once('drain', resolve) })),
      close: (code) => socket.end(Buffer.concat([header(8, 2), Buffer.of(code >> 8, code & 255)]))
    }
    made.closed = new Promise((resolve) => listen(socket, made, resolve))
    guest(made)
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `ws://127.0.0.1:${server.address().port}/v1/stream`,
    cut: () => { for (const socket of sockets) socket.destroy() },
    close: () => new Promise((resolve) => {
      for (const socket of sockets) socket.destroy()
      server.close(resolve)
    })
  }
}

// A server that has the first `at` of these frames, of which each guest gets what it lacks, by the version that it comes with; at(n) makes it n.
export async function growingServer(frames, at) {
  const guests = new Map() // guest -> how many it was sent
  const feed = () => {
    for (const [guest, sent] of guests) {
      for (const frame of frames.slice(sent, at)) guest.send('F', frame)
      guests.set(guest, Math.max(sent, at))
    }
  }
  const server = await streamServer((guest) => {
    guests.set(guest, Number(guest.query.get('from').split(':')[1]))
    guest.closed.then(() => guests.delete(guest))
    feed()
  })
  return { ...server, guests, at(version) { at = version; feed() } }
}
