"""again: a second `doit rollout` on nodes that run the kernel changes nothing and says so, in seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator

from kbuild_tasks.lab.lab import Lab
from tests.vm.faults import Row
from tests.vm.machines import VMS, boot_id
from tests.vm.rollout_project import Rollout

GOAL = 3.0  # seconds for two nodes
TIMES = 5


def run(lab: Lab, project: Rollout, count: int | None) -> Iterator[Row]:
    project.doit("rollout")
    before = {node: boot_id(lab, node) for node in VMS}
    records = {node: project.journal(node) for node in VMS}
    seconds = []
    for _ in range(count or TIMES):
        began = time.monotonic()
        out = project.doit("rollout")
        seconds.append(round(time.monotonic() - began, 2))
        assert "fresh  verify             2 nodes" in out, out
    same = {node: boot_id(lab, node) for node in VMS} == before
    same = same and {node: project.journal(node) for node in VMS} == records
    median = sorted(seconds)[len(seconds) // 2]
    done = "nothing done" if same else "SOMETHING WAS DONE"
    yield Row(
        "a second roll-out, two nodes",
        f"nothing done, < {GOAL:g} s",
        f"{done}, {median} s (median of {len(seconds)}, at most {max(seconds)})",
        same and median < GOAL,
        {"seconds": seconds},
    )
