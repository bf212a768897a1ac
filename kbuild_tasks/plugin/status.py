"""`doit status`: what is known without asking anybody: the lock, the last run, nodes as last seen, the artifacts."""

from __future__ import annotations

from typing import Any

from kbuild_tasks.core.rollout import SHORT
from kbuild_tasks.core.visible import visible
from kbuild_tasks.core.when import when
from kbuild_tasks.effects import lock, quarantine
from kbuild_tasks.effects.files import read_record
from kbuild_tasks.plugin import rollout_status
from kbuild_tasks.plugin.plan import plan
from kbuild_tasks.plugin.tasks import Pipeline
from kbuild_tasks.report.words import took

FAILED = 5  # tasks of the last run that are told


def status(pipeline: Pipeline, ask: bool = False) -> dict[str, Any]:
    """Plain JSON: {"running", "last_run", "nodes", "artifacts", "stale", "rollout"}."""
    paths = pipeline.project.paths
    manifest = read_record(paths.artifacts / "manifest.json")
    steps = plan(pipeline)
    rollout = rollout_status.status(pipeline, ask)  # first: what nodes say now is shown in both tables
    return {
        "running": lock.holder(paths.build / ".lock"),
        "last_run": read_record(paths.build / "last-run.json") or None,
        "nodes": nodes(pipeline),
        "artifacts": {
            "kernelrelease": _of(str, manifest.get("kernelrelease")),
            "build": (_of(str, manifest.get("packages_sha256")) or "")[:SHORT] or None,
            "packages": _of(list, manifest.get("packages")) or [],
        },
        "stale": [step.task for step in steps if step.state != "fresh" and not step.task.startswith("prepare")],
        "rollout": rollout,
    }


def nodes(pipeline: Pipeline) -> dict[str, dict[str, Any]]:
    """Node -> as last seen; of one in quarantine, why."""
    cluster = pipeline.project.cluster
    told = {name: node(pipeline, name) for name in cluster.nodes}
    for name, record in quarantine.known(pipeline.project.paths, cluster).items():
        told[name] |= {"state": "quarantine", "why": f"{quarantine.since(record)}; doit trust:{name} lifts it"}
    return told


def node(pipeline: Pipeline, name: str) -> dict[str, Any]:
    cluster = pipeline.project.cluster
    seen = read_record(pipeline.project.paths.facts(name))
    role = "coordinator" if name == cluster.build.coordinator else "worker"
    if cluster.nodes[name].slots == 0 and role == "worker":
        role = "no slots"
    if cluster.nodes[name].hold:
        role = "on hold"
    facts = _of(dict, seen.get("facts")) or {}
    at, kernel = _of(float, seen.get("at")), _of(str, facts.get("kernel"))
    asked, answer = rollout_status.kept(pipeline.project.paths, name)
    if (_of(float, asked.get("at")) or 0) > (at or 0):  # by a roll-out, since
        at, kernel = asked["at"], answer.get("release")
    return {
        "role": role,
        "state": _of(str, seen.get("state")) or ("seen" if at else "never seen"),
        "why": _of(str, seen.get("why")),
        "at": at,
        "kernel": kernel,
        "cores": _of(int, facts.get("cores")),
        "memory": _of(int, facts.get("memory")),
    }


def _last_run(last: Any) -> list[str]:
    """How it ended, when, and by which tasks where it failed."""
    if not last:
        return ["  last run   none"]
    seconds = _of(float, last.get("seconds")) or 0
    lines = [f"  last run   {last.get('result')}, {when(last.get('started')) or '?'}, {took(seconds)}"]
    tasks = _of(dict, last.get("tasks")) or {}
    failed = {name: entry for name, entry in tasks.items() if _of(dict, entry) and entry.get("state") == "failed"}
    for name, entry in list(failed.items())[:FAILED]:
        why = _of(list, entry.get("why")) or ["failed"]
        lines.append(f"{'':<13}{name}: {why[0]}")
        lines += [f"{'':<13}  hint: {entry['hint']}"] if entry.get("hint") else []
    return lines + ([f"{'':<13}and {len(failed) - FAILED} more"] if len(failed) > FAILED else [])


def _of(kind: type, value: Any) -> Any:
    """`value` where it is of the kind that is shown; a file of ours may be damaged, or of another version."""
    return value if isinstance(value, kind) or (kind is float and isinstance(value, int)) else None


def render(value: dict[str, Any]) -> str:
    """The same as a few lines for a person."""
    lines = []
    running = value["running"]
    if running is not None:
        lines.append(f"  a run is in progress: pid {running.get('pid', '?')}, since {running.get('since', '?')}")
    lines += _last_run(value["last_run"])
    kernel, build = value["artifacts"]["kernelrelease"], value["artifacts"]["build"]
    lines.append(f"  artifacts  {kernel} (build {build})" if kernel else "  artifacts  none")
    lines.append(f"  stale      {' '.join(value['stale']) or 'nothing'}")
    lines.append(f"  {'node':<16} {'role':<12} {'state':<11} {'cores':>5} {'memory':>9}  {'kernel':<20} seen")
    for name, node in value["nodes"].items():
        memory = f"{node['memory'] / 2**30:.1f} GiB" if node["memory"] else "-"
        seen = when(node["at"]) or "never"
        lines.append(
            f"  {name:<16} {node['role']:<12} {node['state']:<11} {node['cores'] or '-':>5} {memory:>9}  "
            f"{node['kernel'] or '-':<20} {seen}"
        )
        if node["why"]:
            lines.append(f"  {'':<16} {node['why']}")
    return visible("\n".join(lines) + "\n\n" + rollout_status.render(value["rollout"]))
