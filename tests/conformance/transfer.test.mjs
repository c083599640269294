// Bytes arrive whole and in order: 100 MiB each way (10 in CI), and a loss-prone path between.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { spawnSync } from 'node:child_process'
import path from 'node:path'
import test from 'node:test'
import { MiB, OgPeer, all, build, cleanup, connection, inLab, jsNetwork, jsSwarm, pattern, randomBytes, within } from './lib.mjs'

export const size = (all ? 100 : 10) * MiB

function expected (bytes) {
  const hash = createHash('sha256')
  for (let at = 0; at < bytes; at += MiB) hash.update(pattern(at, Math.min(MiB, bytes - at)))
  return hash.digest('hex')
}

async function writeAll (conn, bytes, piece = 65536) {
  for (let at = 0; at < bytes; at += piece) {
    if (!conn.write(pattern(at, Math.min(piece, bytes - at)))) {
      await new Promise((resolve, reject) => { conn.once('drain', resolve); conn.once('close', reject) })
    }
  }
  conn.end()
}

function readAll (conn) {
  const hash = createHash('sha256')
  let bytes = 0
  conn.on('data', (d) => { hash.update(d); bytes += d.length })
  return new Promise((resolve, reject) => {
    conn.on('end', () => resolve({ bytes, sha256: hash.digest('hex') }))
    conn.on('error', reject)
  })
}

test(`${size / MiB} MiB each way at the same time`, async (t) => {
  const after = cleanup(t)
  const { bootstrap } = await jsNetwork(after, 4)
  const topic = randomBytes(32)
  const og = await OgPeer.start(after, { bootstrap })
  og.join(topic, { server: true, client: false })
  await og.on('joined')
  const js = jsSwarm(after, bootstrap)
  js.join(topic, { server: false, client: true })
  const conn = await connection(js, og.key)
  const reading = readAll(conn)
  const c = await og.open(js.keyPair.publicKey)
  const start = Date.now()
  c.pattern(size)
  await writeAll(conn, size)
  const want = expected(size)
  const there = await c.ended(300000)
  const here = await within(300000, 'the bytes of og', reading)
  t.diagnostic(`${(2 * size / 1e6 / ((Date.now() - start) / 1000)).toFixed(0)} MB/s in sum`)
  assert.deepEqual(here, { bytes: size, sha256: want })
  assert.equal(there.bytes, size)
  assert.equal(there.sha256, want)
})

test('writes of 1 MiB are frames of 1 MiB, and arrive', async (t) => {
  const after = cleanup(t)
  const { bootstrap } = await jsNetwork(after, 4)
  const topic = randomBytes(32)
  const og = await OgPeer.start(after, { bootstrap })
  const js = jsSwarm(after, bootstrap)
  await js.join(topic, { server: true, client: false }).flushed()
  og.join(topic, { server: false, client: true })
  const conn = await connection(js, og.key)
  const c = await og.open(js.keyPair.publicKey)
  await writeAll(conn, 8 * MiB, MiB)
  assert.equal((await c.ended()).sha256, expected(8 * MiB))
})

test('5 % loss, reordering and duplication on the path', { timeout: 900000 }, (t) => {
  if (inLab) return t.skip('the bad path is one of sockets')
  const tool = spawnSync('unshare', ['-Urn', 'true'])
  if (tool.status !== 0) return t.skip('no network namespaces here')
  const run = spawnSync('unshare', ['-Urn', path.join(import.meta.dirname, 'lossy.sh')], {
    env: { ...process.env, OG_BUILD: build, OG_BYTES: String(size) }, encoding: 'utf8', timeout: 880000
  })
  t.diagnostic(run.stdout.trim().split('\n').slice(-3).join(' | '))
  assert.equal(run.status, 0, run.stdout + run.stderr)
})
