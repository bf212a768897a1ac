"""What a run says: one line a task on stdout, and build/last-run.json.

    fresh  extract
    done   patch        24 applied; 0003-sched-wakeup.patch changed (line 41)
    FAILED compile      one sentence
             evidence
           log:  build/logs/compile.log
           hint: the next thing to type
    held   package      waits for compile

Colour only on a terminal that wants it (NO_COLOR, TERM=dumb), and never colour alone. build/last-run.json is
written when the first task starts and after each one, so that a killed run has said how far it came.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from doit.exceptions import BaseFail, UnmetDependency
from doit.reporter import ConsoleReporter
from doit.task import Task

from kbuild_tasks.core.errors import EVIDENCE_LINES
from kbuild_tasks.effects.files import write_json
from kbuild_tasks.plugin import interrupt
from kbuild_tasks.plugin.action import StageFailed
from kbuild_tasks.plugin.rollout import RolloutTasks

NAME = 12  # columns of a task's name, as in the docs
INDENT = " " * 9
COLOURS = {"done": "32", "fresh": "2", "FAILED": "1;31", "held": "33"}


class Reporter(ConsoleReporter):
    """doit reporter of the pipeline; in dodo.py by DOIT_CONFIG, which Pipeline.doit_config() fills."""

    desc = "one line a task, and build/last-run.json"

    def __init__(self, outstream: Any, options: Any) -> None:
        super().__init__(outstream, options)
        self.started = time.time()
        self.tasks: dict[str, dict[str, Any]] = {}
        self.groups: dict[str, list[str]] = {}
        self.known: dict[str, Task] = {}
        self.selected: list[str] = []
        self.width = NAME
        self.acted = False
        self.file: Path | None = None
        term = os.environ.get("TERM", "dumb")
        tty = hasattr(outstream, "isatty") and outstream.isatty()
        self.colour = tty and term != "dumb" and not os.environ.get("NO_COLOR")

    def initialize(self, tasks: dict[str, Task], selected_tasks: list[str]) -> None:
        from kbuild_tasks.plugin.tasks import current

        self.file = current().project.paths.build / "last-run.json"
        self.known, self.selected = tasks, list(selected_tasks)
        self.closure = set(self._closure())
        self.width = max([NAME, *(len(name) + 2 for name in self.closure if self._rollout.is_rollout(name))])
        interrupt.install()

    def execute_task(self, task: Task) -> None:
        """Nothing: a task is told when it ended; while it runs, plugin/progress.py shows it."""

    def skip_uptodate(self, task: Task) -> None:
        self._set(task.name, "fresh")
        if ":" not in task.name:
            self._line("fresh", task.name, "")

    def skip_ignore(self, task: Task) -> None:
        self._set(task.name, "ignored")
        self._line("ignored", task.name, "until doit forget " + task.name)

    def add_success(self, task: Task) -> None:
        if not task.actions:
            return self._group(task)
        values = task.values
        run = dict(values.get("run") or {})
        state = run.pop("state", "done")
        self._set(task.name, state, **{**run, "seconds": values.get("seconds"), "message": values.get("message")})
        self.acted = True
        told = values.get("message") or ""
        if state == "done" and values.get("seconds", 0) >= 2:
            told += f"; {_seconds(values['seconds'])}"
        if not (state == "fresh" and task.name.partition(":")[0] in self.closure):
            self._line(state, task.name, told)
        for warning in values.get("warnings") or ():
            self.write(f"{INDENT}warning: {warning}\n")
        self._save()
        return None

    def add_failure(self, task: Task, fail: BaseFail) -> None:
        self.acted = True
        if isinstance(fail, UnmetDependency):
            waits = fail.message.strip()
            self._set(task.name, "held", why=[f"waits for {waits}"])
            self._line("held", task.name, f"waits for {waits}")
        elif isinstance(fail, StageFailed):
            error = fail.error
            self._set(task.name, "failed", why=[error.message], hint=error.hint, log=error.log)
            self._line("FAILED", task.name, error.message)
            for line in error.evidence[:EVIDENCE_LINES]:
                self.write(f"{INDENT}  {line}\n")
            if error.log:
                self.write(f"{INDENT}log:  {error.log}\n")
            if self._rollout.is_rollout(task.name) and (halted := self._rollout.tell_halted(task.name)):
                self.write(f"{INDENT}{halted}\n")
            if error.hint:
                self.write(f"{INDENT}hint: {error.hint}\n")
        else:
            text = fail.get_msg().strip()
            self._set(task.name, "failed", why=text.splitlines()[:1])
            self._line("FAILED", task.name, text)
        self._save()

    def cleanup_error(self, exception: BaseFail) -> None:
        self.acted = True
        self.write(f"{INDENT}warning: {exception.get_msg().strip()}\n")

    def complete_run(self) -> None:
        self._leave_build_mode()
        if interrupt.received is not None:
            self.write(f"\n  ended by signal {interrupt.received}; finished stages are kept: run doit again\n")
        failed = any(entry["state"] == "failed" for entry in self.tasks.values())
        if failed or interrupt.received is not None:
            for name in self._closure():
                if name not in self.tasks and self.known[name].actions:
                    self._set(name, "held", why=["the run ended before it"])
        self._table()
        for message in self.runtime_errors:
            self.write(f"{message}\n")
        self._save(ended=True)
        self.outstream.flush()

    def _leave_build_mode(self) -> None:
        """What was running before on the nodes runs again, however the run ended."""
        if not self.acted and interrupt.received is None:
            return
        from kbuild_tasks.plugin.tasks import current

        interrupt.before_leaving()
        for line in current().leave_build_mode(self.started, interrupt.received is not None):
            self.write(f"{INDENT}warning: {line}\n")

    @property
    def _rollout(self) -> RolloutTasks:
        from kbuild_tasks.plugin.tasks import current

        return current().rollout

    def _table(self) -> None:
        """How a roll-out ended, a line a node."""
        run = self._rollout.run
        if run is None or not any(group in self.closure for group in ("rollout", "verify", "reboot", "rollback")):
            return
        from kbuild_tasks.plugin.rollout_status import summary
        from kbuild_tasks.plugin.tasks import current

        self.write("\n" + "".join(f"  {line}\n" for line in summary(current(), run)))

    def _group(self, task: Task) -> None:
        """A group (sync, prepare) is told in one line when all of it was fresh: seven nodes, one line."""
        states = {name: self.tasks.get(name, {}).get("state") for name in task.task_dep}
        if states and set(states.values()) == {"fresh"}:
            self._line("fresh", task.name, f"{len(states)} nodes" if len(states) > 1 else next(iter(states)))

    def _closure(self) -> list[str]:
        """Selected tasks and all that they need, in no order that matters."""
        todo, seen = list(self.selected), dict[str, None]()
        while todo:
            name = todo.pop()
            if name in seen or name not in self.known:
                continue
            seen[name] = None
            todo += [*self.known[name].task_dep, *self.known[name].setup_tasks]
        return list(seen)

    def _set(self, name: str, state: str, **more: Any) -> None:
        self.tasks[name] = {"state": state, **{key: value for key, value in more.items() if value is not None}}

    def _line(self, state: str, name: str, told: str) -> None:
        word = f"{state:<6}"
        if self.colour and state in COLOURS:
            word = f"\x1b[{COLOURS[state]}m{word}\x1b[0m"
        progress = sys.modules.get("kbuild_tasks.plugin.progress")  # not imported: nothing to clear away
        if progress:
            progress.clear()
        self.write(f"  {word} {name:<{self.width}} {told}".rstrip() + "\n")
        self.outstream.flush()

    def _save(self, ended: bool = False) -> None:
        if self.file is None:
            return
        failed = any(entry["state"] == "failed" for entry in self.tasks.values())
        if interrupt.received is not None:
            result = f"ended by signal {interrupt.received}"
        else:
            result = "failed" if failed else ("done" if ended else "running")
        write_json(
            self.file,
            {
                "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(self.started)),
                "seconds": round(time.time() - self.started, 3),
                "result": result,
                "tasks": self.tasks,
            },
            durable=self.acted,
        )


def _seconds(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"
