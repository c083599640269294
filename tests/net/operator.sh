#!/usr/bin/env bash
# The operator's side, typed as an operator types it, with the programs as `meson install` puts them: the
# main job, every command with its exit status, bad starts, reload, drain, a stop in a dead network, what
# --check says of the samples, and /metrics with its alerts and dashboard. All on 127.0.0.1, under a
# folder of its own; leaves nothing running.
#
#     operator.sh BUILD_DIR
set -uo pipefail
cd "$(dirname "$0")/../.."
build=$1
tree=$PWD
dir=$(mktemp -d)
failed=0
holder=

# Whatever holds the lock of a root under our folder was started from here.
cleanup() {
  local root pid
  [ -n "$holder" ] && kill "$holder" 2>/dev/null
  for root in "$dir"/*/; do
    "$bin/opengateway" --root "${root%/}" stop >/dev/null 2>&1
    [ $? -eq 5 ] && read -r pid <"${root}og-node.pid" && kill -9 "$pid"
  done
  rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

fail() { failed=$((failed + 1)); echo "FAIL: $*"; sed 's/^/    /' "$dir/out" "$dir/err" 2>/dev/null; }
og() { "$bin/opengateway" --root "$dir/$1" "${@:2}" >"$dir/out" 2>"$dir/err"; }
# expect STATUS NODE COMMAND…
expect() {
  local want=$1 got
  shift
  og "$@"; got=$?
  [ $got -eq "$want" ] || fail "opengateway --root $*: exit $got, not $want"
}
out_has() { grep -q -- "$1" "$dir/out" || fail "stdout lacks \"$1\""; }
err_has() { grep -q -- "$1" "$dir/err" || fail "stderr lacks \"$1\""; }
out_is() { [ "$(cat "$dir/out")" = "$1" ] || fail "stdout is not \"$1\""; }
json() { python3 -c 'import json,sys; o=json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$dir/out" "$1"; }
json_is() { local v; v=$(json "$1"); [ "$v" = "$2" ] || fail "$1 is \"$v\", not \"$2\""; }
# eventually COMMAND…: within 5 s.
eventually() {
  local i
  for i in $(seq 100); do "$@" >/dev/null 2>&1 && return; sleep 0.05; done
  fail "not within 5 s: $*"
}
log_has() { grep -q -- "$2" "$dir/$1/og-node.log"; }
ms() { echo $(($(date +%s%N) / 1000000)); }

echo "== install"
DESTDIR=$dir/image meson install -C "$build" --no-rebuild --quiet >"$dir/out" 2>"$dir/err" || fail "meson install"
bin=$(dirname "$(find "$dir/image" -name opengateway -path '*/bin/*')")
share=$(cd "$bin/../share/og-node" && pwd)
for f in demo.gguf laptop.conf alerts.yml grafana.json; do [ -f "$share/$f" ] || fail "$f is not installed"; done
for f in "$share"/*.conf; do
  status=0
  "$bin/og-node" -c "$f" --check >/dev/null 2>"$dir/err" || status=$?
  [ "$status" -le 1 ] || fail "--check of the sample $f: exit $status"
done
[ -f "$bin/../lib/systemd/system/og-node.service" ] || fail "the service is not installed"

echo "== the main job"
mkdir "$dir/first"
cat >"$dir/first/node.conf" <<CONF
[node]
name = first
[dht]
bootstrap = none
port = 0
[port]
address = 127.0.0.1
[http]
listen = 127.0.0.1:0
CONF
expect 0 first start
expect 0 first --json status
dht=$(json 'o["dht"]')
export OPENGATEWAY_BOOTSTRAP=$dht

# One that finds no DHT: start gives up after 15 s and says so, while everything else goes on here.
"$bin/opengateway" --root "$dir/lost" init --model none --bootstrap 127.0.0.1:9 2>/dev/null
"$bin/opengateway" --root "$dir/lost" connect gatewayai-poc 2>/dev/null
("$bin/opengateway" --root "$dir/lost" start >"$dir/lost.out" 2>&1; echo $? >"$dir/lost.rc") &
lost=$!

expect 0 A init --name A
grep -q "^path = $share/demo.gguf$" "$dir/A/node.conf" || fail "init has not found the installed demo model"
expect 0 A connect gatewayai-poc
expect 0 A start
expect 0 B init --name B --model none
expect 0 B join gatewayai-poc
expect 0 B start
peer_there() { og B --json peers && grep -q '"A"' "$dir/out" && grep -q demo "$dir/out"; }
eventually peer_there
expect 0 A --json status
key=$(json 'o["key"]')
json_is 'o["state"]' ready
expect 0 B peers gatewayai-poc
out_has "A  *$key .*models demo  clusters gatewayai-poc"
expect 1 B peers no-such-cluster
expect 0 B prompt 'What is 2+2?'
out_is 4
expect 0 B prompt 'What is 20+22?' --model demo --stream
out_is 42
expect 0 B --json prompt 'What is 2+2?'
json_is 'o["text"], o["node"], o["model"]' "('4', 'A', 'demo')"
printf 'What is 2+2?\n/new\nWhat is 5+6?\n/end\nnot asked\n' | og B prompt || fail "a conversation"
out_is "$(printf '4\n11')"

echo "== what it says of itself"
expect 0 B clusters; out_has '^gatewayai-poc  *joined  *1 peers, stored on'
expect 0 B --json clusters; json_is 'o[0]["id"], o[0]["state"]' "('gatewayai-poc', 'joined')"
expect 0 B models; out_has '^demo  *A$'
expect 0 A --json models; json_is 'o[0]["id"], o[0]["local"]' "('demo', True)"
expect 0 A gauge; out_has '^demo  *cpu  *0  *0  *[0-9]*%'
expect 0 A --json gauge; json_is 'o["models"][0]["kv_total"] > 0, o["models"][0]["requests"] >= 4' '(True, True)'
expect 0 B --json gauge; json_is 'o["members"][0]["name"]' A
expect 0 B eligible; out_has '^ *1  A .*it serves'; out_has '^ *-  B .*this node'
expect 0 A --json eligible --model demo; json_is 'o[0]["local"], o[0]["order"]' '(True, 1)'
expect 4 B eligible --model no-such; out_has 'does not serve the model'
expect 0 A resources; out_has '^CPUs '; out_has 'demo.gguf, [0-9.]* MiB'
expect 0 none --json resources; json_is 'o["cpus"]["usable"] > 0, o["models"]' '(True, [])'
expect 0 A top; out_has '^ready  A'
expect 0 A --json top; json_is 'o["status"]["name"], o["gauge"]["name"]' "('A', 'A')"
expect 0 A logs; out_has 'ready after'
expect 4 B prompt x --model no-such
if [ ! -x "$bin/og-bench" ] && ! command -v og-bench >/dev/null && [ ! -x "$bin/../bench/og-bench" ]; then
  expect 1 A bench dht; err_has 'og-bench is neither'
fi
for bad in nonsense 'prompt a b' 'status now' 'connect' 'eligible here' 'init --nope'; do expect 2 A $bad; done
expect 1 A init; err_has 'File exists'

echo "== clusters, running and stopped"
expect 0 B connect second; expect 0 B connect second; err_has already
expect 0 B clusters; out_has '^second '
expect 0 B disconnect second; expect 1 B leave second; err_has 'not a member'
expect 0 B stop
expect 3 B status; out_is stopped
expect 3 B --json status; json_is 'o["state"]' stopped
for c in stop drain clusters peers models gauge eligible top 'prompt x'; do expect 3 B $c; done
expect 0 B connect third; grep -q '^id = third' "$dir/B/node.conf" || fail "connect while stopped is not kept"
expect 0 B leave third; expect 1 B leave third
expect 0 B restart
expect 0 B start; err_has 'runs already'

echo "== reload"
pid=$(cat "$dir/B/og-node.pid")
printf '[log]\nlevel = debug\n[limits]\ndeadline = 5s\npeers = 99\n' >>"$dir/B/node.conf"
sed -i "s/^\[cluster\]/&\ndeny = $key/" "$dir/B/node.conf"
eventually peer_there
kill -HUP "$pid"
eventually log_has B '\[cluster\] deny is reloaded'
eventually log_has B '\[limits\] peers has changed: it needs a restart'
no_peer() { og B --json peers && [ "$(json 'len(o)')" = 0 ]; }
eventually no_peer
sed -i '/^deny = /d' "$dir/B/node.conf"
kill -HUP "$pid"
eventually peer_there
printf 'bogus = 1\n' >>"$dir/B/node.conf"
kill -HUP "$pid"
eventually log_has B 'has errors: the one before stays'
expect 0 B status
expect 0 B stop
expect 78 B start; err_has 'node.conf:[0-9]*: unknown key "bogus"'
sed -i '/^bogus/d' "$dir/B/node.conf"

echo "== bad starts"
# exec: the process we remember is the one that holds the ports.
exec 7< <(exec python3 -c '
import os, socket, sys, time
t = socket.socket(); t.bind(("127.0.0.1", 0)); t.listen()
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("127.0.0.1", 0))
print(os.getpid(), t.getsockname()[1], u.getsockname()[1], flush=True)
time.sleep(120)')
read -r holder tcp udp <&7
cp "$dir/B/node.conf" "$dir/B.conf"
sed -i "s/^listen = .*/listen = 127.0.0.1:$tcp/" "$dir/B/node.conf"
expect 1 B start; err_has "127.0.0.1:$tcp: Address already in use"
cp "$dir/B.conf" "$dir/B/node.conf"
sed -i "s/^\[dht\]/&\nport = $udp/" "$dir/B/node.conf"
expect 1 B start; err_has "port = $udp is in use"
cp "$dir/B.conf" "$dir/B/node.conf"
kill "$holder"; holder=
chmod 644 "$dir/B/node.key"
expect 1 B start; err_has 'others may read it'
chmod 600 "$dir/B/node.key"
"$bin/opengateway" --root /proc/no/such start 2>"$dir/err"; [ $? -eq 1 ] || fail "a root that cannot be made"
err_has 'cannot be made'
expect 0 B start
kill -9 "$(cat "$dir/B/og-node.pid")"
stopped() { og B status; [ $? -eq 3 ]; }
eventually stopped
[ -S "$dir/B/control.sock" ] || fail "no stale socket to start over"
expect 0 B start
if [ "$(id -u)" -eq 0 ]; then
  mkdir -m 0700 "$dir/nobody"; chown 65534:65534 "$dir/nobody"; chmod 711 "$dir"
  as_nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups env HOME="$dir/nobody" "$bin/opengateway" "$@" >"$dir/out" 2>"$dir/err"; }
  as_nobody init --name N --model demo || fail "init as nobody"
  as_nobody connect gatewayai-poc && as_nobody start || fail "start as nobody"
  as_nobody prompt 'What is 3+4?' || fail "prompt as nobody"
  out_is 7
  as_nobody --root "$dir/B" status; [ $? -eq 1 ] || fail "nobody may ask the node of root"
  err_has 'Permission denied'
  as_nobody stop || fail "stop as nobody"
  mv "$dir/nobody/.opengateway" "$dir/nobody.root"
fi

echo "== drain"
# A prompt for a model that nobody has waits for it while the node is young: it is what runs, until the
# deadline of 5 s.
"$bin/opengateway" --root "$dir/B" prompt later --model none-such >/dev/null 2>"$dir/later" &
later=$!
runs() { og B --json status && [ "$(json 'o["requests"]["running"]')" = 1 ]; }
eventually runs
"$bin/opengateway" --root "$dir/B" drain 2>"$dir/drain" &
drain=$!
draining() { og B --json status && [ "$(json 'o["state"]')" = draining ]; }
eventually draining
expect 1 B prompt 'What is 2+2?'; err_has stopping
wait $later; [ $? -eq 5 ] || fail "what ran was not finished: $(cat "$dir/later")"
wait $drain || fail "drain: $(cat "$dir/drain")"
grep -q 'draining: 1 prompts still run' "$dir/drain" || fail "drain has not said what runs"
expect 3 B status

echo "== /metrics"
expect 0 A --json status
python3 - "$(json 'o["http"]')" >"$dir/metrics" <<'PY' || fail "/metrics"
import sys, urllib.request
sys.stdout.write(urllib.request.urlopen(f'http://{sys.argv[1]}/metrics', timeout=5).read().decode())
PY
python3 tests/metrics_lint.py "$dir/metrics" "$share/alerts.yml" "$share/grafana.json" || fail "metrics_lint"
if command -v promtool >/dev/null; then
  promtool check metrics <"$dir/metrics" || fail "promtool check metrics"
  promtool check rules "$share/alerts.yml" >/dev/null || fail "promtool check rules"
fi

echo "== --check"
for f in "$share"/*.conf; do
  "$bin/og-node" -c "$f" --check >"$dir/out" 2>"$dir/err"
  case $? in
    0) err_has 'no problem$' ;;
    1) err_has 'no problem in the file; this machine lacks'; grep -v 'lacks: ' "$dir/err" | grep -qv 'no problem' && fail "$f: not only lacks" ;;
    *) fail "$f: exit $?" ;;
  esac
done
"$bin/og-node" -c "$share/laptop.conf" -o http.listen=none --check 2>/dev/null || fail "laptop.conf lacks something"
if command -v systemd-analyze >/dev/null; then
  sed "s|ExecStart=og-node|ExecStart=$bin/og-node|" "$share/../../lib/systemd/system/og-node.service" >"$dir/og-node.service"
  systemd-analyze verify "$dir/og-node.service" >"$dir/out" 2>&1 || fail "systemd-analyze verify"
fi

echo "== stop"
expect 0 B start
eventually peer_there
begin=$(ms); expect 0 A stop; live=$(($(ms) - begin))
expect 0 B stop
# Its saved nodes and the DHT's tables still name B, which is gone: that must not hold a start for long.
begin=$(ms); expect 0 A start; again=$(($(ms) - begin))
[ $again -lt 5000 ] || fail "a start beside a dead node takes $again ms"
expect 0 B start
eventually peer_there
kill -9 "$(cat "$dir/first/og-node.pid")" "$(cat "$dir/A/og-node.pid")"
begin=$(ms); expect 0 B stop; dead=$(($(ms) - begin))
echo "stop with a live DHT: $live ms; with every relay and member dead: $dead ms"
[ $live -lt 1500 ] || fail "a stop takes $live ms"
[ $dead -lt 1200 ] || fail "a stop in a dead network takes $dead ms"

wait $lost
[ "$(cat "$dir/lost.rc")" = 5 ] || fail "start without a DHT: exit $(cat "$dir/lost.rc"): $(cat "$dir/lost.out")"
grep -q 'no DHT node answers' "$dir/lost.out" || fail "start without a DHT gives no reason"
expect 0 lost status; out_has '^starting'
expect 0 lost stop

[ $failed -eq 0 ] && echo "operator: ok" || { echo "operator: $failed failed"; exit 1; }
