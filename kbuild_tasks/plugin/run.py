"""doit's commands that write its database or the project: run with a record, the others only while no run goes on;
and list and info, whose output may be gone.

They take the place of doit's own of the same name (entry points, pyproject.toml), and are those wherever dodo.py
makes no Pipeline, but for the words in which a command line is refused (plugin/usage.py).
"""

from __future__ import annotations

import fnmatch
import functools
import os
import sys
from collections.abc import Collection
from typing import Any

from doit.cmd_base import DoitCmdBase, check_tasks_exist
from doit.cmd_clean import Clean as DoitClean
from doit.cmd_forget import Forget as DoitForget
from doit.cmd_ignore import Ignore as DoitIgnore
from doit.cmd_info import Info as DoitInfo
from doit.cmd_list import List as DoitList
from doit.cmd_resetdep import ResetDep as DoitResetDep
from doit.cmd_run import Run as DoitRun
from doit.exceptions import InvalidCommand

from kbuild_tasks.plugin.usage import Usage

asked: list[str] = []  # tasks named on the command line, known before dodo.py is read
chosen: dict[str, Any] = {}  # options of the command line


class Run(Usage, DoitRun):
    """`doit [run]`: with a Recorder around whatever reporter is chosen, closed however the run ends."""

    name = "run"

    def execute(self, params: Any, args: list[str]) -> Any:
        from kbuild_tasks.plugin.stream import reserve

        reserve()
        asked[:] = args
        chosen.update(params)
        return super().execute(params, args)

    @functools.wraps(DoitRun._execute)  # doit reads the names of its parameters
    def _execute(self, *args: Any, **options: Any) -> Any:
        pipeline = _loaded()
        if pipeline is None:
            return super()._execute(*args, **options)
        if refused := self._refused(options):
            sys.stderr.write(refused.render() + "\n")
            return 3
        os.umask(0o022)  # makepkg's own: modes below the tree go into packages, made by make and by us as well
        from kbuild_tasks.plugin import interrupt
        from kbuild_tasks.plugin.record import around

        if options.get("num_process") and options.get("par_type") == "process":
            sys.stderr.write("  -P process: tasks run in threads, for one process holds the lock of the run\n")
            options["par_type"] = "thread"
        reporter = options["reporter"]
        recorded = around(self.reporters[reporter] if isinstance(reporter, str) else reporter, pipeline)
        options["reporter"] = recorded
        status = None
        try:
            status = super()._execute(*args, **options)
        except BaseException:
            if interrupt.received is None:
                raise
        finally:
            if recorded.latest is not None:
                recorded.latest.close(sys.exc_info()[1])
        if interrupt.received is not None:
            raise SystemExit(128 + interrupt.received)
        return status or int(recorded.latest is not None and recorded.latest.out.failed)

    def _refused(self, options: dict[str, Any]) -> Any:
        """What doit would take in silence, or with a traceback; None where all is well."""
        from kbuild_tasks.core.errors import KbuildError
        from kbuild_tasks.effects.files import unreadable

        names = [task.name for task in self.task_list]
        for before, word in zip(["", *asked], asked, strict=False):  # behind an option it may be its value
            if "*" in word and "-" not in (word[0], before[:1]) and not fnmatch.filter(names, word):
                raise InvalidCommand(not_found=word)
        number = options.get("num_process") or 0
        if number < 0:
            return KbuildError(f"-n {number}: so few tasks at once are none", "doit help run")
        options["num_process"] = min(number, len(names))  # a thread for each, whether there is work for it or not
        if isinstance(options.get("outfile"), str):
            try:
                open(options["outfile"], "a").close()
            except OSError as error:
                return unreadable(error)
        return None


def asked_only(verbs: Collection[str]) -> bool:
    """Whether this is a run of such tasks alone: `doit release`, `doit prepare:kubenode2`."""
    return bool(asked) and all(task.partition(":")[0] in verbs for task in asked)


def is_asked(task: str) -> bool:
    """Whether a word of the command line selects this task: by its name, its group's or a pattern."""
    return any(word in (task, task.partition(":")[0]) or fnmatch.fnmatchcase(task, word) for word in asked)


def _locked(command: type[DoitCmdBase]) -> type[DoitCmdBase]:
    """The same command, refused while a run goes on that relies on what it would change."""

    @functools.wraps(command._execute)
    def execute(self: Any, *args: Any, **options: Any) -> Any:
        from kbuild_tasks.core.errors import KbuildError
        from kbuild_tasks.effects import lock
        from kbuild_tasks.effects.files import unreadable
        from kbuild_tasks.plugin.backend import AtomicJson
        from kbuild_tasks.plugin.stream import guarded

        pipeline = _loaded()
        if pipeline is not None and not options.get("dryrun"):
            paths = pipeline.project.paths
            try:
                lock.acquire(paths.build / ".lock")
                if command is DoitClean and paths.state.is_dir():  # two projects may have one workdir
                    lock.acquire(paths.state / ".lock", project=str(paths.root))
            except (KbuildError, OSError) as error:
                sys.stderr.write((error if isinstance(error, KbuildError) else unreadable(error)).render() + "\n")
                return 1
            AtomicJson.forgetting = True
        return guarded(command._execute)(self, *args, **options)

    return type(command.__name__, (Usage, command), {"_execute": execute, "name": command.get_name()})


Clean, Forget, Ignore, ResetDep = (_locked(command) for command in (DoitClean, DoitForget, DoitIgnore, DoitResetDep))


def _told(command: type[DoitCmdBase]) -> type[DoitCmdBase]:
    """The same command, whose output may be full or closed."""

    def execute(self: Any, params: Any, args: list[str]) -> Any:
        from kbuild_tasks.plugin.stream import reserve

        reserve()
        return command.execute(self, params, args)

    @functools.wraps(command._execute)
    def _execute(self: Any, *args: Any, **options: Any) -> Any:
        from kbuild_tasks.plugin.stream import guarded

        check_tasks_exist({task.name for task in self.task_list}, options.get("pos_args"))  # info does not
        return guarded(command._execute)(self, *args, **options)

    body = {"execute": execute, "_execute": _execute, "name": command.get_name()}
    return type(command.__name__, (Usage, command), body)


List, Info = _told(DoitList), _told(DoitInfo)


def _loaded() -> Any:
    """The Pipeline of the dodo.py that was read, or None."""
    tasks = sys.modules.get("kbuild_tasks.plugin.tasks")
    return tasks._current[-1] if tasks and tasks._current else None
