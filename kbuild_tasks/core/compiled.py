"""A compilation in words: its one line, and what of it a person should know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from kbuild_tasks.core.distribution import Distribution
from kbuild_tasks.core.hosts import HostPlan


class Loss(Protocol):
    """A worker that was lost in mid-compile."""

    @property
    def node(self) -> str: ...
    @property
    def why(self) -> str: ...
    @property
    def jobs(self) -> int: ...


def message(told: Distribution, plan: HostPlan, coordinator: str) -> str:
    """ "7 objects, 5 on kubenode2, 2 on kubenode3, 0 local" """
    count, had = len(told.objects), len(told.cached)
    if not count:
        return f"{_objects(had)}, all from ccache" if had else "nothing to compile"
    objects = _objects(count) + (f" and {had} from ccache" if had else "")
    if not plan.hosts:
        return f"{objects}, all on {coordinator}: no worker took part"
    parts = [f"{told.per_node[node]} on {node}" for node in plan.workers if told.per_node.get(node)]
    return ", ".join([objects, *parts, f"{told.per_node.get(coordinator, 0)} local"])


def _objects(count: int) -> str:
    return "1 object" if count == 1 else f"{count} objects"


def grouped(told: Distribution) -> list[str]:
    """Reasons of fallbacks, the most frequent first: "12 x kubenode2 refused the connection (fs/ext4/inode.o, ...)"."""
    by_reason: dict[str, list[str]] = {}
    for entry in told.fallbacks:
        by_reason.setdefault(entry["reason"], []).append(entry["object"])
    lines = []
    for reason, objects in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        more = ", ..." if len(objects) > 2 else ""
        lines.append(f"{len(objects)} x {reason} ({', '.join(objects[:2])}{more})")
    return lines


def warnings(plan: HostPlan, told: Distribution, losses: Sequence[Loss], coordinator: str) -> Iterable[str]:
    if told.objects:
        for node, why in plan.left_out:
            yield f"{node} compiled nothing: {why}"
        yield from plan.unfit
    for loss in losses:
        yield f"{loss.node} {loss.why}: {loss.jobs} of its jobs {'was' if loss.jobs == 1 else 'were'} done elsewhere"
    lost_before = {loss.node for loss in losses}
    for node, count in told.lost.items():
        if node not in lost_before:
            yield f"{node} failed {count} job{'s' if count != 1 else ''}, which were done elsewhere"
    if told.fallbacks:
        yield f"{len(told.fallbacks)} of {told.far} objects fell back to {coordinator}:"
        yield from (f"  {line}" for line in grouped(told)[:3])
    for name, why in told.unsure:
        yield f"{name} could not be checked: {why}"
    if told.untold:
        yield f"distcc's record does not tell where {len(told.untold)} objects were compiled"
