#!/usr/bin/env bash
# conformance.sh: the conformance suites with every og-node on a DPDK port in a network namespace,
# and the JavaScript peers on kernel sockets in another.
#
#     conformance.sh PORT [FILE…]      PORT: af_packet, af_xdp (root), tap
#                                      FILE: of tests/conformance; default: all that fit
#
# Here is the namespace of the JavaScript peers, 10.9.0.1; there a cable to here and OG_LAB_PORTS ports
# for og-nodes: at 10.9.0.10 and up on a bridge, or, with tap, each in a network 10.8.K.0/24 of its own
# behind the kernel as its router. Nothing outside is touched, and all of it goes with the processes.
# OG_BUILD names the build; OG_TEST_NAME runs only tests whose name matches; OG_PROGRAM is run in place
# of the tests, in their folder.
# Exit status 77: this machine does not allow it.
set -euo pipefail
cd "$(dirname "$0")/../conformance"

if [ "${1:-}" != inside ]; then
  case "${1:-}" in af_packet|af_xdp|tap) ;; *) sed -n '2,12p' "$OLDPWD/$0" >&2; exit 2 ;; esac
  self=$PWD/../net/conformance.sh
  # AF_XDP needs privileges of the whole machine; the others are at home in a user namespace too.
  if [ "$(id -u)" = 0 ] && unshare -n true 2>/dev/null; then
    exec unshare -n "$self" inside "$@"
  elif [ "$1" = af_xdp ]; then
    echo "AF_XDP needs root: skipped"
    exit 77
  elif unshare -Urn true 2>/dev/null; then
    exec unshare -Urn "$self" inside "$@"
  fi
  echo "no network namespaces here: skipped"
  exit 77
fi

port=$2
shift 2
files=("$@")
[ ${#files[@]} -gt 0 ] || files=(swarm.test.mjs transfer.test.mjs values.test.mjs poc.test.mjs cores.test.mjs)
ports=${OG_LAB_PORTS:-12}
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

ip link set lo up
ip link add js type veth peer name cable netns "$there"
ip addr add 10.9.0.1/24 dev js
ip link set js up
# The kernel leaves checksums to the device it sends by, and a veth has no such thing.
ethtool -K js tx off >/dev/null

links_of_switch() {
  echo "link add switch type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
  echo "link set switch up"
  echo "link set cable master switch up"
  for ((k = 0; k < ports; k++)); do
    # AF_XDP takes one queue: with more, the kernel would keep part of the packets. The af_packet
    # driver makes its fanout group of process id and index, which must not collide.
    echo "link add p$k index $((256 * (k + 1))) numtxqueues 1 numrxqueues 1 type veth" \
      "peer name b$k numtxqueues 1 numrxqueues 1"
    echo "link set p$k up"
    echo "link set b$k master switch up"
  done
}

# A bridge would take a tap's address, which is also that of the node behind it, for its own.
links_of_router() {
  echo "addr add 10.9.0.2/24 dev cable"
  echo "link set cable up"
  for ((k = 0; k < ports; k++)); do
    echo "tuntap add dev p$k mode tap multi_queue"
    echo "addr add 10.8.$k.1/24 dev p$k"
    echo "link set p$k up"
  done
}

at_there sh -c 'echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6' 2>/dev/null || true
if [ "$port" = tap ]; then
  ip route add 10.8.0.0/16 via 10.9.0.2
  at_there sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
  links_of_router >"$work/links"
else
  links_of_switch >"$work/links"
fi
at_there ip link set lo up
at_there ip -batch "$work/links"

export OG_LAB_PORT=$port OG_LAB_NS=$there OG_LAB_PORTS=$ports OG_LAB_HOST=10.9.0.1
export PATH=$PWD/node_modules/.bin:$PATH
status=0
if [ -n "${OG_PROGRAM:-}" ]; then
  $OG_PROGRAM 8>&-
  exit
fi
node --test --test-force-exit --test-concurrency=1 --test-reporter="${OG_REPORTER:-spec}" \
  ${OG_TEST_NAME:+--test-name-pattern="$OG_TEST_NAME"} "${files[@]}" 8>&- || status=$?
exit "$status"
