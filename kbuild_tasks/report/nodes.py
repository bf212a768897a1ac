"""The roll-out, node by node, and the nodes as they were last seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kbuild_tasks.core.when import when
from kbuild_tasks.report.html import Html, chip, code, join, missing, section, table, tag
from kbuild_tasks.report.model import HALTED, Material, stands
from kbuild_tasks.report.words import seconds_of, took

STEPS = {
    "STAGED": "copied",
    "INSTALLED": "installed",
    "BOOTFILES_OK": "boot files",
    "DRAINED": "drained",
    "ARMED": "armed",
    "REBOOTING": "reboot",
    "BACK": "back",
    "VERIFIED": "verified",
    "VERIFIED2": "again",
    "COMMITTED": "default",
    "UNCORDONED": "done",
    "FELL_BACK": "fell back",
    "HELD": "held",
    "ROLLING_BACK": "rolling back",
    "ROLLED_BACK": "rolled back",
    "ALLOWED": "allowed",
}
BAD_STEPS = ("FELL_BACK", "HELD", "ROLLED_BACK")


def rollout(told: Material) -> Html:
    if not told.rollout:
        return section("rollout", "Roll-out", missing("No node takes part in a roll-out."))
    rows = []
    for node, entry in told.rollout.items():
        journal = [r for r in told.journals.get(node, ()) if isinstance(r, Mapping)]
        last = next((record["build"] for record in reversed(journal) if record.get("build")), None)
        own = [record for record in journal if record.get("build") == last]
        why = tag("div", entry["why"], class_="why") if entry.get("why") else None
        rows.append(
            [
                tag("b", node),
                chip(stands(entry), _kind(str(entry.get("state") or ""))),
                join(code(entry["running"]) if entry.get("running") else "never asked", why),
                code(entry["known_good"]) if entry.get("known_good") else "–",
                code(entry["trial"]) if entry.get("trial") else "–",
                _steps(own),
            ]
        )
    return section(
        "rollout",
        "Roll-out",
        table(["node", "state", "runs", "known-good", "trial", "steps of the last build there"], rows, "stack"),
        note="as the nodes' journals tell; doit status --ask asks them now",
    )


def _kind(state: str) -> str:
    if state.startswith(HALTED) or state.startswith("rolled back"):
        return "bad"
    if state.startswith("verified"):
        return "warn" if "," in state or "once" in state or "twice" in state else "ok"
    return "quiet" if state.startswith("not touched") else "busy"


def _steps(records: Sequence[Mapping[str, Any]]) -> Html | None:
    """Each step, and how long it took to the next one."""
    begin = max((n for n, record in enumerate(records) if record.get("state") == "STAGED"), default=0)
    records = records[begin:]
    if not records:
        return None
    items = []
    for number, record in enumerate(records):
        state = str(record.get("state"))
        at = seconds_of(record.get("at"))
        after = seconds_of(records[number + 1].get("at")) if number + 1 < len(records) else None
        spent = took(round(after - at)) if at is not None and after is not None else ""
        note = f"{record.get('at')} {record.get('note') or ''}".strip()
        word = STEPS.get(state, state)
        items.append(
            tag(
                "li",
                word,
                tag("small", spent) if spent else None,
                title=note,
                class_="bad" if state in BAD_STEPS else None,
            )
        )
    return join(tag("ol", items, class_="steps"), tag("small", when(records[0].get("at"))))


def nodes(told: Material) -> Html:
    if not told.nodes:
        return section("nodes", "Nodes", missing("cluster.yaml names no node."))
    rows = []
    for name, node in told.nodes.items():
        memory = node.get("memory")
        state = str(node.get("state") or "never seen")
        kind = {"ready": "ok", "left-out": "bad", "never seen": "quiet"}.get(state, "")
        rows.append(
            [
                tag("b", name),
                node.get("role") or "",
                join(chip(state, kind), tag("div", node["why"], class_="why") if node.get("why") else None),
                node.get("cores") or "–",
                f"{memory / 2**30:.1f} GiB" if isinstance(memory, int) else "–",
                code(node["kernel"]) if node.get("kernel") else "–",
                tag("span", when(node.get("at")) or "never", class_="nowrap"),
            ]
        )
    head = ["node", "role", "state", "#cores", "#memory", "kernel", "seen"]
    return section("nodes", "Nodes", table(head, rows, "stack"), note="as they were when a build last asked them")
