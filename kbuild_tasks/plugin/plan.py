"""What a run would do, and why: told from receipts and files alone. Opens no connection, changes nothing.

A stage whose own inputs changed will run. One that follows it may be spared: that depends on what the first one
results in (early cut-off), so it is told as "maybe". prepare runs when a stage that needs it does.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
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
    warnings: tuple[str, ...] = ()  # what of the PKGBUILD works otherwise than it seems
    at_least: bool = False  # of objects: the .config may change too, and what that touches is known to kbuild alone


def plan(pipeline: Pipeline) -> list[Step]:
    """Every task that plain `doit` looks at, in the order in which it would run."""
    states: dict[str, Step] = {}
    for task in (*(f"sync:{node.name}" for node in pipeline.project.cluster.active), *STAGES):
        step = _step(pipeline, task, states)
        if step.state in ("fresh", "maybe") and pipeline.receipts.read(task) and pipeline.forgotten(task):
            step = replace(step, state="run", why=["forgotten (doit forget)"])
        elif step.state == "broken" and (same := [s.task for s in states.values() if s.why == step.why]):
            step = replace(step, why=[f"as {same[0]}"])
        states[task] = replace(step, warnings=pipeline.project.remarks(task) if step.state in ("run", "maybe") else ())
    return _prepares(pipeline, states) + list(states.values())


def as_json(steps: list[Step], rollout: list[Step], hint: str = "") -> dict[str, Any]:
    """`rollout` is told apart: plain `doit` does none of it. hint: what `doit adopt` could spare, "" where nothing."""
    return {
        "fresh": all(step.state == "fresh" for step in steps),
        "tasks": [asdict(step) for step in steps],
        "rollout": [asdict(step) for step in rollout],
        "adopt": hint,
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
        objects, more = _objects(pipeline, task, before)
        return Step(task, "run", own or why, objects, at_least=more)
    if running:
        why = [f"if the result of {' or '.join(running)} changes"]
        objects, more = _objects(pipeline, task, before)
        return Step(task, "maybe", why, objects, at_least=more)
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


def _objects(pipeline: Pipeline, task: str, before: dict[str, Step]) -> tuple[list[str], bool]:
    """Objects of the built tree that depend on what changed patches touch, empty where that cannot be told; and
    whether there may be more."""
    extracted = (pipeline.receipts.read("extract") or {}).get("results", {})
    if task != "compile" or not {"pkgbase", "srctree"} <= set(extracted):
        return [], False
    from kbuild_tasks.effects.dependents import objects_behind

    tree = pipeline.project.paths.builddir / extracted["pkgbase"] / "src" / extracted["srctree"]
    more = before["configure"].state == "run"
    return objects_behind(pipeline.project, tree, pipeline.receipts.read("patch")), more
