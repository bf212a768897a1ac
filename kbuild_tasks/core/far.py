"""The one name under which all workers are asked for the compiler, where some are of another architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def far_name(
    remote: list[tuple[int, str, str]],
    facts_by_node: Mapping[str, Mapping[str, Any]],
    coordinator: str,
    left_out: list[tuple[str, str]],
) -> str:
    """HostPlan.far (core/hosts.py); takes those out of `remote` (slots, node, ADDRESS:PORT) that have not the name that
    all must have, or the foreign ones, if that costs fewer slots."""

    def mode(name: str, key: str) -> str:
        return str((facts_by_node[name].get("mode") or {}).get(key) or "")

    full, own = mode(coordinator, "full"), mode(coordinator, "cc")
    other = [name for _, name, _ in remote if mode(name, "cc") != own]
    foreign = [name for name in other if mode(name, "cc") == full]
    strange = [name for name in other if name not in foreign]
    out = {name: f"{coordinator} has no {mode(name, 'cc')}, as it could be asked for there" for name in strange}
    lacking = [name for _, name, _ in remote if mode(name, "full") != full and name not in out]
    lent = {name: count for count, name, _ in remote}
    if foreign and sum(lent[name] for name in lacking) > sum(lent[name] for name in foreign):
        told = f"{', '.join(lacking)} lend more slots, and have no {full} (/usr/lib/distcc), as gcc is called there"
        out |= dict.fromkeys(foreign, told)
        foreign = []
    elif foreign:
        out |= dict.fromkeys(lacking, f"it has no {full} (/usr/lib/distcc), as gcc is called on {foreign[0]}")
    remote[:] = [entry for entry in remote if entry[1] not in out]
    left_out += out.items()
    return full if foreign else ""
