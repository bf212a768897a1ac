"""What is known of one work tree: an index of ours and a list of the trees that may have left files in it.

Kept in the repository, not in the work tree, where kbuild would see it and a lost tmpfs would take it away. The key
is the path: the build tree always lies at the same one. Nothing here is believed without a look at the files; it only
says what to look for, so a state file that is missing or old costs time, never correctness.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.effects import shell
from kbuild_tasks.effects.files import read_json, write_json
from kbuild_tasks.effects.tree_git import Git

LOCK_SECONDS = 20
KNOWN, FRESH, UNKNOWN = "known", "fresh", "unknown"


@dataclass(frozen=True)
class State:
    """What is known of the files in a work tree.

    mode  known: every file of a source comes from one of the trees in `seen`
          fresh: as known, and it was empty: a first check-out is under way
          unknown: anything may lie there
    """

    mode: str
    seen: tuple[str, ...] = ()


@dataclass(frozen=True)
class WorkTree:
    """One work tree and our record of it."""

    path: Path
    record: Path  # directory in the repository
    git: Git

    @classmethod
    def of(cls, git: Git, path: Path) -> WorkTree:
        top = Path(os.path.abspath(path))
        record = git.repository / "worktrees-of-kbuild" / hashlib.sha256(os.fsencode(top)).hexdigest()[:16]
        return cls(top, record, Git(git.repository, index=record / "index", worktree=top))

    @property
    def index(self) -> Path:
        return self.record / "index"

    @property
    def _state(self) -> Path:
        return self.record / "state.json"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One at a time. git inherits the lock: while one that a killed run left is still writing, nobody else does.

        Raises KbuildError when it is not free within LOCK_SECONDS. Left-over index.lock files are removed: their
        owner is gone when we hold the lock.
        """
        self.record.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.record / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _wait_for(fd, self.path, self.record)
            shell.inherited_fds.add(fd)
            self.index.with_name("index.lock").unlink(missing_ok=True)
            yield
        finally:
            shell.inherited_fds.discard(fd)
            os.close(fd)

    def state(self) -> State:
        """What is known; State(UNKNOWN) where there is no record."""
        value = read_json(self._state)
        if not isinstance(value, dict) or value.get("mode") not in (KNOWN, FRESH, UNKNOWN):
            return State(UNKNOWN)
        seen = value.get("seen", [])
        if not isinstance(seen, list) or not all(isinstance(tree, str) for tree in seen):
            return State(UNKNOWN)
        return State(value["mode"], tuple(seen))

    def going_to(self, tree: str, state: State) -> None:
        """Written before the first file is touched: until came_to(), files of all these trees may lie about."""
        self._write(State(state.mode, tuple(dict.fromkeys((*state.seen, tree)))))

    def came_to(self, tree: str) -> None:
        """Written when every file is as in `tree`."""
        self._write(State(KNOWN, (tree,)))

    def _write(self, state: State) -> None:
        write_json(self._state, {"mode": state.mode, "seen": state.seen, "path": ascii(str(self.path))})


def _wait_for(fd: int, path: Path, record: Path) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError:
            if time.monotonic() > deadline:
                raise KbuildError(
                    f"{path} is being changed by another process",
                    f"wait for it to end: fuser -v {record / 'lock'} shows it",
                ) from None
            time.sleep(0.05)
