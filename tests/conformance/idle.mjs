// idle.mjs: what an og-node with 8 open connections to JavaScript peers costs while nothing happens:
// CPU time of each of its threads over 10 s, from the kernel's scheduler. Prints one JSON line.
//
//   idle.mjs [LIMIT]     exit status 1 if the polling core takes more than LIMIT % of a CPU
import { readFileSync, readdirSync } from 'node:fs'
import { OgPeer, jsNetwork, jsSwarm, randomBytes, sleep, until } from './lib.mjs'

const limit = Number(process.argv[2] ?? 100)
const seconds = 10
const peers = 8
const steps = []
const after = (step) => steps.push(step)

const cpu = (pid) => Object.fromEntries(readdirSync(`/proc/${pid}/task`).map((tid) => {
  const at = `/proc/${pid}/task/${tid}/`
  return [readFileSync(at + 'comm', 'utf8').trim(), Number(readFileSync(at + 'schedstat', 'utf8').split(' ')[0])]
}))

const { bootstrap } = await jsNetwork(after, 4)
const topic = randomBytes(32)
const og = await OgPeer.start(after, { bootstrap })
og.join(topic, { server: true, client: false })
await og.on('joined')
for (let i = 0; i < peers; i++) jsSwarm(after, bootstrap).join(topic, { server: false, client: true })
const opened = () => og.events.filter((e) => e.ev === 'open').length
await until(60000, `${peers} connections`, () => opened() >= peers)
await sleep(5000)
const before = cpu(og.proc.pid)
const start = process.hrtime.bigint()
await sleep(seconds * 1000)
const took = Number(process.hrtime.bigint() - start)
const used = cpu(og.proc.pid)
const percent = Object.fromEntries(Object.entries(used).map(([name, ns]) =>
  [name, Number((100 * (ns - (before[name] ?? 0)) / took).toFixed(2))]))
console.log(JSON.stringify({ port: process.env.OG_LAB_PORT ?? 'socket', peers: opened(), seconds, percent }))
for (const step of steps.reverse()) await step()
process.exit(percent['og-net-0'] <= limit ? 0 : 1)
