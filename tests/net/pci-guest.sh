#!/bin/busybox sh
# pci-guest.sh: the first process of pci.sh's guest. Asks og-node --check what the card needs, does it,
# asks again, and runs og-node until a line comes in by the second serial port. With og.mode=flow the card
# stays the kernel's, which answers HTTP there, too.
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
mode=$(sed 's/.*og.mode=\([^ ]*\).*/\1/' /proc/cmdline)
conf=/etc/node.conf
check() {
  og-node -c $conf -o "dht.bootstrap=$bootstrap" --check
  echo "$1: exit $?"
}

insert() { while read -r module; do insmod "/modules/$module"; done <"/modules/$1"; }

own_card() {
  check "check before"
  insert order
  echo vfio-pci >/sys/bus/pci/devices/$card/driver_override
  echo $card >/sys/bus/pci/drivers_probe
  echo 160 >/proc/sys/vm/nr_hugepages
}
kernels_card() {
  conf=/etc/node.flow.conf
  check "check before"
  insert order.flow
  ifconfig eth0 10.9.0.2 netmask 255.255.255.0 up
  mkdir -p /www
  echo alive >/www/index.html
  httpd -p 10.9.0.2:80 -h /www
}
if [ "$mode" = flow ]; then kernels_card; else own_card; fi
chown og-node /var/lib/og-node
check "check after"

start() {
  og-node -c $conf -o "dht.bootstrap=$bootstrap" &
  pid=$!
}
if [ "$mode" = flow ]; then # a first one comes to a bad end
  start
  read -r _ </dev/ttyS1
  kill -KILL $pid
  wait $pid
  echo "og-node: killed"
fi
start
(
  read -r _ </dev/ttyS1
  wget -q -O - http://127.0.0.1:8480/metrics | grep -E '^og_dataplane_(drops|rx_packets|tx_packets|shared)' | grep -v ' 0$'
  echo "user: $(stat -c %U /proc/$pid)"
  grep -o 'librte_net_[a-z0-9_]*' /proc/$pid/maps | sort -u | sed 's/^/driver: /'
  kill -TERM $pid
) &
wait $pid
echo "og-node: exit $?"
[ "$mode" != flow ] || read -r _ </dev/ttyS1
poweroff -f
