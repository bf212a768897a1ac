"""What a run would do, and why: told from receipts and files alone. Opens no connection, changes nothing.

A stage whose own inputs changed will run. One that follows it may be spared: that depends on what the first one
results in (early cut-off), so it is told as "maybe". prepare runs when a stage that needs it does.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.plugin.tasks import ALL_NODES, STAGES, Pipeline


@dataclass(frozen=True)
class Step:
    """One task of a plan. state: run | maybe | fresh | broken (a file of the user's must be mended first)."""

    task: str
    state: str
    why: list[str] = field(default_factory=list)
    objects: list[str] = field(default_factory=list)


def plan(pipeline: Pipeline) -> list[Step]:
    """Every task that plain `doit` looks at, in the order in which it would run."""
    cluster = pipeline.project.cluster
    steps = [_step(pipeline, f"sync:{node.name}", {}) for node in cluster.active]
    states = {step.task: step for step in steps}
    for stage in STAGES:
        states[stage] = _step(pipeline, stage, states)
        steps.append(states[stage])
    return _prepares(pipeline, states) + steps


def as_json(steps: list[Step], rollout: list[Step]) -> dict[str, Any]:
    """`rollout` is told apart: plain `doit` does none of it."""
    return {
        "fresh": all(step.state == "fresh" for step in steps),
        "tasks": [asdict(step) for step in steps],
        "rollout": [asdict(step) for step in rollout],
    }


def _step(pipeline: Pipeline, task: str, before: dict[str, Step]) -> Step:
    try:
        inputs = pipeline.declared(task)
        why = pipeline.why(task)
    except KbuildError as error:
        return Step(task, "broken", [error.message, *error.evidence, *([f"hint: {error.hint}"] if error.hint else [])])
    running = [stage for stage in inputs.receipts if before.get(stage) and before[stage].state != "fresh"]
    # "patch is new", "result of patch changed" only repeat what is said of patch itself
    own = [text for text in why if not any(text.endswith(f"{stage} is new") for stage in running)]
    if own or (why and not running):
        objects = _objects(pipeline, before) if task == "compile" else []
        return Step(task, "run", own or why, objects)
    if running:
        objects = _objects(pipeline, before) if task == "compile" else []
        return Step(task, "maybe", [f"if the result of {' or '.join(running)} changes"], objects)
    return Step(task, "fresh")


def _prepares(pipeline: Pipeline, states: dict[str, Step]) -> list[Step]:
    cluster = pipeline.project.cluster
    needs = [stage for stage in STAGES if states[stage].state in ("run", "maybe")]
    steps = []
    for name in cluster.nodes:
        first = next((s for s in needs if s == ALL_NODES or name == cluster.build.coordinator), None)
        steps.append(
            Step(f"prepare:{name}", "run", [f"{first} needs it"]) if first else Step(f"prepare:{name}", "fresh")
        )
    return steps


def _objects(pipeline: Pipeline, before: dict[str, Step]) -> list[str]:
    """Objects of the built tree that depend on what changed patches touch; empty where that cannot be told."""
    from kbuild_tasks.effects.dependents import objects_behind

    extracted = (pipeline.receipts.read("extract") or {}).get("results", {})
    if not {"pkgbase", "srctree"} <= set(extracted):
        return []
    tree = pipeline.project.paths.builddir / extracted["pkgbase"] / "src" / extracted["srctree"]
    return objects_behind(pipeline.project, tree, pipeline.receipts.read("patch"))
