"""Patches that are shipped compressed, by the ending of their name."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tempfile
import zlib
from pathlib import Path

from kbuild_tasks.core.errors import CommandFailed, ConfigError
from kbuild_tasks.effects import shell

_UNPACK = {".gz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress, ".lzma": lzma.decompress}


def unpacked(name: str, data: bytes) -> bytes:
    """What a file of that name holds; of one that is not compressed, `data`. Raises ConfigError for a damaged one."""
    suffix = Path(name).suffix
    try:
        if suffix == ".zst":
            return _zstd(data)
        return _UNPACK[suffix](data) if suffix in _UNPACK else data
    except CommandFailed as error:
        why = (*error.evidence, error.message)[0]
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        why = str(error)
    raise ConfigError(f"{name} cannot be unpacked: {why}", "copy the patch again, or put it there uncompressed")


def _zstd(data: bytes) -> bytes:
    """Python before 3.14 has no zstd; packages are made with the program anyway."""
    with tempfile.TemporaryDirectory(prefix="kbuild-patch.") as scratch:
        packed, plain = Path(scratch, "packed"), Path(scratch, "plain")
        packed.write_bytes(data)
        shell.run(["zstd", "-q", "-d", "-o", plain, packed], timeout=60)
        return plain.read_bytes()
