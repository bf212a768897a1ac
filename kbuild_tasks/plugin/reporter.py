"""What a run says: one line a task on stdout. What it does at its end is in record.py, for every reporter.

    fresh  extract
    out    sync:kubenode5  left out: why, and what to do
    done   patch        24 applied; 0003-sched-wakeup.patch changed (line 41)
    FAILED compile      one sentence
             evidence
           log:  build/logs/compile.log
           hint: the next thing to type
    held   package      waits for compile

Colour only on a terminal that wants it (NO_COLOR, TERM=dumb), and never colour alone.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from doit.exceptions import BaseFail, UnmetDependency
from doit.reporter import ConsoleReporter
from doit.task import Task

from kbuild_tasks.core.errors import EVIDENCE_LINES
from kbuild_tasks.core.visible import visible
from kbuild_tasks.plugin import interrupt
from kbuild_tasks.plugin.action import StageFailed
from kbuild_tasks.plugin.rollout import WORDS, RolloutTasks

NAME = 12  # columns of a task's name, as in the docs
INDENT = " " * 9
COLOURS = {"done": "32", "fresh": "2", "FAILED": "1;31", "held": "33", "out": "33"}


class Reporter(ConsoleReporter):
    """doit reporter of the pipeline; in dodo.py by DOIT_CONFIG, which Pipeline.doit_config() fills."""

    desc = "one line a task"

    def __init__(self, outstream: Any, options: Any) -> None:
        super().__init__(outstream, options)
        self.states: dict[str, str] = {}
        self.messages: dict[str, str] = {}  # of tasks that were fresh
        self.closure: set[str] = set()
        self.selected: set[str] = set()
        self.width = NAME
        self.told: dict[str, str] = {}  # failure -> the task that told it first
        term = os.environ.get("TERM", "dumb")
        tty = hasattr(outstream, "isatty") and outstream.isatty()
        self.colour = tty and term != "dumb" and not os.environ.get("NO_COLOR")

    def initialize(self, tasks: dict[str, Task], selected_tasks: list[str]) -> None:
        from kbuild_tasks.plugin.record import closure

        self.selected = set(selected_tasks)
        self.closure = set(closure(tasks, selected_tasks))
        self.width = max([NAME, *(len(name) + 2 for name in self.closure if self._rollout.is_rollout(name))])

    def write(self, text: str) -> None:
        """What is told comes from patches, file names and programs: none of it steers the terminal."""
        super().write(visible(text))

    def execute_task(self, task: Task) -> None:
        """Nothing: a task is told when it ended; while it runs, plugin/progress.py shows it."""

    def skip_uptodate(self, task: Task) -> None:
        self.states[task.name] = "fresh"
        if ":" not in task.name or task.name in self.selected:
            self._line("fresh", task.name, "")

    def skip_ignore(self, task: Task) -> None:
        self._line("ignored", task.name, "until doit forget " + task.name)

    def add_success(self, task: Task) -> None:
        if not task.actions:
            return self._group(task)
        values = task.values
        run = values.get("run") or {}
        self.states[task.name] = state = "out" if run.get("left_out") else run.get("state", "done")
        told = self.messages[task.name] = values.get("message") or ""
        if state == "done" and values.get("seconds", 0) >= 2:
            told += f"; {_seconds(values['seconds'])}"
        if not (state == "fresh" and task.name.partition(":")[0] in self.closure):
            self._line(state, task.name, told)
        for line in values.get("lines") or ():
            self.write(f"{INDENT}{line}\n")
        for warning in values.get("warnings") or ():
            self.warn(warning)
        return None

    def add_failure(self, task: Task, fail: BaseFail) -> None:
        if isinstance(fail, UnmetDependency):
            self._line("held", task.name, f"waits for {fail.message.strip()}")
        elif isinstance(fail, StageFailed):
            error = fail.error
            first = self.told.setdefault(error.render(), task.name)
            if first != task.name:  # one cause, seven nodes: seven lines, not seven explanations
                return self._line("FAILED", task.name, f"as {first}")
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
            self._line("FAILED", task.name, fail.get_msg().strip())
        return None

    def cleanup_error(self, exception: BaseFail) -> None:
        self.warn(exception.get_msg().strip())

    def complete_run(self) -> None:
        if interrupt.received is not None:
            from kbuild_tasks.plugin.interrupted import told

            self.write("\n" + "".join(f"  {line}\n" for line in told(interrupt.received, self.closure, self._rollout)))
        self._table()
        for message in self.runtime_errors:
            self.write(f"{message}\n")
        self.outstream.flush()

    def warn(self, text: str) -> None:
        self.write(f"{INDENT}warning: {text}\n")

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
        """A group (sync, prepare) is told in one line when all of it was fresh: seven nodes, one line. Where only some
        were, those are told too of what somebody has asked for by name (prune): a node without a line was forgotten."""
        fresh = [name for name in task.task_dep if self.states.get(name) == "fresh"]
        if len(fresh) == len(task.task_dep) > 1:
            said = {self.messages.get(name, "").partition(";")[0] for name in fresh}
            same = f": {said.pop()}" if task.name in WORDS and len(said) == 1 else ""
            self._line("fresh", task.name, f"{len(fresh)} nodes{same}")
        elif task.name in WORDS or len(task.task_dep) == 1:
            for name in fresh:
                self._line("fresh", name, self.messages.get(name, ""))

    def _line(self, state: str, name: str, told: str) -> None:
        word = f"{state:<6}"
        if self.colour and state in COLOURS:
            word = f"\x1b[{COLOURS[state]}m{word}\x1b[0m"
        # Not imported, or being imported by another thread at this moment: there is nothing to clear away.
        clear = getattr(sys.modules.get("kbuild_tasks.plugin.progress"), "clear", None)
        if clear:
            clear()
        self.outstream.write(f"  {word} {visible(f'{name:<{self.width}} {told}'.rstrip())}\n")
        self.outstream.flush()


def _seconds(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"
