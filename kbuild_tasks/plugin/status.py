"""`doit status`: what is known without asking anybody: the lock, the last run, nodes as last seen, the artifacts."""

from __future__ import annotations

import time
from typing import Any

from kbuild_tasks.effects import lock
from kbuild_tasks.effects.files import read_json
from kbuild_tasks.plugin import rollout_status
from kbuild_tasks.plugin.plan import plan
from kbuild_tasks.plugin.tasks import Pipeline


def status(pipeline: Pipeline, ask: bool = False) -> dict[str, Any]:
    """Plain JSON: {"running", "last_run", "nodes", "artifacts", "stale", "rollout"}."""
    paths = pipeline.project.paths
    manifest = read_json(paths.artifacts / "manifest.json") or {}
    return {
        "running": lock.holder(paths.build / ".lock"),
        "last_run": read_json(paths.build / "last-run.json"),
        "nodes": {name: _node(pipeline, name) for name in pipeline.project.cluster.nodes},
        "artifacts": {
            "kernelrelease": manifest.get("kernelrelease"),
            "packages": manifest.get("packages") or [],
        },
        "stale": [
            step.task for step in plan(pipeline) if step.state != "fresh" and not step.task.startswith("prepare")
        ],
        "rollout": rollout_status.status(pipeline, ask),
    }


def _node(pipeline: Pipeline, name: str) -> dict[str, Any]:
    cluster = pipeline.project.cluster
    seen = read_json(pipeline.project.paths.facts(name)) or {}
    role = "coordinator" if name == cluster.build.coordinator else "worker"
    if cluster.nodes[name].slots == 0 and role == "worker":
        role = "no slots"
    if cluster.nodes[name].hold:
        role = "on hold"
    facts = seen.get("facts") or {}
    return {
        "role": role,
        "state": seen.get("state", "never seen"),
        "why": seen.get("why"),
        "at": seen.get("at"),
        "kernel": facts.get("kernel"),
        "cores": facts.get("cores"),
        "memory": facts.get("memory"),
    }


def render(value: dict[str, Any]) -> str:
    """The same as a few lines for a person."""
    lines = []
    running = value["running"]
    if running is not None:
        lines.append(f"  a run is in progress: pid {running.get('pid', '?')}, since {running.get('since', '?')}")
    last = value["last_run"]
    lines.append(
        f"  last run   {last['result']}, {last['started']}, {last['seconds']:.1f} s" if last else "  last run   none"
    )
    kernel = value["artifacts"]["kernelrelease"]
    lines.append(f"  artifacts  {kernel}" if kernel else "  artifacts  none")
    lines.append(f"  stale      {' '.join(value['stale']) or 'nothing'}")
    lines.append(f"  {'node':<16} {'role':<12} {'state':<11} {'cores':>5} {'memory':>9}  {'kernel':<20} seen")
    for name, node in value["nodes"].items():
        memory = f"{node['memory'] / 2**30:.1f} GiB" if node["memory"] else "-"
        seen = time.strftime("%Y-%m-%d %H:%M", time.localtime(node["at"])) if node["at"] else "never"
        lines.append(
            f"  {name:<16} {node['role']:<12} {node['state']:<11} {node['cores'] or '-':>5} {memory:>9}  "
            f"{node['kernel'] or '-':<20} {seen}"
        )
        if node["why"]:
            lines.append(f"  {'':<16} {node['why']}")
    return "\n".join(lines) + "\n\n" + rollout_status.render(value["rollout"])
