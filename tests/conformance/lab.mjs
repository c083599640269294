// lab.mjs: where og-nodes run. By default beside the test, on sockets of 127.0.0.1. In a lab made by
// tests/net/conformance.sh each og-node has a DPDK port of its own in another network namespace, behind
// a switch or a router that leads to this one:
//
//   OG_LAB_PORT   af_packet, af_xdp or tap     OG_LAB_NS     a process that lives over there
//   OG_LAB_PORTS  how many ports there are     OG_LAB_HOST   the address of this side
import assert from 'node:assert/strict'
import path from 'node:path'

const { OG_LAB_PORT: port, OG_LAB_NS: ns, OG_LAB_PORTS: nbPorts, OG_LAB_HOST: host } = process.env

export const inLab = Boolean(port)
export const jsHost = inLab ? host : '127.0.0.1'

const onSwitch = (k) => ({ address: `10.9.0.${10 + k}`, prefix: 24, gateway: '0.0.0.0' })
const kinds = {
  af_packet: (k) => ({ driver: `ethdev:net_af_packet0,iface=p${k}`, ...onSwitch(k) }),
  af_xdp: (k) => ({ driver: `ethdev:net_af_xdp0,iface=p${k}`, ...onSwitch(k) }),
  // The kernel's end of a tap is a router.
  tap: (k) => ({
    driver: `ethdev:net_tap0,iface=p${k},mac=02:00:00:00:01:${(16 + k).toString(16)}`,
    address: `10.8.${k}.2`,
    prefix: 24,
    gateway: `10.8.${k}.1`
  })
}

const free = Array.from({ length: Number(nbPorts ?? 0) }, (_, k) => k)

// A place for one og process; given back when the test is over, after what is registered later.
export function takePlace (after) {
  if (!inLab) {
    const command = (file, args) => [file, args]
    return { driver: 'socket', address: '127.0.0.1', prefix: 8, gateway: '0.0.0.0', command }
  }
  const k = free.shift()
  assert.notEqual(k, undefined, 'a lab port is free')
  after(() => free.push(k))
  return { ...kinds[port](k), command: (file, args) => ['nsenter', ['-t', ns, '-n', path.resolve(file), ...args]] }
}
