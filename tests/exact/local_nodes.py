"""prepare, sync and release for a project whose one node is this machine, without root: they write the facts that the
real prepare would, and change nothing. All other stages are the real ones. Workers are daemons that run already:
KBUILD_TEST_WORKERS is JSON, node -> [address, port]."""

from __future__ import annotations

import json
import os
import sys
import time
import types

from kbuild_tasks.core.model import Inputs, Outcome
from kbuild_tasks.effects.files import write_json


def install() -> None:
    for verb in ("prepare", "sync", "release"):
        module = types.ModuleType(f"kbuild_tasks.stages.{verb}")
        module.inputs = lambda project, node: Inputs()
        module.run = _prepare if verb == "prepare" else lambda ctx: Outcome("in place")
        module.release_node = lambda ctx, node, tree=False: f"{node.name}: the tree stays"
        sys.modules[module.__name__] = module


def sync_others(real: types.ModuleType) -> None:
    """Let sync be the real one, but on the coordinator itself, where it is root's."""
    ours = sys.modules["kbuild_tasks.stages.sync"]
    ours.inputs = lambda project, node: real.inputs(project, node) if _is_other(project.cluster, node) else Inputs()
    ours.run = lambda ctx: real.run(ctx) if _is_other(ctx.cluster, ctx.node) else Outcome("in place")


def _is_other(cluster, node) -> bool:
    return node.name != cluster.build.coordinator


def _prepare(ctx) -> Outcome:
    facts = {"cores": 2, "memory": 8 << 30, "available": 4 << 30}
    record = {"node": ctx.node.name, "state": "ready", "why": "", "facts": facts, "at": time.time()}
    address, port = json.loads(os.environ.get("KBUILD_TEST_WORKERS", "{}")).get(ctx.node.name, ["127.0.0.1", 0])
    write_json(ctx.paths.facts(ctx.node.name), {**record, "mode": {"address": address, "port": port}})
    return Outcome("ready", final=False)
