// lossy.mjs: run by lossy.sh; the bytes go both ways over its bad path, and must arrive intact.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import path from 'node:path'
import { Child, HyperDHT, Hyperswarm, MiB, build, connection, pattern, randomBytes, within } from './lib.mjs'

const bytes = Number(process.env.OG_BYTES)
const ns = process.env.OG_PEER_NS
const first = HyperDHT.bootstrapper(49737, '10.77.0.1', { host: '10.77.0.1' })
await first.fullyBootstrapped()
const bootstrap = ['10.77.0.1:49737']
const og = new Child('nsenter', ['-t', ns, '-n', path.join(build, 'tests/conformance/og_peer'),
  '--host', '10.77.0.2', '--bootstrap', bootstrap[0]])
const { key } = await og.on('listening')
const topic = randomBytes(32)
og.send({ cmd: 'join', topic: topic.toString('hex'), server: true, client: false })
await og.on('joined', () => true, 60000)
const swarm = new Hyperswarm({ bootstrap })
swarm.join(topic, { server: false, client: true })
const conn = await connection(swarm, Buffer.from(key, 'hex'), 60000)
const hash = createHash('sha256')
let received = 0
conn.on('data', (d) => { hash.update(d); received += d.length })
const ended = new Promise((resolve, reject) => { conn.on('end', resolve); conn.on('close', () => reject(new Error(`closed after ${received} bytes`))) })
const { slot, gen } = await og.on('open')
const start = Date.now()
og.send({ cmd: 'pattern', slot, gen, bytes })
const want = createHash('sha256')
for (let at = 0; at < bytes; at += 65536) {
  const piece = pattern(at, Math.min(65536, bytes - at))
  want.update(piece)
  if (!conn.write(piece)) await new Promise((resolve) => { conn.once('drain', resolve); conn.once('close', resolve) })
}
conn.end()
const sum = want.digest('hex')
const there = await og.on('end', () => true, 600000)
await within(600000, 'the bytes of og', ended)
assert.equal(received, bytes)
assert.equal(hash.digest('hex'), sum)
assert.equal(there.bytes, bytes)
assert.equal(there.sha256, sum)
console.log(`${bytes / MiB} MiB each way in ${((Date.now() - start) / 1000).toFixed(1)} s over 5 % loss`)
await og.stop()
process.exit(0)
