"""`doit simulate`: how long a build would take with other nodes. Opens no connection; writes build/simulate.svg."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from doit.cmd_base import DoitCmdBase

from kbuild_tasks.core.visible import visible
from kbuild_tasks.plugin.commands import OPT_JSON, refused
from kbuild_tasks.plugin.stream import guarded
from kbuild_tasks.plugin.usage import Usage

if TYPE_CHECKING:
    from kbuild_tasks.core.predict import Curve, Site
    from kbuild_tasks.core.trace import Timeline

OPT_NODES: dict[str, Any] = {
    "name": "nodes",
    "short": "",
    "long": "nodes",
    "type": str,
    "default": "1..64",
    "help": "how many nodes beside the coordinator: 1..64, 3, or 1,2,3",
}
OPT_KIND: dict[str, Any] = {
    "name": "kind",
    "short": "",
    "long": "kind",
    "type": list,
    "default": [],
    "help": "CORES,SPEED[,MB/S]: nodes of that kind, SPEED beside the coordinator's core; may be given more than once; "
    "default: the nodes that there are",
}


class Simulate(Usage, DoitCmdBase):
    """`doit simulate [--nodes 1..64] [--kind 4,0.5]... [--json]`"""

    name = "simulate"
    doc_purpose = "how long a build would take with 1 to 64 nodes, what bounds it, what would help; build/simulate.svg"
    doc_usage = "[--nodes 1..64] [--kind 4,0.5]... [--json]"
    doc_description = None
    cmd_options = (OPT_NODES, OPT_KIND, OPT_JSON)

    def execute(self, params: Any, args: list[str]) -> Any:
        return refused(self.name, args) or super().execute(params, args)

    @guarded
    def _execute(self, nodes: str, kind: list[str], as_json: bool) -> int:
        from kbuild_tasks.core import predict
        from kbuild_tasks.effects.files import write_atomic
        from kbuild_tasks.plugin.tasks import current
        from kbuild_tasks.report.plot import plot

        numbers = predict.counts(nodes)
        kinds = [predict.kind(text) for text in kind]
        told = gather(current().project)
        if not kinds and not told.nodes:
            kinds = [predict.Kind(told.own.capacity)]
        curves = [predict.curve(told, numbers, one) for one in kinds] or [predict.curve(told, numbers)]
        path = current().project.paths.build / "simulate.svg"
        write_atomic(path, plot(curves), durable=False)
        if as_json:
            self.outstream.write(json.dumps(as_plain(told, curves), indent=1) + "\n")
        else:
            self.outstream.write(visible("\n".join(table(told, curves))) + f"\n  {visible(os.path.relpath(path))}\n")
        return 0


def gather(project: Any) -> Site:
    """All that is known of this project's nodes and of its last whole build, from files."""
    from dataclasses import replace

    from kbuild_tasks.core import calibration, lending, predict
    from kbuild_tasks.effects import speed
    from kbuild_tasks.effects.files import read_record

    cluster, paths = project.cluster, project.paths
    records = {name: read_record(paths.facts(name)) for name in cluster.nodes}
    facts = {name: told["facts"] for name, told in records.items() if told.get("facts")}
    usable, notes = calibration.usable(speed.calibrations(paths, cluster.nodes), facts, cluster.build.coordinator)
    limits = {node.name: lending.limit(node, records[node.name]) for node in cluster.workers}
    line, compiled, whole = _last_build(paths)
    told = predict.site(
        {name: one for name, one in usable.items() if name in limits or name == cluster.build.coordinator},
        cluster.build.coordinator,
        line,
        compiled,
        whole=whole,
        cores=int(facts.get(cluster.build.coordinator, {}).get("cores") or os.cpu_count() or 1),
        limits=limits,
        local=cluster.coordinator.slots,
    )
    now = (read_record(paths.receipt("configure")).get("results") or {}).get("config_sha256")
    other = ["that build was of another .config"] if whole and now and now != compiled.get("config") else []
    return replace(told, said=(*told.said, *other, *notes))


def _last_build(paths: Any) -> tuple[Timeline | None, dict[str, Any], bool]:
    """Trace, record, and whether that build made all: of the last one that is known to have; else of the last one."""
    from kbuild_tasks.core import trace
    from kbuild_tasks.effects import trace as kept
    from kbuild_tasks.effects.files import read_json, read_record

    value = read_json(kept.whole(paths))
    if line := trace.read(value):
        return line, value["otherData"], True
    done = read_record(paths.build / "last-done.json").get("tasks") or {}
    return trace.read(read_json(kept.path(paths))), done.get("compile") or {}, False


def table(told: Site, curves: Sequence[Curve]) -> list[str]:
    """Lines for a terminal."""
    from kbuild_tasks.core.progress import duration

    lines = [f"  {line}" for line in told.said]
    for curve in curves:
        lines += ["", f"  {curve.name}: {duration(curve.alone.seconds)} by the coordinator alone"]
        head = f"{'nodes':>5}  {'time':>9}  {'times':>6}  {'-j':>4}  {'cpu':>4}  {'link':>4}  {'nodes busy':>10}"
        lines.append(f"  {head}  bound by")
        for point in curve.points:
            one = point.told
            lines.append(
                f"  {point.nodes:>5}  {duration(one.seconds):>9}  {curve.alone.seconds / one.seconds:>5.2f}x  "
                f"{point.jobs:>4}  {one.cpu:>4.0%}  {one.link:>4.0%}  {one.workers:>10.0%}  {one.bound}"
            )
        lines += [f"  {line}" for line in curve.advice]
    return lines


def as_plain(told: Site, curves: Sequence[Curve]) -> dict[str, Any]:
    """Seconds, shares 0..1."""
    return {
        "inputs": list(told.said),
        "work": {"objects": told.work.objects, "head": round(told.work.head, 2), "tail": round(told.work.tail, 2)},
        "curves": [
            {
                "nodes": curve.name,
                "alone": round(curve.alone.seconds, 2),
                "advice": list(curve.advice),
                "points": [
                    {
                        "nodes": point.nodes,
                        "seconds": round(point.told.seconds, 2),
                        "jobs": point.jobs,
                        "bound": point.told.bound,
                        "coordinator": round(point.told.cpu, 3),
                        "network": round(point.told.link, 3),
                        "workers": round(point.told.workers, 3),
                    }
                    for point in curve.points
                ],
            }
            for curve in curves
        ],
    }
