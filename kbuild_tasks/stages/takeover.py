"""takeover:<node>: take the node over from another operator, whose run can then change nothing there any more."""

from __future__ import annotations

from kbuild_tasks.core.model import Outcome
from kbuild_tasks.effects.context import Context
from kbuild_tasks.effects.rollout import Visit


def run(ctx: Context) -> Outcome:
    visit = Visit(ctx)
    visit.look(anew=True)
    holder = (visit.answer.get("lease") or {}).get("who")
    lease = visit.run.lease
    if holder in (None, "", lease.who):
        return Outcome("no other operator has it", run={"state": "fresh"})
    lease.take(visit.node, visit.answer, force=True)
    return Outcome(f"taken over from {holder}")
