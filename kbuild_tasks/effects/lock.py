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
import re
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.effects import shell
from kbuild_tasks.effects.files import read_record

JUST_TAKEN = 0.3  # seconds in which who has taken the lock has written so
PATIENCE = 10.0  # seconds for orphans to end: one that waits for a disk or for NFS ends when that answers
_LOCK = re.compile(r"^lock:\s+\d+: FLOCK +\S+ +\S+ +(\d+) ", re.MULTILINE)
_held: dict[Path, int] = {}


def acquire(path: Path, project: str = "") -> list[int]:
    """Take the lock for the rest of this process; taking it again is free. project: told to others that want it.

    Returns the pids of orphans that a killed run had left and that were ended.
    Raises KbuildError when another run is alive, with who and since when.
    """
    if path in _held:
        return []
    path.parent.mkdir(parents=True, exist_ok=True)
    me = json.dumps(  # made before the lock is taken: until it is written the last owner's stands there
        {
            "pid": os.getpid(),
            "start": _start_time(os.getpid()),
            "host": socket.gethostname(),
            "user": os.environ.get("USER") or _user(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
            "project": project,
        }
    ).encode()
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    ended: list[int] = []
    try:
        if not _try(fd) and (gone := _soon(fd, path)):
            ended = _end_orphans(fd, path, gone)
        os.ftruncate(fd, 0)
        os.pwrite(fd, me, 0)
    except BaseException:
        os.close(fd)
        raise
    _held[path] = fd
    shell.inherited_fds.add(fd)
    return ended


def _soon(fd: int, path: Path) -> dict[str, Any] | None:
    """None when the lock was got after all; else its owner, who is dead, so that its holders are orphans. Raises
    KbuildError where the owner is alive, or cannot be told.

    A dead or missing owner is looked at again: the holder may have taken the lock a moment ago and not said so yet.
    """
    deadline = time.monotonic() + JUST_TAKEN
    while True:
        owner = _owner(path)
        dead = _is_dead(owner)
        if not dead and owner:
            raise _refused(path, owner)
        if time.monotonic() > deadline:
            if dead:
                return owner
            raise _refused(path, owner)
        time.sleep(0.02)
        if _try(fd):
            return None


def _end_orphans(fd: int, path: Path, owner: Mapping[str, Any]) -> list[int]:
    """End who holds a dead owner's lock until it is ours; their pids. Again and again: what one of them forked while
    /proc was read is not in that reading. Raises KbuildError where another run was quicker, or they do not end."""
    deadline = time.monotonic() + PATIENCE
    ended: list[int] = []
    while True:
        now = _end_holders(path, owner["pid"])
        ended += [pid for pid in now if pid not in ended]
        if _try(fd):
            return ended
        if (quicker := _owner(path)) != owner:
            raise _refused(path, quicker)
        if time.monotonic() > deadline:
            raise _stays(path, now or ended)
        time.sleep(0.02)


def held(path: Path) -> bool:
    """Whether this process holds it."""
    return path in _held


def mine(path: Path) -> bool:
    """Whether no other process holds it: this one does, or nobody."""
    return held(path) or holder(path) is None


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


def _end_holders(path: Path, owner: int) -> list[int]:
    wanted = os.stat(path)
    ended = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        if _locked_by(int(entry), wanted) in (owner, 0):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(int(entry), signal.SIGKILL)
                ended.append(int(entry))
    return ended


def _locked_by(pid: int, wanted: os.stat_result) -> int | None:
    """Who took the lock that a process holds, as the owner's children do by what they inherited; None where it holds
    none: who looks at it only has it open.

    proc(5), fdinfo: "lock: 1: FLOCK ADVISORY WRITE 359 00:13:11691 0 EOF" stands where a lock hangs on that very open
    file, with the pid that took it; in a pid namespace that is 0 once the process is gone.
    """
    try:
        fds = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return None
    for fd in fds:
        with contextlib.suppress(OSError):
            there = os.stat(f"/proc/{pid}/fd/{fd}")
            if (there.st_dev, there.st_ino) == (wanted.st_dev, wanted.st_ino):
                told = _LOCK.search(Path(f"/proc/{pid}/fdinfo/{fd}").read_text())
                if told:
                    return int(told[1])
    return None


def _refused(path: Path, owner: Mapping[str, Any]) -> KbuildError:
    where = f" in {owner['project']}" if owner.get("project") else ""
    return KbuildError(
        f"another run is in progress{where}: pid {owner.get('pid', '?')} of {owner.get('user', '?')} "
        f"on {owner.get('host', '?')}, since {owner.get('since', '?')}",
        "wait for it, or end it with Ctrl-C in its terminal; nothing was changed by this one",
    )


def _stays(path: Path, pids: list[int]) -> KbuildError:
    """A process in uninterruptible sleep outlives its SIGKILL until the kernel lets it go (proc(5), state D)."""
    shown = ", ".join(map(str, pids[:5])) or "unknown"
    return KbuildError(
        f"a run that was killed has left processes that hold {path} and cannot be ended: {shown}",
        f"look at them (ps -o pid,stat,wchan,args -p {','.join(map(str, pids[:5])) or 'PID'}), then doit again",
    )
