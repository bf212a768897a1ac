"""What is in a package file, to be compared (core/package_diff.py): makepkg's .pkg.tar.zst, unpacked to a file."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path
from typing import cast

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.core.package_diff import Member, differences
from kbuild_tasks.effects import shell


def compare(old: Path, new: Path, scratch: Path) -> list[str]:
    """In what two packages differ, as lines; `scratch` takes both of them unpacked, and is empty afterwards.

    Raises KbuildError for one that cannot be read.
    """
    with opened(old, scratch / "old.tar") as one, opened(new, scratch / "new.tar") as other:
        lines = differences(one.members, other.members, one.read, other.read)
    return lines or ["its members are the same: the archive was written or compressed otherwise"]


class Opened:
    """An unpacked package."""

    def __init__(self, archive: tarfile.TarFile, scratch: Path) -> None:
        self._archive, self._scratch = archive, scratch
        self.members: dict[str, Member] = {info.name: self._member(info) for info in archive}

    def _member(self, info: tarfile.TarInfo) -> Member:
        kind = "file" if info.isfile() else "link" if info.issym() or info.islnk() else "other"
        kind = "directory" if info.isdir() else kind
        content = info.linkname if kind == "link" else ""
        if kind == "file":
            file = self._archive.extractfile(info)
            assert file is not None
            content = file_digest(cast(io.BufferedReader, file), "sha256").hexdigest()
        owner = f"{info.uname or info.uid}:{info.gname or info.gid}"
        return Member(kind, info.mode, owner, float(info.mtime), info.size, content)

    def read(self, name: str) -> bytes:
        """A file's content; of a compressed one (a module, .MTREE) what is in it."""
        file = self._archive.extractfile(name)
        data = file.read() if file else b""
        try:
            if data[:2] == b"\x1f\x8b":
                return gzip.decompress(data)
            if data[:6] == b"\xfd7zXZ\0":
                return lzma.decompress(data)
            if data[:4] == b"\x28\xb5\x2f\xfd":
                packed, plain = self._scratch.with_suffix(".zst"), self._scratch.with_suffix(".plain")
                packed.write_bytes(data)
                try:
                    shell.run(["zstd", "-dqf", "-o", plain, packed], timeout=120)
                    return plain.read_bytes()
                finally:
                    packed.unlink()
                    plain.unlink(missing_ok=True)
        except (OSError, EOFError, lzma.LZMAError, zlib.error, KbuildError):
            return data  # it only looks so
        return data


@contextmanager
def opened(package: Path, scratch: Path) -> Iterator[Opened]:
    scratch.parent.mkdir(parents=True, exist_ok=True)
    try:
        shell.run(["zstd", "-dqf", "-o", scratch, package], timeout=3600)
        archive = tarfile.open(scratch)  # noqa: SIM115 - closed below
        try:
            found = Opened(archive, scratch)
        except BaseException:
            archive.close()
            raise
    except (KbuildError, tarfile.TarError, EOFError) as error:
        scratch.unlink(missing_ok=True)
        raise KbuildError(f"{package.name} cannot be read: it is damaged", evidence=[str(error)]) from None
    try:
        yield found
    finally:
        archive.close()
        scratch.unlink(missing_ok=True)
