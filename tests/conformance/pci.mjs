// pci.mjs: unmodified JavaScript peers and an og-node on a card in a guest: what tests/net/pci.sh runs,
// in the namespace where the guest's cable ends. Prints what was seen; exit status 0 if all of it was.
//
//   pci.mjs QEMU…      the command that starts the guest, whose console is its standard output; among it
//                      "pipe,id=talk,path=P", its second serial port, and "-monitor unix:P"
//
// OG_PCI_MODE: card, the node has it alone; flow, it shares it with the guest's kernel.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import net from 'node:net'
import { HyperDHT, connection, jsHost, jsNetwork, jsSwarm, randomBytes, sha256, sleep, until, within } from './lib.mjs'

const cluster = 'pci-test'
const port = 49737
const mode = process.env.OG_PCI_MODE
const command = process.argv.slice(2)
const talkPath = command.join(' ').match(/pipe,id=talk,path=(\S+?)(,|\s)/)[1]
const monitorPath = command.join(' ').match(/-monitor unix:(\S+?),/)[1]
const steps = []
const after = (step) => steps.push(step)
const seen = (what) => console.log(`  ${what}`)

function startGuest (bootstrap) {
  execFileSync('mkfifo', [`${talkPath}.in`, `${talkPath}.out`])
  after(() => execFileSync('rm', ['-f', `${talkPath}.in`, `${talkPath}.out`]))
  const append = ['console=ttyS0', 'panic=-1', 'mitigations=off', 'no_timer_check', 'intel_iommu=on', 'quiet', `og.bootstrap=${bootstrap}`, `og.mode=${mode}`]
  const proc = spawn(command[0], [...command.slice(1), '-append', append.join(' ')], { stdio: ['ignore', 'pipe', 'pipe'] })
  const guest = { proc, console: '' }
  const take = (d) => {
    guest.console += d.toString().replaceAll('\r', '')
    if (process.env.OG_PCI_LOG) process.stderr.write(d)
  }
  proc.stdout.on('data', take)
  proc.stderr.on('data', take)
  guest.ended = new Promise((resolve) => proc.on('exit', resolve))
  after(() => { if (proc.exitCode === null) proc.kill('SIGKILL'); return guest.ended })
  guest.says = (what, ms) => until(ms, `the guest says ${what}`, () => {
    if (proc.exitCode !== null && !what.test(guest.console)) throw new Error(`the guest ended before ${what}`)
    return what.exec(guest.console)
  })
  return guest
}

// Datagrams of the DHT's own kind, by an unmodified node, answered by ours.
async function pings (node, count) {
  for (let i = 0; i < count; i++) await within(10000, 'a PING answered', node.ping({ host: '10.9.0.2', port }))
}

function monitor (text) {
  return new Promise((resolve, reject) => {
    const conn = net.connect(monitorPath, () => conn.end(text + '\n'))
    conn.resume().on('error', reject).on('close', resolve)
  })
}

function lines (conn, onLine) {
  let rest = ''
  conn.on('data', (d) => {
    rest += d.toString()
    for (let i; (i = rest.indexOf('\n')) >= 0; rest = rest.slice(i + 1)) onLine(JSON.parse(rest.slice(0, i)))
  })
}

function ask (conn, prompt) {
  const id = randomBytes(8).toString('hex')
  const answer = new Promise((resolve) => lines(conn, (m) => m.type === 'inference_response' && m.request_id === id && resolve(m.response)))
  conn.write(JSON.stringify({ type: 'inference_request', request_id: id, prompt }) + '\n')
  return within(30000, `an answer to "${prompt}"`, answer)
}

async function join (bootstrap, key) {
  const swarm = jsSwarm(after, bootstrap)
  swarm.join(sha256(cluster), { server: false, client: true })
  const conn = await connection(swarm, key, 60000)
  seen('handshake and encrypted stream with a Hyperswarm peer')
  assert.equal(await ask(conn, 'What is 2+2?'), '4')
  seen('a prompt answered')
}

async function jsNode (bootstrap) {
  const node = new HyperDHT({ bootstrap, host: jsHost, ephemeral: true })
  after(() => node.destroy({ force: true }))
  await node.fullyBootstrapped()
  await pings(node, 20)
  seen('DHT: 20 PINGs answered')
  return node
}

const keyOf = async (guest) => Buffer.from((await guest.says(/key ([0-9a-f]{64})/, 1000))[1], 'hex')
const showCounters = (guest) => {
  for (const [line] of guest.console.matchAll(/^(og_dataplane|driver|user).*$/gm)) seen(line)
}

async function ownCard (guest, bootstrap) {
  await guest.says(/check before: exit 1/, 90000)
  for (const lack of [/lacks: vfio-pci on the card/, /lacks: huge pages/]) assert.match(guest.console, lack)
  await guest.says(/check after: exit 0/, 30000)
  seen('og-node --check: named what lacked, and nothing after that was done')
  await guest.says(/^ready$/m, 60000)
  const node = await jsNode(bootstrap)
  await join(bootstrap, await keyOf(guest))
  await monitor('set_link card off')
  await guest.says(/link down/, 10000)
  await monitor('set_link card on')
  await guest.says(/link up/, 10000)
  await pings(node, 5)
  seen('the cable drawn and put back: said, and answering again')
  createWriteStream(`${talkPath}.in`).end('stop\n')
  assert.equal(await within(60000, 'the guest ends', guest.ended), 0)
  assert.match(guest.console, /og-node: exit 0/)
  showCounters(guest)
}

// The kernel's TCP at the same address, asked all the time, each time by a connection of its own.
function askKernel () {
  const tcp = { answers: 0, stop: false }
  const all = async () => {
    while (!tcp.stop) {
      const r = await fetch('http://10.9.0.2/', { headers: { connection: 'close' }, signal: AbortSignal.timeout(10000) })
      assert.equal(await r.text(), 'alive\n')
      tcp.answers++
      await sleep(100)
    }
  }
  const asking = all().catch((err) => { tcp.error = err })
  after(() => { tcp.stop = true; return asking })
  tcp.check = async (when) => {
    const before = tcp.answers
    await until(20000, `the kernel's TCP answers ${when}`, () => tcp.error || tcp.answers > before + 2)
    if (tcp.error) throw new Error(`the kernel's TCP ${when}: ${tcp.error.message}`)
  }
  return tcp
}

async function sharedCard (guest, bootstrap) {
  await guest.says(/check before: exit 1/, 120000)
  assert.match(guest.console, /lacks: the interface eth0/)
  await guest.says(/check after: exit 0/, 30000)
  const tcp = askKernel()
  await tcp.check('before')
  await guest.says(/^ready$/m, 120000)
  await tcp.check('beside og-node')
  const talk = createWriteStream(`${talkPath}.in`)
  talk.write('kill\n')
  await guest.says(/og-node: killed/, 10000)
  await tcp.check('after og-node was killed')
  await guest.says(/og-node: killed[^]*^ready$/m, 120000)
  seen('killed and started again')
  const node = await jsNode(bootstrap)
  await sleep(1200) // the kernel's tables are read every half second
  await pings(node, 100)
  seen('DHT: 100 PINGs more')
  await join(bootstrap, await keyOf(guest))
  await tcp.check('after all of that')
  talk.write('stop\n')
  await guest.says(/og-node: exit 0/, 120000)
  const count = (direction) => Number(new RegExp(`shared_packets_total{way="flow",direction="${direction}"} (\\d+)`).exec(guest.console)?.[1])
  assert.ok(count('rx') >= 120, 'the rules brought the datagrams')
  assert.ok(count('tx') >= 100, 'and the answers left past the kernel')
  await tcp.check('after og-node has gone')
  seen(`the kernel's TCP answered ${tcp.answers} times, always`)
  tcp.stop = true
  talk.end('stop\n')
  assert.equal(await within(120000, 'the guest ends', guest.ended), 0)
  showCounters(guest)
}

async function run () {
  const { bootstrap } = await jsNetwork(after, 4)
  const guest = startGuest(bootstrap[0])
  try {
    await (mode === 'flow' ? sharedCard : ownCard)(guest, bootstrap)
  } catch (err) {
    console.error(guest.console.slice(-12000))
    throw err
  }
}

let status = 0
try {
  await run()
} catch (err) {
  console.error(err.message)
  status = 1
}
for (const step of steps.reverse()) {
  try { await step() } catch (err) { console.error(err.message); status = 1 }
}
process.exit(status)
