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

FORGOTTEN = "forgotten:"  # beside the tasks; no task has a colon at its end
ALL = "*"


class AtomicJson(JsonDB):
    """doit backend "kbuild". A damaged file counts as none: the receipts are the truth."""

    desc = "json, saved atomically after each task"
    forgetting = False  # a command of the user's takes records away; a run takes away that of a task that failed

    def __init__(self, name: str, codec: Any, *, module_name: str | None = None) -> None:
        self.name, self.codec, self._dirty, self._warned = name, codec, False, False
        try:
            found = codec.decode(Path(name).read_text())
        except (OSError, ValueError):
            found = None
        known = found if isinstance(found, dict) else {}
        told = known.pop(FORGOTTEN, [])
        self._db = {task: kept for task, kept in known.items() if _whole(kept)}
        self._forgotten = {task for task in told if isinstance(task, str)} if isinstance(told, list) else set()

    def set(self, task_id: str, dependency: str, value: Any) -> None:
        if dependency == "_values_:":
            return
        self._dirty = True
        super().set(task_id, dependency, value)
        self._forgotten.discard(task_id)
        if dependency == "deps:":  # the last write of Dependency.save_success()
            self.dump()

    def forgotten(self, task_id: str) -> bool:
        """Whether it runs whatever its receipt says: `doit forget`. A record that is missing says nothing of that: the
        database may be new, or lost, or the run ended before it."""
        return task_id in self._forgotten or (ALL in self._forgotten and self.get(task_id, "deps:") is None)

    def remove(self, task_id: str) -> None:
        if self.forgetting:
            self._forgotten.add(task_id)
        self._dirty = self._dirty or self.forgetting or task_id in self._db
        super().remove(task_id)

    def remove_all(self) -> None:
        self._forgotten = {ALL}
        self._dirty = True
        super().remove_all()

    def dump(self) -> None:
        """A disk that is full or read-only costs no run its result: it is told once, the receipts are the truth."""
        if not self._dirty:
            return
        try:
            Path(os.path.dirname(self.name) or ".").mkdir(parents=True, exist_ok=True)
            forgotten = {FORGOTTEN: sorted(self._forgotten)} if self._forgotten else {}
            # What a power cut takes the receipts tell, all but what was forgotten.
            data = self.codec.encode({**self._db, **forgotten})
            write_atomic(Path(self.name), data, durable=self.forgetting or bool(forgotten))
            self._dirty = False
        except OSError as error:
            if not self._warned:
                warn(f"{os.path.relpath(self.name)} cannot be written: {error.strerror}")
            self._warned = True


def told(dep_manager: Any) -> tuple[Callable[[str], bool], bool]:
    """AtomicJson.forgotten of the database in use, and whether that is another one (doit --backend), of which nothing
    is known: there doit alone decides what runs."""
    database = dep_manager.backend
    if isinstance(database, AtomicJson):
        return database.forgotten, False
    return (lambda task: False), True


def _whole(kept: Any) -> bool:
    """Whether a task's record has the shape that doit relies on (doit/dependency.py)."""
    deps = kept.get("deps:", []) if isinstance(kept, dict) else None
    return isinstance(deps, list) and all(isinstance(dep, str) for dep in deps)


class ContentChecker(FileChangedChecker):
    """A file changed if its content did, a receipt if its results did. doit's own checker takes an equal mtime for
    equal content."""

    def check_modified(self, file_path: str, file_stat: os.stat_result, state: Any) -> bool:
        return self.get_state(file_path, state) != state

    def get_state(self, dep: str, current_state: Any) -> str | None:
        try:
            return digest(dep)
        except OSError:
            return "unreadable"  # the task says so when it runs
