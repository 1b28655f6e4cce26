// SPDX-License-Identifier: Apache-2.0

/** A key: text, which crosses as UTF-8, or its bytes. At most 1024 bytes. */
export type Key = string | Uint8Array

/** `code` is the status' name ("TALLY_GAP"), `status` its number in proto/include/tallycast/status.h. */
export class TallycastError extends Error {
  readonly code: string
  readonly status: number
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

export interface CreateOptions {
  dataset: string
  /** Bound of the mirror's memory; 0 or left out: as far as it can be addressed. */
  maxBytes?: number
  /** Bound of what views may keep from being used again; 0 or left out: half of maxBytes. */
  retiredMaxBytes?: number
}

/** One version. Good only within the function that Mirror.view calls. */
export interface View {
  readonly version: number
  get(table: string, key: Key): number | undefined
  getBigInt(table: string, key: Key): bigint | undefined
  getMany(table: string, keys: ArrayLike<Key>): (number | undefined)[]
  info(): Info
}

/** An instance of the module and a reader of its memory, for one thread. */
export class Mirror {
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
  /** A server said at its time `nowMs` that (epoch, version) is its newest. */
  confirm(epoch: bigint, version: number | bigint, nowMs: number | bigint): void
  /** The newest value, exact to 2^53; undefined when there is none. Throws for a table that is not there. */
  get(table: string, key: Key): number | undefined
  getBigInt(table: string, key: Key): bigint | undefined
  /** All of one version, in the order of the keys. */
  getMany(table: string, keys: ArrayLike<Key>): (number | undefined)[]
  /** `use` is not asynchronous. */
  view<T>(use: (view: View) => T): T
  info(): Info
  stats(): Stats
  close(): void
}
