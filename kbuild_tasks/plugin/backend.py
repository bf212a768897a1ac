"""doit's database, saved after every task instead of once at the end, and atomically.

doit 0.37 writes its records only in Runner.finish(), in place: a kill loses the whole run or leaves half a file
(pydoit/doit#463). The task's values are left out: they carry our messages, and nothing reads them back.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from doit.dependency import FileChangedChecker, JsonDB

from kbuild_tasks.effects.files import write_atomic
from kbuild_tasks.effects.receipts import digest
from kbuild_tasks.plugin.stream import warn


class AtomicJson(JsonDB):
    """doit backend "kbuild". A damaged file counts as none: the receipts are the truth."""

    desc = "json, saved atomically after each task"
    started_empty = False  # no database at start: receipts alone decide (plugin/action.py)

    def __init__(self, name: str, codec: Any, *, module_name: str | None = None) -> None:
        self.name, self.codec, self._dirty, self._warned = name, codec, False, False
        try:
            found = codec.decode(Path(name).read_text())
        except (OSError, ValueError):
            found = None
        known = found if isinstance(found, dict) else {}
        self._db = {task: kept for task, kept in known.items() if _whole(kept)}
        if found is not known or len(self._db) != len(known):
            type(self).started_empty = True

    def set(self, task_id: str, dependency: str, value: Any) -> None:
        if dependency == "_values_:":
            return
        self._dirty = True
        super().set(task_id, dependency, value)
        if dependency == "deps:":  # the last write of Dependency.save_success()
            self.dump()

    def forgotten(self, task_id: str) -> bool:
        """Whether doit runs a task whatever its receipt says: its record was removed (doit forget). With no record at
        all the database is new or lost, and receipts decide."""
        return not self.started_empty and self.get(task_id, "deps:") is None

    def remove(self, task_id: str) -> None:
        self._dirty = self._dirty or task_id in self._db
        super().remove(task_id)

    def remove_all(self) -> None:
        self._dirty = True
        super().remove_all()

    def dump(self) -> None:
        """A disk that is full or read-only costs no run its result: it is told once, the receipts are the truth."""
        if not self._dirty:
            return
        try:
            Path(os.path.dirname(self.name) or ".").mkdir(parents=True, exist_ok=True)
            write_atomic(Path(self.name), self.codec.encode(self._db))
            self._dirty = False
        except OSError as error:
            if not self._warned:
                warn(f"{os.path.relpath(self.name)} cannot be written: {error.strerror}")
            self._warned = True


def forgotten(dep_manager: Any) -> Callable[[str], bool]:
    """AtomicJson.forgotten of the database in use; of another one (doit --backend) nothing is known."""
    unknown: Callable[[str], bool] = lambda task: False  # noqa: E731
    return getattr(dep_manager.backend, "forgotten", unknown)


def _whole(kept: Any) -> bool:
    """Whether a task's record has the shape that doit relies on (doit/dependency.py)."""
    deps = kept.get("deps:", []) if isinstance(kept, dict) else None
    return isinstance(deps, list) and all(isinstance(dep, str) for dep in deps)


class ContentChecker(FileChangedChecker):
    """A file changed if its content did, a receipt if its results did. doit's own checker takes an equal mtime for
    equal content."""

    def check_modified(self, file_path: str, file_stat: os.stat_result, state: Any) -> bool:
        return digest(file_path) != state

    def get_state(self, dep: str, current_state: Any) -> str | None:
        return digest(dep)
