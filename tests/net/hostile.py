#!/usr/bin/env python3
"""hostile.py INTERFACE VICTIM_MAC: frames that a port must count and survive, 100 of each kind.

The victim is 10.9.0.1, UDP port 7777; the sender plays 10.9.0.2 and others.
"""
import socket
import struct
import sys
import time

interface, victim = sys.argv[1], bytes.fromhex(sys.argv[2].replace(':', ''))
me = bytes([2, 0, 0, 0, 0, 0x77])
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind((interface, 0))


def total(data):
    if len(data) % 2:
        data += b'\0'
    n = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while n >> 16:
        n = (n & 0xffff) + (n >> 16)
    return ~n & 0xffff


def ether(kind, body, dst=victim):
    return dst + me + struct.pack('!H', kind) + body


def ip(body, src='10.9.0.2', frag=0, proto=17):
    head = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 20 + len(body), 0, frag, 64, proto, 0,
                       socket.inet_aton(src), socket.inet_aton('10.9.0.1'))
    head = head[:10] + struct.pack('!H', total(head)) + head[12:]
    return ether(0x0800, head + body)


def udp(data, port=7777, checksum=0):
    return struct.pack('!HHHH', 9, port, 8 + len(data), checksum) + data


def arp(op, spa, tpa='10.9.0.1', sha=me):
    return struct.pack('!HHBBH6s4s6s4s', 1, 0x800, 6, 4, op, sha, socket.inet_aton(spa), b'\0' * 6,
                       socket.inet_aton(tpa))


for i in range(100):
    guest = '10.9.0.%d' % (100 + i)
    for frame in (
            ip(udp(b'x' * 20, checksum=0x1234)),              # bad_checksum
            ip(udp(b'x' * 20), frag=0x2000),                  # fragment
            ip(udp(b'x' * 20), src='10.9.0.1'),               # own_address
            ether(0x0806, arp(1, '10.9.0.1')),                # own_address: somebody else has it
            ether(0x0806, arp(2, guest)),                     # unasked
            ether(0x0806, arp(1, guest), dst=b'\xff' * 6),    # answered, and nothing remembered
            ip(udp(b'x' * 20, port=1)),                       # no_endpoint
            ip(b'\x45' * 40, proto=6),                        # not_ours
            ip(udp(b'x' * 20), src='127.0.0.1'),              # bad_frame
            ether(0x0800, b'\x4f' + b'\xff' * 60),            # not_ours or bad_frame
            victim + me + b'\x08',                            # shorter than a head
            ip(udp(b'x' * 20), src=guest)):                   # a good one, whose answer finds nobody
        s.send(frame.ljust(14, b'\0'))
    time.sleep(0.002)
