"""doit's run command, with a record. It takes the place of doit's own (entry points, pyproject.toml), and is that
wherever dodo.py makes no Pipeline.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

from doit.cmd_run import Run as DoitRun

asked: list[str] = []  # tasks named on the command line, known before dodo.py is read


class Run(DoitRun):
    """`doit [run]`: with a Recorder around whatever reporter is chosen, closed however the run ends."""

    name = "run"

    def execute(self, params: Any, args: list[str]) -> Any:
        from kbuild_tasks.plugin.stream import reserve

        reserve()
        asked[:] = args
        return super().execute(params, args)

    @functools.wraps(DoitRun._execute)  # doit reads the names of its parameters
    def _execute(self, *args: Any, **options: Any) -> Any:
        pipeline = _loaded()
        if pipeline is None:
            return super()._execute(*args, **options)
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


def _loaded() -> Any:
    """The Pipeline of the dodo.py that was read, or None."""
    tasks = sys.modules.get("kbuild_tasks.plugin.tasks")
    return tasks._current[-1] if tasks and tasks._current else None
