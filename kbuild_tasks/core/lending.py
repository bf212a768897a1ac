"""How many jobs a node can carry, by its cores, its memory and its distccd."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kbuild_tasks.core import model

SLOTS_PER_CORE = 1.15  # measured, directives-only: (0.045 preprocess + send + 0.40 remote) / 0.40 CPU s per object
_MIB = 1 << 20


@dataclass(frozen=True)
class Lent:
    """Slots that a node can carry, and why they are fewer than its cores or cluster.yaml ask for ("" if not)."""

    slots: int
    reason: str = ""


def slots(node: model.Node, facts: Mapping[str, Any]) -> int:
    """Compile jobs that a node can carry: facts {"cores": n, "memory": bytes, "available": bytes}, see lend()."""
    return lend(node, facts).slots


def lend(node: model.Node, facts: Mapping[str, Any]) -> Lent:
    """Slots from cluster.yaml, or from the cores, never more than memory_per_job fits into the available memory."""
    cores = max(1, int(facts.get("cores") or 1))
    wanted = round(cores * SLOTS_PER_CORE) if node.slots is None else node.slots
    available = facts.get("available")
    if available is None and facts.get("memory") is not None:
        available = int(facts["memory"]) * 3 // 4
    if available is None or node.memory_per_job <= 0:
        return Lent(wanted)
    fits = max(0, int(available)) // node.memory_per_job
    if wanted <= fits:
        return Lent(wanted)
    return Lent(
        fits,
        f"{node.name} lends {fits} of {wanted} slots: {int(available) // _MIB} MiB of memory are available, "
        f"a job needs {node.memory_per_job // _MIB} MiB (memory_per_job)",
    )


def limit(node: model.Node, record: Mapping[str, Any]) -> int:
    """Slots that a worker can carry whatever its cores: distccd's own --jobs, and what fits into its memory."""
    facts = record.get("facts") or {}
    jobs = (record.get("mode") or {}).get("jobs")
    return slots(node if jobs is None else replace(node, slots=int(jobs)), facts)
