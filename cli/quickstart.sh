#!/usr/bin/env bash
# quickstart.sh: installs, builds and shows the main job: four nodes on this machine meet over a DHT of
# their own, and a prompt given to NodeB, which has no model, is answered by the model of NodeA.
# Leaves nothing running.
set -euo pipefail
cd "$(dirname "$0")/.."
build=build
# What another user has built in this tree serves too.
if [ -w $build ] || { [ ! -e $build ] && [ -w . ]; }; then
  configs/deps.sh build
  [ -f $build/build.ninja ] || meson setup $build >/dev/null
  ninja -C $build cli/og-node cli/opengateway | tail -1
elif [ ! -x $build/cli/opengateway ] || [ ! -x $build/cli/og-node ]; then
  echo "quickstart: $(id -un) may not write $PWD/$build: run this in a copy of the tree that you own" >&2
  exit 1
fi

begin=$(date +%s%N)
dir=$(mktemp -d)
og() { "$build/cli/opengateway" --root "$dir/$1" "${@:2}" 2>>"$dir/talk"; }
stop_all() {
  local n
  for n in NodeC NodeB NodeA bootstrap; do og "$n" stop || true; done
  rm -rf "$dir"
}
trap stop_all EXIT
trap 'exit 130' INT TERM HUP
show_talk() { echo "quickstart failed; what the programs said:" >&2; cat "$dir/talk" >&2; }
trap 'show_talk' ERR

field() { python3 -c 'import json,sys; o=json.load(sys.stdin); print(eval(sys.argv[1]))' "$1"; }

mkdir "$dir/bootstrap"
cat >"$dir/bootstrap/node.conf" <<CONF
[node]
name = bootstrap
root = $dir/bootstrap
[dht]
bootstrap = none
port = 0
ephemeral = no
[port]
address = 127.0.0.1
[http]
listen = 127.0.0.1:0
[model]
backend = none
CONF
og bootstrap start
dht=$(og bootstrap --json status | field 'o["dht"]')
echo "bootstrap node of a private network: $dht"

og NodeA init --name NodeA --model demo --bootstrap "$dht"
og NodeB init --name NodeB --model none --bootstrap "$dht"
og NodeC init --name NodeC --model none --bootstrap "$dht"
for n in NodeA NodeB NodeC; do
  og $n connect gatewayai-poc
  og $n start
  echo "$n started, member of gatewayai-poc"
done
for _ in $(seq 100); do
  og NodeB --json peers >"$dir/peers" && grep -q '"NodeA"' "$dir/peers" && break
  sleep 0.05
done
og NodeB peers
echo
echo '$ opengateway --root NodeB prompt "What is 2+2?"'
og NodeB --json prompt "What is 2+2?" >"$dir/answer"
field 'o["text"]' <"$dir/answer"
echo
echo "answered by $(field 'o["node"]' <"$dir/answer") with the model $(field 'o["model"]' <"$dir/answer")"
field '"discovery %.1f ms, connection %.1f ms" % [(p["discovery_ms"] or 0, p["connect_ms"] or 0) for p in o if p["name"] == "NodeA"][0]' <"$dir/peers"
field '"answer %.1f ms" % o["answer_ms"]' <"$dir/answer"
echo "all in $((($(date +%s%N) - begin) / 1000000)) ms"
[ "$(field 'o["text"]' <"$dir/answer")" = 4 ]
