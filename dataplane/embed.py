#!/usr/bin/env python3
"""embed.py IN OUT: the bytes of the file IN as an array in the C header OUT."""
import sys

with open(sys.argv[1], 'rb') as f:
    data = f.read()
with open(sys.argv[2], 'w') as f:
    f.write('/* Made by embed.py. */\n#pragma once\n#include <stdint.h>\n\n')
    f.write('static const uint8_t og_shared_xdp_object[] = {\n')
    for i in range(0, len(data), 16):
        f.write('\t' + ', '.join(str(b) for b in data[i:i + 16]) + ',\n')
    f.write('};\n')
