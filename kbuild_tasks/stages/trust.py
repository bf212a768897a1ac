"""trust:<node>: the user's word that a node which returned a wrong object may compile again."""

from __future__ import annotations

from kbuild_tasks.core.model import Outcome
from kbuild_tasks.effects import quarantine
from kbuild_tasks.effects.context import Context


def run(ctx: Context) -> Outcome:
    """Raises KbuildError while what the node has made is still in the tree."""
    assert ctx.node is not None
    record = quarantine.known(ctx.paths, ctx.cluster).get(ctx.node.name)
    if record is None:
        return Outcome("not in quarantine", run={"state": "fresh"})
    quarantine.lift(ctx.paths, record)
    return Outcome("compiles again, from the next build on")
