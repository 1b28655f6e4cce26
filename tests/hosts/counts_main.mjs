// SPDX-License-Identifier: Apache-2.0
//
// The test of counting in Deno and Bun: counts_main.mjs CONTROL
import process from 'node:process'
import { openTally } from 'tallycast'
import { count } from './counts.mjs'
import { post } from './guest.mjs'

const control = process.argv[2]
try {
  await count(openTally, control)
} catch (error) {
  await post(control, '/failed', { failure: String(error?.stack ?? error) })
}
// Nothing may keep the process now: close() leaves no timer.
