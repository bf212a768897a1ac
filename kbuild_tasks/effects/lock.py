"""One run at a time: build/.lock, held by flock for as long as the run or anything that it started is alive.

Children inherit the lock's descriptor (effects/shell.py). So after a kill -9 of doit, a make that is still running
keeps the lock, and the next run can tell: the owner is dead, the lock is held, its holders are orphans of ours. They
are ended, by pid, before anything is built on the tree that they were writing to.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.effects import shell
from kbuild_tasks.effects.files import read_record

_held: dict[Path, int] = {}


def acquire(path: Path, project: str = "") -> list[int]:
    """Take the lock for the rest of this process; taking it again is free. project: told to others that want it.

    Returns the pids of orphans that a killed run had left and that were ended.
    Raises KbuildError when another run is alive, with who and since when.
    """
    if path in _held:
        return []
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    ended: list[int] = []
    if not _try(fd):
        owner = _owner(path)
        if not _is_dead(owner):
            os.close(fd)
            raise _refused(path, owner)
        ended = _end_holders(path)
        deadline = time.monotonic() + 5
        while not _try(fd):
            if time.monotonic() > deadline:
                os.close(fd)
                raise _refused(path, owner)
            time.sleep(0.05)
    me = {
        "pid": os.getpid(),
        "start": _start_time(os.getpid()),
        "host": socket.gethostname(),
        "user": os.environ.get("USER") or _user(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "project": project,
    }
    os.ftruncate(fd, 0)
    os.pwrite(fd, json.dumps(me).encode(), 0)
    _held[path] = fd
    shell.inherited_fds.add(fd)
    return ended


def mine(path: Path) -> bool:
    """Whether no other process holds it: this one does, or nobody."""
    return path in _held or holder(path) is None


def release(path: Path) -> None:
    """Give the lock back before the process ends (tests, long-lived callers)."""
    fd = _held.pop(path, None)
    if fd is not None:
        shell.inherited_fds.discard(fd)
        os.close(fd)


def holder(path: Path) -> dict[str, Any] | None:
    """Who holds the lock now: {"pid", "host", "user", "since"}, {} if it cannot be told; None when it is free."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if _try(fd, fcntl.LOCK_SH):
            return None
        return _owner(path)
    finally:
        os.close(fd)


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _try(fd: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def _owner(path: Path) -> dict[str, Any]:
    """What its holder wrote into a lock; what is of another form was written by somebody else, and does not count."""
    told = read_record(path)
    known = {key: told[key] for key in ("start", "host", "user", "since", "project") if isinstance(told.get(key), str)}
    return known | {"pid": told["pid"]} if type(told.get("pid")) is int else known


def _is_dead(owner: Mapping[str, Any]) -> bool:
    """True only if the owner was a process of this very machine and is no more."""
    if "pid" not in owner or "start" not in owner or owner.get("host") != socket.gethostname():
        return False
    return bool(_start_time(owner["pid"]) != owner["start"])


def _start_time(pid: int) -> str | None:
    """Field 22 of /proc/<pid>/stat (proc(5)): with the pid it names one process for ever."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()[19]


def _end_holders(path: Path) -> list[int]:
    mine = os.stat(path)
    ended = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        if _has_open(int(entry), mine):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(int(entry), signal.SIGKILL)
                ended.append(int(entry))
    return ended


def _has_open(pid: int, wanted: os.stat_result) -> bool:
    try:
        fds = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    for fd in fds:
        with contextlib.suppress(OSError):
            there = os.stat(f"/proc/{pid}/fd/{fd}")
            if (there.st_dev, there.st_ino) == (wanted.st_dev, wanted.st_ino):
                return True
    return False


def _refused(path: Path, owner: Mapping[str, Any]) -> KbuildError:
    where = f" in {owner['project']}" if owner.get("project") else ""
    return KbuildError(
        f"another run is in progress{where}: pid {owner.get('pid', '?')} of {owner.get('user', '?')} "
        f"on {owner.get('host', '?')}, since {owner.get('since', '?')}",
        "wait for it, or end it with Ctrl-C in its terminal; nothing was changed by this one",
    )
