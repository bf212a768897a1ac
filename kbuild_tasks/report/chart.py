"""Charts as SVG without words in it: it is stretched to the page's width, and its height stays. Words stand beside it
in HTML, so that they are as large on a telephone as on a wall."""

from __future__ import annotations

from collections.abc import Sequence

from kbuild_tasks.core.spans import FALLBACK, PLAN, Span, lanes
from kbuild_tasks.report.html import Html, tag
from kbuild_tasks.report.words import took

WIDTH = 1000  # units, whatever the width
EACH = 3000  # objects that are drawn one by one, and named under the pointer; of more, the longest and the fallbacks
NAMED = 200


def node_lanes(spans: Sequence[Span], seconds: float, height: int, each: bool) -> Html:
    """One node's objects, a row a slot."""
    taken = lanes(spans)
    rows = max(taken, default=0) + 1
    placed = list(zip(spans, taken, strict=True))
    alone = placed
    parts: list[Html] = []
    if not each:
        order = sorted(placed, key=lambda item: (item[0].kind != FALLBACK, -item[0].seconds))
        alone = order[:NAMED]
        for kind in dict.fromkeys(span.kind for span in spans):
            rest = [item for item in order[NAMED:] if item[0].kind == kind]
            if rest:
                parts.append(tag("path", d=_path(rest, seconds, height), class_=f"k-{kind}"))
    for span, lane in alone:
        name = tag("title", f"{span.object}  {took(span.seconds)}{_said(span.kind)}")
        x, width = _place(span, seconds)
        parts.append(tag("rect", name, x=x, y=lane * height, width=width, height=height - 1, class_=f"k-{span.kind}"))
    return _svg(rows * height, parts, "timeline")


def _said(kind: str) -> str:
    return "" if kind == PLAN else {"design": ", local by design", "fallback": ", fell back"}.get(kind, f", {kind}")


def _path(placed: Sequence[tuple[Span, int]], seconds: float, height: int) -> str:
    """All in one: a hundred bytes less for each."""
    parts = []
    for span, lane in placed:
        x, width = _place(span, seconds)
        parts.append(f"M{x} {lane * height}h{width}v{height - 1}h-{width}z")
    return "".join(parts)


def _place(span: Span, seconds: float) -> tuple[float, float]:
    scale = WIDTH / seconds if seconds > 0 else 0.0
    return round(span.begin * scale, 1), max(0.6, round(span.seconds * scale - 0.2, 1))


def phases(found: Sequence[tuple[str, float, float]], seconds: float) -> Html:
    parts = []
    for name, begin, end in found:
        x, width = _place(Span(name, "", begin, end), seconds)
        parts.append(tag("rect", tag("title", f"{name}  {took(end - begin)}"), x=x, y=0, width=width, height=10,
                         class_=f"p-{name if name.isalpha() else 'other'}"))  # fmt: skip
    return _svg(10, parts, "phases")


def area(samples: Sequence[tuple[float, float]], seconds: float, height: int = 36) -> Html:
    """A share over time."""
    if not samples or seconds <= 0:
        return Html("")
    points = [
        (round(at / seconds * WIDTH, 1), round(height * (1 - min(1.0, max(0.0, share))), 1)) for at, share in samples
    ]
    line = "".join(f"L{x} {y}" for x, y in points)
    first, last = points[0][0], points[-1][0]
    return _svg(height, [tag("path", d=f"M{first} {height}{line}L{last} {height}z", class_="area")], "cpu")


def bar(share: float, kind: str = "") -> Html:
    """A share of a whole."""
    width = round(100 * min(1.0, max(0.0, share)), 1)
    return tag(
        "svg",
        tag("rect", x=0, y=0, width=100, height=8, class_="track"),
        tag("rect", x=0, y=0, width=width, height=8, class_=f"fill {kind}".strip()),
        view_box="0 0 100 8",
        preserve="none",
        class_="bar",
        role="img",
        aria_label=f"{share:.0%}",
    )


def _svg(height: int, parts: Sequence[Html], kind: str) -> Html:
    return tag(
        "svg",
        *parts,
        view_box=f"0 0 {WIDTH} {height}",
        preserve="none",
        height=height,
        class_=kind,
        role="img",
        aria_label=kind,
    )


def axis(seconds: float) -> Html:
    """Times under a chart; words in SVG without a viewBox are not stretched."""
    marks = [mark for mark in ticks(seconds) if mark <= 0.97 * seconds]
    words = [
        tag("text", clock(mark), x=f"{100 * mark / seconds:.2f}%", y=12, text_anchor=None if not mark else "middle")
        for mark in marks
    ]
    return tag("svg", words, width="100%", height=16, class_="axis", aria_hidden="true")


def clock(seconds: float) -> str:
    """ "0:30", "1:05:00", "0.5" """
    if seconds % 1:
        return f"{seconds:.1f}"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def ticks(seconds: float) -> list[float]:
    """Round times to stand under the chart, four to seven."""
    for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200):
        if seconds / step <= 6:
            return [round(step * number, 3) for number in range(int(seconds / step) + 1)]
    return [0.0, seconds]
