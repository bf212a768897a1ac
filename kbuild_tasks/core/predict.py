"""How long a build would take with 1 to 64 nodes, what bounds it and what would help: from measurements to a table.

Inputs, the best that there is of each: calibrations (core/calibration.py), the trace and the record of the last whole
build; what is missing is taken from DEFAULTS, figures that were measured on Linux 6.1 with gcc 12 on a core of 2023
(0.549 CPU s for an object in all), and every answer says which those are.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kbuild_tasks.core import calibration, simulate
from kbuild_tasks.core.bound import main_part
from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.core.spans import CACHED
from kbuild_tasks.core.trace import WHOLE, Timeline
from kbuild_tasks.core.when import when

GBE = 117e6  # bytes a second that 1 Gbit/s carries of TCP
# Of one core, with -fdirectives-only: see the module's docstring. head, tail: kbuild's own work before and after, of a
# small and of a large kernel between 5 and 20 s.
DEFAULTS: Mapping[str, float] = {
    "cpp": 0.050,
    "compile": 0.40,
    "noted": 0.062,
    "bytes": 1.4e6,
    "head": 10.0,
    "tail": 10.0,
    "link": GBE,
    "cores": 2,
}
COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)


@dataclass(frozen=True)
class Kind:
    """Nodes of one kind: cores, their speed (1.0: a core of the coordinator's), their link in bytes a second."""

    cores: float
    speed: float = 1.0
    link: float = GBE

    @property
    def name(self) -> str:
        core = "core" if self.cores == 1 else "cores"
        return f"{self.cores:g} {core}, {self.speed:g} x, {self.link / 1e6:.0f} MB/s"


@dataclass(frozen=True)
class Site:
    """What is known: the coordinator, the work, and the nodes that there are, the quickest first.

    local  the coordinator's slots where cluster.yaml sets them
    said   where each figure comes from, a line each
    """

    own: simulate.Coordinator
    work: simulate.Work
    nodes: tuple[simulate.Worker, ...] = ()
    local: int | None = None
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class Point:
    nodes: int
    told: simulate.Told
    jobs: int
    local: int


@dataclass(frozen=True)
class Curve:
    """A kind of nodes, or the nodes that there are: points by their number; alone: the coordinator without any."""

    name: str
    alone: simulate.Told
    points: tuple[Point, ...] = ()
    advice: tuple[str, ...] = field(default=())


def kind(text: str) -> Kind:
    """ "4,0.5" or "4,0.5,12": cores, speed, MB/s of its link. Raises KbuildError."""
    words = text.split(",")
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if not 1 <= len(values) <= 3 or not all(math.isfinite(value) and value > 0 for value in values):
        raise KbuildError(f"--kind {text}: cores, and their speed and MB/s of the link, are wanted", "--kind 4,0.5,12")
    return Kind(values[0], values[1] if len(values) > 1 else 1.0, values[2] * 1e6 if len(values) > 2 else GBE)


def counts(text: str) -> list[int]:
    """ "1..64", "3" or "1,2,3"; of a range no more than are worth a line. Raises KbuildError."""
    first, dots, last = text.partition("..")
    words = [first, last] if dots else text.split(",")
    if not all(word.strip().isdecimal() and 1 <= int(word) <= 512 for word in words):
        raise KbuildError(f"--nodes {text}: numbers from 1 to 512 are wanted", "--nodes 1..64, or --nodes 1,2,3")
    numbers = [int(word) for word in words]
    if not dots:
        return sorted(set(numbers))
    begin, end = numbers
    if end - begin < len(COUNTS):
        return list(range(begin, end + 1))
    more = [COUNTS[-1] * 2**power for power in range(1, 4)]
    return sorted({begin, end, *(n for n in (*COUNTS, *more) if begin < n < end)})


def site(
    records: Mapping[str, calibration.Measured],
    coordinator: str,
    line: Timeline | None = None,
    compiled: Mapping[str, Any] | None = None,
    *,
    whole: bool = False,
    cores: int | None = None,
    limits: Mapping[str, int] | None = None,
    local: int | None = None,
) -> Site:
    """records: calibrations that count; line, compiled: trace and record of the last compilation, where there are;
    whole: it is known to have made all; cores: of the coordinator, where it is not calibrated; limits: node -> the most
    slots that it can carry."""
    own = records.get(coordinator)
    said: list[str] = []
    if own is None:
        said.append("nodes are not calibrated: times of an object are those of a reference core (doit calibrate)")
        here = simulate.Coordinator(
            capacity=cores or DEFAULTS["cores"],
            cpp=DEFAULTS["cpp"],
            noted=DEFAULTS["noted"],
            compile=DEFAULTS["compile"],
            link=DEFAULTS["link"],
        )
        work = simulate.Work(calibration.OBJECTS, DEFAULTS["bytes"])
        spread, known = simulate.SPREAD, False
    else:
        sample = own.sample or ((own.cpp, own.compile, own.bytes),)
        cpp, compiles, size = (statistics.mean(one[column] for one in sample) for column in range(3))
        workers = [measured for name, measured in records.items() if name != coordinator]
        here = simulate.Coordinator(
            capacity=own.capacity,
            single=min(1.0, own.compile / own.alone),
            cpp=cpp,
            noted=calibration.OVERHEAD * compiles,
            compile=compiles,
            link=max((measured.bandwidth for measured in workers), default=0.0) or GBE,
        )
        said.append(f"times of an object: {len(sample)} of this kernel, timed on {coordinator}")
        spread, known = _spread([one[1] for one in sample]), True
        work = simulate.Work(own.objects or calibration.OBJECTS, size, spread)
    least = 1 if whole else WHOLE * (work.objects if known else 100)
    here, work = _last(here, work, line, compiled or {}, coordinator, known, least, said)
    nodes = _nodes(own, records, coordinator, here, limits or {}) if own else []
    return Site(here, work, tuple(nodes), local, tuple(said))


def _spread(values: Sequence[float]) -> float:
    logs = [math.log(value) for value in values if value > 0]
    return min(1.2, statistics.stdev(logs)) if len(logs) >= 6 else simulate.SPREAD


def _last(
    here: simulate.Coordinator,
    work: simulate.Work,
    line: Timeline | None,
    compiled: Mapping[str, Any],
    coordinator: str,
    known: bool,
    least: float,
    said: list[str],
) -> tuple[simulate.Coordinator, simulate.Work]:
    """What the last build adds: objects, head, tail, and what an object costs the coordinator beside the compiler."""
    made = [span for span in line.spans if span.kind != CACHED] if line and not line.failed else []
    if not line or len(made) < least:
        said.append(
            f"{work.objects} objects{'' if known else ' (a defconfig)'}; {DEFAULTS['head']:.0f} s before them and "
            f"{DEFAULTS['tail']:.0f} s after them are assumed: there is no trace of a whole build"
        )
        return here, replace(work, head=DEFAULTS["head"], tail=DEFAULTS["tail"])
    begin, end = main_part(line)
    inside = [span for span in made if begin <= span.begin < end]
    head, tail = begin, max(0.0, line.seconds - end)
    work = replace(work, objects=len(inside), head=head, tail=tail)
    of = f"of the last whole build, of {when(line.began)}"
    said.append(f"{len(inside)} objects, {head:.1f} s before and {tail:.1f} s after them: {of}")
    cpu = compiled.get("cpu_seconds")
    if known and isinstance(cpu, int | float) and cpu > 0:
        local = sum(span.node == coordinator for span in inside)
        far = len(inside) - local
        serial = (head + tail) * here.single  # kbuild's own work is on one core
        rest = cpu - serial - far * here.cpp - local * here.compile
        noted = min(3 * here.noted, max(here.noted / 3, rest / max(1, len(inside))))
        said.append(f"{1000 * noted:.0f} ms of {coordinator} for an object beside the compiler: of the same build")
        here = replace(here, noted=noted)
    return here, work


def _nodes(
    own: calibration.Measured,
    records: Mapping[str, calibration.Measured],
    coordinator: str,
    here: simulate.Coordinator,
    limits: Mapping[str, int],
) -> list[simulate.Worker]:
    scale = here.compile / own.compile if own.compile > 0 else 1.0  # a mean object, in units of the one that was timed
    found = [
        simulate.Worker(
            name=name,
            slots=min(calibration.wanted(own, measured), limits.get(name, measured.jobs)),
            rate=measured.rate / scale,
            seconds=measured.computing * scale,
            packed=measured.bandwidth <= calibration.LZO_BELOW,
            link=measured.bandwidth or math.inf,
        )
        for name, measured in records.items()
        if name != coordinator and limits.get(name, measured.jobs) > 0
    ]
    return sorted(found, key=lambda worker: worker.seconds)


def of_kind(here: simulate.Coordinator, wanted: Kind, number: int) -> simulate.Worker:
    """A worker of a kind: compiling without preprocessing takes a core of speed 1 as long as the coordinator's."""
    seconds = max(here.compile - here.cpp, here.compile / 2) / wanted.speed
    rate = wanted.cores / seconds
    seconds /= min(1.0, wanted.cores)
    sending = DEFAULTS["bytes"] / wanted.link
    slots = max(1, math.ceil(rate * (seconds + here.cpp + sending) - 0.05))
    return simulate.Worker(f"node{number}", slots, rate, seconds, wanted.link <= calibration.LZO_BELOW, wanted.link)


def curve(told: Site, numbers: Sequence[int], wanted: Kind | None = None) -> Curve:
    """Points for so many nodes: of a kind, or those that there are, and beyond them more of these in turn."""
    alone = simulate.simulate(replace(told.own, slots=max(1, math.ceil(told.own.capacity))), (), told.work)
    own = replace(told.own, link=max(told.own.link, wanted.link)) if wanted else told.own
    points = []
    for number in numbers:
        if wanted is not None:
            workers = [of_kind(told.own, wanted, one) for one in range(number)]
        else:
            workers = [told.nodes[one % len(told.nodes)] for one in range(number)]
            workers.sort(key=lambda worker: worker.seconds)
        points.append(point(replace(told, own=own), workers))
    name = wanted.name if wanted else "the nodes that there are"
    return Curve(name, alone, tuple(points), tuple(advice(told, alone, points)))


def point(told: Site, workers: Sequence[simulate.Worker]) -> Point:
    """One build, with the slots that a build would have (core/hosts.py)."""
    own = told.own
    spare = own.capacity - sum(worker.rate for worker in workers) * (own.cpp + own.noted)
    local = told.local if told.local is not None else max(0, round(spare))
    jobs = local + sum(worker.slots for worker in workers)
    return Point(len(workers), simulate.simulate(replace(own, slots=local), workers, told.work), jobs, local)


HELP = {
    "coordinator": "the coordinator is full: the fastest node should be it; build.ccache spares what was made before",
    "network": "the coordinator's link is full: a faster one there",
    "workers": "the nodes are full: more of them, or faster ones",
    "serial": "most of it is kbuild's own work on one core: a faster core on the coordinator, fewer modules",
    "make": "nothing is full: jobs wait for each other; more slots on the nodes (cluster.yaml, slots)",
}


def advice(told: Site, alone: simulate.Told, points: Sequence[Point]) -> list[str]:
    """What would help, and from where on more nodes do not."""
    if not points:
        return []
    best = min(point.told.seconds for point in points)
    enough = next(point for point in points if point.told.seconds <= 1.05 * best)
    lines = []
    if enough.told.seconds >= alone.seconds:
        lines.append("the coordinator alone is as quick: such nodes do not help")
    elif enough is not points[-1]:
        lines.append(f"more than {enough.nodes} hardly help: {enough.told.seconds:.0f} s, of {best:.0f} s at the best")
    last = points[-1].told
    lines.append(HELP[last.bound])
    if told.work.head + told.work.tail > 0.25 * last.seconds:
        lines.append(
            f"{told.work.head + told.work.tail:.0f} s are before the first object and after the last: no node helps"
        )
    return lines
