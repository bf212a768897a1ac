"""A fake kernel tree for tests of patches and trees: small, with what is odd in the true one.

Nested .gitignore files, one at the top that ignores everything (Debian's), a .gitattributes, an executable, a symbolic
link, names that differ by case alone, a CRLF file, a file without a newline at its end, a binary file.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT_GITIGNORE = "# Debian packaging\n.*\n*.o\n*.a\n*.patch\n/include/generated/\n/*\n!/debian/\n"
FAIR = "".join(f"int fair_{n};\n" for n in range(1, 61))

FILES: dict[str, bytes] = {
    "Makefile": b"VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 1\n",
    "Kconfig": b'source "kernel/Kconfig"\n',
    "Kbuild": b"obj-y += kernel/ fs/\n",
    ".gitignore": ROOT_GITIGNORE.encode(),
    ".gitattributes": b"*.c diff=cpp\n*.txt text eol=crlf\n",
    ".clang-format": b"Language: Cpp\n",
    "kernel/Kconfig": b"config FAIR\n\tbool\n",
    "kernel/Makefile": b"obj-y += sched/ fork.o\n",
    "kernel/fork.c": b"int fork;\nint forked;\n",
    "kernel/sched/fair.c": FAIR.encode(),
    "kernel/sched/Makefile": b"obj-y += fair.o\n",
    "include/linux/kernel.h": b"#define KERNEL 1\n",
    "include/uapi/linux/netfilter/xt_MARK.h": b"/* upper */\n",
    "include/uapi/linux/netfilter/xt_mark.h": b"/* lower */\n",
    "fs/ext4/inode.c": b"int inode;\n",
    "fs/ext4/xattr.h": b"#define XATTR 1\n",
    "scripts/kconfig/.gitignore": b"# host program\n/conf\n/[gmnq]conf-cfg\n*.moc\n",
    "scripts/kconfig/conf.c": b"int main;\n",
    "scripts/check.sh": b"#!/bin/sh\n",
    "scripts/dtc/include-prefixes/arm": b"../../../arch/arm/boot/dts",
    "arch/arm/boot/dts/a.dts": b"/dts-v1/;\n",
    "Documentation/win.txt": b"one\r\ntwo\r\n",
    "lib/last": b"no newline",
    "lib/logo.bin": bytes(range(256)),
}
EXECUTABLE = ("scripts/check.sh",)
LINKS = ("scripts/dtc/include-prefixes/arm",)


def write_tree(top: Path, files: dict[str, bytes] | None = None) -> Path:
    """Write the fake tree (or `files`) below `top`."""
    for path, content in (FILES if files is None else files).items():
        target = top / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if path in LINKS:
            target.symlink_to(os.fsdecode(content))
        else:
            target.write_bytes(content)
            target.chmod(0o755 if path in EXECUTABLE else 0o644)
    return top


def read_tree(top: Path) -> dict[str, tuple[str, bytes]]:
    """Every file below `top`: path -> ("link" | "100755" | "100644", content); an empty directory: ("dir", b"")."""
    found: dict[str, tuple[str, bytes]] = {}
    for directory, names, files in os.walk(top):
        for name in [n for n in names if os.path.islink(os.path.join(directory, n))] + files:
            path = os.path.join(directory, name)
            relative = os.path.relpath(path, top)
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                found[relative] = ("link", os.fsencode(os.readlink(path)))
            else:
                found[relative] = ("100755" if mode & 0o100 else "100644", Path(path).read_bytes())
        if not names and not files and directory != str(top):
            found[os.path.relpath(directory, top)] = ("dir", b"")
    return found


def times(top: Path) -> dict[str, int]:
    """Path -> mtime in ns, of every file below `top`."""
    return {path: os.lstat(top / path).st_mtime_ns for path in read_tree(top)}


def as_found(files: dict[str, bytes] | None = None) -> dict[str, tuple[str, bytes]]:
    """What read_tree finds after write_tree."""
    return {
        path: ("link" if path in LINKS else "100755" if path in EXECUTABLE else "100644", content)
        for path, content in (FILES if files is None else files).items()
    }


def new_place() -> Iterator[Path]:
    """A directory in memory where there is one: git syncs the file system after an import."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    place = Path(tempfile.mkdtemp(prefix="kbuild tree.", dir=base))
    yield place
    shutil.rmtree(place)
