"""Compressed patches: what they hold is what counts, and a damaged one is told as such."""

from __future__ import annotations

import bz2
import gzip
import lzma
import subprocess
from pathlib import Path

import pytest

from kbuild_tasks.core.errors import ConfigError
from kbuild_tasks.effects.packed import unpacked
from kbuild_tasks.stages.patch import read_series

TEXT = b"--- a/x\n+++ b/x\n@@ -1 +1 @@\n-1\n+2\n"


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-qc"], input=data, check=True, capture_output=True).stdout


PACK = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "zst": zstd,
}


@pytest.mark.parametrize("suffix", PACK)
def test_a_packed_patch_is_read_as_the_plain_one(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "a.patch").write_bytes(TEXT)
    (tmp_path / f"b.patch.{suffix}").write_bytes(PACK[suffix](TEXT))
    plain, packed = read_series(tmp_path, ["a.patch", f"b.patch.{suffix}"])
    assert packed.paths == plain.paths
    assert packed.rounds() == plain.rounds()
    assert packed.name == f"b.patch.{suffix}"


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("damage", ["cut", "other"])
def test_a_damaged_one_is_refused(suffix: str, damage: str) -> None:
    data = PACK[suffix](TEXT * 100)
    data = data[: len(data) // 2] if damage == "cut" else b"no archive"
    with pytest.raises(ConfigError, match=rf"^b\.patch\.{suffix} cannot be unpacked: ."):
        unpacked(f"b.patch.{suffix}", data)
