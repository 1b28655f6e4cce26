// SPDX-License-Identifier: Apache-2.0

/** A key: text, which crosses as UTF-8, or its bytes. At most 1024 bytes. */
export type Key = string | Uint8Array

/** `code` is the status' name ("TALLY_GAP"), `status` its number in proto/include/tallycast/status.h; the message says what to do. */
export class TallycastError extends Error {
  readonly code: string
  readonly status: number
  /** How HTTP refused the stream, where the WebSocket tells. */
  readonly httpStatus?: number
}

export interface Info {
  epoch: bigint
  /** 0 before the first version. */
  version: number
  cutMs: number
  freshMs: number
  /** 32 hexadecimal digits. */
  digest: string
  rows: number
  tables: number
}

export interface Stats {
  reads: number
  hits: number
  misses: number
  applies: number
  refused: number
  swaps: number
  rowsChanged: number
  retiredBytes: number
  usedBytes: number
  memoryBytes: number
  readers: number
  stalledReaders: number
}

/** What can be read of one version, or of the newest one. */
export interface Readable {
  readonly version: number
  /** The value, exact to 2^53; undefined when there is none. Throws TALLY_NOT_FOUND for a table that is not there. */
  get(table: string, key: Key): number | undefined
  getBigInt(table: string, key: Key): bigint | undefined
  /** All of one version, in the order of the keys. */
  getMany(table: string, keys: ArrayLike<Key>): (number | undefined)[]
  info(): Info
}

/** One version. Good only within the function that `view` calls. */
export interface View extends Readable {}

export interface Reader extends Readable {
  readonly digest: string
  /** Calls `use` with a View; `use` is not asynchronous. */
  view<T>(use: (view: View) => T): T
  stats(): Stats
  close(): void
}

// ---------------------------------------------------------------------------------------------------- a stream

export interface OpenOptions {
  /** Of the stream of an edge or a server: ws://HOST:PORT/v1/stream. Several are tried in turn. */
  url: string | URL | (string | URL)[]
  dataset: string
  /** Instead of the module in the package: a build of one's own, or, where nothing can be compiled, one that was imported. */
  module?: WebAssembly.Module | Promise<WebAssembly.Module>
  /** A WebSocket class instead of the runtime's. */
  webSocket?: new (url: string) => any
  /** When a version that was not confirmed for so long counts as stale. It is readable all the same. */
  maxAgeMs?: number
  /** Bound of the mirror's memory; left out: as far as it can be addressed. */
  maxBytes?: number
  /** Bound of what views may keep from being used again; left out: half of maxBytes. */
  retiredMaxBytes?: number
  /** How long openMirror waits for the first version (30,000). */
  waitMs?: number
  /** A connection without any message for so long is dead (10,000; the stream says something each second). */
  silenceMs?: number
  /** First and longest wait between connections ([250, 15000]); each is drawn from its upper half. */
  backoffMs?: [number, number]
  /** Ends the wait for the first version. */
  signal?: AbortSignal
  /** Math.random and Date.now, for tests. */
  random?: () => number
  now?: () => number
}

export interface StateEvent {
  state: 'connecting' | 'catching-up' | 'live' | 'waiting' | 'closed'
  /** Connections that failed since one was steady. */
  attempt: number
  url?: string
  /** Why the last connection ended. */
  error?: TallycastError
  retryInMs?: number
}

export interface StaleEvent {
  stale: boolean
  ageMs: number
}

/** A mirror that follows a stream by itself, until it is closed. */
export interface LiveMirror extends Reader {
  readonly state: StateEvent['state']
  readonly error: TallycastError | undefined
  /** Older than maxAgeMs. */
  readonly stale: boolean
  /** Since the version that is read was last known to be the newest; by this machine's clock and the server's. */
  readonly ageMs: number
  /** Calls the listener from now on; call what is given back to end that. */
  on(event: 'version', listener: (info: Info) => void): () => void
  on(event: 'stale', listener: (event: StaleEvent) => void): () => void
  on(event: 'state', listener: (event: StateEvent) => void): () => void
  off(event: 'version' | 'stale' | 'state', listener: Function): void
}

/** Resolves when the first version is held. Rejects with a TallycastError when there will be none, or not within waitMs. */
export function openMirror(options: OpenOptions): Promise<LiveMirror>

// ---------------------------------------------------------------------------------------------------- without a stream

export interface CreateOptions {
  dataset: string
  maxBytes?: number
  retiredMaxBytes?: number
}

/** An instance of the module and a reader of its memory, for one thread; frames are given to it. */
export class Mirror implements Reader {
  private constructor()
  /** An empty mirror; with tallycast-shared.wasm on a shared memory that other threads may attach to. It applies and reads. */
  static create(module: WebAssembly.Module, options: CreateOptions): Mirror
  /** Reads a mirror that another thread created. `instance`: 1 to 64, different for each thread that is attached at a time. */
  static attach(module: WebAssembly.Module, memory: WebAssembly.Memory, instance: number): Mirror
  readonly memory: WebAssembly.Memory
  readonly version: number
  readonly digest: string
  /** Takes a frame, or a chunk of one. Throws a TallycastError for one that is refused; what was readable stays so. */
  apply(frame: Uint8Array): 'ok' | 'more' | 'old'
  /** Forgets the chunks of a change that is not whole. */
  abandon(): void
  /** A server said at its time `nowMs` that (epoch, version) is its newest. */
  confirm(epoch: bigint, version: number | bigint, nowMs: number | bigint): void
  get(table: string, key: Key): number | undefined
  getBigInt(table: string, key: Key): bigint | undefined
  getMany(table: string, keys: ArrayLike<Key>): (number | undefined)[]
  view<T>(use: (view: View) => T): T
  info(): Info
  stats(): Stats
  close(): void
}
