#!/usr/bin/env bash
# load_fio.sh: the loader against fio on the same file with the same settings (O_DIRECT, io_uring,
# 8 MiB reads, 16 in flight), nine repeats taken in turn. Prints medians and their ratio; the last line
# is the ratio of loading into place. Exit status 77: no fio here; 1: below 0.9.
#
#   tests/gpu/load_fio.sh build/tests/gpu/load_cli FILE
set -euo pipefail
load=$1 file=$2 runs=${RUNS:-9}
command -v fio >/dev/null || { echo "skipped: fio is not installed"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# cold FILE: what the page cache holds of it is dropped, so that buffered reads come from the disk too.
cold() { python3 -c 'import os, sys; f = os.open(sys.argv[1], os.O_RDONLY); os.fdatasync(f); os.posix_fadvise(f, 0, 0, os.POSIX_FADV_DONTNEED)' "$1"; }
rate() { python3 -c 'import json, sys; print(json.load(sys.stdin)["gb_per_s"])'; }

for _ in $(seq "$runs"); do
  cold "$file"
  fio --name=read --filename="$file" --rw=read --readonly --direct=1 --ioengine=io_uring --bs=8M --iodepth=16 \
    --output-format=json | python3 -c 'import json, sys; print(json.load(sys.stdin)["jobs"][0]["read"]["bw_bytes"] / 1e9)' >>"$work/fio"
  for mode in "" --ring --buffered; do
    cold "$file"
    # shellcheck disable=SC2086
    "$load" $mode "$file" | tee -a "$work/all" | rate >>"$work/load$mode"
  done
done
python3 - "$work" <<'PY'
import json, statistics, sys
work = sys.argv[1]
median = lambda name: statistics.median(float(x) for x in open(f'{work}/{name}'))
fio = median('fio')
above = max(json.loads(line)['above_mib'] for line in open(f'{work}/all'))
print(f'fio {fio:.2f} GB/s; most memory above the file: {above:.0f} MiB')
for name, what in (('load--buffered', 'buffered'), ('load--ring', 'by registered buffers'), ('load', 'into place')):
    print(f'loader, {what}: {median(name):.2f} GB/s, {median(name) / fio:.2f} of fio')
sys.exit(0 if median('load') >= 0.9 * fio and above <= 300 else 1)
PY
