"""The roll-out half as doit's tasks. A word that one has to say: no task of the build half leads here.

The edges are the promise: reboot:<node> waits for verify of every node of the batch before, so at most one batch is
down, with any number of threads and with --continue. deploy reaches the canary first, then all others at once.

Loaded with every dodo.py, so what acts is imported when a task runs.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from kbuild_tasks.core.errors import ConfigError, KbuildError, NodeUnreachable
from kbuild_tasks.core.model import Node, Outcome
from kbuild_tasks.core.rollout import Build, halted, order
from kbuild_tasks.plugin import run

if TYPE_CHECKING:
    from kbuild_tasks.effects.rollout import Run
    from kbuild_tasks.plugin.tasks import Pipeline

VERBS = {
    "deploy": "install the kernel beside the running one; nothing boots it yet",
    "reboot": "boot it once, in the order of the roll-out",
    "verify": "prove twice that it is well there, then make it the default",
}
WORDS = {
    "rollback": "go back to the kernel that last passed verify, one node at a time",
    "allow": "let a build that failed on a node be tried there once more",
    "takeover": "take the nodes over from another operator's dead roll-out",
    "prune": "remove old builds from the nodes: never what runs, is known-good, previous or the default",
}
TASKS = (*VERBS, *WORDS)


class RolloutTasks:
    """Tasks of one project; `only` (doit rollout only=kubenode7,kubenode8) leaves the other nodes out;
    `back_to` (doit rollback to=previous) is the kernel that rollback goes to, `build` (doit prune build=0123456789ab)
    the one that prune removes."""

    def __init__(self, pipeline: Pipeline, only: str | None, back_to: str | None, build: str | None) -> None:
        self.pipeline = pipeline
        self.only = tuple(name for name in (only or "").split(",") if name)
        self.back_to = back_to or "known-good"
        if self.back_to not in ("known-good", "previous"):
            raise ConfigError(f"to={back_to}: rollback goes to known-good or previous", "doit rollback to=previous")
        self.only_build = build or ""
        if self.only_build and not re.fullmatch("(keep-)?[0-9a-f]{12}", self.only_build):
            raise ConfigError(
                f"build={build}: a build is named by 12 hex digits", "doit status --json lists the builds on each node"
            )
        self.order = order(pipeline.project.cluster, self.only)
        self.halted = ""  # the task that stopped the roll-out
        self.run: Run | None = None  # of this process, once a task ran
        self._guard = threading.Lock()
        self._told_behind = False
        self._down = threading.Lock()  # held by the one node that a rollback reboots, whatever doit is told of edges

    @property
    def names(self) -> list[str]:
        return [name for batch in self.order for name in batch]

    def tasks(self) -> Iterator[dict[str, Any]]:
        for verb, doc in {**VERBS, **WORDS}.items():
            yield {"basename": verb, "name": None, "doc": doc}
            for number, batch in enumerate(self.order):
                for name in batch:
                    yield self._task(verb, self.pipeline.project.cluster.nodes[name], number)
        yield {
            "basename": "rollout",
            "doc": "bring the kernel of artifacts/ to every node: deploy, reboot, verify, one batch after the other",
            "actions": None,
            "task_dep": list(VERBS),
        }

    def _task(self, verb: str, node: Node, batch: int) -> dict[str, Any]:
        canary = [name for name in self.pipeline.project.cluster.rollout.canary if name in self.names]
        before = self.order[batch - 1] if batch else ()
        edges = {
            "deploy": [f"deploy:{name}" for name in canary if node.name not in canary],
            "reboot": [f"deploy:{node.name}", *(f"verify:{name}" for name in before)],
            "verify": [f"reboot:{node.name}"],
            "rollback": self._rolled_back_before(node.name),
        }
        task = f"{verb}:{node.name}"
        turn = self._down if verb == "rollback" else None
        return {
            "basename": verb,
            "name": node.name,
            "doc": f"{(VERBS | WORDS)[verb]}: {node.name}",
            "uptodate": [False],
            "task_dep": edges.get(verb, []),
            "actions": [self.pipeline.action(task, partial(self._act, task, node), turn)],
        }

    def _rolled_back_before(self, name: str) -> list[str]:
        """The rollback that this one waits for: of those that are asked for, the one before it in the roll-out's order
        (the coordinator's own ends the run). An edge to any other would roll that one back too."""
        before = [f"rollback:{other}" for other in self.names[: self.names.index(name)]]
        return [task for task in before if run.is_asked(task)][-1:]

    def _act(self, task: str, node: Node) -> Outcome:
        verb = task.partition(":")[0]
        if verb == "deploy" and self.halted:
            return Outcome(f"roll-out halted at {self.halted}", run={"state": "held"})
        try:
            outcome = self.pipeline.act(task, node, self._run(verb))
            return self._with_what_is_behind(outcome) if verb == "deploy" else outcome
        except Exception as error:
            if verb in ("reboot", "verify"):
                self.halted = self.halted or task
            if verb == "deploy" and isinstance(error, NodeUnreachable):  # one that is lost later is its kernel's affair
                source = self.pipeline.project.cluster.source
                canary = node.name in self.pipeline.project.cluster.rollout.canary
                also = f", and another canary than {node.name}" if canary else ""
                way = f"the roll-out goes on without it where {node.name} has hold: true in {source}{also}"
                error.hint = "; ".join(dict.fromkeys(filter(None, (error.hint, way))))
            raise

    def _run(self, verb: str) -> Run:
        with self._guard:
            if self.run is None:
                from kbuild_tasks.effects import artifacts
                from kbuild_tasks.effects import node as remote
                from kbuild_tasks.effects.rollout import Run

                project = self.pipeline.project
                if project.cluster.coordinator.connection == "local":
                    remote.check_local(project.cluster.coordinator)  # else its nodes seem to be lost
                if verb in ("rollback", "takeover", "prune"):  # these need no kernel to bring
                    build = artifacts.known(project.paths) or Build("0" * 12, "")
                else:
                    build = artifacts.load(project.paths)
                self.run = Run(project.cluster, project.paths, build, self.order, ready=self._ready)
                self.run.back_to, self.run.only_build = self.back_to, self.only_build
            return self.run

    def _ready(self) -> None:
        """Raises KbuildError while the build half is behind its sources: what is not built is not rolled out."""
        if stale := self.stale():
            task, why = stale
            raise KbuildError(f"artifacts/ is behind its sources: {task}: {why}", "doit, then doit rollout")

    def _with_what_is_behind(self, outcome: Outcome) -> Outcome:
        """All that is rolled out already is no error, but who has edited a patch since takes "fresh" for the edit's."""
        with self._guard:
            if outcome.run.get("state") != "fresh" or self._told_behind:
                return outcome
            self._told_behind = True
        try:
            stale = self.stale()
        except KbuildError as error:
            stale = (error.message, "")
        if not stale:
            return outcome
        behind = ": ".join(filter(None, stale))
        told = (
            "the nodes run what was built before your last edit: "
            f"artifacts/ is behind its sources ({behind}); doit, then doit rollout"
        )
        return replace(outcome, warnings=(*outcome.warnings, told))

    def stale(self) -> tuple[str, str] | None:
        """The first stage of the build half that would run, and why. Raises ConfigError."""
        from kbuild_tasks.plugin.tasks import STAGES

        for stage in STAGES:
            if why := self.pipeline.why(stage):
                return stage, why[0]
        return None

    def rebooting(self) -> list[str]:
        """Nodes that this run has asked to reboot, as far as their journals tell, and that are not back."""
        return [name for name, state in self.states(self.names).items() if state in ("REBOOTING", "ROLLING_BACK")]

    def states(self, names: Sequence[str]) -> dict[str, str]:
        """Node -> how far this run's build is there, as its journal tells; {} of a run that has to do with no node."""
        if self.run is None:
            return {}
        from kbuild_tasks.plugin.rollout_status import states

        return states(self.pipeline.project.paths, names, self.run.build.build)

    def is_rollout(self, task: str) -> bool:
        verb, colon, name = task.partition(":")
        return bool(colon) and verb in TASKS and name in self.pipeline.project.cluster.nodes

    def tell_halted(self, task: str) -> str:
        """One line under a failed task: which nodes were left as they were; "" where it halts nothing."""
        verb, _, name = task.partition(":")
        if verb not in VERBS or not self.run:
            return ""
        return halted(self.states([other for other in self.names if other != name]))
