// lib.mjs: what the conformance tests share: og_peer and the programs as child processes, a private
// DHT of JavaScript nodes or of og-nodes, and waiting with a limit.
import { spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import readline from 'node:readline'
import HyperDHT from 'hyperdht'
import Hyperswarm from 'hyperswarm'
import { inLab, jsHost, takePlace } from './lab.mjs'

export const root = path.resolve(import.meta.dirname, '../..')
export const build = process.env.OG_BUILD || path.join(root, 'build')
export const all = process.env.OG_ALL === '1'
export const MiB = 1024 * 1024
export { HyperDHT, Hyperswarm, inLab, jsHost, randomBytes }

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
export const sha256 = (data) => createHash('sha256').update(data).digest()

export function within (ms, what, promise) {
  let timer
  const limit = new Promise((resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${ms} ms`)), ms)
  })
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer))
}

export async function until (ms, what, check) {
  const end = Date.now() + ms
  for (;;) {
    const value = await check()
    if (value) return value
    if (Date.now() > end) throw new Error(`${what}: not within ${ms} ms`)
    await sleep(20)
  }
}

// The bytes og_peer sends for {"cmd":"pattern"}.
export function pattern (from, n) {
  const b = Buffer.allocUnsafe(n)
  for (let i = 0; i < n; i++) {
    const at = from + i
    b[i] = (at * 31 + Math.floor(at / 256)) & 255
  }
  return b
}

export function freePort () {
  return new Promise((resolve, reject) => {
    const probe = createSocket('udp4')
    probe.once('error', reject)
    probe.bind(0, jsHost, () => {
      const { port } = probe.address()
      probe.close(() => resolve(port))
    })
  })
}

// What a test starts is stopped when it ends, in reverse order, whatever happened.
export function cleanup (t) {
  const steps = []
  t.after(async () => {
    let failed
    for (const step of steps.reverse()) {
      try { await step() } catch (err) { failed ??= err }
    }
    if (failed) throw failed
  })
  return (step) => steps.push(step)
}

export function tempDir (after) {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'og-'))
  after(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

// A child that prints JSON lines. `on(ev, match)` waits for one, also one that came before.
export class Child {
  constructor (file, args, options = {}) {
    this.events = []
    this.waiting = []
    this.stderr = ''
    this.name = path.basename(file)
    this.proc = spawn(file, args, { stdio: ['pipe', 'pipe', 'pipe'], ...options })
    this.exited = new Promise((resolve) => this.proc.on('exit', (code, signal) => resolve({ code, signal })))
    this.proc.stderr.on('data', (d) => { this.stderr = (this.stderr + d).slice(-20000) })
    this.proc.stdin.on('error', () => {})
    readline.createInterface({ input: this.proc.stdout }).on('line', (line) => {
      let ev
      try { ev = JSON.parse(line) } catch { return }
      this.events.push(ev)
      for (const w of this.waiting.slice()) w(ev)
    })
  }

  send (o) { this.proc.stdin.write(JSON.stringify(o) + '\n') }

  on (type, match = () => true, ms = 30000) {
    const fits = (ev) => ev.ev === type && match(ev)
    const had = this.events.find(fits)
    if (had) return Promise.resolve(had)
    let w
    const got = new Promise((resolve, reject) => {
      w = (ev) => fits(ev) && resolve(ev)
      this.waiting.push(w)
      this.exited.then((e) => reject(new Error(`${this.name} ended (${JSON.stringify(e)}) before "${type}": ${this.stderr}`)))
    })
    got.catch(() => {})
    return within(ms, `${this.name}: event "${type}"`, got).finally(() => {
      this.waiting = this.waiting.filter((x) => x !== w)
    })
  }

  async stop () {
    if (this.proc.exitCode !== null || this.proc.signalCode !== null) return this.exited
    this.proc.stdin.end()
    try {
      return await within(8000, `${this.name}: end`, this.exited)
    } catch (err) {
      this.proc.kill('SIGKILL')
      await this.exited
      throw err
    }
  }
}

export class OgPeer extends Child {
  constructor (args = [], place) {
    super(...place.command(path.join(build, 'tests/conformance/og_peer'), args))
    this.name = 'og_peer'
  }

  static async start (after, { bootstrap, first, seed, firewalled, cores = process.env.OG_LAB_CORES, place = takePlace(after) } = {}) {
    const args = ['--driver', place.driver, '--host', place.address, '--prefix', String(place.prefix),
      '--gateway', place.gateway]
    if (bootstrap?.length) args.push('--bootstrap', bootstrap.join(','))
    if (first) args.push('--first')
    if (seed) args.push('--seed', seed.toString('hex'))
    if (firewalled) args.push('--firewalled')
    if (cores) args.push('--cores', String(cores))
    const p = new OgPeer(args, place)
    after(async () => {
      const { code, signal } = await p.stop()
      if (code !== 0 && !p.killed) throw new Error(`og_peer ended with ${code ?? signal}: ${p.stderr}`)
    })
    const { address, key } = await p.on('listening')
    p.address = address
    p.key = Buffer.from(key, 'hex')
    return p
  }

  join (topic, { server = true, client = true } = {}) {
    this.send({ cmd: 'join', topic: topic.toString('hex'), server, client })
  }

  kill () {
    this.killed = true
    this.proc.kill('SIGKILL')
    return this.exited
  }

  dial (key, at) {
    this.send({ cmd: 'dial', key: key.toString('hex'), at })
  }

  // Waits for a connection to that key; returns helpers for it.
  async open (key, ms = 30000) {
    const { slot, gen, initiator } = await this.on('open', (ev) => ev.key === key.toString('hex'), ms)
    const here = (ev) => ev.slot === slot && ev.gen === gen
    return {
      slot,
      gen,
      initiator,
      write: (text) => this.send({ cmd: 'write', slot, gen, text }),
      pattern: (bytes) => this.send({ cmd: 'pattern', slot, gen, bytes }),
      end: () => this.send({ cmd: 'end', slot, gen }),
      close: () => this.send({ cmd: 'close', slot, gen }),
      text: () => Buffer.concat(this.events.filter((e) => e.ev === 'data' && here(e)).map((e) => Buffer.from(e.hex, 'hex'))).toString(),
      received: (text, limit = 10000) => until(limit, `og_peer: "${text}" received`, () =>
        this.events.filter((e) => e.ev === 'data' && here(e)).map((e) => Buffer.from(e.hex, 'hex').toString()).join('').includes(text)),
      ended: (limit = 120000) => this.on('end', here, limit),
      closed: (limit = 30000) => this.on('closed', here, limit)
    }
  }

  // Other nodes have it in their tables.
  persistent (ms = 30000) {
    return until(ms, 'og_peer: persistent', async () => {
      this.events = this.events.filter((ev) => ev.ev !== 'stats')
      this.send({ cmd: 'stats' })
      return (await this.on('stats')).persistent
    })
  }

  tags = 0
  async value (cmd, rest, ms = 20000) {
    const tag = ++this.tags
    this.send({ cmd, tag, ...rest })
    return this.on('value', (ev) => ev.tag === tag, ms)
  }
}

// A private DHT of persistent JavaScript nodes.
export async function jsNetwork (after, nodes = 8) {
  const port = await freePort()
  const first = HyperDHT.bootstrapper(port, jsHost, { host: jsHost })
  const list = [first]
  after(async () => { for (const n of list.slice().reverse()) await n.destroy({ force: true }) })
  await first.fullyBootstrapped()
  const bootstrap = [`${jsHost}:${port}`]
  while (list.length < nodes) {
    const n = new HyperDHT({ bootstrap, host: jsHost, port: await freePort(), ephemeral: false, firewalled: false })
    list.push(n)
    await n.fullyBootstrapped()
  }
  return { bootstrap, nodes: list }
}

// In a lab every node is a process with a port of its own.
async function ogNetworkInLab (after, nodes) {
  const first = await OgPeer.start(after, { first: true })
  const bootstrap = [first.address]
  const others = []
  while (others.length < nodes - 1) others.push(await OgPeer.start(after, { bootstrap }))
  await Promise.all(others.map((p) => p.persistent()))
  return { bootstrap }
}

// A private DHT made only of og-nodes: all in one process (og_net), but for a lab.
export async function ogNetwork (after, nodes = 8, args = []) {
  if (inLab) return ogNetworkInLab(after, Math.min(nodes, 8))
  const p = new Child(path.join(build, 'tests/conformance/og_net'), ['--nodes', String(nodes), ...args])
  after(async () => {
    const { code, signal } = await p.stop()
    if (code !== 0) throw new Error(`og_net ended with ${code ?? signal}: ${p.stderr}`)
  })
  const ev = await p.on('ready', () => true, 60000)
  return { bootstrap: ev.bootstrap, net: p }
}

export function jsSwarm (after, bootstrap, options = {}) {
  const swarm = new Hyperswarm({ bootstrap, ...options })
  after(() => swarm.destroy({ force: true }))
  swarm.on('error', () => {})
  swarm.on('connection', (conn) => conn.on('error', () => {})) // a reset of the peer's is no failure here
  return swarm
}

// The first connection of a swarm (to that key), with its text gathered.
export function connection (swarm, key, ms = 30000) {
  const got = new Promise((resolve) => {
    const take = (conn) => {
      conn.on('error', () => {})
      if (key && !conn.remotePublicKey.equals(key)) return
      if (conn.gathered === undefined) {
        conn.gathered = ''
        conn.on('data', (d) => { if (conn.gathered.length < 65536) conn.gathered += d.toString() })
      }
      resolve(conn)
    }
    for (const conn of swarm.connections) take(conn)
    swarm.on('connection', take)
  })
  return within(ms, 'a connection of the JavaScript swarm', got)
}

export const gathers = (conn, text, ms = 10000) =>
  until(ms, `JavaScript: "${text}" received`, () => conn.gathered.includes(text))
