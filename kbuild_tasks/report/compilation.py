"""The compilation: who made what and when, what fell back, what took long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from kbuild_tasks.core.spans import CACHED, FALLBACK, Span
from kbuild_tasks.core.trace import Timeline
from kbuild_tasks.core.when import when
from kbuild_tasks.report import chart
from kbuild_tasks.report.html import Html, code, join, missing, more, section, table, tag
from kbuild_tasks.report.model import Material, fallback_count, grouped, object_count
from kbuild_tasks.report.words import plural, took

LONGEST = 12
FALLBACKS = 100  # objects named for a reason
KINDS = {"plan": "by plan", "design": "local by design", "fallback": "fell back", "cached": "from ccache"}


def compilation(told: Material) -> Html:
    line = told.timeline
    if line is None and not told.compiled:
        return section("compile", "Compilation", missing("Nothing was compiled yet."))
    return section(
        "compile",
        "Compilation",
        _bound(told),
        _timeline(line) if line else missing("When and where each object was made is not known: build/trace.json."),
        _share(told, line),
        _fallbacks(told),
        _longest(line),
        note=_note(told, line),
    )


def _bound(told: Material) -> Html | None:
    """What it waited for, in the words that the run itself told."""
    found = told.compiled.get("bound")
    sentence = found.get("sentence") if isinstance(found, Mapping) else None
    return tag("p", f"It was {sentence}.", class_="lead") if isinstance(sentence, str) and sentence else None


def _note(told: Material, line: Timeline | None) -> str:
    if line is None:
        return ""
    failed = ", which failed" if line.failed else ""
    return f"of {when(line.began)}{failed}; build/trace.json opens in Perfetto (ui.perfetto.dev)"


def _timeline(line: Timeline) -> Html:
    each = len(line.spans) <= chart.EACH
    rows = sum(line.slots.values()) or len(line.nodes)
    height = 14 if rows <= 12 else 8 if rows <= 48 else 4
    lanes: list[Html] = []
    if line.phases:
        lanes.append(_row("phases", "", chart.phases(line.phases, line.seconds)))
    for node in line.nodes:
        own = [span for span in line.spans if span.node == node]
        if own:
            about = plural(len(own), "object")
            lanes.append(_row(node, about, chart.node_lanes(own, line.seconds, height, each)))
    if line.cpu:
        share = sum(share for _, share in line.cpu) / len(line.cpu)
        lanes.append(_row("coordinator CPU", f"{share:.0%} on average", chart.area(line.cpu, line.seconds)))
    kinds = [kind for kind in KINDS if any(span.kind == kind for span in line.spans)]
    legend = [tag("span", tag("i", class_=f"key k-{kind}"), KINDS[kind]) for kind in kinds]
    phases = [tag("span", tag("i", class_=f"key p-{n}"), n) for n in dict.fromkeys(n for n, *_ in line.phases)]
    told = "" if each else f"The longest {chart.NAMED} and those that fell back are named under the pointer."
    return join(
        tag("div", lanes, _row("", "", chart.axis(line.seconds)), class_="lanes"),
        tag("p", "objects:", legend, class_="legend"),
        tag("p", "phases:", phases, class_="legend") if phases else None,
        tag("p", told, class_="legend") if told else None,
    )


def _row(name: str, about: str, drawn: Any) -> Html:
    label = tag("div", tag("b", name), tag("small", about) if about else None, class_="label")
    return tag("div", label, tag("div", drawn, class_="drawn"), class_="lane")


def _share(told: Material, line: Timeline | None) -> Html | None:
    compiled = told.compiled
    counts = compiled.get("per_node")
    counts = {str(k): v for k, v in counts.items() if isinstance(v, int)} if isinstance(counts, Mapping) else {}
    slots = compiled.get("slots") if isinstance(compiled.get("slots"), Mapping) else {}
    total = sum(counts.values())
    if not total:
        return None
    rows: list[list[Any]] = []
    for node in sorted(counts, key=lambda name: (-counts[name], name)):
        own = [s for s in line.spans if s.node == node and s.kind != CACHED] if line else []
        rows.append(
            [
                join(tag("b", node), tag("small", " coordinator") if node == told.coordinator else None),
                join(chart.bar(counts[node] / total)),
                f"{counts[node] / total:.0%}",
                counts[node],
                slots.get(node, "–") if isinstance(slots, Mapping) else "–",
                _busy(own, line, slots.get(node) if isinstance(slots, Mapping) else None),
                f"{median(s.seconds for s in own):.2f} s" if own else "–",
                took(max(s.seconds for s in own)) if own else "–",
            ]
        )
    head = ["node", "share", "#share", "#objects", "#slots", "#slots busy", "#median", "#longest"]
    design = compiled.get("local_by_design")
    design = dict(design) if isinstance(design, Mapping) else {}
    alone = design.pop("alone", 0)
    local = ", ".join(f"{n} {why}" for why, n in design.items())
    return join(
        tag("h3", "Share per node"),
        table(head, rows, "share"),
        tag("p", "No worker took part.", class_="aside") if alone else None,
        tag("p", f"Local by design: {local} (docs/distcc.md has the reasons).", class_="aside") if local else None,
    )


def _busy(own: Sequence[Span], line: Timeline | None, slots: Any) -> str:
    """Of the time of the compile phase, in which slots could have been at work."""
    if line is None or not own or not isinstance(slots, int) or slots < 1:
        return "–"
    window = [(begin, end) for name, begin, end in line.phases if name == "compile"]
    spent = sum(max(0.0, min(s.end, end) - max(s.begin, begin)) for s in own for begin, end in window)
    there = slots * sum(end - begin for begin, end in window)
    return f"{min(1.0, spent / there):.0%}" if there > 0 else "–"


def _fallbacks(told: Material) -> Html | None:
    count, total = fallback_count(told.compiled), object_count(told.compiled)
    if not total:
        return None
    if not count:
        return join(tag("h3", "Fallbacks"), missing("None: every object was compiled where it was to be."))
    rows = []
    for why, names in grouped(told.compiled.get("fallbacks")):
        beyond = f" and {len(names) - FALLBACKS} more" if len(names) > FALLBACKS else ""
        listed = [tag("li", code(name)) for name in names[:FALLBACKS]]
        rows.append([len(names), why, more(names[0] + (" …" if names[1:] else ""), tag("ul", listed), beyond)])
    return join(
        tag("h3", "Fallbacks", tag("small", f"{count} of {total}, {count / total:.0%}")),
        table(["#objects", "reason", "which"], rows, "tight"),
    )


def _longest(line: Timeline | None) -> Html | None:
    spans = sorted((s for s in line.spans if s.kind != CACHED), key=lambda s: -s.seconds)[:LONGEST] if line else []
    if not spans:
        return None
    most = spans[0].seconds or 1.0
    rows = [
        [code(s.object), s.node, took(s.seconds), chart.bar(s.seconds / most, "bad" if s.kind == FALLBACK else "")]
        for s in spans
    ]
    return more("The longest objects", table(["object", "node", "#took", ""], rows))
