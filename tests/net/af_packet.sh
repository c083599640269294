#!/bin/sh
# The ethdev port over net_af_packet on a veth pair, against the kernel in another namespace:
# ARP both ways, ping, UDP echo, a sender behind the gateway, and a second program beside it. Needs no privilege but unprivileged
# user namespaces; exits 77 (skipped) without them.
#
#     af_packet.sh ECHO_PROGRAM PROBE_PROGRAM
set -eu

if [ "${1:-}" != inside ]; then
	unshare -Urn true 2>/dev/null || { echo "no user namespaces here: skipped"; exit 77; }
	exec unshare -Urn "$0" inside "$1" "$2"
fi
echo_program=$2
probe_program=$3
work=$(mktemp -d)

# The kernel's side is a second namespace, held open by a process that waits on a pipe.
mkfifo "$work/hold" "$work/stdin"
unshare -n sh -c 'read -r _ <"$0"' "$work/hold" &
peer=$!
cleanup() {
	exec 8>&- 9>&-
	kill "$peer" 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT
exec 8<>"$work/hold"
at_peer() { nsenter -t "$peer" -n "$@"; }
until [ "$(readlink /proc/self/ns/net)" != "$(readlink "/proc/$peer/ns/net")" ]; do sleep 0.05; done

ip link add va type veth peer name vb
ip link set vb netns "$peer"
ip link set va up
at_peer ip link set lo up
at_peer ip link set vb up
at_peer ip addr add 10.9.0.2/24 dev vb
at_peer ip addr add 192.168.77.1/32 dev lo
# The kernel leaves checksums to the device it sends by, and a veth has no such thing.
at_peer ethtool -K vb tx off >/dev/null

: >"$work/out"
exec 9<>"$work/stdin"
"$echo_program" ethdev:net_af_packet0,iface=va 10.9.0.1:7777 24 10.9.0.2 \
	<"$work/stdin" >"$work/out" 9>&- 8>&- &
echo_pid=$!
for _ in $(seq 100); do grep -q ready "$work/out" && break; sleep 0.1; done
grep ready "$work/out"

at_peer "$probe_program" 10.9.0.1:7777
at_peer "$probe_program" 10.9.0.1:7777 192.168.77.1
mac=$(ip -o link show va | sed 's|.*link/ether \([^ ]*\).*|\1|')
at_peer ip neigh show 10.9.0.1 | grep "$mac" || { echo "the kernel has not learned $mac"; exit 1; }

# A second program, on an interface whose index makes DPDK's fanout group the same as the first one's.
sh -c 'echo $$ >"$0/pid"; until [ -e "$0/go" ]; do sleep 0.1; done; exec "$1" ethdev:net_af_packet0,iface=vc 10.9.1.1:7777 24' \
	"$work" "$echo_program" <"$work/stdin" >"$work/second" 2>&1 9>&- 8>&- &
second_pid=$!
for _ in $(seq 100); do [ -s "$work/pid" ] && break; sleep 0.1; done
first_index=$(ip -o link show va | cut -d: -f1)
ip link add vc index $((((echo_pid ^ first_index ^ $(cat "$work/pid")) & 65535) + 65536)) type veth peer name vd
ip link set vc up
ip link set vd up
touch "$work/go"
for _ in $(seq 100); do grep -q ready "$work/second" && break; sleep 0.1; done
grep ready "$work/second" || { cat "$work/second"; exit 1; }

exec 9>&- # ends the echo programs' input
wait "$echo_pid"
wait "$second_pid"
grep -E '^og_dataplane_((rx|tx)_packets|drops)_total' "$work/out" | grep -v ' 0$'
grep -q '^og_dataplane_rx_packets_total{lcore="0"} 174$' "$work/out"
