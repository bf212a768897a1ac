"""A tar of another machine's, taken in without believing it: every member goes where we say, once, or is refused.

tarfile's own extraction knows where a member may not go; here it is known where each may, and a link that was sent
first is not gone through. Times are kept to the nanosecond (make compares them so), which tarfile's floats lose.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from kbuild_tasks.core.errors import NodeRefused
from kbuild_tasks.effects.node_stream import Stream, Torn

_PIECE = 1 << 20
_TIME = re.compile(r"([0-9]{1,10})(?:\.([0-9]{1,9}))?")


@dataclass(frozen=True)
class Member:
    """A file or link that came: time in ns, mode as lstat(2) has it, size, sha256 or where a link points."""

    path: Path
    mtime: int
    mode: int
    size: int
    content: str

    @property
    def entry(self) -> list[int | str]:
        """As effects/keep.py lists it."""
        return [self.mtime, self.mode, self.size, self.content]


def unpack(stream: Stream, top: Path, place: Callable[[str], str | None], room: int) -> dict[str, Member]:
    """Write the members of a tar below `top`, an existing directory that nobody else writes to; {name in it: Member}.

    place  the name of a member -> where it goes, relative to `top`, a path that inside() has passed; None: unasked
    room   bytes that it may take
    Raises Torn where it ends too early, NodeRefused for a member that is not to come, OSError.
    """
    made: set[str] = {""}
    came: dict[str, Member] = {}
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=_PIECE, errors="surrogateescape") as archive:
            for member in archive:
                where = place(member.name)
                if where is None or member.name in came or (where in made and not member.isdir()):
                    raise NodeRefused(f"the other coordinator sent {member.name!r}, which nobody asked for")
                if member.size < 0:
                    raise NodeRefused(f"the other coordinator sent {member.name!r}, which has less than no bytes")
                room -= member.size
                if room < 0:
                    raise NodeRefused(f"the other coordinator sends more than {top} has room for")
                _parents(top, where, made)
                if member.isdir():
                    _directory(top, where, made)
                else:
                    came[member.name] = _write(archive, member, top / where)
    except tarfile.TarError:
        raise Torn from None
    return came


def _parents(top: Path, where: str, made: set[str]) -> None:
    parent = os.path.dirname(where)
    if parent not in made:
        _parents(top, parent, made)
        _directory(top, parent, made)


def _directory(top: Path, where: str, made: set[str]) -> None:
    path = top / where
    if not os.path.lexists(path):
        path.mkdir()
    elif not stat.S_ISDIR(os.lstat(path).st_mode):
        raise NodeRefused(f"the other coordinator sent {where!r} as a directory and as something else")
    made.add(where)


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> Member:
    mtime = _time(member)
    if os.path.lexists(path):
        raise NodeRefused(f"the other coordinator sent {member.name!r} twice")
    if member.issym():
        os.symlink(member.linkname, path)
        content = member.linkname
    elif member.isreg():
        source: Any = archive.extractfile(member)
        content = _copy(source, path, member.mode & 0o777)
    else:
        raise NodeRefused(f"the other coordinator sent {member.name!r}, which is no file")
    os.utime(path, ns=(mtime, mtime), follow_symlinks=False)
    info = os.lstat(path)
    return Member(path, mtime, info.st_mode, info.st_size, content)


def _copy(source: IO[bytes], path: Path, mode: int) -> str:
    total = hashlib.sha256()
    with open(path, "xb") as file:
        while piece := source.read(_PIECE):
            total.update(piece)
            file.write(piece)
        os.fchmod(file.fileno(), mode)
    return total.hexdigest()


def _time(member: tarfile.TarInfo) -> int:
    """In ns: a pax header has it as a decimal number. One that is none is the oldest: make makes that file anew."""
    found = _TIME.fullmatch(member.pax_headers.get("mtime") or str(member.mtime))
    if not found:
        return 0
    return int(found[1]) * 10**9 + int((found[2] or "").ljust(9, "0"))
