#!/usr/bin/env bash
# deps.sh: installs what building (and with `test`, testing) og-node needs from Debian 12 packages.
#
#   configs/deps.sh [build|test|pci]      default: build
#
# pci: what tests/net/pci.sh needs beside `test`: an emulator, and a kernel for its guest.
#
# Says what it does, installs only what is missing, is safe to run again, and needs no GPU. As an
# ordinary user it uses sudo when there is something to install; without sudo it names the command.
set -euo pipefail

build_packages=(
  gcc libc6-dev meson ninja-build pkg-config
  libdpdk-dev libsodium-dev libssl-dev liburing-dev libmicrohttpd-dev libjansson-dev
  libinih-dev libpcre2-dev libutf8proc-dev libcurl4-openssl-dev libsystemd-dev
)
# clang and its runtime for the fuzz targets; dpdk-dev brings testpmd, a reference of og-bench; nodejs
# and npm for the peers og-node is tested against.
test_packages=(
  libcriterion-dev clang-14 clang-format-14 libclang-rt-14-dev
  python3 python3-jinja2 iproute2 ethtool iputils-ping codespell dpdk-dev
)

pci_packages=(qemu-system-x86 linux-image-amd64 busybox-static cpio kmod)

case "${1:-build}" in
  build) packages=("${build_packages[@]}") ;;
  test) packages=("${build_packages[@]}" "${test_packages[@]}") ;;
  pci) packages=("${pci_packages[@]}") ;;
  *) echo "usage: configs/deps.sh [build|test|pci]" >&2; exit 2 ;;
esac
# Any Node.js of version 18 or later will do; one from elsewhere is as good as Debian's.
if [ "${1:-build}" = test ] && ! command -v npm >/dev/null; then
  packages+=(nodejs npm)
fi

missing=()
for p in "${packages[@]}"; do
  dpkg-query -W -f='${db:Status-Abbrev}' "$p" 2>/dev/null | grep -q '^ii' || missing+=("$p")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "deps: all ${#packages[@]} Debian packages are installed"
else
  echo "deps: installing ${missing[*]}"
  run=()
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
      echo "deps: not root and no sudo; as root run:" >&2
      echo "  apt-get update && apt-get install --no-install-recommends -y ${missing[*]}" >&2
      exit 1
    fi
    run=(sudo)
  fi
  export DEBIAN_FRONTEND=noninteractive
  "${run[@]}" apt-get update -q
  "${run[@]}" apt-get install -q -y --no-install-recommends "${missing[@]}"
fi

# packages FOLDER WHAT OPTIONS…: npm's packages of a folder, if they are not those of its lock file. Not by
# `npm ci`: that refuses locks that name packages for systems that the registry does not have.
packages() {
  cd "$root/$1"
  if cmp -s package-lock.json node_modules/.og-lock; then
    echo "deps: $2 are installed"
    return
  fi
  echo "deps: installing $2 (npm install in $1)"
  npm install --no-save --no-audit --no-fund --loglevel=error "${@:3}"
  cp package-lock.json node_modules/.og-lock
}

if [ "${1:-build}" = test ]; then
  root=$(cd "$(dirname "$0")/.." && pwd)
  packages tests/conformance "the peers to test against"
  # llama.cpp comes built, for this processor only; elsewhere the tests that want it are skipped.
  if [ "$(uname -m)" = x86_64 ]; then
    packages tests/gpu "the references of models" --omit=optional --ignore-scripts
  fi
fi
