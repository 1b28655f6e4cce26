// SPDX-License-Identifier: Apache-2.0
//
// What a read costs, in any JavaScript host, for cost.py: opens a mirror, loads the names, and measures what it is told to when it is its turn.
//
// Strings are made from bytes just before they are read, as a program's are that come from a request: flat, used once, their hash not computed.
const FEW = 1000, READS = 160000

export async function measure(openMirror, control, host, settle = () => {}) {
  const post = async (path, body) => (await fetch(control + path, { method: 'POST', body: JSON.stringify(body) })).json()
  const { url, dataset } = await post('/job', {})
  const counts = await openMirror({ url, dataset, waitMs: 60000 })
  const bytes = new Uint8Array(await (await fetch(`${control}/names`)).arrayBuffer()), starts = [0]
  for (let at = 0; (at = bytes.indexOf(10, at) + 1) > 0;) starts.push(at)
  const decoder = new TextDecoder(), count = starts.length - 1

  let state = 1 // xorshift32
  function below(bound) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % bound
  }
  const draw = (bound) => Array.from({ length: READS }, () => {
    const i = below(bound)
    return decoder.decode(bytes.subarray(starts[i], starts[i + 1] - 1))
  })

  function get(strings) {
    let sum = 0
    for (let i = 0; i < strings.length; i++) sum += counts.get('t', strings[i])
    return sum
  }
  function many(strings) {
    let sum = 0
    for (let i = 0; i < strings.length; i += 16) for (const value of counts.getMany('t', strings.slice(i, i + 16))) sum += value
    return sum
  }
  const measurements = { get: [get, count], many: [many, count], few: [get, FEW] }

  let answer = { host, rows: counts.info().rows }
  for (;;) {
    const { what } = await post('/turn', answer)
    if (!what) break
    const [read, bound] = measurements[what], strings = draw(bound)
    await settle()
    const from = performance.now(), sum = read(strings)
    await settle()
    const ms = performance.now() - from
    if (!(sum > 0)) throw new Error('a key was not found')
    answer = { host, ns: ms * 1e6 / READS }
  }
  counts.close()
}
