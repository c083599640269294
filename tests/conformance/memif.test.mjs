// Two og-nodes that share nothing but a memif: packets by shared memory, no kernel between them.
import assert from 'node:assert/strict'
import path from 'node:path'
import test from 'node:test'
import { MiB, OgPeer, all, cleanup, pattern, sleep, tempDir, until } from './lib.mjs'
import { Node, firstAddress } from './product.mjs'

const size = (all ? 100 : 10) * MiB

// The two ends of one cable: the server makes the socket, and the client waits for it.
function cable (after) {
  const file = path.join(tempDir(after), 'memif.sock')
  const end = (role, k) => ({
    driver: `ethdev:net_memif0,role=${role},socket=${file},socket-abstract=no,mac=02:00:00:00:02:0${k}`,
    address: `10.9.1.${k}`,
    prefix: 24,
    gateway: '0.0.0.0',
    command: (program, args) => [program, args]
  })
  return { server: end('server', 1), client: end('client', 2), file }
}

async function pair (after, serverCores, clientCores) {
  const { server, client } = cable(after)
  const a = await OgPeer.start(after, { first: true, place: server, cores: serverCores })
  const b = await OgPeer.start(after, { bootstrap: [a.address], place: client, cores: clientCores })
  await b.on('ready')
  return { a, b, server, client }
}

async function connected ({ a, b }) {
  a.join(Buffer.alloc(32, 7), { server: true, client: false })
  await a.on('joined')
  b.dial(a.key, a.address)
  const [atA, atB] = await Promise.all([a.open(b.key), b.open(a.key)])
  return { atA, atB }
}

test('memif: values and lines', async (t) => {
  const after = cleanup(t)
  const { a, b } = await pair(after)
  assert.equal((await b.value('put_mutable', { seq: 3, text: 'over shared memory' })).errno, 0)
  const got = await b.value('get_mutable', { key: b.key.toString('hex'), seq: 0 })
  assert.equal(Buffer.from(got.hex, 'hex').toString(), 'over shared memory')
  const { atA, atB } = await connected({ a, b })
  atA.write('from the server\n')
  atB.write('from the client\n')
  await atA.received('from the client\n')
  await atB.received('from the server\n')
})

test(`memif: ${size / MiB} MiB each way at the same time`, async (t) => {
  const after = cleanup(t)
  const { createHash } = await import('node:crypto')
  const { atA, atB } = await connected(await pair(after))
  const hash = createHash('sha256')
  for (let at = 0; at < size; at += MiB) hash.update(pattern(at, MiB))
  const want = hash.digest('hex')
  const start = Date.now()
  atA.pattern(size)
  atB.pattern(size)
  for (const end of await Promise.all([atA.ended(), atB.ended()])) {
    assert.equal(end.bytes, size)
    assert.equal(end.sha256, want)
  }
  t.diagnostic(`${(2 * size / 1e6 / ((Date.now() - start) / 1000)).toFixed(0)} MB/s in sum`)
})

// Each end has a ring for each of its cores, as far as the other end has them.
for (const [serverCores, clientCores] of [[2, 2], [3, 2], [1, 2]]) {
  test(`memif: ${serverCores} polling cores at one end, ${clientCores} at the other`, async (t) => {
    const after = cleanup(t)
    const { createHash } = await import('node:crypto')
    const { a, b, client } = await pair(after, serverCores, clientCores)
    const want = createHash('sha256').update(pattern(0, MiB)).digest('hex')
    assert.equal((await b.value('put_mutable', { seq: 1, text: 'several cores' })).errno, 0)
    a.join(Buffer.alloc(32, 7), { server: true, client: false })
    await a.on('joined')
    for (let i = 0, last = b; i < 3; i++) {
      last.dial(a.key, a.address)
      const [atA, atB] = await Promise.all([a.open(last.key), last.open(a.key)])
      atA.pattern(MiB)
      atB.pattern(MiB)
      for (const end of await Promise.all([atA.ended(), atB.ended()])) {
        assert.equal(end.bytes, MiB)
        assert.equal(end.sha256, want)
      }
      await last.stop()
      if (i === 2) break
      // The next one has one core, the last one as many as the first.
      last = await OgPeer.start(after, { bootstrap: [a.address], place: client, cores: i % 2 ? clientCores : 1 })
      await last.on('ready')
    }
  })
}

test('memif: the peer is killed and comes back', async (t) => {
  const after = cleanup(t)
  const { a, b, client } = await pair(after)
  await connected({ a, b })
  await b.kill()
  await a.on('closed', () => true, 60000)
  const again = await OgPeer.start(after, { bootstrap: [a.address], place: client })
  again.dial(a.key, a.address)
  const c = await again.open(a.key)
  c.write('back\n')
  const atA = await a.open(again.key)
  await atA.received('back\n')
})

test('memif: the end that has the socket is killed and comes back', async (t) => {
  const after = cleanup(t)
  const { a, b, server } = await pair(after)
  await connected({ a, b })
  await a.kill()
  await b.on('closed', () => true, 60000)
  const again = await OgPeer.start(after, { bootstrap: [b.address], place: server })
  const { atA, atB } = await connected({ a: again, b })
  atB.write('back\n')
  await atA.received('back\n')
  // It waits while the other end is away, and says so once.
  assert.equal(b.stderr.match(/memif: waiting for a server/g).length, 1)
  assert.ok(b.stderr.split('\n').length < 12, b.stderr)
})

test('memif: the end without the socket starts first', async (t) => {
  const after = cleanup(t)
  const { server, client, file } = cable(after)
  const b = await OgPeer.start(after, { first: true, place: client, cores: 2 })
  await until(5000, 'it says what it waits for', () => b.stderr.includes(`memif: waiting for a server at ${file}`))
  await sleep(1500)
  const a = await OgPeer.start(after, { bootstrap: [b.address], place: server, cores: 2 })
  const { atA, atB } = await connected({ a, b })
  atA.pattern(MiB)
  atB.pattern(MiB)
  for (const end of await Promise.all([atA.ended(), atB.ended()])) assert.equal(end.bytes, MiB)
  assert.equal(b.stderr.match(/waiting for a server/g).length, 1)
  assert.ok(b.stderr.split('\n').length < 12, b.stderr)
})

test('memif: an og-node is not ready before its server is there', async (t) => {
  const after = cleanup(t)
  const { server, client, file } = cable(after)
  let ready = false
  const starting = Node.start(after, { name: 'waits', first: true, place: client, cluster: 'memif' })
  starting.then(() => { ready = true }, () => {})
  await sleep(2000)
  assert.ok(!ready)
  await Node.start(after, { name: 'serves', first: true, place: server, cluster: 'memif' })
  const waits = await starting
  assert.match(waits.log(), new RegExp(`waiting for a server at ${file}`))
})

test('memif: one og-node answers the prompt of another', async (t) => {
  const after = cleanup(t)
  const { server, client } = cable(after)
  const serves = await Node.start(after, { name: 'serves', first: true, place: server, model: 'demo', cluster: 'memif' })
  const at = firstAddress(serves)
  const asks = await Node.start(after, {
    name: 'asks',
    bootstrap: [at],
    place: client,
    cluster: 'memif',
    dht: [`peers = ${serves.key.toString('hex')}@${at}`]
  })
  await asks.sees(serves.key)
  await until(20000, 'the model is known', async () => (await asks.peers())[0].models?.length > 0)
  const r = await asks.cli('prompt', 'What is 2+2?')
  assert.equal(r.stdout.trimEnd(), '4', r.stderr)
})
