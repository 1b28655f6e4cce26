// SPDX-License-Identifier: Apache-2.0
//
// A web server that counts what it is asked for, at an edge, and shows what all servers like it together were asked for most: node views.mjs EDGE [PORT]
// (EDGE: http://127.0.0.1:8091, an edge that has the setting `count`, or a server.) Ctrl-C ends it, with nothing lost.
import http from 'node:http'
import { openMirror, openTally } from 'tallycast'

const [edge, port = 8080] = process.argv.slice(2)
const tally = openTally({ url: edge, dataset: 'main', on: { refused: ({ table, keys, error }) => console.error(`${keys} keys of ${table} are lost: ${error.message}`) } })
tally.add('views', 'start') // so that there is a first version to read
await tally.flush()
const counts = await openMirror({ url: edge, dataset: 'main' })

const server = http.createServer((request, response) => {
  tally.add('views', request.url.slice(0, 300)) // it is merged here, and sent once a second
  response.end(counts.top('views', 10).map(([path, views]) => `${views}\t${path}\n`).join(''))
})
server.listen(port, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}/`))

process.once('SIGINT', async () => {
  server.close()
  counts.close()
  await tally.close() // all of it is acknowledged now
  process.exit()
})
