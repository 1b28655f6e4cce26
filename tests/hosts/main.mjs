// SPDX-License-Identifier: Apache-2.0
//
// The test in Deno and Bun: main.mjs CONTROL
import process from 'node:process'
import { openMirror } from 'tallycast'
import { follow, post } from './guest.mjs'

const control = process.argv[2]
try {
  await (await follow(openMirror, control)).done
} catch (error) {
  await post(control, '/failed', { failure: String(error?.stack ?? error) })
}
// Nothing may keep the process now: close() leaves no timer and no socket.
