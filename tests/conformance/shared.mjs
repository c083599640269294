// shared.mjs: what tests/net/shared.sh runs: an og-node that shares its interface with the kernel, in the
// namespace of OG_LAB_NS at 10.9.0.10, and unmodified peers here. Exit status 0 if all was seen.
import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import { HyperDHT, connection, jsHost, jsNetwork, jsSwarm, randomBytes, sha256, sleep, until, within } from './lib.mjs'
import { Node } from './product.mjs'

const ns = process.env.OG_LAB_NS
const cluster = 'shared-test'
const place = {
  driver: 'ethdev:net_af_xdp0,iface=eth0',
  address: '0.0.0.0', // of the interface
  prefix: 24,
  gateway: '0.0.0.0',
  command: (file, args) => ['nsenter', ['-t', ns, '-n', path.resolve(file), ...args]]
}
const steps = []
const after = (step) => steps.push(step)
const seen = (what) => console.log(`  ${what}`)
const there = (script, ...args) => promisify(execFile)('nsenter', ['-t', ns, '-n', process.execPath, '-e', script, ...args])

// The kernel's TCP at the same address, asked all the time, each time by a connection of its own.
async function startTcp () {
  const server = spawn('nsenter', ['-t', ns, '-n', process.execPath, '-e',
    "require('http').createServer((q, r) => r.end('alive')).listen(8080, '10.9.0.10', () => console.log('listens'))"],
  { stdio: ['ignore', 'pipe', 'inherit'] })
  after(() => { server.kill() })
  await within(10000, 'the TCP server', new Promise((resolve) => server.stdout.once('data', resolve)))
  const tcp = { answers: 0, stop: false }
  const ask = async () => {
    while (!tcp.stop) {
      const r = await fetch('http://10.9.0.10:8080/', { headers: { connection: 'close' }, signal: AbortSignal.timeout(3000) })
      assert.equal(await r.text(), 'alive')
      tcp.answers++
      await sleep(50)
    }
  }
  tcp.asking = ask().catch((err) => { tcp.error = err })
  tcp.check = (when) => {
    if (tcp.error) throw new Error(`the kernel's TCP ${when}: ${tcp.error.message}`)
    const before = tcp.answers
    return until(5000, `the kernel's TCP answers ${when}`, () => tcp.error || tcp.answers > before + 2)
  }
  after(() => { tcp.stop = true; return tcp.asking })
  return tcp
}

async function metrics (og) {
  const { stdout } = await there(`fetch('${og.url}/metrics').then((r) => r.text()).then((t) => process.stdout.write(t))`)
  const of = (way, direction) => Number(new RegExp(`shared_packets_total{way="${way}",direction="${direction}"} (\\d+)`).exec(stdout)?.[1])
  return { xdp: { rx: of('xdp', 'rx'), tx: of('xdp', 'tx') }, kernel: { rx: of('kernel', 'rx'), tx: of('kernel', 'tx') } }
}

async function pings (node, port, count) {
  for (let i = 0; i < count; i++) await within(5000, 'a PING answered', node.ping({ host: '10.9.0.10', port }))
}

function answer (conn, prompt) {
  const id = randomBytes(8).toString('hex')
  conn.write(JSON.stringify({ type: 'inference_request', request_id: id, prompt }) + '\n')
  return until(20000, `an answer to "${prompt}"`, () => conn.gathered.split('\n').slice(0, -1)
    .map((line) => JSON.parse(line)).find((m) => m.type === 'inference_response' && m.request_id === id)?.response)
}

async function run () {
  const { bootstrap } = await jsNetwork(after, 4)
  const tcp = await startTcp()
  await tcp.check('before')
  const og = await Node.start(after, { name: 'shares', bootstrap, cluster, model: 'demo', place, port: ['shared = yes'] })
  const [host, text] = og.status.dht.split(':')
  let port = Number(text)
  assert.equal(host, '10.9.0.10')
  await tcp.check('beside og-node')

  const near = new HyperDHT({ bootstrap, host: jsHost, ephemeral: true })
  after(() => near.destroy({ force: true }))
  await near.fullyBootstrapped()
  await pings(near, port, 20)
  await sleep(1200) // the kernel's tables are read every half second
  const first = await metrics(og)
  await pings(near, port, 200)
  const then = await metrics(og)
  assert.ok(then.xdp.rx - first.xdp.rx >= 200, `received by XDP: ${JSON.stringify([first, then])}`)
  assert.ok(then.xdp.tx - first.xdp.tx >= 190, `sent by XDP: ${JSON.stringify([first, then])}`)
  seen('a neighbour: 220 PINGs answered, by XDP')
  const far = new HyperDHT({ bootstrap: ['192.168.77.1:1'], host: '192.168.77.1', ephemeral: true })
  after(() => far.destroy({ force: true }))
  await pings(far, port, 20)
  seen('a network behind the router: 20 PINGs answered')
  const before = await metrics(og)
  await there(`
    const DHT = require(${JSON.stringify(path.resolve('node_modules/hyperdht'))})
    const node = new DHT({ bootstrap: ['127.0.0.1:1'], host: '10.9.0.10' })
    const all = async () => { for (let i = 0; i < 20; i++) await node.ping({ host: '10.9.0.10', port: ${port} }) }
    all().then(() => process.exit(0), (err) => { console.error(err); process.exit(1) })`)
  assert.ok((await metrics(og)).kernel.rx - before.kernel.rx >= 20)
  seen('this very machine: 20 PINGs answered, by the kernel')

  const swarm = jsSwarm(after, bootstrap)
  swarm.join(sha256(cluster), { server: false, client: true })
  const conn = await connection(swarm, og.key)
  assert.equal(await answer(conn, 'What is 2+2?'), '4')
  seen('a prompt answered over an encrypted stream')
  await tcp.check('after all of that')
  await promisify(execFile)('nsenter', ['-t', ns, '-n', 'ip', 'link', 'set', 'eth0', 'xdp', 'off'])
  await pings(near, port, 20)
  assert.equal(await answer(conn, 'What is 20+22?'), '42')
  seen('its program taken away: 20 PINGs and a prompt answered, by the kernel')
  await og.kill()
  await tcp.check('after og-node was killed')
  await og.run()
  port = Number(og.status.dht.split(':')[1])
  await pings(near, port, 20)
  await tcp.check('after it was started again')
  seen(`killed and started again; the kernel's TCP answered ${tcp.answers} times, always`)
  for (const [way, n] of Object.entries(await metrics(og))) seen(`by ${way}: ${n.rx} received, ${n.tx} sent`)
}

let status = 0
try {
  await run()
} catch (err) {
  console.error(err.message)
  status = /no XDP program/.test(err.message) ? 77 : 1
}
for (const step of steps.reverse()) {
  try { await step() } catch (err) { console.error(err.message); status ||= 1 }
}
process.exit(status)
