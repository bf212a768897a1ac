"""What is known of the nodes' speed, and what a build has taken: for core/hosts.py, core/bound.py, core/predict.py."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kbuild_tasks.core import bound
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.files import read_record

if TYPE_CHECKING:
    from kbuild_tasks.core.trace import Timeline
    from kbuild_tasks.effects.monitor import Monitor


def calibrations(paths: Paths, nodes: Iterable[str]) -> dict[str, dict[str, Any]]:
    """node -> its record of `doit calibrate`, of those that have one. One that is damaged is {"damaged": True}."""
    found = {}
    for node in nodes:
        file = paths.calibration(node)
        if file.exists():
            found[node] = read_record(file) or {"damaged": True}
    return found


def cpu_seconds() -> float:
    """Of all programs that this process has started and that have ended, with theirs: times(2)."""
    now = os.times()
    return now.children_user + now.children_system


def bound_by(
    paths: Paths, coordinator: str, workers: Iterable[str], line: Timeline | None, monitor: Monitor, taken: float
) -> bound.Bound | None:
    """What bounded a compilation that has just ended; taken: CPU seconds of it."""
    if line is None:
        return None
    facts = read_record(paths.facts(coordinator)).get("facts") or {}
    known = calibrations(paths, workers)
    links = [value for record in known.values() if isinstance(value := record.get("bandwidth"), int | float)]
    return bound.bound(
        line,
        cores=int(facts.get("cores") or os.cpu_count() or 1),
        cpu_seconds=taken,
        sent=monitor.sent,
        link=max(links, default=0.0),
    )
