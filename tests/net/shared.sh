#!/usr/bin/env bash
# shared.sh: og-node and the kernel on one interface and one address ([port] shared): the kernel's TCP
# answers all the time, while unmodified JavaScript peers, from the same network, from behind a router
# and from this very machine, have their DHT requests and prompts answered (tests/conformance/shared.mjs).
#
#     shared.sh      OG_BUILD names the build
#
# Exit status 77: this machine does not allow it, or the build has no XDP program.
set -euo pipefail
self=$(realpath "$0")
cd "$(dirname "$self")/../conformance"
if [ "${1:-}" != inside ]; then
  [ "$(id -u)" = 0 ] && unshare -n true 2>/dev/null || { echo "AF_XDP needs root: skipped"; exit 77; }
  exec unshare -n "$self" inside
fi
work=$(mktemp -d)
mkfifo "$work/hold"
unshare -n sh -c 'read -r _ <"$0"' "$work/hold" &
there=$!
cleanup() {
  exec 8>&-
  kill "$there" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
exec 8<>"$work/hold"
at_there() { nsenter -t "$there" -n "$@" 8>&-; }
until [ "$(readlink /proc/self/ns/net)" != "$(readlink "/proc/$there/ns/net")" ]; do sleep 0.05; done

# Here are the peers: a neighbour, and a network behind it. There is the machine with one interface.
ip link set lo up
ip link add js numtxqueues 1 numrxqueues 1 type veth peer name eth0 numtxqueues 1 numrxqueues 1 netns "$there"
ip addr add 10.9.0.1/24 dev js
ip addr add 192.168.77.1/32 dev lo
ip link set js up
# The kernel leaves checksums to the device it sends by, and a veth has no such thing.
ethtool -K js tx off >/dev/null
at_there ip link set lo up
at_there ip addr add 10.9.0.10/24 dev eth0
at_there ip link set eth0 up
at_there ip route add default via 10.9.0.1

export OG_LAB_PORT=shared OG_LAB_HOST=10.9.0.1 OG_LAB_NS=$there
timeout -k 5 120 node shared.mjs 8>&-
