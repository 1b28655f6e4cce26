// SPDX-License-Identifier: Apache-2.0
//
// One POST /v1/count, and what its answer means (docs/protocol.md, "Counting by HTTP").
import { STATUS, TallycastError } from './errors.js'

const RETRY_AFTER_MAX_MS = 3600000
const STATUS_OF = { 400: STATUS.INVALID, 403: STATUS.FORBIDDEN, 404: STATUS.WRONG_DATASET, 413: STATUS.LIMIT, 415: STATUS.UNSUPPORTED, 422: STATUS.INVALID }
const AGAIN = new Set([408, 421, 425, 429]) // of those below 500: what a proxy says of a moment

// "Retry-After": seconds, or a date, which is the sender's.
function retryAfterMs(headers) {
  const text = headers.get('Retry-After')
  if (!text) return 0
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - (Date.parse(headers.get('Date')) || Date.now())
  return ms > 0 ? Math.min(ms, RETRY_AFTER_MAX_MS) : 0
}

function refusal(status, said) {
  const first = said?.refused?.[0], more = first ? `; line ${first.line}: ${first.error}` : ''
  const error = new TallycastError(STATUS_OF[status] ?? STATUS.INVALID, `the count was answered ${status}`, `${said?.error ?? 'is the URL that of a Tallycast server or edge?'}${more}`)
  error.httpStatus = status
  return error
}

// Sends it. Never rejects:
//   {end: 'counted', epoch, version, repeat}    it is durable; epoch and version are null where an edge has taken it
//   {end: 'refused', error}                     it was not counted, and never will be
//   {end: 'again', error, retryAfterMs}         it may be counted or not, or may be later: send it again as it is
export async function post({ fetch, url, dataset }, { body, idempotencyKey, keepalive, signal }) {
  let answer, text
  try {
    const headers = { 'Content-Type': 'application/x-ndjson', 'Idempotency-Key': idempotencyKey }
    answer = await fetch(url, { method: 'POST', headers, body, signal, ...(keepalive && { keepalive }) })
    text = await answer.text()
  } catch (error) {
    const why = signal.aborted ? signal.reason : new TallycastError(STATUS.UNREACHABLE, new URL(url).origin, error?.cause?.message ?? error?.message ?? String(error), { cause: error })
    return { end: 'again', error: why, retryAfterMs: 0 }
  }
  const { status } = answer
  let said = null
  try { said = JSON.parse(text) } catch { /* it is none of ours */ }
  if (status === 200 && said?.dataset === dataset && typeof said.repeat === 'boolean') {
    return { end: 'counted', epoch: said.epoch ? BigInt(`0x${said.epoch}`) : null, version: said.version ?? null, repeat: said.repeat }
  }
  if (status >= 400 && status < 500 && !AGAIN.has(status)) return { end: 'refused', error: refusal(status, said) }
  const why = new TallycastError(status === 503 ? STATUS.BUSY : STATUS.UNREACHABLE, `the count was answered ${status}`, said?.error ?? 'by something else than a Tallycast server or edge')
  why.httpStatus = status
  return { end: 'again', error: why, retryAfterMs: retryAfterMs(answer.headers) }
}
