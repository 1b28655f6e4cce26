// SPDX-License-Identifier: Apache-2.0
//
// A guest of the npm package for test_churn.py: follows a stream, and tells its memory and its rows four times a second. churn.mjs PACKAGE STREAM-URL
import path from 'node:path'
import { pathToFileURL } from 'node:url'

const [folder, url] = process.argv.slice(2)
const { openMirror } = await import(pathToFileURL(path.join(folder, 'src/node.js')))
const counts = await openMirror({ url, dataset: 'main', waitMs: 60000 })
setInterval(() => {
  const { memoryBytes, usedBytes } = counts.stats()
  const { rss, heapUsed } = process.memoryUsage()
  console.log(JSON.stringify({ memoryBytes, usedBytes, rss, heapUsed, version: String(counts.version), digest: String(counts.digest) }))
}, 250)
