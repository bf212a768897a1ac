"""What lies in $srcdir beside the kernel's tree, by content: patches, configs, other archives, and what prepare() made
of them. An edit of a patch that a loop over source=() applies is seen here and nowhere else: no function names it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from kbuild_tasks.effects.files import sha256_file, sha256_text

UNPINNED = "SKIP"


def entries(srcdir: Path, without: str = "") -> dict[str, Path]:
    """What lies in a directory, but the kernel's tree `without` and scratch of ours; nothing where there is none."""
    if not srcdir.is_dir():
        return {}
    return {e.name: Path(e) for e in os.scandir(srcdir) if e.name != without and not e.name.startswith(".")}


def digests(found: Mapping[str, Path], sources: Path, pinned: Mapping[str, str]) -> dict[str, str]:
    """Name of an entry -> what it holds. A directory counts with all below it but repositories' own files.

    sources  makepkg's SRCDEST
    pinned   name -> the checksum that the PKGBUILD gives, of files there: 140 MB are not read again
    """
    told = {}
    for name, path in sorted(found.items()):
        known = pinned.get(name, UNPINNED)
        if known != UNPINNED and path.is_symlink() and Path(os.readlink(path)).parent == sources:
            told[name] = known
        elif path.is_dir() and not path.is_symlink():
            told[name] = _directory(path)
        else:
            told[name] = _file(path, follow=True)
    return told


def _directory(top: Path) -> str:
    told = []
    for directory, names, files in os.walk(top):
        names[:] = sorted(name for name in names if name != ".git")
        links = [name for name in names if os.path.islink(os.path.join(directory, name))]
        for name in sorted([*files, *links]):
            path = Path(directory, name)
            told.append([str(path.relative_to(top)), _file(path, follow=False)])
        if not names and not files:
            told.append([os.path.relpath(directory, top), "empty"])
    return sha256_text(repr(told))


def _file(path: Path, follow: bool) -> str:
    if path.is_symlink() and not (follow and path.is_file()):
        return f"link:{os.readlink(path)}"
    if not path.is_file():
        return "special"
    executable = "x:" if path.stat().st_mode & 0o100 else ""
    return f"{executable}{sha256_file(path)}"
