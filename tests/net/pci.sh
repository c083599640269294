#!/usr/bin/env bash
# pci.sh: og-node on a network card of its own: an emulated one, bound to vfio-pci behind an IOMMU, in
# a guest of QEMU without KVM. The guest follows what og-node --check tells it; its cable ends in a
# network namespace with unmodified JavaScript peers (tests/conformance/pci.mjs).
#
#     pci.sh [CARD…]      CARD: virtio, e1000e, flow; default: all, about a minute each
#
# With flow the card stays the guest's kernel's, and og-node shares it by flow rules ([port] shared) of a
# tap before it, whose rules are those of the kernel's traffic control.
#
# OG_BUILD names the build; OG_PCI_LOG=1 shows the guest's console. The namespace, the tap and the
# guest's files go with the processes. Exit status 77: this machine lacks what it takes.
set -euo pipefail
self=$(realpath "$0")
cd "$(dirname "$self")/../.."
build=${OG_BUILD:-build}
limit_s=400 # for one card

if [ "${1:-}" != inside ]; then
  missing=()
  command -v qemu-system-x86_64 >/dev/null || missing+=(qemu-system-x86)
  command -v cpio >/dev/null || missing+=(cpio)
  [ -x /bin/busybox ] || missing+=(busybox-static)
  compgen -G '/boot/vmlinuz-*-amd64' >/dev/null || missing+=(linux-image-amd64)
  if [ ${#missing[@]} -gt 0 ]; then
    echo "lacks ${missing[*]}: configs/deps.sh pci; skipped"
    exit 77
  fi
  [ -w /dev/net/tun ] || { echo "no right to make a tap (/dev/net/tun): skipped"; exit 77; }
  if [ "$(id -u)" = 0 ] && unshare -n true 2>/dev/null; then
    exec unshare -n "$self" inside "$@"
  elif unshare -Urn true 2>/dev/null; then
    exec unshare -Urn "$self" inside "$@"
  fi
  echo "no network namespaces here: skipped"
  exit 77
fi
shift
[ $# -gt 0 ] || set -- virtio e1000e flow
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
kernel=$(ls -v /boot/vmlinuz-*-amd64 | tail -1)
version=${kernel#/boot/vmlinuz-}
if ! [ -r "$kernel" ]; then echo "may not read $kernel: skipped"; exit 77; fi

# Each file with the libraries it names, where the loader will look for them.
with_libraries() {
  local file
  for file in "$@"; do
    echo "$file"
    ldd "$file" | sed -n 's|^[^/]*\(/[^ ]*\) (.*|\1|p'
  done | sort -u
}

guest=$work/guest
mkdir -p "$guest"/{bin,dev,etc,modules,proc,sys,tmp,usr/lib,usr/lib64,var/lib/og-node}
ln -s usr/lib usr/lib64 "$guest/"
cp /bin/busybox "$guest/bin/"
cp "$build/cli/og-node" "$guest/bin/"
cp configs/demo.gguf "$guest/var/lib/og-node/"
cp tests/net/pci-guest.sh "$guest/init"
pmds=$(pkg-config --variable=driverdir libdpdk 2>/dev/null || true)
[ -d "$pmds" ] || pmds=$(ls -d /usr/lib/*/dpdk/pmds-* | head -1)
drivers=("$pmds"/librte_{bus_pci,bus_vdev,mempool_ring,net_virtio,net_e1000,net_tap}.so.*)
# The C library asks for the last one by itself. Links stay links: a driver found under two names is one.
with_libraries "$build/cli/og-node" "${drivers[@]}" /usr/lib/*/libgcc_s.so.1 | grep -v "^$build" | while read -r file; do
  real=$(realpath "$file")
  install -D "$real" "$guest$real"
  [ -e "$guest$file" ] && continue
  mkdir -p "$(dirname "$guest$file")"
  ln -s "$real" "$guest$file"
done
# modules NAME MODULE…: with what they need, in order.
modules() {
  local list=$1 name
  shift
  for module in "$@"; do PATH=$PATH:/sbin modprobe -S "$version" -D "$module"; done |
    sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$1]++' | while read -r name; do
      cp "$name" "$guest/modules/"
      echo "${name##*/}"
    done >"$guest/modules/$list"
}
modules order vfio-pci
modules order.flow e1000e tun sch_ingress sch_multiq cls_flower act_mirred act_skbedit act_gact
echo 'root:x:0:0::/:/bin/sh
og-node:x:900:900::/var/lib/og-node:/bin/sh' >"$guest/etc/passwd"
echo 'og-node:x:900:' >"$guest/etc/group"
# The sample for a card, but with what only this guest has.
sed -e 's|^driver = .*|driver = ethdev:0000:00:03.0|' -e 's|^address = .*|address = 10.9.0.2/24|' \
  -e 's|^gateway = .*|gateway = 10.9.0.1|' -e 's|^path = .*|path = /var/lib/og-node/demo.gguf|' \
  -e '/^\(net\|router\|engine\|crypto\|poll\) = /d' -e 's|^id = .*|id = pci-test|' \
  configs/bare-metal.conf >"$guest/etc/node.conf"
sed -e 's|^driver = .*|driver = ethdev:net_tap0,remote=eth0\nshared = yes|' \
  -e '/^\(address\|gateway\|mtu\|hugepages\) = /d' "$guest/etc/node.conf" >"$guest/etc/node.flow.conf"
(cd "$guest" && find . | cpio --quiet -o -H newc --owner=+0:+0) >"$work/initramfs"

ip link set lo up
ip tuntap add dev cable mode tap
ip addr add 10.9.0.1/24 dev cable
ip link set cable up

export OG_LAB_PORT=pci OG_LAB_HOST=10.9.0.1
cd tests/conformance
for card in "$@"; do
  export OG_PCI_MODE=card
  case "$card" in
    virtio) device=virtio-net-pci,disable-legacy=on,iommu_platform=on ;;
    e1000e) device=e1000e ;;
    flow) device=e1000e OG_PCI_MODE=flow ;;
    *) echo "no card $card"; exit 2 ;;
  esac
  echo "== $card"
  timeout -k 5 "$limit_s" node pci.mjs qemu-system-x86_64 -machine q35,kernel-irqchip=split -accel tcg \
    -cpu max -m 1024 -smp 1 -nodefaults -no-user-config -display none -no-reboot \
    -device intel-iommu,intremap=on,caching-mode=on,aw-bits=48 \
    -kernel "$kernel" -initrd "$work/initramfs" \
    -serial stdio -chardev "pipe,id=talk,path=$work/talk" -serial chardev:talk \
    -monitor "unix:$work/monitor,server=on,wait=off" \
    -netdev tap,id=cable,ifname=cable,script=no,downscript=no,vhost=off \
    -device "$device,id=card,netdev=cable,addr=03.0,mac=52:54:00:00:00:01"
done
