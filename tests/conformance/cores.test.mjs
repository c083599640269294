// An og-node with two polling cores on one UDP port, and JavaScript peers that cannot tell: the DHT is
// asked at either core, members live on both, prompts go both ways. In a lab each core has a queue of the
// device, but for af_xdp, where all comes by the first one's.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import test from 'node:test'
import { HyperDHT, MiB, OgPeer, cleanup, connection, inLab, jsHost, jsNetwork, jsSwarm, pattern, randomBytes, sha256, until, within } from './lib.mjs'
import { Node, firstAddress } from './product.mjs'

const cluster = 'two-cores'
const topic = sha256(cluster)
const cores = '[cores]\nnet = 0,1'
const oneQueue = process.env.OG_LAB_PORT === 'af_xdp'

// The node's loopback is that of its own namespace.
async function page (node, path) {
  const get = `fetch('${node.url}${path}').then((r) => r.text()).then((t) => process.stdout.write(t))`
  const [file, args] = node.place.command(process.execPath, ['-e', get])
  return execFileSync(file, args, { encoding: 'utf8' })
}

async function metric (node, name, core) {
  const text = inLab ? await page(node, '/metrics') : await (await fetch(node.url + '/metrics')).text()
  let sum = 0
  for (const line of text.split('\n')) {
    const m = /^(\w+)(?:\{([^}]*)\})? (.*)$/.exec(line)
    if (m && m[1] === name && (core === undefined || m[2]?.includes(`core="${core}"`))) sum += Number(m[3])
  }
  return sum
}

function oldEcho (after, bootstrap) {
  const swarm = jsSwarm(after, bootstrap)
  const asked = []
  swarm.on('connection', (conn) => {
    let rest = ''
    conn.write(JSON.stringify({ type: 'peer_hello', node_name: 'old', clusters: [cluster], supported_models: ['old-model'] }) + '\n')
    conn.on('data', (d) => {
      rest += d.toString()
      for (let i; (i = rest.indexOf('\n')) >= 0; rest = rest.slice(i + 1)) {
        const m = JSON.parse(rest.slice(0, i))
        if (m.type === 'inference_request') conn.write(JSON.stringify({ type: 'inference_response', request_id: m.request_id, response: '[old] ' + m.prompt }) + '\n')
        if (m.type === 'inference_response') asked.push(m)
      }
    })
  })
  return { swarm, asked }
}

test('PING and FIND_NODE of JavaScript nodes are answered by either core', async (t) => {
  const after = cleanup(t)
  const og = await Node.start(after, { name: 'two', cluster, first: true, extra: cores })
  const [host, port] = firstAddress(og).split(':')
  const at = { host, port: Number(port) }
  const bootstrap = [`${host}:${port}`]
  const node = async (ephemeral) => {
    const n = new HyperDHT({ bootstrap, host: jsHost, ephemeral, firewalled: false })
    after(() => n.destroy({ force: true }))
    await n.fullyBootstrapped()
    return n
  }
  const ask = async (n) => {
    const pong = await within(5000, 'an answer to PING', n.ping(at))
    assert.equal(pong.from.port, at.port)
    const q = n.findNode(randomBytes(32))
    await within(10000, 'FIND_NODE', q.finished())
    assert.ok(q.closestReplies.length > 0)
  }
  // Those with an id are for the core that keeps the table; others are for any.
  for (let i = 0; i < 4; i++) {
    const n = await node(false)
    for (let k = 0; k < 4; k++) await ask(n)
  }
  // A device goes by the addresses: a node always comes by the same queue.
  const both = async () => await metric(og, 'og_dataplane_rx_packets_total', 0) > 20 &&
    (oneQueue || (await metric(og, 'og_dataplane_rx_packets_total', 1) > 20 && await metric(og, 'og_dht_view_replies_total', 1) > 20))
  for (let i = 0; i < 2 || !(await both()); i++) {
    assert.ok(i < 40, 'both cores hear and answer')
    const n = await node(true)
    for (let k = 0; k < 24; k++) {
      await ask(n)
      // On a socket its ids count up, and choose the core: keep them from falling into step with the cores.
      if (k % 2 === 0) await within(5000, 'an answer to PING', n.ping(at))
    }
  }
  if (oneQueue) assert.equal(await metric(og, 'og_dataplane_rx_packets_total', 1), 0)
  await until(20000, 'the JavaScript nodes in our table', async () => (await og.json('status')).dht_nodes >= 3)
})

test('members on both cores, prompts in both directions', async (t) => {
  const after = cleanup(t)
  const { bootstrap } = await jsNetwork(after)
  const peers = []
  const add = async (role) => {
    const p = oldEcho(after, bootstrap)
    peers.push(p)
    await p.swarm.join(topic, role).flushed()
    return p
  }
  const toOg = (p) => [...p.swarm.connections].find((c) => c.remotePublicKey.equals(og.key)) ?? connection(p.swarm, og.key)
  // Those who are there before are called by us, the others call us.
  for (let i = 0; i < 4; i++) await add({ server: true, client: false })
  const og = await Node.start(after, { name: 'two', bootstrap, cluster, model: 'echo', extra: cores })
  for (let i = 0; i < 4; i++) await add({ server: false, client: true })
  for (const p of peers) p.conn = await toOg(p)
  await until(20000, 'all members', async () => (await og.peers()).length === peers.length)
  assert.equal(await metric(og, 'og_core_peers', 0) + await metric(og, 'og_core_peers', 1), peers.length)
  // By chance all on one core once in 128 runs: then one of them is asked to come again.
  for (let i = 0; (await metric(og, 'og_core_peers', 0)) === 0 || (await metric(og, 'og_core_peers', 1)) === 0; i++) {
    assert.ok(i < 40, 'members land on one core only')
    const p = await add({ server: false, client: true })
    p.conn = await toOg(p)
    await until(20000, 'one more member', async () => (await og.peers()).length === peers.length)
  }
  for (const [i, p] of peers.entries()) {
    p.conn.write(JSON.stringify({ type: 'inference_request', request_id: `r${i}`, prompt: `question ${i}` }) + '\n')
    await until(10000, `the answer to peer ${i}`, () => p.asked.length > 0)
    assert.equal(p.asked[0].response, `[echo] question ${i}`)
  }
  for (let i = 0; i < 10; i++) {
    const r = await og.cli('prompt', `prompt ${i}`, '--model', 'old-model')
    assert.equal(r.stdout.trimEnd(), `[old] prompt ${i}`, r.stderr)
  }
  // On sockets the kernel knows which core a stream is on: next to nothing is handed over. Nothing is lost.
  assert.equal(await metric(og, 'og_dataplane_handover_full_total'), 0)
  const handed = await metric(og, 'og_dataplane_handed_out_total')
  t.diagnostic(`${handed} of ${await metric(og, 'og_dataplane_rx_packets_total')} datagrams handed over`)
  for (const p of peers) await p.swarm.destroy({ force: true })
  await until(20000, 'nobody left', async () => (await og.peers()).length === 0)
})

test(`${10 * MiB} bytes each way between an og-node of two cores and one of three`, async (t) => {
  const after = cleanup(t)
  const { createHash } = await import('node:crypto')
  const a = await OgPeer.start(after, { first: true, cores: 2 })
  const hash = createHash('sha256')
  for (let at = 0; at < 10 * MiB; at += MiB) hash.update(pattern(at, MiB))
  const want = hash.digest('hex')
  for (let i = 0; i < 4; i++) {
    const b = await OgPeer.start(after, { bootstrap: [a.address], cores: 3 })
    await b.on('ready')
    if (i === 0) {
      a.join(topic, { server: true, client: false })
      await a.on('joined')
    }
    b.dial(a.key, a.address)
    const [atA, atB] = await Promise.all([a.open(b.key), b.open(a.key)])
    atA.pattern(10 * MiB)
    atB.pattern(10 * MiB)
    for (const end of await Promise.all([atA.ended(), atB.ended()])) {
      assert.equal(end.bytes, 10 * MiB)
      assert.equal(end.sha256, want)
    }
  }
})
