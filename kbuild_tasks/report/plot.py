"""Predicted times over the number of nodes, as an SVG that stands alone: in a browser, light or dark as that is.

One line a kind of nodes, with what bounds a build at first and in the end; the dashed one is the coordinator alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from kbuild_tasks.core.predict import Curve, Point
from kbuild_tasks.report.chart import clock
from kbuild_tasks.report.html import Html, join, tag

WIDTH, HEIGHT = 900, 460
LEFT, RIGHT, TOP, BOTTOM = 80, 24, 56, 64
COLOURS = ("a", "b", "c", "d", "e")
# The report's colours (style.css), by name, as this file has no page around it.
STYLE = """
:root { color-scheme: light dark; }
svg { background: #fffefb; font: 13px system-ui, "DejaVu Sans", sans-serif; }
text { fill: #1d1f24; } .soft { fill: #666a73; } .grid { stroke: #e0ddd5; } .alone { stroke: #666a73; }
.a { stroke: #3566c4; } .b { stroke: #b92c2c; } .c { stroke: #1d7a4a; } .d { stroke: #8f5f00; } .e { stroke: #7a68b8; }
.line, .alone { fill: none; stroke-width: 2.2; } .alone { stroke-dasharray: 5 5; stroke-width: 1.2; }
circle { fill: #fffefb; stroke-width: 2; }
@media (prefers-color-scheme: dark) {
  svg { background: #1a1d23; } text { fill: #e3e5ea; } .soft { fill: #989da8; } .grid { stroke: #2c3038; }
  .alone { stroke: #989da8; } circle { fill: #1a1d23; }
  .a { stroke: #7ba3ef; } .b { stroke: #f28b82; } .c { stroke: #6fcb97; } .d { stroke: #e3b455; }
  .e { stroke: #a595dd; }
}
"""


def plot(curves: Sequence[Curve]) -> str:
    """The whole file. Time from zero, so that a line that is flat looks flat; nodes doubling from mark to mark."""
    points = [point for curve in curves for point in curve.points]
    most = max([point.told.seconds for point in points] + [curve.alone.seconds for curve in curves], default=1.0)
    last = max((point.nodes for point in points), default=1)
    first = min((point.nodes for point in points), default=1)
    step = _step(most)
    top = step * math.ceil(most / step)
    axes = _Axes(first, max(last, first + 1), top)
    parts: list[Html] = [tag("style", Html(STYLE)), tag("title", "Predicted time of a build")]
    marks = [step * number for number in range(round(top / step) + 1)]
    parts += [tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=axes.y(mark), y2=axes.y(mark), class_="grid") for mark in marks]
    parts += [_text(clock(mark), LEFT - 10, axes.y(mark) + 4, "end", "soft") for mark in marks]
    numbers = sorted({point.nodes for point in points})
    parts += [_text(number, axes.x(number), HEIGHT - BOTTOM + 22, "middle", "soft") for number in numbers]
    parts.append(_text("nodes beside the coordinator", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, "middle", "soft"))
    parts += _alone(curves, axes)
    for number, curve in enumerate(curves):
        parts += _curve(curve, COLOURS[number % len(COLOURS)], axes)
        parts.append(_key(curve.name, number))
    svg = tag(
        "svg",
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        view_box=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label="Predicted time of a build over the number of nodes",
    )
    return f"{svg}\n"


class _Axes:
    def __init__(self, first: int, last: int, top: float) -> None:
        self.first, self.span, self.top = math.log2(first), math.log2(last) - math.log2(first), top

    def x(self, nodes: int) -> float:
        share = (math.log2(nodes) - self.first) / self.span
        return round(LEFT + 12 + share * (WIDTH - LEFT - RIGHT - 24), 1)

    def y(self, seconds: float) -> float:
        return round(HEIGHT - BOTTOM - seconds / self.top * (HEIGHT - TOP - BOTTOM), 1)


def _curve(curve: Curve, colour: str, axes: _Axes) -> list[Html]:
    parts = []
    if curve.points:
        way = "L".join(f"{axes.x(point.nodes)} {axes.y(point.told.seconds)}" for point in curve.points)
        parts.append(tag("path", d=f"M{way}", class_=f"line {colour}"))
    for number, point in enumerate(curve.points):
        x, y = axes.x(point.nodes), axes.y(point.told.seconds)
        parts.append(tag("circle", tag("title", _said(curve, point)), cx=x, cy=y, r=4, class_=colour))
        if number in (0, _settled(curve)):
            parts.append(_text(point.told.bound, x + 6, y - 10, "start", "soft"))
    return parts


def _settled(curve: Curve) -> int:
    """The first point from which on a build is bounded by the same thing."""
    bounds = [point.told.bound for point in curve.points]
    return next(number for number in range(len(bounds)) if len(set(bounds[number:])) == 1)


def _alone(curves: Sequence[Curve], axes: _Axes) -> list[Html]:
    """The coordinator without nodes: the same whatever their kind."""
    parts = []
    for seconds in sorted({curve.alone.seconds for curve in curves}):
        parts.append(tag("path", d=f"M{LEFT} {axes.y(seconds)}H{WIDTH - RIGHT}", class_="alone"))
        parts.append(_text("the coordinator alone", WIDTH - RIGHT - 4, axes.y(seconds) - 6, "end", "soft"))
    return parts


def _said(curve: Curve, point: Point) -> str:
    return (
        f"{curve.name}: {point.nodes} nodes, {clock(round(point.told.seconds))}, bound by {point.told.bound}; "
        f"coordinator {point.told.cpu:.0%}, link {point.told.link:.0%}, nodes {point.told.workers:.0%}"
    )


def _key(name: str, number: int) -> Html:
    x, y = LEFT + 12 + 270 * (number % 3), 20 + 18 * (number // 3)
    mark = tag("path", d=f"M{x} {y}h22", class_=f"line {COLOURS[number % len(COLOURS)]}")
    return join(mark, _text(name, x + 30, y + 4, "start", ""))


def _text(what: object, x: float, y: float, anchor: str, kind: str) -> Html:
    return tag("text", what, x=round(x, 1), y=round(y, 1), text_anchor=anchor, class_=kind or None)


def _step(most: float) -> float:
    for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200):
        if most / step <= 7:
            return step
    return 10.0 ** math.ceil(math.log10(most / 7))
