"""Another kernel, by its build id and its release, out of a bzImage, without compiling: what runs is unpacked, its
names are changed, and it is packed again. It boots as the first one does, and a node tells the two apart by everything
that a roll-out looks at (uname -r, /sys/kernel/notes, bytes on the disk).
"""

from __future__ import annotations

import struct
import zlib

SETUP_SECTORS, PAYLOAD_OFFSET, PAYLOAD_LENGTH = 0x1F1, 0x248, 0x24C  # Documentation/x86/boot.rst
SECTOR = 512


def renamed(image: bytes, names: dict[bytes, bytes]) -> bytes:
    """The image with each of these texts replaced by another of its length. Raises ValueError: a text is not in it, or
    the kernel is not packed with gzip, or does not fit into its place any more."""
    start, length = _payload(image)
    kernel = zlib.decompress(image[start : start + length], wbits=31)
    for old, new in names.items():
        if old not in kernel or len(old) != len(new):
            raise ValueError(f"{old!r} cannot become {new!r} in this kernel")
        kernel = kernel.replace(old, new)
    packed = _packed(kernel, length)
    return image[:start] + packed + image[start + length :]


def _payload(image: bytes) -> tuple[int, int]:
    if image[0x202:0x206] == b"" or image[0x1FE:0x200] != b"\x55\xaa":
        raise ValueError("not a bzImage")
    offset, length = struct.unpack_from("<II", image, PAYLOAD_OFFSET)
    start = ((image[SETUP_SECTORS] or 4) + 1) * SECTOR + offset
    if image[start : start + 3] != b"\x1f\x8b\x08":
        raise ValueError("the kernel is not packed with gzip (CONFIG_KERNEL_GZIP)")
    return start, length


def _packed(kernel: bytes, length: int) -> bytes:
    """gzip's format, filled up to the length: the kernel's decompressor stops where the stream does."""
    for memory in (9, 8):
        packer = zlib.compressobj(9, zlib.DEFLATED, 31, memory)
        packed = packer.compress(kernel) + packer.flush()
        if len(packed) <= length:
            # The stream's own end is looked at when the kernel is linked, and the length of what it holds read there.
            return packed + bytes(length - len(packed))
    raise ValueError(f"packed again it takes {len(packed)} bytes, and there are {length}")
