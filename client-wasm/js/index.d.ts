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
  /** Holding a view of an earlier version. */
  stalledReaders: number
}

export interface SharedStats extends Stats {
  /** Threads that are attached. */
  attached: number
  /** Slots that were taken back from threads that are gone. */
  takenBack: number
  /** Memories from before reloads that threads are still attached to. */
  superseded: number
}

export interface Table {
  name: string
  kind: 'counter' | 'gauge' | 'min' | 'max' | 'distinct' | 'topk' | 'unspecified' | 'unknown'
  rows: number
}

/** What can be read of one version, or of the newest one. A table that is not there is an error (TALLY_NOT_FOUND, naming those there are). */
export interface Readable {
  readonly version: number
  /** The value, exact to 2^53; undefined when there is none. */
  get(table: string, key: Key): number | undefined
  getBigInt(table: string, key: Key): bigint | undefined
  /** All of one version, in the order of the keys. */
  getMany(table: string, keys: ArrayLike<Key>): (number | undefined)[]
  /** The k rows of the greatest values, greatest first; of equal ones those that came first. Looks at every row. */
  top(table: string, k: number, options?: { bytes?: false }): [string, number][]
  top(table: string, k: number, options: { bytes: true }): [Uint8Array, number][]
  /** Every row of one version. It is pinned until the iteration ends or is left: keep none that does not. */
  entries(table: string, options?: { bytes?: false }): Generator<[string, number], void, undefined>
  entries(table: string, options: { bytes: true }): Generator<[Uint8Array, number], void, undefined>
  tables(): Table[]
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
  /** A shared memory, for share(). */
  shared?: boolean
  /** Listeners from the very beginning. */
  on?: {
    version?: (info: Info) => void
    stale?: (event: StaleEvent) => void
    state?: (event: StateEvent) => void
  }
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

/** Of a shared mirror. A plain object that can be passed to other threads, by postMessage or workerData, again and again. */
export interface ShareHandle {
  readonly module: WebAssembly.Module
  readonly memory: WebAssembly.Memory
  readonly control: SharedArrayBuffer
  readonly share: number
  readonly channel: string
}

/** A mirror that follows a stream by itself, until it is closed. */
export interface LiveMirror extends Reader {
  readonly state: StateEvent['state']
  /** Why the last connection ended; undefined while there is one. */
  readonly error: TallycastError | undefined
  /** Older than maxAgeMs. */
  readonly stale: boolean
  /** Since the version that is read was last known to be the newest; by this machine's clock and the server's. */
  readonly ageMs: number
  stats(): Stats | SharedStats
  /** Calls the listener from now on; call what is given back to end that. */
  on(event: 'version', listener: (info: Info) => void): () => void
  on(event: 'stale', listener: (event: StaleEvent) => void): () => void
  on(event: 'state', listener: (event: StateEvent) => void): () => void
  off(event: 'version' | 'stale' | 'state', listener: Function): void
  /** A handle for attachMirror in other threads; any number of threads by one. Throws TALLY_UNSUPPORTED if the mirror was not opened with `shared`. */
  share(): ShareHandle
  /** Takes back what was attached by a handle, when its threads are gone for certain; how many. In Node, and where there are Web Locks, it is done by itself. */
  reclaim(handle: ShareHandle): number
  /**
   * Goes on with another build of the module (left out: the package's) on a new memory, filled from the stream beside the one that is read. Resolves when
   * that is read; rejects, and all stays as it is, when it cannot be. Threads that are attached move on by themselves; see AttachedMirror.state.
   */
  reload(module?: WebAssembly.Module | Promise<WebAssembly.Module>, options?: { maxBytes?: number; waitMs?: number }): Promise<void>
}

/** Reads, in another thread, what the thread that opened the mirror applies. */
export interface AttachedMirror extends Reader {
  /**
   * 'attached'; 'superseded': the mirror was reloaded and this thread still reads the memory from before, which is kept up to date until it moves on;
   * 'ended': the mirror was closed where it was opened; 'closed'.
   */
  readonly state: 'attached' | 'superseded' | 'ended' | 'closed'
  readonly stale: boolean
  readonly ageMs: number
  on(event: 'state', listener: (event: { state: 'moved' | 'superseded'; error?: TallycastError }) => void): () => void
  off(event: 'state', listener: Function): void
  /** After a reload, where the runtime does not pass memories through a BroadcastChannel: goes on to a new handle. */
  move(handle: ShareHandle): void
}

/** Synchronous: a thread can attach within a turn. */
export function attachMirror(handle: ShareHandle, options?: { maxAgeMs?: number; now?: () => number }): AttachedMirror

/** Resolves when the first version is held. Rejects with a TallycastError when there will be none, or not within waitMs. */
export function openMirror(options: OpenOptions): Promise<LiveMirror>

// ---------------------------------------------------------------------------------------------------- counting

export interface TallyOptions {
  /** Of an edge that counts, or of a server: its origin, or the whole path of /v1/count. One: what one has taken another knows nothing of. */
  url: string | URL
  dataset: string
  /** What `add` does in tables that are no counters: 'topk' counts, 'gauge' is adjusted. */
  kinds?: Record<string, 'counter' | 'topk' | 'gauge'>
  /** Between what is sent by itself (1,000). 0: only flush sends; that is the default in workerd. */
  intervalMs?: number
  /** Bounds of what waits or is under way: keys (100,000), and their bytes (16 MiB). Beyond them `add` takes no new key, and returns false. */
  keysMax?: number
  keyBytesMax?: number
  /** For an answer (15,000); then the request is sent again. */
  timeoutMs?: number
  /** First and longest wait between tries ([250, 15000]); each is drawn from its upper half. Retry-After comes on top. */
  backoffMs?: [number, number]
  /** How long a request that got no answer is sent again (Infinity): longer than the other side remembers its key, it may count twice. Then it is refused: 'doubt'. */
  doubtMaxMs?: number
  /** Requests under way at a time (4); a table has one. */
  requestsMax?: number
  /** Listeners from the very beginning. */
  on?: {
    refused?: (event: RefusedEvent) => void
    retry?: (event: RetryEvent) => void
  }
  /** Instead of the runtime's, performance.now, Date.now, Math.random, and cryptographic random bytes; for tests, too. */
  fetch?: (url: string, init: any) => Promise<any>
  now?: () => number
  date?: () => number
  random?: () => number
  randomBytes?: (size: number) => Uint8Array
  timers?: { setTimeout(call: () => void, ms: number): any; clearTimeout(timer: any): void }
}

/** Counts of one table that will not be sent any more. */
export interface RefusedEvent {
  table: string
  /** 'answered': it was refused, `error` says why; 'doubt': doubtMaxMs has passed; 'closed': the tally was closed before it was acknowledged. */
  reason: 'answered' | 'doubt' | 'closed'
  error: TallycastError
  keys: number
  /** The sum of what they would have added. */
  amount: bigint
  /** It was sent before without getting an answer: it may be counted all the same. */
  inDoubt: boolean
  /** As they were sent: one event a line, in JSON. */
  body: Uint8Array
}

export interface RetryEvent {
  table: string
  error: TallycastError
  /** Requests so far. */
  tries: number
  retryInMs: number
}

export interface TallyStats {
  /** Calls of `add` that were taken, and of these, whose key waited already. */
  adds: number
  merged: number
  /** Requests, their bytes, and those of them that were not the first of their counts. */
  sent: number
  sentBytes: number
  retries: number
  /** Keys of requests that were counted. adds - merged = acknowledged + pending + refused.answered + refused.doubt + refused.closed. */
  acknowledged: number
  /** Requests of these that had been counted when they came again. */
  repeats: number
  /** Calls that threw, and that returned false; keys by the reason of a RefusedEvent. */
  refused: { invalid: number; full: number; answered: number; doubt: number; closed: number }
  /** Keys that wait or are under way, and their bytes. */
  pending: number
  pendingBytes: number
}

export interface Flushed {
  /** The version that holds all that was counted; null where an edge has taken it (or nothing waited): its version is not known yet. */
  version: number | null
  epoch: bigint | null
  /** Keys that were refused meanwhile, of the tables that something waited in. */
  refused: number
}

export interface Tally {
  /**
   * Adds n to a key of a table. Synchronous. False: it was not taken, for keysMax or keyBytesMax is reached and the key is new. Throws a
   * TallycastError for what is wrong: names, keys, amounts, a closed tally.
   */
  add(table: string, key: Key, n?: number | bigint): boolean
  /**
   * Sends what was added until now, again and again, and resolves when all of it is acknowledged or refused. Rejects when timeoutMs has passed, or with
   * the signal's reason; what waits goes on waiting then. `keepalive`: for a page that ends.
   */
  flush(options?: { timeoutMs?: number; signal?: AbortSignal; keepalive?: boolean }): Promise<Flushed>
  /** Takes nothing any more, and flushes (timeoutMs: 10,000). What is not acknowledged then is refused: 'closed', and the promise rejects. */
  close(options?: { timeoutMs?: number; signal?: AbortSignal; keepalive?: boolean }): Promise<Flushed>
  stats(): TallyStats
  /** Calls the listener from now on; call what is given back to end that. */
  on(event: 'refused', listener: (event: RefusedEvent) => void): () => void
  on(event: 'retry', listener: (event: RetryEvent) => void): () => void
  off(event: 'refused' | 'retry', listener: Function): void
}

/** Counts, merged here, and counted once at an edge or a server. Does nothing until the first `add`. */
export function openTally(options: TallyOptions): Tally

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
  top(table: string, k: number, options?: { bytes?: false }): [string, number][]
  top(table: string, k: number, options: { bytes: true }): [Uint8Array, number][]
  entries(table: string, options?: { bytes?: false }): Generator<[string, number], void, undefined>
  entries(table: string, options: { bytes: true }): Generator<[Uint8Array, number], void, undefined>
  tables(): Table[]
  view<T>(use: (view: View) => T): T
  info(): Info
  stats(): Stats
  /** Of this reader. */
  readonly slot: number
  /** Takes back the slot of a reader whose thread is gone for certain. */
  evict(slot: number): void
  close(): void
}
