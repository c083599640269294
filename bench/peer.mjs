// peer.mjs: the JavaScript side of `og-bench --peer js`: unmodified hyperdht nodes.
//
//   node peer.mjs network            a private DHT of 30 nodes: "ready ADDRESS:PORT"
//   node peer.mjs node BOOTSTRAP     one more node, in a process of its own
//   node peer.mjs peer BOOTSTRAP     a node that is a server and obeys lines as `og-bench --serve peer`
//                                    does: "ready ADDRESS:PORT PUBLIC_KEY", then "done NS …" for each
//
// Each runs until its standard input ends.
import { createSocket } from 'node:dgram'
import { createRequire } from 'node:module'
import readline from 'node:readline'

const require = createRequire(new URL('../tests/conformance/', import.meta.url))
const HyperDHT = require('hyperdht')

const NODES = 30
const [role, argument] = process.argv.slice(2)
const started = []

function freePort () {
  return new Promise((resolve, reject) => {
    const probe = createSocket('udp4')
    probe.once('error', reject)
    probe.bind(0, '127.0.0.1', () => {
      const { port } = probe.address()
      probe.close(() => resolve(port))
    })
  })
}

async function node (bootstrap) {
  const n = new HyperDHT({ bootstrap, host: '127.0.0.1', port: await freePort(), ephemeral: false, firewalled: false })
  started.push(n)
  await n.fullyBootstrapped()
  return n
}

const say = (...words) => process.stdout.write(words.join(' ') + '\n')

const roles = {
  async network () {
    const port = await freePort()
    const first = HyperDHT.bootstrapper(port, '127.0.0.1', { host: '127.0.0.1' })
    started.push(first)
    await first.fullyBootstrapped()
    for (let i = 1; i < NODES; i++) await node([`127.0.0.1:${port}`])
    say('ready', `127.0.0.1:${port}`)
  },

  async node () {
    const n = await node([argument])
    // A node learns its neighbours from its queries.
    for (let i = 0; i < 20; i++) await n.findNode(HyperDHT.keyPair().publicKey).finished()
    say('ready', `127.0.0.1:${n.address().port}`)
  },

  async peer () {
    const n = await node([argument])
    const keys = HyperDHT.keyPair()
    const server = n.createServer(serve)
    await server.listen(keys)
    say('ready', `127.0.0.1:${n.address().port}`, keys.publicKey.toString('hex'))
    await obey(new Client(n))
    process.exit(0)
  }
}

// What comes first on a connection says what to do with it; see peer_core.h.
function serve (conn) {
  let header = Buffer.alloc(0)
  let expected = 0n
  let echoing = false
  conn.on('error', () => {})
  conn.on('data', (data) => {
    while (data.length > 0) {
      if (echoing) { conn.write(data); return }
      if (header.length < 8) {
        const n = Math.min(8 - header.length, data.length)
        header = Buffer.concat([header, data.subarray(0, n)])
        data = data.subarray(n)
        if (header.length < 8) return
        expected = header.readBigUInt64LE()
        echoing = expected === 0xffffffffffffffffn
      } else {
        const n = expected < BigInt(data.length) ? Number(expected) : data.length
        expected -= BigInt(n)
        data = data.subarray(n)
      }
      if (!echoing && expected === 0n) {
        conn.write(header)
        header = Buffer.alloc(0)
      }
    }
  })
}

const now = () => process.hrtime.bigint()
const quantile = (list, q) => list[Math.min(list.length - 1, Math.floor(list.length * q))]

class Client {
  constructor (dht) { this.dht = dht }

  open (key, address) {
    const [host, port] = address.split(':')
    const conn = this.dht.connect(Buffer.from(key, 'hex'), { relayAddresses: [{ host, port: Number(port) }] })
    return new Promise((resolve, reject) => {
      conn.on('open', () => resolve(conn)).on('error', reject)
    })
  }

  // Resolves once so many bytes have come.
  await (bytes) {
    return new Promise((resolve, reject) => {
      this.heard = (data) => {
        bytes -= data.length
        if (bytes <= 0) resolve()
      }
      this.fail = reject
    })
  }

  async connect (key, address) {
    this.conn = await this.open(key, address)
    this.conn.on('data', (data) => this.heard?.(data))
    this.conn.on('error', (err) => this.fail?.(err))
    this.conn.on('close', () => this.fail?.(new Error('closed')))
    return []
  }

  async send (piece, bytes) {
    const header = Buffer.alloc(8)
    const data = Buffer.alloc(piece, 7)
    header.writeBigUInt64LE(BigInt(bytes))
    const counted = this.await(8)
    this.conn.write(header)
    for (let left = bytes; left > 0; left -= piece) {
      if (!this.conn.write(left < piece ? data.subarray(0, left) : data)) {
        await new Promise((resolve) => this.conn.once('drain', resolve))
      }
    }
    await counted
    return []
  }

  async echo (bytes, count) {
    const message = Buffer.alloc(bytes, 7)
    const took = []
    if (!this.echoing) this.conn.write(Buffer.alloc(8, 255))
    this.echoing = true
    // By callback: a promise for each message would be measured too.
    await new Promise((resolve, reject) => {
      let left = bytes
      let start = now()
      this.fail = reject
      this.heard = (data) => {
        left -= data.length
        if (left > 0) return
        took.push(Number(now() - start))
        if (took.length === count) { resolve(); return }
        left = bytes
        start = now()
        this.conn.write(message)
      }
      this.conn.write(message)
    })
    return took
  }

  async connects (count, key, address) {
    const took = []
    while (took.length < count) {
      const start = now()
      const conn = await this.open(key, address)
      took.push(Number(now() - start))
      conn.destroy()
    }
    return took
  }
}

async function obey (client) {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [task, ...args] = line.split(' ')
    try {
      const start = now()
      const numbers = args.map((a) => /^[0-9]+$/.test(a) && a.length < 16 ? Number(a) : a)
      const took = (await client[task](...numbers)).sort((a, b) => a - b)
      say('done', now() - start, ...(took.length ? [quantile(took, 0.5), quantile(took, 0.99)] : []))
    } catch (err) {
      say('failed', err.message)
    }
  }
}

if (role !== 'peer') process.stdin.on('end', () => process.exit(0)).on('close', () => process.exit(0)).resume()
await roles[role]()
