// SPDX-License-Identifier: Apache-2.0
//
// node make.mjs CORE OUT: makes the component of its core module, OUT/tallycast-component.wasm, and of that an ES module, OUT/js/tallycast.js. It needs the
// package jco-transpile, pinned by package-lock.json here, which is installed to the user's cache, once for each lock.
import { createHash } from 'node:crypto'
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const here = path.dirname(fileURLToPath(import.meta.url))
export const WORLD = path.join(here, 'tallycast.wit')

// The folder of the tools, installed if need be. Throws an Error that says why there are none.
export function tools() {
  if (Number(process.versions.node.split('.')[0]) < 20) throw new Error(`jco-transpile needs Node 20 or newer; this is ${process.versions.node}`)
  const lock = fs.readFileSync(path.join(here, 'package-lock.json'))
  const cache = path.join(process.env.XDG_CACHE_HOME || path.join(os.homedir(), '.cache'), 'tallycast')
  const folder = path.join(cache, `component-${createHash('sha256').update(lock).digest('hex').slice(0, 16)}`)
  if (fs.existsSync(path.join(folder, 'node_modules'))) return folder
  const part = `${folder}.${process.pid}`
  fs.mkdirSync(part, { recursive: true })
  for (const name of ['package.json', 'package-lock.json', '.npmrc']) fs.copyFileSync(path.join(here, name), path.join(part, name))
  // Not `npm ci`: the lock names packages for other systems that are not published, which that takes for a lock out of step. Versions and hashes are
  // the lock's all the same.
  const npm = spawnSync('npm', ['install', '--no-save', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], { cwd: part, encoding: 'utf8', timeout: 180_000 })
  if (npm.status === 0) {
    try {
      fs.renameSync(part, folder)
    } catch {
      fs.rmSync(part, { recursive: true })  // another was faster
    }
    return folder
  }
  fs.rmSync(part, { recursive: true })
  throw new Error(`npm could not install jco-transpile: ${npm.error ?? npm.stderr.trim().split('\n')[0]}`)
}

// Throws if the core module does not have what the wit says, or if the component would not be valid (wit-component checks both).
export async function makeComponent(core, out, folder = tools(), wit = fs.readFileSync(WORLD, 'utf8')) {
  const base = pathToFileURL(path.join(folder, 'node_modules/@bytecodealliance/jco-transpile/dist/'))
  const { componentEmbed, componentNew, componentWit } = await import(new URL('wasm-tools.js', base))
  const { transpileBytes } = await import(new URL('transpile.js', base))
  const binary = typeof core === 'string' ? fs.readFileSync(core) : core
  const component = await componentNew(await componentEmbed({ binary, witSource: wit, world: 'client' }), [])
  fs.mkdirSync(path.join(out, 'js'), { recursive: true })
  fs.writeFileSync(path.join(out, 'tallycast-component.wasm'), component)
  const { files } = await transpileBytes(component, { name: 'tallycast', instantiation: 'async', emitTypescriptDeclarations: true, noComponentErrorWrapping: false })
  for (const [name, bytes] of Object.entries(files)) {
    const file = path.join(out, 'js', name)
    fs.mkdirSync(path.dirname(file), { recursive: true })
    fs.writeFileSync(file, bytes)
  }
  fs.writeFileSync(path.join(out, 'js', 'package.json'), '{ "type": "module" }\n')
  return { component, wit: await componentWit(component), files: Object.keys(files) }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [core, out] = process.argv.slice(2)
  if (!out) throw new Error('usage: node make.mjs CORE OUT')
  await makeComponent(core, out)
}
