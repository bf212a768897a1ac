"""Giving all files of a tree that git has just written one time, without making git read 1.3 GB again.

git's index holds the times of each file as it was when its content was known. A new time on the file would make git
compare the content of all 78,000; so the new times are written into the index too. Layout: gitformat-index(5),
versions 2 and 3: a header, then per file 40 bytes of stat data (ctime, mtime, dev, ino, mode, uid, gid, size), the
object's name, flags, the path, padding to eight bytes; extensions; SHA-1 of it all.
"""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

from kbuild_tasks.effects.files import write_atomic

_HEADER = struct.Struct(">4sII")
_STAT = struct.Struct(">10I")
_TIMES = struct.Struct(">4I")
_EXTENDED = 0x4000


def set_times(index: Path, top: Path, seconds: int) -> bool:
    """Set the time of every file in `index` (SHA-1, version 2 or 3) below `top`, in both. Raises OSError.

    A file that is not as the index knows it keeps its entry, and git will compare its content. False: this index is of
    another kind, and nothing was done.
    """
    data = bytearray(index.read_bytes())
    signature, version, count = _HEADER.unpack_from(data)
    if signature != b"DIRC" or version not in (2, 3):
        return False
    at = _HEADER.size
    for _ in range(count):
        flags = int.from_bytes(data[at + 60 : at + 62], "big")
        name = at + (64 if flags & _EXTENDED else 62)
        end = data.index(b"\0", name)
        path = os.path.join(top, os.fsdecode(bytes(data[name:end])))
        _, _, mtime, _, _, inode, _, _, _, size = _STAT.unpack_from(data, at)
        info = os.lstat(path)
        known = (int(info.st_mtime), info.st_ino & 0xFFFFFFFF, info.st_size & 0xFFFFFFFF) == (mtime, inode, size)
        os.utime(path, (seconds, seconds), follow_symlinks=False)
        if known:
            changed = os.lstat(path).st_ctime_ns
            _TIMES.pack_into(data, at, changed // 10**9, changed % 10**9, seconds, 0)
        at += (end - at + 8) & ~7
    data[-20:] = hashlib.sha1(data[:-20], usedforsecurity=False).digest()
    write_atomic(index, bytes(data))
    return True
