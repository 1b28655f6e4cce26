// SPDX-License-Identifier: Apache-2.0
//
// cost.mjs in Node, Deno and Bun: cost_main.mjs CONTROL HOST
import process from 'node:process'
import { openMirror } from 'tallycast'
import { measure } from './cost.mjs'

await measure(openMirror, process.argv[2], process.argv[3])
