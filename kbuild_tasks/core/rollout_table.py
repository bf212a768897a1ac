"""The table at the end of a roll-out and in `doit status`: one line a node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kbuild_tasks.core.progress import duration

ON_THE_WAY = ("copied", "installing", "installed", "drained", "armed", "rebooting")


@dataclass(frozen=True)
class Row:
    """build  that the state is told of
    running  the kernel that it runs, "" if it was never asked; down: seconds for which it could not be reached"""

    node: str
    running: str = ""
    known_good: str = ""
    trial: str = ""
    state: str = ""
    since: str = ""
    why: str = ""
    down: float | None = None
    build: str = ""


def summary(rows: Sequence[Row]) -> list[str]:
    """After a run: which kernel, how it ended, how long the node was away."""
    head = ("node", "runs", "result", "away")
    lines = [(row.node, row.running or "?", _result(row), _away(row.down)) for row in rows]
    return _aligned([head, *lines])


def status(rows: Sequence[Row]) -> list[str]:
    """What is known of each node; the reason below it where there is one."""
    head = ("node", "running", "known-good", "trial", "state", "since")
    cells = [
        (row.node, row.running or "?", row.known_good or "-", row.trial or "-", row.state or "-", row.since or "-")
        for row in rows
    ]
    lines = _aligned([head, *cells])
    width = max(len(row.node) for row in rows) if rows else 0
    told = lines[:1]
    for row, line in zip(rows, lines[1:], strict=True):
        told.append(line)
        if row.why:
            told.append(f"{'':<{max(width, 4)}}  {row.why}")
    return told


def _result(row: Row) -> str:
    """Of another build than the one that it runs: which."""
    if row.state in ON_THE_WAY and row.build and not row.running.endswith(row.build):
        return f"{row.state}: {row.build}"
    return row.state or "not touched"


def _away(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
