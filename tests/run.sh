#!/usr/bin/env bash
# run.sh: installs, builds and tests og-node; ends with one line "N passed, N failed, N skipped".
#
#   tests/run.sh            what CI runs: under 20 minutes on two cores
#   tests/run.sh --all      everything: sanitizers, long transfers, five live minutes, 500 seeds
#   tests/run.sh --fuzz     each fuzz target for 60 seconds under ASan and UBSan (FUZZ_SECONDS=n)
#   tests/run.sh --quick    lint and unit tests of one build, for the inner loop
set -uo pipefail
cd "$(dirname "$0")/.."
root=$PWD
mode=${1:-}
case "$mode" in ''|--all|--fuzz|--quick) ;; *) sed -n '2,8p' "$0" >&2; exit 2 ;; esac

passed=0 failed=0 skipped=0
failures=()
section() { printf '\n== %s\n' "$*"; }
pass() { passed=$((passed + 1)); }
fail() { failed=$((failed + 1)); failures+=("$1"); echo "FAIL: $1"; }

# step NAME COMMAND…: one test; exit 77 means skipped.
step() {
  local name=$1 start=$SECONDS status
  shift
  "$@"; status=$?
  case $status in
    0) pass; echo "ok: $name ($((SECONDS - start)) s)" ;;
    77) skipped=$((skipped + 1)); echo "skipped: $name" ;;
    *) fail "$name (exit $status)" ;;
  esac
}

# must NAME COMMAND…: what the rest depends on.
must() {
  "${@:2}" && return
  fail "$1"
  finish
}

finish() {
  local f
  section "result"
  for f in "${failures[@]}"; do echo "failed: $f"; done
  echo "$passed passed, $failed failed, $skipped skipped"
  [ "$failed" -eq 0 ]
  exit
}

# configure DIR OPTIONS…: once.
configure() {
  local dir=$1
  shift
  [ -f "$dir/build.ninja" ] || meson setup "$dir" "$@" >"$dir.log" 2>&1 || { cat "$dir.log"; return 1; }
}

# build DIR OPTIONS…: configure, then build everything.
build() {
  local dir=$1
  configure "$@" || return
  ninja -C "$dir" >"$dir.log" 2>&1 || { tail -60 "$dir.log"; return 1; }
}

# meson_tests DIR [ARGUMENTS…]: runs meson's tests, builds what they need, and counts each. Those of
# `repeat_hung` set that ran out of time have a second try, which counts.
meson_tests() {
  local dir=$1 counts hung name
  shift
  meson test -C "$dir" --print-errorlogs "$@" | grep -v '^ *$' | tail -80
  counts=$(python3 - "$dir/meson-logs/testlog.json" "${repeat_hung:-}" <<'PY'
import json, sys
ok = bad = skip = 0
names, hung = [], []
for line in open(sys.argv[1]):
    t = json.loads(line)
    name = t['name'].split(' / ')[-1]
    if t['result'] in ('OK', 'EXPECTEDFAIL'): ok += 1
    elif t['result'] == 'SKIP': skip += 1
    elif t['result'] == 'TIMEOUT' and sys.argv[2]: hung.append(name)
    else: bad += 1; names.append(t['name'].replace(' ', '_'))
print(ok, bad, skip, *names, '|', '|'.join(hung))
PY
  ) || { fail "meson test in $dir"; return; }
  hung=${counts#* | }
  [ "$hung" = "$counts" ] && hung=
  set -- ${counts%% |*}
  passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
  shift 3
  for name in "$@"; do failures+=("$dir: $name"); done
  while [ -n "$hung" ]; do
    name=${hung%%|*}
    hung=${hung#"$name"}
    hung=${hung#|}
    echo "$name ran out of time: once more"
    repeat_hung='' meson_tests "$dir" "$name"
  done
}

# node_tests LABEL BUILD_DIR FILES…: conformance tests in Node's runner, each test counted.
# The runner ends each file by force: a JavaScript swarm leaves its refresh timer of 12 minutes behind.
node_tests() {
  local label=$1 dir=$2 log
  shift 2
  log=$(mktemp)
  (cd tests/conformance && PATH="$PWD/node_modules/.bin:$PATH" OG_BUILD="$root/$dir" OG_ALL="${OG_ALL:-}" \
    timeout 1800 node --test --test-force-exit --test-concurrency=1 --test-reporter=spec "$@") 2>&1 | tee "$log" | grep -v '^ℹ \(suites\|cancelled\|todo\)'
  read -r ok bad skip < <(awk '/^ℹ pass /{p=$3} /^ℹ fail /{f=$3} /^ℹ cancelled /{f+=$3} /^ℹ skipped /{s=$3} END{print p+0, f+0, s+0}' "$log")
  rm -f "$log"
  passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
  [ "$bad" -gt 0 ] && failures+=("conformance, $label: $bad")
  [ $((ok + bad)) -eq 0 ] && fail "conformance, $label: no test ran"
}

fuzz() {
  local seconds=${FUZZ_SECONDS:-60} t name
  export ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=halt_on_error=1
  CC=clang-14 must "build for fuzzing" configure build-fuzz -Dfuzz=true -Db_sanitize=address,undefined
  must "build for fuzzing" ninja -C build-fuzz fuzzers
  for t in build-fuzz/tests/fuzz/fuzz_*; do
    [ -f "$t" ] && [ -x "$t" ] || continue
    name=${t##*/fuzz_}
    mkdir -p "build-fuzz/corpus/$name"
    step "fuzz $name, $seconds s" "$t" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 \
      -verbosity=0 -print_final_stats=1 -artifact_prefix="build-fuzz/$name-" \
      "build-fuzz/corpus/$name" "tests/fuzz/corpus/$name"
  done
}

section "install"
must "configs/deps.sh test" configs/deps.sh test

if [ "$mode" = --fuzz ]; then
  section "fuzz"
  fuzz
  finish
fi

section "build"
must "build" build build
step "lint" ninja -C build lint

section "unit tests, vectors, corpora, simulator"
if [ "$mode" = --all ]; then export OG_SEEDS=500 OG_HOUR_SEEDS=100 OG_ALL=1; fi
sanitizers=-Db_sanitize=address,undefined
if [ "$mode" != --quick ]; then
  # Built with what these tests leave idle; what goes wrong here is told below.
  must "sanitizer build" configure build-asan $sanitizers
  nice -n 19 ninja -C build-asan >/dev/null 2>&1 &
  sanitizer_build=$!
fi
meson_tests build
[ "$mode" = --quick ] && finish

section "the same under AddressSanitizer and UBSan"
export ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export LSAN_OPTIONS=suppressions=$root/tests/lsan.supp:print_suppressions=0
wait "$sanitizer_build"
must "sanitizer build" build build-asan $sanitizers
# Not the suites of og-bench: what they drive is in the other tests, and they run one at a time. Not the
# comparisons with torch, llama.cpp and other tokenizers: the unit tests run the same code.
# Criterion forks beside a thread of its own; GCC 12's AddressSanitizer does not take its locks for that, and a
# child may be born into one that nobody gives back: one test at a time makes it rare, and no verdict.
CRITERION_JOBS=1 OG_SEEDS=2 OG_HOUR_SEEDS=1 OG_SIM_NODES=60 repeat_hung=yes \
  meson_tests build-asan --no-suite bench --no-suite reference
unset ASAN_OPTIONS UBSAN_OPTIONS

section "rings and shared tables under ThreadSanitizer"
must "tsan build" configure build-tsan -Db_sanitize=thread
meson_tests build-tsan --suite tsan

section "conformance with unmodified peers"
files=$(cd tests/conformance && ls *.test.mjs)
node_tests "plain build" build $files
export ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export LSAN_OPTIONS=suppressions=$root/tests/lsan.supp:print_suppressions=0
[ "$mode" = --all ] || files="swarm.test.mjs poc.test.mjs"
node_tests "sanitizer build" build-asan $files
unset ASAN_OPTIONS UBSAN_OPTIONS

section "network namespaces"
export OG_BUILD=$root/build
if [ "$mode" = --all ]; then
  for port in af_packet tap af_xdp; do step "net/conformance $port" tests/net/conformance.sh "$port"; done
  PATH=$root/tests/conformance/node_modules/.bin:$PATH step "net/idle" tests/net/idle.sh
  PATH=$root/tests/conformance/node_modules/.bin:$PATH step "net/pci" tests/net/pci.sh
else
  for port in af_packet tap af_xdp; do
    OG_TEST_NAME='JavaScript nodes' step "net/conformance $port" \
      tests/net/conformance.sh "$port" swarm.test.mjs values.test.mjs
  done
fi
PATH=$root/tests/conformance/node_modules/.bin:$PATH step "net/shared" tests/net/shared.sh
step "net/af_packet" tests/net/af_packet.sh build/tests/net/net_echo build/tests/net/net_probe

section "main job, and the operator's commands with the installed programs"
step "cli/quickstart.sh" cli/quickstart.sh
step "tests/net/operator.sh" tests/net/operator.sh build

finish
