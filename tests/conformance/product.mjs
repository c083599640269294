// product.mjs: og-node and opengateway as an operator runs them, for the tests of the whole product.
import { execFile } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'
import { takePlace } from './lab.mjs'
import { Child, build, root, tempDir, until, within } from './lib.mjs'

const run = promisify(execFile)
export const demo = path.join(root, 'configs/demo.gguf')

export class Node {
  // `model`: 'demo', 'echo', a path or null.
  static async start (after, { name, bootstrap, cluster, model = null, first = false, extra = '', dht = [], port = [], place = takePlace(after) }) {
    const n = new Node()
    n.place = place
    n.name = name
    n.root = path.join(tempDir(after), name)
    mkdirSync(n.root)
    n.conf = path.join(n.root, 'node.conf')
    writeFileSync(n.conf, [
      '[node]', `name = ${name}`, `root = ${n.root}`,
      ...(cluster ? ['[cluster]', ...[cluster].flat().map((id) => `id = ${id}`)] : []),
      '[dht]', `bootstrap = ${first ? 'none' : bootstrap.join(', ')}`, 'port = 0',
      ...(first ? ['ephemeral = no', 'firewalled = no'] : []),
      ...dht,
      ...(process.env.OG_LAB_CORES ? ['[cores]', `net = 0-${process.env.OG_LAB_CORES - 1}`] : []),
      '[port]', `driver = ${place.driver}`,
      `address = ${place.address}${place.driver === 'socket' ? '' : '/' + place.prefix}`, `gateway = ${place.gateway}`, ...port,
      '[http]', 'listen = 127.0.0.1:0',
      '[model]', ...(model === 'demo' ? [`path = ${demo}`] : model === 'echo' ? ['backend = echo'] : model ? [`path = ${model}`] : ['backend = none']),
      extra, ''
    ].join('\n'))
    after(() => n.stop())
    await n.run()
    return n
  }

  async run () {
    this.child = new Child(...this.place.command(path.join(build, 'cli/og-node'), ['-c', this.conf]))
    await within(20000, `${this.name}: ready`, new Promise((resolve, reject) => {
      let out = ''
      this.child.proc.stdout.on('data', (d) => { out += d; if (/^ready$/m.test(out)) resolve() })
      this.child.exited.then((e) => reject(new Error(`og-node ended: ${JSON.stringify(e)} ${this.child.stderr}`)))
    }))
    this.status = await this.json('status')
    this.url = `http://${this.status.http}`
    this.key = Buffer.from(this.status.key, 'hex')
  }

  async cli (...args) {
    try {
      const { stdout, stderr } = await run(path.join(build, 'cli/opengateway'), ['--root', this.root, ...args], { timeout: 60000 })
      return { code: 0, stdout, stderr }
    } catch (err) {
      if (typeof err.code !== 'number') throw err
      return { code: err.code, stdout: err.stdout, stderr: err.stderr }
    }
  }

  async json (...args) {
    const { code, stdout, stderr } = await this.cli('--json', ...args)
    if (code !== 0) throw new Error(`opengateway ${args.join(' ')}: exit ${code}: ${stderr}`)
    return JSON.parse(stdout)
  }

  // The list of members, whatever it is wrapped in.
  async peers () {
    const r = await this.json('peers')
    return Array.isArray(r) ? r : r.peers
  }

  sees (key, ms = 20000) {
    return until(ms, `${this.name} sees ${key.toString('hex').slice(0, 8)}`, async () =>
      (await this.peers()).find((p) => p.key === key.toString('hex')))
  }

  log () { return this.child.stderr }

  kill () {
    this.child.proc.kill('SIGKILL')
    return this.child.exited
  }

  async stop () {
    if (this.child.proc.exitCode !== null || this.child.proc.signalCode !== null) return
    this.child.proc.kill('SIGTERM')
    const { code, signal } = await within(10000, `${this.name}: end`, this.child.exited)
    if (code !== 0) throw new Error(`${this.name} ended with ${code ?? signal}: ${this.log()}`)
  }
}

export const firstAddress = (n) => n.status.dht
export const read = (file) => readFileSync(file, 'utf8')
