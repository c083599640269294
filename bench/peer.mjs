// peer.mjs: the JavaScript side of `og-bench --peer js`: unmodified hyperdht nodes.
//
//   node peer.mjs network            a private DHT of 30 nodes: "ready ADDRESS:PORT"
//   node peer.mjs node BOOTSTRAP     one more node, in a process of its own
//
// Each runs until its standard input ends.
import { createSocket } from 'node:dgram'
import { createRequire } from 'node:module'

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
  }
}

process.stdin.on('end', () => process.exit(0)).on('close', () => process.exit(0)).resume()
await roles[role]()
