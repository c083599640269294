// Peers that behave like the old proof of concept: a server that echoes, and a sender that joins as
// client only, asks everyone and takes the first answer. And what happens when such a peer dies.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import path from 'node:path'
import test from 'node:test'
import { cleanup, connection, jsNetwork, jsSwarm, sha256, sleep, until, within } from './lib.mjs'
import { Node } from './product.mjs'

const cluster = 'gatewayai-poc'
const topic = sha256(cluster)

function lines (conn, onLine) {
  let rest = ''
  conn.on('data', (d) => {
    rest += d.toString()
    for (let i; (i = rest.indexOf('\n')) >= 0; rest = rest.slice(i + 1)) {
      try { onLine(JSON.parse(rest.slice(0, i))) } catch { /* as the old one: ignored */ }
    }
  })
}

const say = (conn, o) => conn.write(JSON.stringify(o) + '\n')

async function oldSender (after, bootstrap, prompt) {
  const swarm = jsSwarm(after, bootstrap)
  const id = 'id-' + Math.random()
  const answer = new Promise((resolve) => {
    swarm.on('connection', (conn) => {
      conn.on('error', () => {})
      lines(conn, (m) => m.type === 'inference_response' && m.request_id === id && resolve(m))
      say(conn, { type: 'inference_request', request_id: id, prompt })
    })
  })
  swarm.join(topic, { server: false, client: true })
  return within(30000, 'an answer for the old sender', answer)
}

function oldServer (after, bootstrap, { hello = false } = {}) {
  const swarm = jsSwarm(after, bootstrap)
  swarm.on('connection', (conn) => {
    conn.on('error', () => {})
    if (hello) say(conn, { type: 'peer_hello', node_name: 'old', clusters: [cluster], supported_models: ['echo-model'] })
    lines(conn, (m) => {
      if (m.type === 'inference_request') say(conn, { type: 'inference_response', request_id: m.request_id, response: '[echo] ' + m.prompt, model: 'echo-model' })
    })
  })
  return swarm
}

test('a client-only sender gets the answer of an og-node', async (t) => {
  const after = cleanup(t)
  const { bootstrap } = await jsNetwork(after)
  await Node.start(after, { name: 'serves', bootstrap, cluster, model: 'demo' })
  await Node.start(after, { name: 'bystander', bootstrap, cluster })
  const m = await oldSender(after, bootstrap, 'What is 2+2?')
  assert.equal(m.response, '4')
})

test('an og-node without a model gets the answer of an old echo server', async (t) => {
  const after = cleanup(t)
  const { bootstrap } = await jsNetwork(after)
  const og = await Node.start(after, { name: 'asks', bootstrap, cluster })
  const js = oldServer(after, bootstrap)
  js.join(topic, { server: true, client: true })
  await og.sees(js.keyPair.publicKey)
  const r = await og.cli('prompt', 'hello old one')
  assert.equal(r.stdout.trimEnd(), '[echo] hello old one', r.stderr)
})

test('an old server that says hello is asked by the name of its model', async (t) => {
  const after = cleanup(t)
  const { bootstrap } = await jsNetwork(after)
  const og = await Node.start(after, { name: 'asks', bootstrap, cluster })
  const js = oldServer(after, bootstrap, { hello: true })
  js.join(topic, { server: true, client: true })
  const peer = await until(20000, 'its hello', async () => (await og.peers()).find((p) => p.name === 'old'))
  assert.deepEqual(peer.models, ['echo-model'])
  const r = await og.cli('prompt', 'x', '--model', 'echo-model')
  assert.equal(r.stdout.trimEnd(), '[echo] x')
  const none = await og.cli('prompt', 'x', '--model', 'no-such-model')
  assert.equal(none.code, 4)
})

test('lines of any shape are survived, and the next one is answered', async (t) => {
  const after = cleanup(t)
  const { bootstrap } = await jsNetwork(after)
  const og = await Node.start(after, { name: 'serves', bootstrap, cluster, model: 'demo' })
  const js = jsSwarm(after, bootstrap)
  js.join(topic, { server: true, client: true })
  const conn = await connection(js, og.key)
  const got = []
  lines(conn, (m) => m.type === 'inference_response' && got.push(m))
  conn.write('\n\r\n{\n[]\n5\n{"type":7}\n')
  conn.write('{"type":"inference_request","prompt":"no id"}\n{"type":"inference_request","request_id":null,"prompt":"x"}\n')
  conn.write('x'.repeat(300 * 1024) + '\n')
  conn.write(Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x7d, 0x0a]))
  conn.write('{"type":"inference_request","request_id":{"a":[1.50]},"pro')
  await sleep(100)
  conn.write('mpt":"What is 20+22?"}\r\n')
  await until(10000, 'the answer', () => got.length > 0)
  assert.deepEqual(got[0].request_id, { a: [1.5] })
  assert.equal(got[0].response, '42')
  assert.equal(got.length, 1)
})

test('a JavaScript node killed with a request outstanding is noticed in 2 s, and another answers', async (t) => {
  const after = cleanup(t)
  const { bootstrap } = await jsNetwork(after)
  const og = await Node.start(after, { name: 'asks', bootstrap, cluster })
  const victim = spawn(process.execPath, [path.join(import.meta.dirname, 'silent-peer.mjs'), bootstrap[0], cluster], { stdio: ['pipe', 'pipe', 'inherit'] })
  after(() => { victim.kill('SIGKILL') })
  const key = await within(20000, 'the key of the victim', new Promise((resolve) => victim.stdout.once('data', (d) => resolve(Buffer.from(d.toString().trim(), 'hex')))))
  await og.sees(key)
  await sleep(1200)
  const asked = new Promise((resolve) => victim.stdout.on('data', (d) => d.toString().includes('asked') && resolve()))
  const answer = og.cli('prompt', 'who is there')
  await within(10000, 'the request at the victim', asked)
  const js = oldServer(after, bootstrap)
  js.join(topic, { server: true, client: true })
  await og.sees(js.keyPair.publicKey)
  await sleep(1000)
  victim.kill('SIGKILL')
  const killed = Date.now()
  const r = await within(15000, 'an answer from elsewhere', answer)
  const took = Date.now() - killed
  t.diagnostic(`answered elsewhere ${took} ms after the kill`)
  assert.equal(r.stdout.trimEnd(), '[echo] who is there', r.stderr)
  assert.ok(took < 4000, `${took} ms`)
})

test('a killed JavaScript node and nobody else: a clear error, soon', async (t) => {
  const after = cleanup(t)
  const { bootstrap } = await jsNetwork(after)
  const og = await Node.start(after, { name: 'asks', bootstrap, cluster })
  const victim = spawn(process.execPath, [path.join(import.meta.dirname, 'silent-peer.mjs'), bootstrap[0], cluster], { stdio: ['pipe', 'pipe', 'inherit'] })
  after(() => { victim.kill('SIGKILL') })
  const key = await within(20000, 'the key of the victim', new Promise((resolve) => victim.stdout.once('data', (d) => resolve(Buffer.from(d.toString().trim(), 'hex')))))
  await og.sees(key)
  await sleep(1200)
  const asked = new Promise((resolve) => victim.stdout.on('data', (d) => d.toString().includes('asked') && resolve()))
  const answer = og.cli('prompt', 'who is there')
  await within(10000, 'the request at the victim', asked)
  victim.kill('SIGKILL')
  const killed = Date.now()
  await until(5000, 'the loss noticed', async () => (await og.peers()).length === 0)
  const noticed = Date.now() - killed
  t.diagnostic(`noticed after ${noticed} ms`)
  assert.ok(noticed < 2500, `${noticed} ms`)
  const r = await within(15000, 'an error', answer)
  assert.notEqual(r.code, 0)
  assert.match(r.stderr, /lost|no other member|nobody/)
})
