#!/usr/bin/env bash
# lossy.sh: runs inside `unshare -Urn`: a JavaScript peer here, an og_peer in a namespace of its own,
# and between them the path of og-bench with 5 % loss, 2 % duplication and 5 % reordering.
set -euo pipefail
cd "$(dirname "$0")"
unshare -n sleep 900 & other=$!
trap 'kill $other 2>/dev/null; exec {fw}>&- 2>/dev/null || true' EXIT
for _ in $(seq 50); do [ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/self/ns/net)" ] && break; sleep 0.05; done
coproc FW { exec "$OG_BUILD/bench/og-bench" --serve path "$other" 5 2 5 0 0 0 7; }
fw=${FW[1]}
read -r line <&"${FW[0]}"
[ "$line" = "ready path" ]
OG_PEER_NS=$other exec_node=$(command -v node)
OG_PEER_NS=$other "$exec_node" lossy.mjs
