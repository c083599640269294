#!/bin/busybox sh
# pci-guest.sh: the first process of pci.sh's guest. Asks og-node --check what the card needs, does it,
# asks again, and runs og-node until a line comes in by the second serial port.
busybox=/bin/busybox
$busybox --install -s /bin
export PATH=/bin HOME=/
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mkdir -p /dev/shm /run
mount -t tmpfs none /dev/shm
mount -t tmpfs none /run
ifconfig lo 127.0.0.1 up
card=0000:00:03.0
bootstrap=$(sed 's/.*og.bootstrap=\([^ ]*\).*/\1/' /proc/cmdline)
check() {
  og-node -c /etc/node.conf -o "dht.bootstrap=$bootstrap" --check
  echo "$1: exit $?"
}

check "check before"
while read -r module; do insmod "/modules/$module"; done </modules/order
echo vfio-pci >/sys/bus/pci/devices/$card/driver_override
echo $card >/sys/bus/pci/drivers_probe
echo 160 >/proc/sys/vm/nr_hugepages
chown og-node /var/lib/og-node
check "check after"

og-node -c /etc/node.conf -o "dht.bootstrap=$bootstrap" &
pid=$!
(
  read -r _ </dev/ttyS1
  wget -q -O - http://127.0.0.1:8480/metrics | grep -E '^og_dataplane_(drops|rx_packets|tx_packets)' | grep -v ' 0$'
  echo "user: $(stat -c %U /proc/$pid)"
  grep -o 'librte_net_[a-z0-9_]*' /proc/$pid/maps | sort -u | sed 's/^/driver: /'
  kill -TERM $pid
) &
wait $pid
echo "og-node: exit $?"
poweroff -f
