"""`doit adopt`: this coordinator goes on with what another one has built. And the hint to it in `doit plan`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kbuild_tasks.core.errors import ConfigError, KbuildError
from kbuild_tasks.core.model import Node, Outcome

if TYPE_CHECKING:
    from kbuild_tasks.core.origin import Origin
    from kbuild_tasks.plugin.tasks import Pipeline

TASK = "adopt"


class Adoption:
    """The task of one project; from_, project, replace: `doit adopt from=kubenode1 project=/srv/kernel replace=yes`."""

    def __init__(self, pipeline: Pipeline, from_: str | None, project: str | None, replace: str | None) -> None:
        self.pipeline, self.from_ = pipeline, from_
        self.project = os.path.normpath(project) if project else None
        if project and not project.startswith("/"):
            raise ConfigError(f"project={project}: not an absolute path", "name the project's directory there")
        if replace not in (None, "yes", "no"):
            raise ConfigError(f"replace={replace}: yes or no", "doit adopt replace=yes")
        self.replace = replace == "yes"

    def tasks(self) -> Iterator[dict[str, Any]]:
        yield {
            "basename": TASK,
            "doc": "fetch what another coordinator has built, so that only what differs is built here",
            "uptodate": [False],
            "setup": [f"prepare:{self.pipeline.project.cluster.build.coordinator}"],
            "actions": [self.pipeline.action(TASK, self._act)],
        }

    def hint(self) -> str:
        """One line for a plan, while nothing was built here and another coordinator is known to have; else ""."""
        from kbuild_tasks.plugin.tasks import STAGES

        origin, paths = self.known(), self.pipeline.project.paths
        if origin is None:
            return ""
        from kbuild_tasks.effects import adopted

        if adopted.in_the_way(paths, tuple(STAGES)) and not adopted.was_ended(paths, tuple(STAGES)):
            return ""
        name = origin.coordinator
        if name not in self.pipeline.project.cluster.nodes:
            return f"{name} was the coordinator before, and is no node of cluster.yaml any more: all is made here"
        return f"{name} was the coordinator before: if it answers, doit adopt fetches what it built in {origin.project}"

    def known(self) -> Origin | None:
        """The other coordinator that sync's sets on this machine tell of."""
        from kbuild_tasks.effects import synced

        project = self.pipeline.project
        return synced.other(project.paths.root, project.cluster.build.coordinator)

    def _act(self) -> Outcome:
        from dataclasses import replace

        from kbuild_tasks.effects.files import write_atomic
        from kbuild_tasks.plugin import run
        from kbuild_tasks.plugin.tasks import STAGES
        from kbuild_tasks.stages import adopt

        if not run.asked_only((TASK,)):  # stages of the same run would be beside it in threads, under the same locks
            raise KbuildError("adopt runs alone: with it, other tasks were asked for", "doit adopt; then doit")
        self.pipeline.take_lock()
        node, origin = self._source()
        project = self.project or (origin and origin.project)
        if not project:
            raise KbuildError(
                f"nothing here tells where {node.name} has built: no set of it is left on this machine",
                f"doit adopt from={node.name} project=DIRECTORY names the project's directory there",
            )
        context = replace(self.pipeline.context(TASK, node), receipts={})
        write_atomic(context.log, f"doit {TASK}\n", durable=False)
        known = origin and self.project in (None, os.path.normpath(origin.project))
        workdir = origin.workdir if origin and known else str(context.paths.workdir)
        return adopt.run(context, adopt.Wanted(project, workdir, tuple(STAGES), self.replace))

    def _source(self) -> tuple[Node, Origin | None]:
        """Whom to ask, and what is known of it. Raises KbuildError."""
        cluster, origin = self.pipeline.project.cluster, self.known()
        name = self.from_ or (origin.coordinator if origin else "")
        if not name:
            raise KbuildError(
                "nothing on this machine tells of another coordinator",
                "doit adopt from=NODE project=DIRECTORY names it, and its project's directory",
            )
        if name not in cluster.nodes:
            raise KbuildError(f"{name} is no node of {cluster.source}", f"its nodes: {' '.join(cluster.nodes)}")
        if cluster.nodes[name].hold and not self.from_:
            raise KbuildError(
                f"{name} is on hold: nothing is asked of it", f"doit adopt from={name} asks it all the same"
            )
        if name == cluster.build.coordinator:
            raise KbuildError(f"{name} is this coordinator", "doit adopt from=NODE names another one")
        if cluster.ssh.sudo == "helper":
            raise KbuildError(
                f"{name} lets {cluster.ssh.user} run the helper alone (ssh.sudo), which reads no project",
                "doit makes all of it here",
            )
        return cluster.nodes[name], origin if origin and origin.coordinator == name else None
