// A JavaScript swarm and an og-node find each other on a topic and exchange lines, in every role,
// through a DHT of JavaScript nodes and through one made only of og-nodes.
import assert from 'node:assert/strict'
import test from 'node:test'
import { OgPeer, all, cleanup, connection, gathers, jsNetwork, jsSwarm, ogNetwork, randomBytes, sleep, until } from './lib.mjs'

const networks = { 'JavaScript nodes': jsNetwork, 'og-nodes': ogNetwork }

async function meet (after, { bootstrap }, jsRole, ogRole, jsOptions) {
  const topic = randomBytes(32)
  const og = await OgPeer.start(after, { bootstrap })
  const js = jsSwarm(after, bootstrap, jsOptions)
  await og.on('ready')
  // Who is only found announces first.
  if (!ogRole.client) {
    og.join(topic, ogRole)
    await og.on('joined')
  }
  const discovery = js.join(topic, jsRole)
  if (!jsRole.client) await discovery.flushed()
  if (ogRole.client) og.join(topic, ogRole)
  const conn = await connection(js, og.key)
  conn.write('hello from JavaScript\n')
  const c = await og.open(js.keyPair.publicKey)
  c.write('hello from og\n')
  await c.received('hello from JavaScript\n')
  await gathers(conn, 'hello from og\n')
  return { og, js, c, conn, topic }
}

for (const [name, network] of Object.entries(networks)) {
  const both = { server: true, client: true }
  const server = { server: true, client: false }
  const client = { server: false, client: true }

  test(`DHT of ${name}: og serves, JavaScript calls`, async (t) => {
    const after = cleanup(t)
    const { c } = await meet(after, await network(after), client, server)
    assert.equal(c.initiator, false)
  })

  test(`DHT of ${name}: JavaScript serves, og calls`, async (t) => {
    const after = cleanup(t)
    const { c } = await meet(after, await network(after), server, client)
    assert.equal(c.initiator, true)
  })

  test(`DHT of ${name}: both roles on both sides leave one connection`, async (t) => {
    const after = cleanup(t)
    const { og, js } = await meet(after, await network(after), both, both)
    await sleep(1500)
    assert.equal(js.connections.size, 1)
    const open = og.events.filter((e) => e.ev === 'open').length
    const closed = og.events.filter((e) => e.ev === 'closed').length
    assert.equal(open - closed, 1)
  })

  test(`DHT of ${name}: a JavaScript peer that is not firewalled`, async (t) => {
    const after = cleanup(t)
    await meet(after, await network(after), client, server, { firewalled: false })
  })
}

test('two JavaScript swarms meet through og-nodes only, and part', async (t) => {
  const after = cleanup(t)
  const { bootstrap } = await ogNetwork(after, 30)
  const topic = randomBytes(32)
  const a = jsSwarm(after, bootstrap)
  const b = jsSwarm(after, bootstrap)
  await a.join(topic, { server: true, client: false }).flushed()
  b.join(topic, { server: false, client: true })
  const [ca, cb] = await Promise.all([connection(a), connection(b)])
  ca.write('from a\n')
  cb.write('from b\n')
  await gathers(cb, 'from a\n')
  await gathers(ca, 'from b\n')
})

test('og leaves: JavaScript finds it no more', async (t) => {
  const after = cleanup(t)
  const { bootstrap, nodes } = await jsNetwork(after)
  const topic = randomBytes(32)
  const og = await OgPeer.start(after, { bootstrap })
  og.join(topic)
  await og.on('joined')
  const listed = async () => {
    let n = 0
    for await (const r of nodes[1].lookup(topic)) n += r.peers.filter((p) => p.publicKey.equals(og.key)).length
    return n
  }
  assert.ok(await listed() > 0)
  og.send({ cmd: 'leave', topic: topic.toString('hex') })
  await og.on('left')
  assert.equal(await listed(), 0)
})

test('JavaScript announces on og-nodes and is gone after it leaves', async (t) => {
  const after = cleanup(t)
  const { bootstrap } = await ogNetwork(after)
  const topic = randomBytes(32)
  const js = jsSwarm(after, bootstrap)
  await js.join(topic, { server: true, client: false }).flushed()
  const og = await OgPeer.start(after, { bootstrap })
  og.join(topic, { server: false, client: true })
  await og.on('found', (e) => e.key === js.keyPair.publicKey.toString('hex'))
  await js.leave(topic)
  const late = await OgPeer.start(after, { bootstrap })
  late.join(topic, { server: false, client: true })
  await late.on('joined')
  await sleep(300)
  assert.equal(late.events.filter((e) => e.ev === 'found').length, 0)
})

test('a refused peer meets silence', async (t) => {
  const after = cleanup(t)
  const { bootstrap } = await jsNetwork(after)
  const topic = randomBytes(32)
  const og = await OgPeer.start(after, { bootstrap })
  const js = jsSwarm(after, bootstrap)
  og.send({ cmd: 'deny', key: js.keyPair.publicKey.toString('hex') })
  og.join(topic, { server: true, client: false })
  await og.on('joined')
  js.join(topic, { server: false, client: true })
  await sleep(5000)
  assert.equal(js.connections.size, 0)
  assert.equal(og.events.filter((e) => e.ev === 'open').length, 0)
})

test('members that start before their DHT meet within seconds of it', async (t) => {
  const after = cleanup(t)
  const { freePort, HyperDHT, jsHost } = await import('./lib.mjs')
  const port = await freePort()
  const bootstrap = [`${jsHost}:${port}`]
  const topic = randomBytes(32)
  const a = await OgPeer.start(after, { bootstrap })
  const b = await OgPeer.start(after, { bootstrap })
  a.join(topic)
  b.join(topic)
  await sleep(all ? 60000 : 8000)
  const first = HyperDHT.bootstrapper(port, jsHost, { host: jsHost })
  after(() => first.destroy({ force: true }))
  await first.fullyBootstrapped()
  const up = Date.now()
  await a.open(b.key, 45000)
  t.diagnostic(`met ${Date.now() - up} ms after the bootstrap node was up`)
})

test('og is listed in the tables of JavaScript nodes', async (t) => {
  const after = cleanup(t)
  const { bootstrap, nodes } = await jsNetwork(after)
  const og = await OgPeer.start(after, { bootstrap })
  const [host, port] = og.address.split(':')
  await until(30000, 'og in the JavaScript tables', () =>
    nodes.filter((n) => n.toArray().some((x) => x.host === host && x.port === Number(port))).length >= nodes.length / 2)
})
