"""GGUF version 3: metadata, then tensors aligned to 32 bytes. A writer, and a reader of what it writes."""

import math
import struct

ALIGNMENT = 32
TYPE_U32, TYPE_I32, TYPE_F32, TYPE_BOOL, TYPE_STRING, TYPE_ARRAY = 4, 5, 6, 7, 8, 9
GGML_F32, GGML_BF16 = 0, 30


def u32(v):
    return TYPE_U32, struct.pack("<I", v)


def f32(v):
    return TYPE_F32, struct.pack("<f", v)


def boolean(v):
    return TYPE_BOOL, struct.pack("<?", v)


def packed_string(v):
    raw = v.encode("utf-8")
    return struct.pack("<Q", len(raw)) + raw


def string(v):
    return TYPE_STRING, packed_string(v)


def array(item_type, items):
    return TYPE_ARRAY, struct.pack("<IQ", item_type, len(items)) + b"".join(items)


def strings(values):
    return array(TYPE_STRING, [packed_string(v) for v in values])


def i32s(values):
    return array(TYPE_I32, [struct.pack("<i", v) for v in values])


def padding(n):
    return b"\0" * (-n % ALIGNMENT)


def write(path, metadata, tensors):
    """metadata: {key: (type, bytes)}; tensors: [(name, shape, ggml type, bytes)], rows last."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, (kind, raw) in metadata.items():
        head += packed_string(key) + struct.pack("<I", kind) + raw
    offset = 0
    for name, shape, kind, raw in tensors:
        head += packed_string(name) + struct.pack("<I", len(shape))
        head += b"".join(struct.pack("<Q", n) for n in reversed(shape))
        head += struct.pack("<IQ", kind, offset)
        offset += len(raw) + len(padding(len(raw)))
    with open(path, "wb") as f:
        f.write(head + padding(len(head)))
        for _, _, _, raw in tensors:
            f.write(raw + padding(len(raw)))


SCALARS = {TYPE_U32: "<I", TYPE_I32: "<i", TYPE_F32: "<f", TYPE_BOOL: "<?"}


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        values = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return values[0] if len(values) == 1 else values

    def string(self):
        n = self.take("<Q")
        self.at += n
        return self.data[self.at - n : self.at].decode("utf-8")

    def value(self, kind):
        if kind == TYPE_STRING:
            return self.string()
        if kind == TYPE_ARRAY:
            item_type, n = self.take("<IQ")
            return [self.value(item_type) for _ in range(n)]
        return self.take(SCALARS[kind])


def read(path):
    """Returns ({key: value}, {name: (shape, ggml type, bytes)})."""
    with open(path, "rb") as f:
        r = Reader(f.read())
    magic, version, nb_tensors, nb_keys = r.take("<4sIQQ")
    assert magic == b"GGUF" and version == 3
    metadata = {r.string(): r.value(r.take("<I")) for _ in range(nb_keys)}
    infos = []
    for _ in range(nb_tensors):
        name = r.string()
        shape = [r.take("<Q") for _ in range(r.take("<I"))][::-1]
        infos.append((name, shape, *r.take("<IQ")))
    start = r.at + len(padding(r.at))
    tensors = {}
    for name, shape, kind, offset in infos:
        size = math.prod(shape) * (2 if kind == GGML_BF16 else 4)
        tensors[name] = (shape, kind, r.data[start + offset : start + offset + size])
    return metadata, tensors
