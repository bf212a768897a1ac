"""The stages: what each did when it last did something, and why it ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kbuild_tasks.core.when import when
from kbuild_tasks.report import chart
from kbuild_tasks.report.html import Html, chip, join, missing, more, section, table, tag
from kbuild_tasks.report.model import Material, strings
from kbuild_tasks.report.words import took

KINDS = {"done": "ok", "fresh": "quiet", "failed": "bad", "held": "warn", "ignored": "warn", "left out": "warn"}


def stages(told: Material) -> Html:
    """A line a verb; what was done on each node stands behind it."""
    verbs: dict[str, list[str]] = {}
    for name in dict.fromkeys([*told.tasks, *told.last, *told.acted]):
        verbs.setdefault(name.partition(":")[0], []).append(name)
    entries = {verb: [told.acted[name] for name in names if name in told.acted] for verb, names in verbs.items()}
    longest = max((_seconds(found) for found in entries.values()), default=0.0)
    rows: list[list[Any]] = []
    for verb, names in verbs.items():
        found = entries[verb]
        if not found and not any(name in told.last for name in names):
            continue
        seconds = _seconds(found)
        rows.append(
            [
                tag("b", verb, class_="verb"),
                _state(told, names),
                _what(told, names),
                join(tag("span", took(seconds)), chart.bar(seconds / longest if longest else 0)) if found else "",
                tag("span", _when(found), class_="nowrap"),
            ]
        )
    if not rows:
        return section("stages", "Stages", missing("No stage has run yet: doit"))
    note = "what each did when it last did something"
    return section(
        "stages", "Stages", table(["stage", "last run", "what and why", "took", "at"], rows, "stack"), note=note
    )


def _seconds(found: Sequence[Mapping[str, Any]]) -> float:
    """Nodes work at once: the slowest counts."""
    return max((e["seconds"] for e in found if isinstance(e.get("seconds"), int | float)), default=0.0)


def _when(found: Sequence[Mapping[str, Any]]) -> str:
    return when(max((e["at"] for e in found if isinstance(e.get("at"), int | float)), default=None))


def _state(told: Material, names: Sequence[str]) -> Html | None:
    last = [told.last[name] for name in names if name in told.last]
    states = ["left out" if entry.get("left_out") else str(entry.get("state")) for entry in last]
    for state in ("failed", "held", "done", "fresh", *states):
        if state in states:
            return chip(state, KINDS.get(state, ""))
    return None


def _what(told: Material, names: Sequence[str]) -> Html:
    if len(names) == 1 and ":" not in names[0]:
        return _one(told.acted.get(names[0], {}))
    lines = [
        tag("li", tag("b", name.partition(":")[2]), " ", _one(told.acted[name])) for name in names if name in told.acted
    ]
    return more(f"{len(lines)} node{'s' if len(lines) != 1 else ''}", tag("ul", lines)) if lines else Html("")


def _one(entry: Mapping[str, Any]) -> Html:
    why = strings(entry.get("why"))
    message = entry.get("message")
    failed = entry.get("state") == "failed"
    reasons = tag("div", "failed: " if failed else "because: ", "; ".join(why), class_="why") if why else None
    return join(tag("div", message) if message and not failed else None, reasons)
