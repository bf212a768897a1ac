"""Files that survive a kill, a full disk and a power cut: written under a temporary name, synced, renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shlex
import stat
import threading
from pathlib import Path
from typing import Any

from kbuild_tasks.core.errors import KbuildError


def write_atomic(path: Path, data: bytes | str, mode: int = 0o644, *, durable: bool = True) -> None:
    """Replace `path` by `data` whole or not at all; parents are made. Raises OSError.

    durable=False leaves out the two fsyncs (some 10 ms): for what is made anew by each run.
    What root writes belongs to whom the directory belongs: root who looks at a project must not lock its user out.
    """
    raw = data.encode() if isinstance(data, str) else data
    root = os.geteuid() == 0
    make_directory(path.parent)
    # Of this thread alone: two tasks may keep what the same node said at the same moment.
    scratch = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with open(fd, "wb") as file:
            if root:
                owner = path.parent.stat()
                os.fchown(fd, owner.st_uid, owner.st_gid)
            file.write(raw)
            file.flush()
            if durable:
                os.fsync(fd)
        os.replace(scratch, path)
    except BaseException:
        with contextlib.suppress(OSError):
            scratch.unlink()
        raise
    if durable:
        sync_directory(path.parent)


def make_directory(path: Path) -> None:
    """A directory and its parents; where root makes them, they belong to the owner of the first that was there."""
    if path.is_dir():
        return
    if os.geteuid() != 0:
        path.mkdir(parents=True, exist_ok=True)
        return
    make_directory(path.parent)
    owner = path.parent.stat()
    with contextlib.suppress(FileExistsError):  # another thread was quicker
        path.mkdir()
        os.chown(path, owner.st_uid, owner.st_gid)


def sync_directory(path: Path) -> None:
    """Make a rename in `path` durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Atomic, with sorted keys: equal values are equal bytes."""
    write_atomic(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n", durable=durable)


def read_regular(path: Path) -> bytes:
    """A file's bytes. Raises OSError, also for what is no regular file: a fifo would be waited for without end."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    with open(fd, "rb") as file:
        return file.read()


def read_json(path: Path) -> Any:
    """The parsed file, or None where it is missing or is not JSON (a marker of ours that is damaged does not count)."""
    try:
        return json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError):
        return None


def read_record(path: Path) -> dict[str, Any]:
    """A JSON object of ours; {} where it is missing, damaged or of another shape."""
    value = read_json(path)
    return value if isinstance(value, dict) else {}


def sha256_file(path: Path) -> str | None:
    """Hex digest of a file's content; None where there is no such file."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None


def unreadable(error: OSError) -> KbuildError:
    """A file of the user's that cannot be opened, in our words."""
    name = str(error.filename) if error.filename is not None else ""
    return KbuildError(f"{name or 'a file'}: {error.strerror or error}", f"ls -ld {shlex.quote(name or '.')}")


def home() -> str:
    """HOME, or the account's. Raises KbuildError: a uid without an account, in a container say, has neither."""
    if known := os.environ.get("HOME"):
        return known
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        raise KbuildError(f"uid {os.geteuid()} has no account, and HOME is not set", "run doit as builder") from None


def sha256_text(text: str | bytes) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text).hexdigest()
