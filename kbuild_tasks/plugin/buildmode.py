"""Which nodes a run has put into build mode, and how they leave it."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kbuild_tasks.core.errors import KbuildError, NodeUnreachable
from kbuild_tasks.core.model import Node, Outcome
from kbuild_tasks.effects.files import read_record

if TYPE_CHECKING:
    from kbuild_tasks.plugin.tasks import Pipeline


class Nodes:
    """Those of one pipeline. `entered` is kept here and nowhere else: a clock that steps back, or facts that could not
    be written to a full disk, leave no node in build mode."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self.entered: set[str] = set()
        self.touched = False  # whether this run asked any node to enter build mode, or to leave it

    def enter(self, task: str, node: Node) -> Outcome:
        """prepare:<node>. Before it is asked it counts as entered: its answer may be lost."""
        self.entered.add(node.name)
        self.touched = True
        outcome = self._pipeline.act(task, node)
        facts = read_record(self._pipeline.project.paths.facts(node.name))
        if not (facts.get("reached") or facts.get("unsure")):
            self.entered.discard(node.name)  # it never heard of us
        return outcome

    def leave(self, everywhere: bool) -> list[str]:
        """Put back the nodes that this run prepared, or all (a run that was interrupted may have left one half-way);
        what went wrong, a line a node. A run that has to do with no build mode, a roll-out say, asks nobody; one that
        is rebooting as it was told leaves build mode by that.

        Called when a run ends (plugin/record.py), not as doit's teardown: doit runs those in every thread that finds
        no more work (MRunner.execute_task_subprocess), so `doit compile` would lose its workers while it compiles.
        """
        if not self.touched:
            return []
        active = self._pipeline.project.cluster.active
        left = self._leave_all([node for node in active if everywhere or node.name in self.entered], tree=False)
        rebooting = self._pipeline.rollout.rebooting()
        failed = [
            told
            for name, told in left.items()
            if isinstance(told, KbuildError) and not (isinstance(told, NodeUnreachable) and name in rebooting)
        ]
        return [f"not released: {error.message}; {error.hint or 'later: doit release'}" for error in failed]

    def release_all(self) -> Outcome:
        """The task `release`. Raises KbuildError."""
        self._pipeline.take_lock()
        self.touched = True
        left = self._leave_all(self._pipeline.project.cluster.active, tree=True)
        failed = {name: told for name, told in left.items() if isinstance(told, KbuildError)}
        if failed:
            lines = [error.message for error in failed.values()]
            lines += [str(told) for name, told in left.items() if name not in failed]
            raise KbuildError(f"{' '.join(failed)} not released", next(iter(failed.values())).hint, evidence=lines)
        return Outcome("; ".join(str(line) for line in left.values()))

    def _leave_all(self, nodes: Sequence[Node], tree: bool) -> dict[str, str | KbuildError]:
        """What became of each node, a line or an error, all at once."""
        if not nodes:
            return {}
        from concurrent.futures import ThreadPoolExecutor

        from kbuild_tasks.effects import shell

        release: Any = importlib.import_module("kbuild_tasks.stages.release")

        def leave(node: Node) -> str | KbuildError:
            context = self._pipeline.context(f"release:{node.name}", node)
            try:
                line: str = release.release_node(context, node, tree=tree)
                return line
            except KbuildError as error:
                return error
            except OSError as error:
                return KbuildError(f"{error.filename or node.name}: {error.strerror or error}")

        with ThreadPoolExecutor(len(nodes), initializer=shell.permit) as pool:
            return {node.name: told for node, told in zip(nodes, pool.map(leave, nodes), strict=True)}
