"""The few system calls that Python 3.11 has no function for: unshare, setns, mount, prctl."""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x00020000  # <linux/sched.h>
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8  # <linux/mount.h>
MS_BIND, MS_REC, MS_SLAVE = 1 << 12, 1 << 14, 1 << 19

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """unshare(2). Raises OSError."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(fd: int, kind: int) -> None:
    """setns(2). Raises OSError."""
    _check(_libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)), "setns")


def mount(
    source: str | os.PathLike[str], target: str | os.PathLike[str], kind: str, flags: int = 0, options: str = ""
) -> None:
    """mount(2). Raises OSError that names the target."""
    done = _libc.mount(
        os.fsencode(source), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), options.encode() or None
    )
    _check(done, os.fspath(target))


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
