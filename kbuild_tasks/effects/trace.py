"""build/trace.json: written by the run that compiled, also where the build failed; a run that compiles nothing leaves
the last one. Its loss fails no build.

build/whole-build.json is the same of the last build that made all, or nearly all, of its tree: an edit's, which makes
three objects, tells nothing of how long a build takes (`doit simulate`).
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from kbuild_tasks.core import trace
from kbuild_tasks.core.distribution import Distribution, short
from kbuild_tasks.core.spans import CACHED, spans, thinned, times
from kbuild_tasks.effects import makers
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.files import read_json, write_atomic

if TYPE_CHECKING:
    from kbuild_tasks.effects.distcc import Client
    from kbuild_tasks.effects.monitor import Monitor

UPTIME = Path("/proc/uptime")
SAMPLES = 1000  # of the coordinator's CPU
LEAST = 100  # objects: no kernel has fewer, and an edit is not held up by a look at all of the tree


def path(paths: Paths) -> Path:
    return paths.build / "trace.json"


def whole(paths: Paths) -> Path:
    return paths.build / "whole-build.json"


def uptime() -> float:
    """The clock that the front reads: a shell can read it without starting a program. A container may have its own,
    or none (procfs mounted with subset=pid): the front then writes no times."""
    try:
        return float(UPTIME.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return time.clock_gettime(time.CLOCK_BOOTTIME)


def timeline(
    client: Client, monitor: Monitor, told: Distribution, coordinator: str, tree: Path, failed: bool
) -> trace.Timeline:
    """Of a compilation that has just ended."""
    now, clock = time.time(), uptime()
    taken = {short(name, str(tree)): when for name, when in times(client.times()).items()}
    written = {}
    for name, (_, end) in taken.items():
        if end is None:
            with contextlib.suppress(OSError):
                written[name] = (tree / name).stat().st_mtime - (now - clock)
    found = spans(taken, told.made, began=client.began, ended=clock, written=written)
    seconds = clock - client.began
    nodes = list(dict.fromkeys([*client.plan.workers, *(span.node for span in found if span.node != coordinator)]))
    return trace.Timeline(
        began=now - seconds,
        seconds=seconds,
        spans=tuple(found),
        phases=tuple(trace.phases_of(monitor.phases, seconds)),
        cpu=tuple(thinned(monitor.cpu, SAMPLES)),
        nodes=(*nodes, coordinator),
        slots=dict(client.plan.slots),
        failed=failed,
    )


def save(
    paths: Paths, client: Client, monitor: Monitor, told: Distribution, coordinator: str, tree: Path, failed: bool
) -> tuple[trace.Timeline | None, str | None]:
    """Write what a compilation that has just ended tells: it, and what went wrong, as a warning."""
    found = None
    try:
        found = timeline(client, monitor, told, coordinator, tree, failed)
        if found.spans:
            _write(path(paths), trace.build(found))
    except Exception as error:  # of whatever kind: the objects are good without it
        return found, f"build/trace.json was not written: {error!r}"
    return found, None


def keep_whole(paths: Paths, line: trace.Timeline | None, tree: Path, cpu: float, config: str) -> str | None:
    """Keep the trace of a build that has ended well, if it made what lies in its tree; what went wrong, as a warning.

    What counts are the objects of this tree, not those of the build that was kept before: another configuration has
    more or fewer. Objects of an option that is off again lie in the tree as well, and are counted.

    cpu  seconds that it took of the coordinator;  config: sha256 of its .config
    """
    made = sum(span.kind != CACHED for span in line.spans) if line else 0
    try:
        if line and made >= LEAST and made >= trace.WHOLE * makers.count(tree):
            about = {"objects": made, "cpu_seconds": round(cpu, 2), "config": config}
            value = trace.build(line)
            _write(whole(paths), {**value, "otherData": {**value["otherData"], **about}})
    except OSError as error:
        return f"build/whole-build.json was not written: {error!r}"
    return None


def add_stages(paths: Paths, stages: Iterable[tuple[str, float, float]], since: float) -> str | None:
    """Add the tasks of a run to the trace, if it was this run that wrote it. What went wrong, as a warning."""
    try:
        value = read_json(path(paths))
        told = trace.read(value)
        if told is not None and told.began >= since:
            _write(path(paths), trace.add_stages(value, stages))
    except Exception as error:  # JSON of anybody's may have any shape
        return f"the stages are not in build/trace.json: {error!r}"
    return None


def _write(file: Path, value: object) -> None:
    write_atomic(file, json.dumps(value, separators=(",", ":")) + "\n", durable=False)
