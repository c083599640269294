#!/usr/bin/env bash
# idle.sh: CPU that an idle og-node with 8 open peers takes, on each port (poll = adaptive). One JSON
# line a port, in percent of a CPU by thread; fails if the socket port's core takes over 2 %.
#
#     idle.sh [PORT…]        default: socket af_packet tap af_xdp
set -uo pipefail
cd "$(dirname "$0")/../conformance"
[ $# -gt 0 ] || set -- socket af_packet tap af_xdp
status=0
for port in "$@"; do
  if [ "$port" = socket ]; then
    node idle.mjs 2 || status=1
  else
    OG_PROGRAM='node idle.mjs' ../net/conformance.sh "$port" || [ $? = 77 ] || status=1
  fi
done
exit $status
