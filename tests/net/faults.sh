#!/usr/bin/env bash
# faults.sh: what can happen to a port happens to one that is sending all the time: hostile frames, a
# link that goes down and comes back, an interface that is deleted and made anew. Everything is
# counted, said once in the log, and over when its cause is.
#
#     faults.sh PORT ECHO_PROGRAM PROBE_PROGRAM        PORT: af_packet, af_xdp (root), tap
#
# OG_CORES=N is for the echo program.
# Exit status 77: this machine does not allow it.
set -euo pipefail

if [ "${1:-}" != inside ]; then
  if [ "$(id -u)" = 0 ] && unshare -n true 2>/dev/null; then
    exec unshare -n "$0" inside "$@"
  elif [ "$1" != af_xdp ] && unshare -Urn true 2>/dev/null; then
    exec unshare -Urn "$0" inside "$@"
  fi
  echo "not allowed here: skipped"
  exit 77
fi
port=$2 echo_program=$3 probe_program=$4
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
mkfifo "$work/hold" "$work/stdin"
unshare -n sh -c 'read -r _ <"$0"' "$work/hold" &
peer=$!
echo_pid=
cleanup() {
  status=$?
  exec 8>&- 9>&-
  [ $status = 0 ] || tail -40 "$work/log"
  [ -z "$echo_pid" ] || kill "$echo_pid" 2>/dev/null || true
  kill "$peer" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
exec 8<>"$work/hold"
at_peer() { nsenter -t "$peer" -n "$@"; }
until [ "$(readlink /proc/self/ns/net)" != "$(readlink "/proc/$peer/ns/net")" ]; do sleep 0.05; done
at_peer ip link set lo up

# The kernel's end is "vb" at the peer. With a tap it appears when the program opens it.
kernel_end() {
  for _ in $(seq 50); do at_peer ip link show vb >/dev/null 2>&1 && break; sleep 0.1; done
  at_peer ip link set vb up
  at_peer ip addr add 10.9.0.2/24 dev vb
  # The kernel leaves checksums to the device it sends by, and a veth has no such thing.
  [ "$port" = tap ] || at_peer ethtool -K vb tx off >/dev/null
}
make_link() {
  ip link add va numtxqueues 1 numrxqueues 1 type veth peer name vb numtxqueues 1 numrxqueues 1
  ip link set vb netns "$peer"
  ip link set va up
  kernel_end
}
case "$port" in
  tap) devargs=net_tap0,iface=vb,mac=02:00:00:00:01:01 run=at_peer ;;
  *) devargs=net_${port}0,iface=va run= ; make_link ;;
esac

: >"$work/out"
exec 9<>"$work/stdin"
OG_SPRAY=10.9.0.2:9 $run "$echo_program" "ethdev:$devargs" 10.9.0.1:7777 24 \
  <"$work/stdin" >>"$work/out" 2>"$work/log" 9>&- 8>&- &
echo_pid=$!
for _ in $(seq 100); do grep -q ready "$work/out" && break; sleep 0.1; done
grep -q ready "$work/out"
[ "$port" != tap ] || kernel_end

# works WITHIN_S: pings and datagrams of every size come back.
works() {
  local end=$((SECONDS + $1))
  until at_peer "$probe_program" 10.9.0.1:7777 >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || { echo "no echo within $1 s"; return 1; }
    sleep 0.1
  done
}
# said N TEXT: so often in the log.
said() {
  for _ in $(seq 30); do
    [ "$(grep -c "$2" "$work/log")" = "$1" ] && return
    sleep 0.1
  done
  echo "the log has \"$2\" $(grep -c "$2" "$work/log") times, not $1"
  return 1
}
# counted REASON AT_LEAST: within 10 s, since some are counted when a neighbour has not answered for long.
counted() {
  local n end=$((SECONDS + 10))
  while :; do
    : >"$work/out"
    echo >&9
    for _ in $(seq 50); do tail -1 "$work/out" | grep -q '^-- ' && break; sleep 0.1; done
    n=$(awk -v reason="reason=\"$1\"" 'index($0, reason) { n += $NF } END { print n }' "$work/out")
    [ "${n:-0}" -lt "$2" ] || break
    [ $SECONDS -lt $end ] || { echo "$1: $n counted, $2 expected"; return 1; }
    sleep 0.5
  done
  echo "$port: $1 $n"
}

works 5
mac=$(at_peer ip neigh show 10.9.0.1 | sed -n 's/.*lladdr \([^ ]*\).*/\1/p')
at_peer python3 "$here/hostile.py" vb "$mac"
works 5
said 1 'somebody else uses our IP address'
for reason in bad_checksum unasked no_endpoint not_ours bad_frame; do counted $reason 100; done
# The af_packet driver lets the kernel put fragments together.
[ "$port" = af_packet ] || counted fragment 100
counted own_address 200
counted no_route 1

for round in 1 2; do
  at_peer ip link set vb down
  said $round 'link down'
  sleep 1
  at_peer ip link set vb up
  works 5
  said $round 'link up'
done

for round in 1 2; do
  if [ "$port" = tap ]; then
    at_peer ip link del vb
    said $round 'is gone'
    said $round 'is back'
    kernel_end
  else
    ip link del va
    said $round 'is gone'
    sleep 1
    make_link
  fi
  works 10
  said $round 'is back'
done
counted no_link 1
kill -0 "$echo_pid"
exec 9>&- # ends the program's input
wait "$echo_pid"
echo_pid=
echo "$port: survived"
