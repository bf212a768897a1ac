"""After a build that did not end by itself: files that kbuild would take for finished, and are not.

A make that fails or is interrupted removes the targets of the recipes that it was in (.DELETE_ON_ERROR, and its signal
handler). One that is killed with its children, or loses power, leaves them as they were, and make, which compares times
alone, believes a half-written object that is newer than its sources. A recipe of kbuild (scripts/Kbuild.include,
scripts/Makefile.build) does, in this order:

    1 writes the target   2 writes .TARGET.cmd (fixdep, or printf)   3 for some objects, changes the target once more
                                                                       or appends to .TARGET.cmd (symbol versions)

A mark is written before a build and removed when it has ended by itself; a build whose output tells of a process that
was killed has not: the make above it may be gone, and what ran below it may run on. Where the mark is found, with S the
time it was written at and T the newest target in the tree (about the time of the end), a target newer than S is removed
if it was

    killed in 1   it is empty, or an ELF file that is not whole
    killed in 2   .TARGET.cmd is older than S, or is not there, or does not end as fixdep ends it
    killed in 3   it or its .TARGET.cmd is newer than T - REST: its recipe may have had steps left

What is older than S was finished by an earlier build. What lies between S and T - REST and passes has been through its
whole recipe. Files without a .cmd file (generated headers, .config) are written under another name and renamed.
Temporary files of such recipes (the dependencies that the compiler writes, what filechk and kconfig would have renamed)
are removed as well: a package that copies scripts/ and include/ would carry them.
Another boot id on the mark means lost power: data of the last minutes may be missing from files that look new. What a
build that ended by itself has made is on the disk before its mark goes.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kbuild_tasks.core import elf
from kbuild_tasks.core.errors import CommandFailed, KbuildError
from kbuild_tasks.effects import shell
from kbuild_tasks.effects.files import read_json, write_json

REST = 15.0  # seconds; a recipe's steps after the compiler take milliseconds
# kconfig renames its files into place, unsynced: lost power may leave part of them. Where this one is missing
# syncconfig runs; it compares auto.conf with .config, touches what differs, and writes both anew.
AUTOCONF = "include/config/auto.conf.cmd"
SYNC = 1800  # seconds: an SD card takes some MB in each
REST_POWER = (
    120.0  # the kernel writes data back after at most 30 s (vm.dirty_expire_centisecs), journals a little later
)
# What bash, make and gcc say of a child that a signal ended (SIGKILL: the kernel's, when memory is short)
_KILLED = re.compile(r"\bKilled\b|\*\*\* .*\bError 1(?:29|3[0-9]|4[0-3])$")
# $(depfile), $(dot-target).tmp of scripts/Kbuild.include; conf_write_autoconf_cmd() of scripts/kconfig
_TEMPORARY = re.compile(r"\..+\.(?:d|tmp)|auto\.conf\.cmd\.tmp")
_DEPENDENCIES = re.compile(rb"^deps_", re.MULTILINE)


@dataclass(frozen=True)
class Target:
    """A file that a recipe of kbuild made, beside its .cmd file. Times in seconds since the epoch."""

    path: Path
    made: float
    record: Path
    recorded: float | None


class Mark:
    """The file that says: a build is going on in this tree."""

    def __init__(self, path: Path, tree: Path) -> None:
        self.path, self.tree = path, tree

    def set(self) -> None:
        write_json(self.path, {"boot_id": _boot_id(), "at": time.time()})

    def clear(self) -> None:
        """Once all that make wrote is on the disk (a tmpfs has nothing to write): after a power cut a file system may
        know of the mark's end, and not of an object's. Raises CommandFailed (EIO, say): the mark stands."""
        if self.path.exists() and self.tree.is_dir():
            shell.run(["sync", "-f", self.tree], timeout=SYNC)
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()

    def started(self) -> float | None:
        """By the clock of the file system that the tree is on; None: the last build ended by itself."""
        try:
            return self.path.stat().st_mtime
        except FileNotFoundError:
            return None

    def power_lost(self) -> bool:
        told = read_json(self.path)
        return not isinstance(told, dict) or told.get("boot_id") != _boot_id()


@contextlib.contextmanager
def marked(mark: Mark) -> Iterator[None]:
    """The mark stands while make runs, and stays if the block ends in any way but make's own."""
    mark.set()
    try:
        yield
    except CommandFailed as failed:
        if failed.code > 0 and not tells_of_kill(failed.evidence):
            mark.clear()
        raise
    except KbuildError:
        mark.clear()
        raise
    mark.clear()


def tells_of_kill(lines: Iterable[str]) -> bool:
    """Whether the output of a failed build says that a signal ended some process of it."""
    return any(_KILLED.search(line) for line in lines)


def mend(tree: Path, mark: Mark) -> list[str]:
    """Remove what a build that was killed may have left half made; returns the names, relative to the tree, sorted."""
    started = mark.started()
    if started is None or not tree.is_dir():
        return []
    for path in _temporary(tree, started):
        path.unlink()
    autoconf = tree / AUTOCONF
    if autoconf.exists() and (mark.power_lost() or not autoconf.read_bytes().endswith(b"$(deps_config): ;\n")):
        autoconf.unlink()
    targets = [t for t in _targets(tree) if max(t.made, t.recorded or 0.0) >= started]
    if not targets:
        return []
    last = max(max(t.made, t.recorded or 0.0) for t in targets)
    rest = REST_POWER if mark.power_lost() else REST
    removed = []
    for target in targets:
        if _suspicious(target, started, last - rest):
            for path in (target.path, target.record):
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
            removed.append(str(target.path.relative_to(tree)))
    return sorted(removed)


def _suspicious(target: Target, started: float, finished_before: float) -> bool:
    if max(target.made, target.recorded or 0.0) > finished_before:
        return True
    if target.recorded is None or target.recorded < started:
        return True
    return not (_record_whole(target.record) and _content_whole(target.path))


def _record_whole(record: Path) -> bool:
    """fixdep ends a record with the target's name and a colon and an empty rule; printf writes one line at once."""
    try:
        raw = record.read_bytes()
    except OSError:
        return False
    if not raw.endswith(b"\n"):
        return False
    if not _DEPENDENCIES.search(raw) and b"\nsource_" not in raw:
        return True
    return re.search(rb"^\$\(deps_[^)]*\):$", raw, re.MULTILINE) is not None


def _content_whole(path: Path) -> bool:
    if path.suffix not in (".o", ".ko"):
        return True  # an empty .mod, .order or archive is a rightful one
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            magic = file.read(4)
            return (magic != b"\x7fELF" and size > 0) or elf.is_whole(file, size)
    except OSError:
        return False


def _targets(tree: Path) -> Iterator[Target]:
    """Targets with a record, and objects without one."""
    for directory, _, names in os.walk(tree):
        here, known = Path(directory), set(names)
        for name in names:
            if name.startswith(".") and name.endswith(".cmd"):
                target = name[1:-4]
                if target in known:
                    yield _target(here, target, True)
            elif name.endswith(".o") and f".{name}.cmd" not in known:
                yield _target(here, name, False)


def _temporary(tree: Path, started: float) -> list[Path]:
    found = []
    for directory, _, names in os.walk(tree):
        for name in names:
            if _TEMPORARY.fullmatch(name):
                path = Path(directory, name)
                if path.lstat().st_mtime >= started:
                    found.append(path)
    return found


def _target(here: Path, name: str, recorded: bool) -> Target:
    path, record = here / name, here / f".{name}.cmd"
    return Target(path, path.lstat().st_mtime, record, record.lstat().st_mtime if recorded else None)


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
