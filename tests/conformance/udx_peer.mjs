// One UDX stream between udx_peer (ours) and udx-native (the reference) on loopback, both ways at once.
//
//   node udx_peer.mjs PATH_OF_udx_peer [MIB_EACH_WAY [FAULT_PERCENT]]
//
// udx-native must be resolvable from the current directory. Exit 77 when it is not installed.

import { createRequire } from 'node:module'
import { spawn } from 'node:child_process'
import path from 'node:path'

const require = createRequire(path.join(process.cwd(), 'index.js'))
let UDX
try { UDX = require('udx-native') } catch { process.exit(77) }

const [program, mib = '100', faults = '0'] = process.argv.slice(2)
const bytes = Math.round(Number(mib) * 1048576)
const PERIOD = 65521
const pattern = Buffer.alloc(PERIOD * 2)
for (let i = 0; i < pattern.length; i++) pattern[i] = (i % PERIOD) * 31 + ((i % PERIOD) >> 8)

const udx = new UDX()
const socket = udx.createSocket()
socket.bind(0, '127.0.0.1')
const stream = udx.createStream((Math.random() * 0x7fffffff) >>> 0)
let received = 0
let failed = null
stream.on('error', (e) => { failed = e.code })
stream.on('data', (d) => {
  for (let at = 0; at < d.length;) {
    const from = received % PERIOD
    const n = Math.min(d.length - at, PERIOD)
    if (d.compare(pattern, from, from + n, at, at + n) !== 0) { failed = 'wrong bytes at ' + received }
    at += n
    received += n
  }
})

const child = spawn(program, [String(bytes), faults, '120'], { stdio: ['pipe', 'pipe', 'inherit'] })
let out = ''
child.stdout.on('data', (d) => {
  const first = !out.includes('\n')
  out += d
  if (!first || !out.includes('\n')) return
  const [port, id] = out.split('\n')[0].split(' ').map(Number)
  stream.connect(socket, id, port, '127.0.0.1')
  child.stdin.write(socket.address().port + ' ' + stream.id + '\n')
  write()
})

let written = 0
function write () {
  while (written < bytes) {
    const from = written % PERIOD
    const n = Math.min(bytes - written, PERIOD)
    written += n
    if (!stream.write(pattern.subarray(from, from + n))) { stream.once('drain', write); return }
  }
  stream.end()
}

const start = process.hrtime.bigint()
const cpu = process.cpuUsage()
await new Promise((resolve) => child.on('exit', resolve))
const seconds = Number(process.hrtime.bigint() - start) / 1e9
const used = process.cpuUsage(cpu)
console.log('ours     ', out.split('\n')[1])
console.log('reference', JSON.stringify({ seconds, cpu_s: (used.user + used.system) / 1e6, received, mtu: stream.mtu, error: failed }))
const ok = received === bytes && !failed && child.exitCode === 0
console.log(ok ? 'ok' : 'FAILED')
process.exit(ok ? 0 : 1)
