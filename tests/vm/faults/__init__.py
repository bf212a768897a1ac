"""The long fault runs of the roll-out: script/faults prints what each shows and writes build/faults.json.

Each run is a module here that is named in RUNS (__main__.py) and has

    def run(lab: Lab, project: Rollout, count: int | None) -> Iterator[Row]

which yields a row as soon as it is known: a run of an hour that is killed has told what it saw. `lab` is up with two
VMs that answer, in whatever state the run before left them; `project` is fresh. `count` is the number behind its name
on the command line (script/faults cuts=20), None: as many as the promise wants. A module may name another PROJECT than
that of the packages in artifacts/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One line of the table.

    what     the fault, or the promise
    goal     what should be
    seen     what was
    good     whether it held; None: a figure with no goal
    figures  the numbers behind it, plain JSON
    """

    what: str
    goal: str
    seen: str
    good: bool | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)
