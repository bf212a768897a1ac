"""How long a build takes on given nodes: a small simulation of one, event by event.

What is simulated is what distcc does. make keeps `jobs` under way. Each takes the first free slot, breadth-first over
the hosts in their order (src/where.c), is preprocessed on the coordinator, sent over its link, compiled, and noted on
the coordinator again (fixdep, objtool); the slot is held from the first to the last but one. A resource that is asked
by more than it can serve gives all the same share: processors as Linux shares them, the link as TCP does.

A closed form, n / min(Kc/C, sum of rates, BW/b), says where the ceiling is, and is right with every resource far from
it or far over it. Near it jobs wait for each other, on one side and the other, and few slots make that worse; that,
and the end, when the last objects lie on slow nodes, is what the simulation adds. Times of objects are lognormal
(measured: median 0.30, 90 % below 0.63, mean 0.356 s), in an order that is the same each time.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

SPREAD = 0.58  # standard deviation of the logarithm of an object's time
PACKED = 0.37  # what lzo leaves of text that was preprocessed with -fdirectives-only
MOST = 2000  # objects that are simulated; more go on at the pace of the middle half
FULL = 0.75  # of the fullest resource; below it is something else that a build waits for


@dataclass(frozen=True)
class Worker:
    """rate: typical objects a second with all it has; seconds: of one that has the node for itself; link: bytes a
    second to it, where that is less than what the coordinator's own link carries; packed: text to it is."""

    name: str
    slots: int
    rate: float
    seconds: float
    packed: bool = True
    link: float = math.inf


@dataclass(frozen=True)
class Coordinator:
    """CPU seconds of one core for a typical object: cpp to preprocess, pack and send it, noted for all else that a
    distributed one costs here, compile to make it here.

    capacity  CPU seconds a second: its cores;  single: the same of one process, 1.0 but for a share of a core
    slots     of its own compiler;  link: bytes a second to all workers together
    """

    capacity: float
    cpp: float
    noted: float
    compile: float
    slots: int = 0
    single: float = 1.0
    link: float = math.inf


@dataclass(frozen=True)
class Work:
    """bytes: of a typical object's text, packed; head, tail: seconds before the first object and after the last, in
    which nobody can help."""

    objects: int
    bytes: float
    spread: float = SPREAD
    head: float = 0.0
    tail: float = 0.0


@dataclass(frozen=True)
class Told:
    """seconds: of the whole build; compiling: without head and tail. Shares (0..1) in which, while objects are made,
    the coordinator's processors, the link and the workers' processors are busy; here: the part
    of the first in which it compiles itself, as a worker does. made: node -> objects ("": here)."""

    seconds: float
    compiling: float
    cpu: float
    link: float
    workers: float
    here: float = 0.0
    made: Mapping[str, int] = field(default_factory=dict)

    @property
    def bound(self) -> str:
        """coordinator | network | workers | serial | make: what a build waits for."""
        if self.compiling < 0.5 * self.seconds:
            return "serial"
        full = {"coordinator": self.cpu - self.here, "network": self.link, "workers": self.workers}
        name = max(full, key=lambda what: full[what])
        return name if full[name] >= FULL else "workers" if self.cpu >= FULL and self.here else "make"


class _Shared:
    """A resource that all who ask share evenly; `single` is the most that one gets."""

    def __init__(self, capacity: float, single: float) -> None:
        self.capacity, self.single = capacity, single
        self.heap: list[tuple[float, int]] = []
        self.done = 0.0  # what each that has been here all the time has got
        self.at = 0.0
        self.given = 0.0  # to all
        self.version = 0

    def _pace(self) -> float:
        return min(self.single, self.capacity / len(self.heap)) if self.heap else 0.0

    def advance(self, now: float) -> None:
        got = self._pace() * (now - self.at)
        self.done += got
        self.given += got * len(self.heap)
        self.at = now

    def add(self, work: float, job: int) -> None:
        heapq.heappush(self.heap, (self.done + work, job))

    def next(self) -> float:
        return self.at + max(0.0, self.heap[0][0] - self.done) / self._pace()


def sizes(count: int, spread: float) -> list[float]:
    """Times of objects, mean 1, in an order without a pattern."""
    normal = NormalDist()
    values = [math.exp(spread * normal.inv_cdf((number + 0.5) / count)) for number in range(count)]
    mean = sum(values) / count
    random.Random(7).shuffle(values)
    return [value / mean for value in values]


def simulate(own: Coordinator, workers: Sequence[Worker], work: Work, jobs: int | None = None) -> Told:
    """jobs: make -j; default: the sum of the slots. Raises ValueError where nobody has a slot."""
    hosts = [*workers, None] if own.slots else list(workers)
    slots = [own.slots if host is None else host.slots for host in hosts]
    order = [host for level in range(max(slots, default=0)) for host, count in enumerate(slots) if count > level]
    if not order:
        raise ValueError("nobody has a slot")
    count = max(1, min(work.objects, MOST))
    run = _Run(own, hosts, order, work, sizes(count, work.spread))
    finished = run.go(min(jobs or len(order), len(order)))
    compiling = finished[-1]
    if work.objects > count:
        first, last = count // 4, 3 * count // 4
        compiling += (work.objects - count) * (finished[last] - finished[first]) / (last - first)
    until = finished[-1]
    computing = run.resources[2 : 2 + len(workers)]
    able = sum(node.capacity for node in computing)
    return Told(
        seconds=work.head + compiling + work.tail,
        compiling=compiling,
        cpu=_busy(run.resources[0].given, own.capacity, until),
        link=_busy(run.resources[1].given, own.link, until),
        workers=_busy(sum(node.given for node in computing), able, until),
        here=_busy(run.made[-1] * own.compile if own.slots else 0.0, own.capacity, until),
        made={host.name if host else "": made for host, made in zip(hosts, run.made, strict=True)},
    )


def _busy(given: float, capacity: float, seconds: float) -> float:
    return min(1.0, given / (capacity * seconds)) if capacity > 0 and seconds > 0 and math.isfinite(capacity) else 0.0


class _Run:
    """One simulated build. resources: the coordinator's processors, its link, the workers' processors, their links."""

    def __init__(
        self, own: Coordinator, hosts: Sequence[Worker | None], order: list[int], work: Work, size: list[float]
    ) -> None:
        self.own, self.hosts, self.order, self.work, self.size = own, hosts, order, work, size
        there = [host for host in hosts if host]
        self.resources = [_Shared(own.capacity, min(own.single, own.capacity)), _Shared(own.link, own.link)]
        self.resources += [_Shared(host.rate, min(1 / host.seconds, host.rate)) for host in there]
        self.resources += [_Shared(host.link, host.link) for host in there]
        self.made = [0] * len(hosts)
        self._slot = [0] * len(size)
        self._steps: list[list[tuple[int, float]]] = [[]] * len(size)  # what a job has before it, the last one first
        self._free = list(range(len(order)))  # a heap: the first free slot in distcc's order
        self._events: list[tuple[float, int, int]] = []

    def go(self, jobs: int) -> list[float]:
        """When each object was done, in that order."""
        waiting = iter(range(len(self.size)))
        for _, job in zip(range(jobs), waiting, strict=False):
            self._begin(0.0, job)
        finished: list[float] = []
        while self._events:
            now, version, number = heapq.heappop(self._events)
            resource = self.resources[number]
            if version != resource.version:
                continue
            resource.advance(now)
            _, job = heapq.heappop(resource.heap)
            self._changed(number)
            if self._steps[job]:
                self._go_on(now, job)
                continue
            finished.append(now)
            following = next(waiting, None)
            if following is not None:
                self._begin(now, following)
        return finished

    def _begin(self, now: float, job: int) -> None:
        self._slot[job] = heapq.heappop(self._free)
        place = self.order[self._slot[job]]
        self._steps[job] = self._way(place, self.hosts[place], self.size[job])[::-1]
        self._go_on(now, job)

    def _way(self, place: int, host: Worker | None, size: float) -> list[tuple[int, float]]:
        """(resource, how much of it) of one object, one after the other."""
        own = self.own
        noted = (0, own.noted / 2)
        if host is None:
            return [(0, own.noted / 2 + own.compile * size), noted]
        # Half of a preprocessor's work, and of its text, are headers, the same for all objects.
        much = (1 + size) / 2
        text = self.work.bytes * much * (1.0 if host.packed else 1 / PACKED)
        way = [(0, own.noted / 2 + own.cpp * much)]
        if math.isfinite(own.link):
            way.append((1, text))
        if host.link < own.link:  # what it takes longer than on the coordinator's link
            way.append((2 + sum(one is not None for one in self.hosts) + place, text * (1 - host.link / own.link)))
        return [*way, (2 + place, size), noted]

    def _go_on(self, now: float, job: int) -> None:
        number, work = self._steps[job].pop()
        if not self._steps[job]:  # the object is here: its slot is another's
            heapq.heappush(self._free, self._slot[job])
            self.made[self.order[self._slot[job]]] += 1
        self.resources[number].advance(now)
        self.resources[number].add(work, job)
        self._changed(number)

    def _changed(self, number: int) -> None:
        resource = self.resources[number]
        resource.version += 1
        if resource.heap:
            heapq.heappush(self._events, (resource.next(), resource.version, number))
