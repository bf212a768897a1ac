"""The run that `doit reproduce` starts: the stages one after the other in a fresh place, on this machine alone.

A process of its own, for it lives in namespaces of its own (effects/fresh.py); no doit, no node: workers compiled the
packages of the manifest, perhaps, and here they are held against what this machine makes by itself.

    python -m kbuild_tasks.plugin.rebuild SPEC      SPEC: {"cluster", "workdir", "binds", "facts", "results"} as JSON
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.core.model import Cluster, Workdir
from kbuild_tasks.core.visible import visible
from kbuild_tasks.effects import fresh
from kbuild_tasks.effects.context import Context
from kbuild_tasks.effects.files import unreadable, write_json
from kbuild_tasks.effects.project import Project
from kbuild_tasks.effects.receipts import Receipts, digest

STAGES = ("extract", "patch", "configure", "compile", "package")


def alone(cluster: Cluster, workdir: str, reproducible: bool) -> Cluster:
    """The cluster without what leaves no trace in packages: workers, caches, signatures; built where it was built."""
    build = replace(
        cluster.build, workdir=Workdir(workdir, "off"), max_jobs=None, keep=0, ccache=0, sign_key=None,
        reproducible=reproducible,
    )  # fmt: skip
    own = replace(cluster.coordinator, slots=None, hold=False)
    return replace(cluster, build=build, nodes={own.name: own})


def run(spec: dict[str, Any]) -> None:
    """Raises KbuildError."""
    fresh.enter([(source, target) for source, target in spec["binds"]])
    os.environ["FAKEROOTDONTTRYCHOWN"] = "1"  # root is nobody's number there: EINVAL, where fakeroot(1) awaits EPERM
    loaded = Project.load(Path(spec["cluster"])).cluster
    project = Project(alone(loaded, spec["workdir"], spec["reproducible"]))
    receipts = Receipts(project.paths)
    name = project.cluster.build.coordinator
    record = {"node": name, "state": "ready", "why": "", "facts": spec["facts"]}
    write_json(project.paths.facts(name), {**record, "mode": {"address": "127.0.0.1", "port": 0}})
    known: dict[str, Any] = {}
    for stage in STAGES:
        module = importlib.import_module(f"kbuild_tasks.stages.{stage}")
        inputs = receipts.now(module.inputs(project))
        context = Context(project.cluster, project.paths, stage, None, known)
        outcome = module.run(context)
        receipts.write(stage, inputs, outcome.results)
        known[stage] = receipts.read(stage)
        tell(f"  done   {stage:<12} {outcome.message}")
        wanted = spec["results"].get(stage)
        if wanted and digest(project.paths.receipt(stage)) != wanted:
            tell(f"         warning: {stage} came out otherwise than for the manifest: what follows will differ")


def tell(line: str) -> None:
    sys.stdout.write(visible(line) + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    os.umask(0o022)
    try:
        run(json.loads(Path(arguments[0]).read_text("utf-8")))
    except KbuildError as error:
        tell(error.render())
        return 1
    except OSError as error:
        tell(unreadable(error).render())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
