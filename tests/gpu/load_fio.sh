#!/usr/bin/env bash
# load_fio.sh: the loader against fio on the same file with the same settings (O_DIRECT, io_uring,
# 8 MiB reads, 16 in flight), cold, nine repeats. Prints medians and their ratios. Exit status 77: no fio
# here; 1: below 0.9 of fio, or more than 300 MiB of memory above the file's size.
#
#   tests/gpu/load_fio.sh build/tests/gpu/load_cli FILE
#
# Virtual disks give the first reader after a pause more than the next: the order changes with each
# repeat, and PAUSE seconds (3) pass before each run. With PAUSE=0 a disk that is limited from outside
# gives all the same. RUNS: repeats.
set -euo pipefail
load=$1 file=$2 runs=${RUNS:-9}
command -v fio >/dev/null || { echo "skipped: fio is not installed"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# cold FILE: what the page cache holds of it is dropped. And so much memory is used for a moment: a
# hypervisor that took it back while it was free returns it slowly, which is not what is measured.
cold() {
  python3 - "$1" <<'PY'
import mmap, os, sys
f = os.open(sys.argv[1], os.O_RDONLY)
os.fdatasync(f)
os.posix_fadvise(f, 0, 0, os.POSIX_FADV_DONTNEED)
memory = mmap.mmap(-1, os.fstat(f).st_size + (256 << 20), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_HUGEPAGE)
memory.madvise(23)  # MADV_POPULATE_WRITE
PY
}

# read_once NAME: one run of one contestant, its rate in GB/s to a file of that name.
read_once() {
  sleep "${PAUSE:-3}"
  cold "$file"
  case $1 in
    fio) fio --name=read --filename="$file" --rw=read --readonly --direct=1 --ioengine=io_uring --bs=8M --iodepth=16 \
      --output-format=json | python3 -c 'import json, sys; print(json.load(sys.stdin)["jobs"][0]["read"]["bw_bytes"] / 1e9)' ;;
    ring) "$load" --ring "$file" | tee -a "$work/all" | python3 -c 'import json, sys; print(json.load(sys.stdin)["gb_per_s"])' ;;
    place) "$load" "$file" | tee -a "$work/all" | python3 -c 'import json, sys; print(json.load(sys.stdin)["gb_per_s"])' ;;
  esac >>"$work/$1"
}

# Nobody always follows the same one.
orders=('fio place ring' 'ring place fio' 'place ring fio' 'fio ring place' 'ring fio place' 'place fio ring')
for i in $(seq "$runs"); do
  for name in ${orders[$((i % 6))]}; do read_once "$name"; done
done
python3 - "$work" <<'PY'
import json, statistics, sys
work = sys.argv[1]
median = lambda name: statistics.median(float(x) for x in open(f'{work}/{name}'))
fio = median('fio')
above = max(json.loads(line)['above_mib'] for line in open(f'{work}/all'))
for name in ('fio', 'place', 'ring'):
    print(name, *sorted(float(x.strip()[:5]) for x in open(f'{work}/{name}')))
print(f'fio {fio:.2f} GB/s; most memory above the file: {above:.0f} MiB')
for name, what in (('ring', 'by registered buffers'), ('place', 'into place')):
    print(f'loader, {what}: {median(name):.2f} GB/s, {median(name) / fio:.2f} of fio')
sys.exit(0 if median('place') >= 0.9 * fio and above <= 300 else 1)
PY
