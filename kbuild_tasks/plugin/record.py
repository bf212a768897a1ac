"""What every run does, whichever reporter tells of it: build/last-run.json, and nodes put back when the run ends.

`doit -r json` and `-o` choose another voice; none of them may leave a node in build mode. So the run command puts a
Recorder around the reporter that was chosen. build/last-run.json is written after each task, so that
a killed run has said how far it came.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from doit.exceptions import BaseFail, UnmetDependency
from doit.task import Task

from kbuild_tasks.core.errors import EVIDENCE_LINES
from kbuild_tasks.effects import lock, shell
from kbuild_tasks.effects.files import write_json
from kbuild_tasks.plugin import interrupt
from kbuild_tasks.plugin.action import StageFailed
from kbuild_tasks.plugin.stream import Guarded, warn

ON_EACH_NODE = ("prepare", "sync")  # what is told of them no power cut can make matter: the next run does them again


class Recorder:
    """A reporter around another one (doit's interface); `pipeline` is the project's."""

    chosen: type  # set by around()
    pipeline: Any
    latest: Recorder | None = None

    def __init__(self, outstream: Any, options: Any) -> None:
        self.out = Guarded(outstream)
        self.inner = self.chosen(self.out, options)
        self.started = time.time()
        self.tasks: dict[str, dict[str, Any]] = {}
        self.known: Mapping[str, Task] = {}
        self.selected: Sequence[str] = ()
        self.running: set[str] = set()
        self.times: dict[str, list[float]] = {}  # task -> when it began, and ended
        self.acted = self.failed = self.closed = False
        self._told: set[str] = set()
        type(self).latest = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def initialize(self, tasks: dict[str, Task], selected_tasks: list[str]) -> None:
        self.known, self.selected = tasks, list(selected_tasks)
        if hasattr(self.inner, "initialize"):  # doit asks the same
            self.inner.initialize(tasks, selected_tasks)

    def execute_task(self, task: Task) -> None:
        """Called in the thread that runs the task."""
        if task.actions:
            self.running.add(task.name)
            self.times[task.name] = [time.time()]
            self.acted = True
        self.inner.execute_task(task)

    def skip_uptodate(self, task: Task) -> None:
        self._set(task.name, "fresh")
        self.inner.skip_uptodate(task)

    def skip_ignore(self, task: Task) -> None:
        self._set(task.name, "ignored")
        self.inner.skip_ignore(task)

    def add_success(self, task: Task) -> None:
        if task.actions:
            run = dict(task.values.get("run") or {})
            state = run.pop("state", "done")
            told = {name: task.values.get(name) for name in ("seconds", "message")}
            told["warnings"] = task.values.get("warnings") or None
            if task.name in self.times:
                self.times[task.name][0] += task.values.get("waited") or 0.0
            self._set(task.name, state, **{**run, **told})
            self.save(durable=task.name.partition(":")[0] not in ON_EACH_NODE)
        self.inner.add_success(task)

    def add_failure(self, task: Task, fail: BaseFail) -> None:
        if isinstance(fail, UnmetDependency):
            self._set(task.name, "held", why=[f"waits for {fail.message.strip()}"])
        elif isinstance(fail, StageFailed):
            error = fail.error
            evidence = list(error.evidence)[:EVIDENCE_LINES] or None
            self._set(task.name, "failed", why=[error.message], evidence=evidence, hint=error.hint, log=error.log)
        else:
            self._set(task.name, "failed", why=fail.get_msg().strip().splitlines()[:1])
        self.save()
        self.inner.add_failure(task, fail)

    def runtime_error(self, text: str) -> None:
        self.failed = True
        self.inner.runtime_error(text)

    def complete_run(self) -> None:
        self.close(sys.exc_info()[1])
        noted = interrupt.received
        self.inner.complete_run()
        self.out.flush()
        if interrupt.received != noted:
            self.save(ended=True)

    def close(self, error: BaseException | None) -> None:
        """End what still runs, put the nodes back, write the last word. From here on a signal is only noted.

        error  what the run ended by, where it did not end by itself
        """
        interrupt.leaving = True
        if self.closed:
            return
        self.closed = True
        cut = error is not None or interrupt.received is not None
        if cut:
            shell.stop_all()
        if self.acted and lock.held(self.pipeline.project.paths.build / ".lock"):  # else the nodes are another run's
            for line in self.pipeline.nodes.leave(cut):
                self.warn(line)
        self.failed = self.failed or (error is not None and interrupt.received is None)
        if cut or self.failed or self._any_failed():
            for name in self.closure():
                if name in self.running:
                    by = f"by signal {interrupt.received}" if interrupt.received is not None else "with the run"
                    self._set(name, "failed", why=[f"ended {by}"])
                elif name not in self.tasks and self.known[name].actions:
                    self._set(name, "held", why=["the run ended before it"])
        self.save(ended=True)
        self._keep()

    def _keep(self) -> None:
        """What the report tells later, of a run that did something."""
        build = self.pipeline.project.paths.build
        if self.acted and self.tasks and lock.mine(build / ".lock"):
            from kbuild_tasks.plugin import keep

            for line in keep.keep(self.pipeline.project.paths, self.tasks, self.times, self.started, self.known):
                self._once(line)

    def warn(self, text: str) -> None:
        """In the reporter's own voice where it has one for that."""
        getattr(self.inner, "warn", warn)(text)

    def closure(self) -> list[str]:
        """Selected tasks and all that they need, in no order that matters."""
        return closure(self.known, self.selected)

    def save(self, ended: bool = False, durable: bool = True) -> None:
        build = self.pipeline.project.paths.build
        if not self.tasks or not lock.mine(build / ".lock"):
            return  # nothing was selected, or the file is that of a run in progress: this one was refused
        if interrupt.received is not None:
            result = f"ended by signal {interrupt.received}"
        else:
            result = "failed" if self.failed or self._any_failed() else ("done" if ended else "running")
        value = {
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(self.started)),
            "seconds": round(time.time() - self.started, 3),
            "result": result,
            "tasks": dict(self.tasks),
        }
        try:
            write_json(build / "last-run.json", value, durable=self.acted and durable)
        except OSError as error:
            self._once(f"build/last-run.json cannot be written: {error.strerror}")

    def _once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self.warn(text)

    def _any_failed(self) -> bool:
        return any(entry["state"] == "failed" for entry in self.tasks.values())

    def _set(self, name: str, state: str, **more: Any) -> None:
        self.running.discard(name)
        if name in self.times:
            self.times[name].append(time.time())
        self.tasks[name] = {"state": state, **{key: value for key, value in more.items() if value is not None}}


def around(chosen: type, pipeline: Any) -> type[Recorder]:
    """A class, which is what doit wants, whose reporter is one of `chosen`."""
    return type("Recorded", (Recorder,), {"chosen": chosen, "pipeline": pipeline, "desc": getattr(chosen, "desc", "")})


def closure(known: Mapping[str, Task], selected: Sequence[str]) -> list[str]:
    todo, seen = list(selected), dict[str, None]()
    while todo:
        name = todo.pop()
        if name in seen or name not in known:
            continue
        seen[name] = None
        todo += [*known[name].task_dep, *known[name].setup_tasks]
    return list(seen)
