#!/usr/bin/env bash
# run.sh: builds gpu/ alone with gcc and nvcc, checks the CUDA back end on this machine's device against
# gpu/ref and Hugging Face transformers, runs the benches, and prints one table. Under ten minutes.
#
#   tests/gpu/run.sh                  everything; exit 77 without a device
#   tests/gpu/run.sh --build [DIR]    only build, into DIR (default build-gpu)
#   tests/gpu/run.sh --sanitize       the checks once more under compute-sanitizer, if it is here
#
# Needs no network, no meson and no package of ours. A machine that lacks liburing's headers or nvcc
# takes what `--build` made elsewhere and was carried along in build-gpu: it is linked statically but
# for libc. Results: $OUT, or the build folder: results.jsonl, check.log and table.txt.
set -uo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
dir=$root/build-gpu only_build= sanitize= failed=0
while [ $# -gt 0 ]; do
  case $1 in
    --build) only_build=1; if [ $# -gt 1 ]; then dir=$(realpath -m "$2"); shift; fi ;;
    --sanitize) sanitize=1 ;;
    *) sed -n '2,12p' "$0" >&2; exit 2 ;;
  esac
  shift
done
out=${OUT:-$dir}
programs="cuda_check cuda_conveyor cuda_families cuda_upload cuda_draw cuda_bench cuda_logits"
section() { printf '\n== %s (%s s)\n' "$*" "$SECONDS"; }

nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
# The nvcc found may be a script that calls another, so it is asked where its toolkit lies.
cuda=$("$nvcc" --dryrun gpu/cuda/kernels.cu 2>&1 | sed -n 's/^#\$ *TOP=//p' || true)

# The kernels as meson builds them: warnings, spills and local memory are errors.
build_kernels() {
  "$nvcc" -fatbin -std=c++17 -O3 -t 0 -Werror all-warnings -Xptxas -warn-spills,-warn-lmem-usage \
    -gencode=arch=compute_80,code=sm_80 -gencode=arch=compute_86,code=sm_86 \
    '-gencode=arch=compute_89,code=[sm_89,compute_89]' -gencode=arch=compute_90a,code=sm_90a \
    -I . -o "$1/kernels.fatbin" gpu/cuda/kernels.cu
}

# A library's name, static where that is installed.
lib() { if [ -n "$(find /usr/lib /usr/local/lib -name "lib$1.a" -print -quit 2>/dev/null)" ]; then echo "-l:lib$1.a"; else echo "-l$1"; fi; }

# Every source of base/ and gpu/ but the CPU's back end. One that lacks a library's header is left out; if it was needed, the
# link fails and says for what.
build() {
  local to=$1 flags f
  flags="-std=gnu17 -O2 -g -D_GNU_SOURCE -w -I. -isystem $cuda/include -DOG_MODULE_DIR=\"/usr/lib/og-node\""
  rm -rf "$to/o" && mkdir -p "$to/o" || return 1
  build_kernels "$to" & local kernels=$!
  for f in base/*.c gpu/*.c gpu/cpu/pool.c gpu/ref/*.c gpu/cuda/*.c; do echo "$f"; done |
    xargs -P "$(nproc)" -I{} sh -c 'cc -c '"$(printf '%q ' $flags)"' -o "$2/o/$(echo "$1" | tr / _).o" "$1" 2>>"$2/cc.log" || echo "left out: $1"' sh {} "$to"
  wait "$kernels" || return 1
  cc -c -DOG_CUDA_FATBIN="\"$to/kernels.fatbin\"" -o "$to/o/kernels_image.o" gpu/cuda/image.S || return 1
  rm -f "$to/libgpu.a" && ar rcs "$to/libgpu.a" "$to"/o/*.o || return 1
  for f in $programs; do
    cc $flags -o "$to/$f" "tests/gpu/$f.c" "$to/libgpu.a" $(lib uring) -lm -ldl -lpthread || return 1
  done
  rm -rf "$to/o" "$to/libgpu.a"
}

# cuBLASLt where it is not in the linker's path: beside the toolkit, or in PyTorch's packages.
blas() {
  local at
  for at in "$cuda"/lib64 "$cuda"/lib $(python3 -c 'import nvidia; print(*nvidia.__path__)' 2>/dev/null | tr ' ' '\n' | sed 's,$,/*/lib,'); do
    ls "$at"/libcublasLt.so.1? >/dev/null 2>&1 && printf ':%s' "$at"
  done
}

# step NAME SECONDS COMMAND…: one part; 77 is no failure.
step() {
  local name=$1 limit=$2 status
  shift 2
  section "$name"
  timeout "$limit" "$@"; status=$?
  case $status in
    0) ;;
    77) echo "$name: skipped" ;;
    124) echo "$name: FAILED, longer than $limit s"; failed=1 ;;
    *) echo "$name: FAILED (exit $status)"; failed=1 ;;
  esac
  return "$status"
}

table() {
  python3 - "$out/results.jsonl" <<'PY'
import json, sys
rows = [json.loads(l) for l in open(sys.argv[1]) if l.startswith('{')]
by = {r['case']: r for r in rows}
copy = by.get('copy on the device', {}).get('median')
# The ceiling of products: the faster of PyTorch's and ours by cuBLASLt, in this run.
squares = ('bf16 product, 8192 x 8192 x 8192', 'bf16 square, 8192 rows, cublaslt')
rate = max((by[s]['median'] for s in squares if s in by), default=None)
print(f"{'case':<48} {'value':>12}  {'unit':<18} {'ms':>10}  of the ceiling")
for r in rows:
    share = ''
    if r['unit'].startswith('GB/s') and copy and r['case'] != 'copy on the device':
        share = f"{r['median'] / copy:.2f} of the copy"
    if r['unit'] == 'TFLOP/s' and rate and not r['case'].startswith('bf16'):
        share = f"{r['median'] / rate:.2f} of the product"
    print(f"{r['case']:<48} {r['median']:>12.5g}  {r['unit']:<18} {1e3 * r['seconds']:>10.3f}  {share}")
PY
}

mkdir -p "$dir" "$out"
section "build"
if [ -x "$nvcc" ] && build "$dir/new" >"$dir/build.log" 2>&1; then
  mv "$dir"/new/* "$dir/" && echo "built here, with $("$nvcc" --version | tail -2 | head -1)"
elif [ -x "$dir/cuda_check" ] && [ -z "$only_build" ]; then
  tail -5 "$dir/build.log" 2>/dev/null
  echo "not built here (see build.log): taking what was carried along"
else
  tail -30 "$dir/build.log"
  echo "the build failed"
  exit 1
fi
rm -rf "$dir/new"
[ -n "$only_build" ] && exit 0

# For our programs only: PyTorch brings its own.
libraries=${LD_LIBRARY_PATH:-}$(blas)
with_blas=(env "LD_LIBRARY_PATH=${libraries#:}")
step "checks against gpu/ref" 150 "${with_blas[@]}" "$dir/cuda_check" > >(tee "$out/check.log") 2>&1
status=$?
wait
[ "$status" = 77 ] && exit 77
step "every family against gpu/ref" 50 "${with_blas[@]}" "$dir/cuda_families" > >(tee -a "$out/check.log") 2>&1
wait
step "tokens drawn as the host draws them" 30 "$dir/cuda_draw" > >(tee -a "$out/check.log") 2>&1
wait
step "steps as one launch" 50 "$dir/cuda_conveyor" > >(tee -a "$out/check.log") 2>&1
wait
step "weights straight from their files" 20 "$dir/cuda_upload" > >(tee -a "$out/check.log") 2>&1
wait
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null
step "checks against transformers" 80 python3 tests/gpu/transformers_check.py "$dir/cuda_logits"
: >"$out/results.jsonl"
bench() { LD_LIBRARY_PATH=${libraries#:} "$dir/cuda_bench" >>"$out/results.jsonl"; }
torch_bench() { python3 tests/gpu/torch_bench.py >>"$out/results.jsonl"; }
export -f bench torch_bench
export dir out libraries
step "benches" 100 bash -c bench
step "benches of PyTorch and transformers" 120 bash -c torch_bench
if [ -n "$sanitize" ] && command -v compute-sanitizer >/dev/null; then
  step "checks under compute-sanitizer" 200 compute-sanitizer --error-exitcode 3 "$dir/cuda_check" | tail -20
  step "one launch under compute-sanitizer" 100 compute-sanitizer --error-exitcode 3 "$dir/cuda_conveyor" --tiny | tail -20
fi
section "results"
grep -hE "passed,|rows: [0-9]+ differ|^FAIL|^skipped" "$out/check.log"
grep -h "cublaslt .* the same bits" "$out/check.log"
table | tee "$out/table.txt"
echo "results are in $out; $([ "$failed" = 0 ] && echo all parts passed || echo SOME PARTS FAILED); $SECONDS s"
exit "$failed"
