"""What a run leaves for the report: its stages in build/trace.json, and build/last-done.json.

build/last-run.json tells of the last run, which may have had nothing to do. build/last-done.json tells of each task
what it did when it last did something: {"tasks": {task: {"state", "why", "seconds", "message", "at", "run", ...}}}.
One entry a task, without the names of the objects, so that it does not grow.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

from kbuild_tasks.effects import lease, trace
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.files import read_record, write_json

ACTED = ("done", "failed")
FALLBACKS = 500  # of a build; what is beyond is counted


def keep(
    paths: Paths,
    tasks: Mapping[str, Mapping[str, Any]],
    times: Mapping[str, Sequence[float]],
    started: float,
    exist: Container[str] | None = None,
) -> list[str]:
    """At the end of a run that did something. Its loss fails no run: what went wrong, as warnings.

    exist  all tasks that there are: what is kept of another, a node's that is gone, is dropped
    """
    spans = [(task, when[0], when[-1]) for task, when in times.items() if len(when) > 1]
    found = [trace.add_stages(paths, spans, started)]
    try:
        _remember(paths, tasks, times, started, exist)
    except Exception as error:  # of whatever kind
        found.append(f"build/last-done.json was not written: {error!r}")
    return [line for line in found if line]


def _remember(
    paths: Paths,
    tasks: Mapping[str, Mapping[str, Any]],
    times: Mapping[str, Sequence[float]],
    started: float,
    exist: Container[str] | None,
) -> None:
    file = paths.build / "last-done.json"
    before = read_record(file).get("tasks")
    by = lease.who(paths.root).removesuffix(f":{paths.root}")  # the page is passed on: no paths
    known = dict(before) if isinstance(before, dict) else {}
    for task, entry in tasks.items():
        if entry.get("state") in ACTED and task in times:
            known[task] = {**short(entry), "at": times[task][0], "run": started, "by": by}
    if exist is not None:
        known = {task: entry for task, entry in known.items() if task in exist}
    write_json(file, {"tasks": known}, durable=False)


def short(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A task's record without long lists."""
    told = dict(entry)
    for name in ("objects", "untold"):
        if isinstance(told.get(name), list):
            told[name] = len(told[name])
    fallbacks = told.get("fallbacks")
    if isinstance(fallbacks, list):
        told["fallbacks"], told["fallbacks_count"] = fallbacks[:FALLBACKS], len(fallbacks)
    return told
