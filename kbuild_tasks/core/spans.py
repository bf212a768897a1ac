"""When each object was compiled, and where: the front's times joined with what became of the objects.

The front (effects/front.sh) writes when it was asked for an object and when distcc had it; for what a compiler here was
left to make, the object's own time of writing is the end. A span so begins with the wait for a slot, which distcc
holds from then on: it is the time for which make waited, not the time that a worker's compiler took.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

PLAN, DESIGN, FALLBACK, CACHED = KINDS = ("plan", "design", "fallback", "cached")


@dataclass(frozen=True)
class Span:
    """One object: seconds since the compilation began.

    kind  plan: where distcc chose, the coordinator's own slots among them; design: can be compiled on the coordinator
          alone; fallback: there because no worker did it; cached: from ccache
    """

    object: str
    node: str
    begin: float
    end: float
    kind: str = PLAN

    @property
    def seconds(self) -> float:
        return self.end - self.begin


def times(lines: Iterable[str]) -> dict[str, tuple[float, float | None]]:
    """object -> when it began and ended on the front's clock, of lines "began|ended <tab> SECONDS <tab> OBJECT"; of one
    that was made twice, the last time. Lines that are none are passed over."""
    found: dict[str, tuple[float, float | None]] = {}
    for line in lines:
        what, _, rest = line.partition("\t")
        second, tab, name = rest.partition("\t")
        try:
            at = float(second)
        except ValueError:
            continue
        if what == "began" and tab:
            found[name] = (at, None)
        elif what == "ended" and name in found:
            found[name] = (found[name][0], at)
    return found


def spans(
    taken: Mapping[str, tuple[float, float | None]],
    made: Mapping[str, tuple[str, str]],
    *,
    began: float,
    ended: float,
    written: Mapping[str, float],
) -> list[Span]:
    """Spans in the order in which they began.

    taken    of times();  made: object -> (node, kind), of those that were made
    began    of the compilation, on the front's clock; ended: of the compilation
    written  object -> when its file was written, on the same clock
    """
    found = []
    for name, (begin, end) in taken.items():
        if name not in made:
            continue
        node, kind = made[name]
        last = end if end is not None else written.get(name, begin)
        begin, last = max(0.0, begin - began), min(last, ended) - began
        found.append(Span(name, node, round(begin, 2), round(max(begin, last), 2), kind))
    return sorted(found, key=lambda span: (span.begin, span.end, span.object))


def lanes(found: Iterable[Span]) -> list[int]:
    """For each of one node's spans, in their order, the lowest lane in which it overlaps none: its slot, or the place
    where it waited for one."""
    free: list[float] = []  # lane -> when it is free again
    taken = []
    for span in found:
        lane = next((number for number, until in enumerate(free) if until <= span.begin), len(free))
        free[lane : lane + 1] = [span.end]
        taken.append(lane)
    return taken


def thinned(samples: list[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """At most `most` samples, evenly: every second one goes until they fit."""
    while len(samples) > most:
        samples = samples[::2]
    return samples
