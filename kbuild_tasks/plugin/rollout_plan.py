"""What `doit rollout` would do on each node, as far as journals and what nodes said last tell. Opens no connection.

A node that cannot go on holds those of the batches behind it, as the roll-out itself does: that is told as well.
"""

from __future__ import annotations

from dataclasses import replace

from kbuild_tasks.core import nodestate
from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.core.history import AFTER_ARMING, History, fold
from kbuild_tasks.core.nodestate import Act, Seen
from kbuild_tasks.core.rollout import Build
from kbuild_tasks.effects import artifacts, journal
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.rollout import journal_file
from kbuild_tasks.plugin.plan import Step
from kbuild_tasks.plugin.rollout_status import WORDS, kept, on_hold, running_build
from kbuild_tasks.plugin.tasks import Pipeline

STOPS = ("held", "broken")
FROM_THE_START = (Act.STAGE, Act.INSTALL, Act.BOOTFILES)


def plan(pipeline: Pipeline) -> list[Step]:
    """A step a node, in the order of the roll-out; of nodes on hold, that they are."""
    paths, cluster = pipeline.project.paths, pipeline.project.cluster
    build = artifacts.known(paths)
    steps: list[Step] = []
    stopped: Step | None = None  # the first that holds those behind it
    for batch in pipeline.rollout.order:
        found = [step for name in batch if (step := _node(paths, name, build))]
        steps += [_behind(step, stopped, cluster.rollout.canary) for step in found]
        stopped = stopped or next((step for step in found if step.state in STOPS), None)
    if build is None or pipeline.rollout.only:
        return steps
    return steps + [Step(f"deploy:{name}", "hold", [f"hold: true in {cluster.source}"]) for name in on_hold(cluster)]


def _behind(step: Step, stopped: Step | None, canary: tuple[str, ...]) -> Step:
    """deploy waits for the canary's deploy alone; no reboot passes a node that is not verified."""
    if stopped is None or step.state != "run":
        return step
    verb, _, name = stopped.task.partition(":")
    if step.task.startswith("deploy:") and not (verb == "deploy" and name in canary):
        return replace(step, why=[step.why[0].replace(", then reboot and verify", f"; its reboot waits for {name}")])
    return replace(step, state="held", why=[f"waits for {name}"])


def _node(paths: Paths, name: str, build: Build | None) -> Step | None:
    try:
        history = fold(journal.read(journal_file(paths, name)))
    except (KbuildError, OSError) as error:
        return Step(f"deploy:{name}", "broken", [str(error)]) if build else None
    if history.back is not None:  # also where there is nothing to roll out
        step = nodestate.decide(history, Seen("", ""), build or Build("", ""))
        return Step(f"deploy:{name}", "held", [f"{step.why}: {(step.hint or '').format(node=name)}"])
    if build is None:
        return None
    _, answer = kept(paths, name)
    if not answer:
        return Step(f"deploy:{name}", "run", [f"{build.named}, then reboot and verify; it was never asked"])
    seen = nodestate.seen(answer)
    step = nodestate.decide(history, seen, build)
    if step.act == Act.DONE:
        return Step(f"deploy:{name}", "fresh", [f"runs {build.named}, verified"])
    if step.act in (Act.DENIED, Act.REFUSE):
        return _stopped(name, history, seen, build, step)
    if step.act in FROM_THE_START:
        old = running_build(answer)
        over = f"{seen.release} (build {old})" if old else seen.release
        return Step(f"deploy:{name}", "run", [f"{build.named} over {over}, then reboot and verify"])
    verb = "verify" if history.state in ("BACK", "VERIFIED", "VERIFIED2", "COMMITTED") else "reboot"
    after = "" if verb == "verify" else ", then verify"
    return Step(f"{verb}:{name}", "run", [f"goes on: it is {WORDS[history.state]}{after}"])


def _stopped(name: str, history: History, seen: Seen, build: Build, step: nodestate.Step) -> Step:
    """With the way out, as the failing run would tell it."""
    if step.act == Act.REFUSE:
        way = f": {step.hint.format(node=name)}" if step.hint else ""
        return Step(f"deploy:{name}", "held", [step.why + way])
    verb = "verify" if history.build == build.build and history.state in AFTER_ARMING else "deploy"
    return Step(f"{verb}:{name}", "held", [f"{step.why}: {nodestate.way_out(name, seen, build)}"])
