"""allow:<node>: the user's word that a build which failed on a node may be tried there once more."""

from __future__ import annotations

from kbuild_tasks.core.errors import NodeRefused
from kbuild_tasks.core.history import IN_FLIGHT
from kbuild_tasks.core.model import Outcome
from kbuild_tasks.core.nodestate import runs
from kbuild_tasks.effects.context import Context
from kbuild_tasks.effects.rollout import Visit


def run(ctx: Context) -> Outcome:
    """Raises NodeRefused while the node still runs the trial that failed."""
    visit = Visit(ctx)
    if visit.history.back is not None:  # what it shows now is no end of it, and it may be down
        raise visit.stop(visit.next())
    visit.look(anew=True)
    build = visit.build.build
    why = visit.history.failed.get(build) or visit.seen.denied.get(build)
    if why is None and build not in visit.seen.denied:
        return Outcome(f"build {build} has not failed there", run={"state": "fresh"})
    if visit.state in IN_FLIGHT and runs(visit.seen, visit.build):
        raise NodeRefused(f"{visit.node.name} still runs the trial that failed", f"doit rollback:{visit.node.name}")
    visit.do("allow", build=build)
    visit.record("ALLOWED", "by the user's word")
    visit.look(anew=True)  # what `doit plan` tells from
    return Outcome(f"build {build} may be tried there again; it failed before: {why}")
