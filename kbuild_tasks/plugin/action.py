"""The doit border: a stage's run() as a doit action, and the one door through which its errors become failures.

An action class of our own, not doit's PythonAction: that one swaps sys.stdout for the whole process, which mixes up
the output of tasks that run in threads (doit/action.py, measured on 0.37). Stages never print.
"""

from __future__ import annotations

import contextlib
import errno
import time
import traceback
from collections.abc import Callable
from typing import Any

from doit.action import BaseAction
from doit.exceptions import TaskFailed

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.core.model import Outcome


class StageFailed(TaskFailed):
    """A failed task with the error that the reporter shows."""

    def __init__(self, error: KbuildError) -> None:
        super().__init__(error.render())
        self.error = error


class StageAction(BaseAction):
    """Runs `work` and hands its Outcome to the reporter through the task's values.

    work  raises KbuildError; anything else it raises is a bug and is told as one, with the traceback in the log.
    turn  held while it works; what passes until it is this task's turn is none of its seconds
    """

    def __init__(
        self,
        work: Callable[[], Outcome],
        name: str,
        log: Callable[[str], str] | None = None,
        turn: contextlib.AbstractContextManager[Any] | None = None,
    ) -> None:
        self._work, self._name, self._log = work, name, log
        self._turn = turn or contextlib.nullcontext()
        self.task = None
        self.out = self.err = ""
        self.result: str | None = None
        self.values: dict[str, Any] = {}

    def execute(self, out: Any = None, err: Any = None) -> Any:
        called = time.monotonic()
        with self._turn:
            return self._execute(called)

    def _execute(self, called: float) -> Any:
        started = time.monotonic()
        try:
            outcome = self._work()
        except KbuildError as error:
            self.values = {"seconds": time.monotonic() - started}
            return StageFailed(error)
        except OSError as error:
            return StageFailed(self._from_os(error))
        except Exception as error:
            return StageFailed(self._bug(error))
        self.values = {
            "message": outcome.message,
            "warnings": list(outcome.warnings),
            "lines": list(outcome.lines),
            "run": dict(outcome.run),
            "seconds": round(time.monotonic() - started, 3),
            "waited": round(started - called, 3),
        }
        self.result = outcome.message
        return True

    def _from_os(self, error: OSError) -> KbuildError:
        """No space, no permission, a read-only disk: told by what the system says of it."""
        where = f"{error.filename}: " if error.filename else ""
        hint = {
            errno.ENOSPC: "free some space and run doit again",
            errno.EACCES: "check who owns it",
            errno.EROFS: "mount it writable",
            errno.ENOTDIR: "a directory belongs there: move the file away",
        }
        return KbuildError(f"{where}{error.strerror or error}", hint.get(error.errno or 0), log=self._written())

    def _bug(self, error: Exception) -> KbuildError:
        return KbuildError(
            f"{self._name} stopped at an error that kbuild-tasks should have told better: "
            f"{type(error).__name__}: {error}",
            "please report it with the log",
            log=self._written(),
        )

    def _written(self) -> str | None:
        """The log with the traceback; None where the very disk that failed cannot take it."""
        with contextlib.suppress(OSError):
            return self._log(traceback.format_exc()) if self._log else None
        return None

    def __repr__(self) -> str:
        return f"<{self._name}>"
