"""What `doit calibrate` measured, and what follows for a build: slots, packing, who stays out. Values in, values out.

Everything is told in one unit: a typical preprocessed file of the very kernel, the same on all nodes. A node then has
    alone     seconds for one job, from the connection to the object
    rate      jobs a second with all its slots at work: its throughput, whatever its cores are worth
    trip      seconds for a job of no size, bandwidth: bytes a second to it
and the coordinator, beside the same of its own compiler, `cpp` and `compile`: CPU seconds to send the unit,
preprocessed and packed by distcc, and to compile it.

Slots are Little's law: as many jobs are under way at a node as it makes a second, times the seconds that one is under
way, preprocessing here included, for distcc holds the slot from then on. Rounded up: a slot too few leaves the node
idle while the next job is preprocessed, one too many only waits.

A calibration is of a compiler and of cores. Where facts say otherwise it is not used, and that is said.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

VERSION = 1
OBJECTS = 2704  # facts of Linux 6.1's x86_64 defconfig: what a build has to make, where nobody has counted
# Beside the preprocessor an object costs the coordinator make, shells, the front, distcc's client and fixdep: measured
# 0.107 CPU s in all, 0.045 of it preprocessing, where the compiler takes 0.356.
OVERHEAD = 0.17
# lzo packs 783 MB/s to 37 % (measured, with -fdirectives-only): above this link speed, bytes a second, packing takes
# longer than what it saves. 1 and 2.5 GbE are below it, 10 GbE is above.
LZO_BELOW = 490e6
LATE = 2.0  # what is under way when the last object is handed out takes about so many times a typical one
_COMPARED = ("version", "machine", "binutils")


@dataclass(frozen=True)
class Measured:
    """One node's figures; see above. jobs: how many were at once when `rate` was measured.

    sample    the coordinator only, of objects all over the tree: (CPU seconds to send, to compile, bytes sent)
    objects   the coordinator only: objects of kernel C in the tree, 0: not counted
    """

    node: str
    at: float
    unit: str
    bytes: int
    alone: float
    rate: float
    jobs: int
    trip: float = 0.0
    bandwidth: float = 0.0
    cpp: float = 0.0
    compile: float = 0.0
    sample: tuple[tuple[float, float, int], ...] = ()
    objects: int = 0

    @property
    def sending(self) -> float:
        """Seconds in which the text goes over, packed."""
        return self.bytes / self.bandwidth if self.bandwidth > 0 else 0.0

    @property
    def computing(self) -> float:
        """Seconds of compiling in `alone`."""
        return max(self.alone - self.sending, self.alone / 10)

    @property
    def parallel(self) -> float:
        """How many jobs it computes at full speed: its cores, or the share of them that it is given."""
        return max(0.05, self.rate * self.computing)

    @property
    def capacity(self) -> float:
        """Of the coordinator: CPU seconds that it has in a second."""
        return max(0.05, self.rate * self.compile)


def read(record: Mapping[str, Any]) -> Measured | None:
    """A record of build/calibration/; None where it is none, or damaged."""
    try:
        if record["version"] != VERSION:
            return None
        listed = record.get("sample", ())
        sample = tuple((float(one["cpp"]), float(one["compile"]), int(one["bytes"])) for one in listed)
        found = Measured(
            node=str(record["node"]),
            at=float(record["at"]),
            unit=str(record["unit"]["sha256"]),
            bytes=int(record["unit"]["bytes"]),
            sample=sample,
            objects=int(record.get("objects", 0)),
            jobs=int(record["jobs"]),
            **{key: float(record.get(key, 0)) for key in ("alone", "rate", "trip", "bandwidth", "cpp", "compile")},
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    sound = all(map(math.isfinite, (found.alone, found.rate, found.trip, found.bandwidth, found.cpp, found.compile)))
    return found if sound and found.alone > 0 and found.rate > 0 and found.jobs > 0 else None


def unfit(record: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Why a record does not tell of the node as it is now, by what prepare learned: "another compiler (gcc 12.2.0,
    now 13.1.0)"; "": it does."""
    if read(record) is None:
        return "damaged"
    then, now = record.get("compiler") or {}, facts.get("compiler") or {}
    for key in _COMPARED:
        if then.get(key) != now.get(key):
            return f"of another compiler ({then.get(key) or 'unknown'}, now {now.get(key) or 'unknown'})"
    if record.get("cores") != facts.get("cores"):
        return f"of {record.get('cores')} cores, now there are {facts.get('cores')}"
    return ""


@dataclass(frozen=True)
class Shares:
    """What a build is to use.

    slots   node -> slots, of workers whose calibration counts and that take part
    plain   workers to whom text is sent unpacked
    local   slots of the coordinator's own compiler, what preprocessing leaves of it; None: not known
    out     node -> why it is left out, with the figures
    notes   sentences for the log;  unfit: about calibrations that do not count
    """

    slots: Mapping[str, int] = field(default_factory=dict)
    plain: frozenset[str] = frozenset()
    local: int | None = None
    out: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    unfit: tuple[str, ...] = ()


def usable(
    records: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Mapping[str, Any]], coordinator: str
) -> tuple[dict[str, Measured], list[str]]:
    """Calibrations that count, and sentences about those that do not. records, facts: by node, those that there are."""
    found: dict[str, Measured] = {}
    notes: list[str] = []
    for node, record in records.items():
        if node not in facts:
            continue
        why = unfit(record, facts[node])
        measured = read(record)
        if why or measured is None:
            notes.append(f"the calibration of {node} is {why or 'damaged'}: it is not used (doit calibrate)")
        else:
            found[node] = measured
    own = found.get(coordinator)
    if own is None:
        if found:
            notes.append(f"{coordinator} is not calibrated: calibrations of the others are not used (doit calibrate)")
        return {}, notes
    for node in [node for node, measured in found.items() if measured.unit != own.unit]:
        other = f"of another file than {coordinator}'s"
        notes.append(f"the calibration of {node} is {other}: it is not used (doit calibrate)")
        del found[node]
    return found, notes


def shares(
    own: Measured,
    workers: Mapping[str, Measured],
    limits: Mapping[str, int],
    local: int | None = None,
    told: Collection[str] = (),
) -> Shares:
    """own: the coordinator's; limits: node -> slots that it can carry at most (memory, distccd --jobs).

    local  the coordinator's slots where cluster.yaml sets them
    told   nodes of which cluster.yaml sets the slots: their limits are taken as they are, none is left out
    """
    count = own.objects or OBJECTS
    there = {node: measured for node, measured in workers.items() if limits.get(node, 0) > 0}
    out: dict[str, str] = {}
    best = seconds(own, there, count, local)
    for node in sorted(there, key=lambda name: (-late(own, there[name]), name)):
        if node in told or (local == 0 and len(there) == 1):
            continue  # a number in cluster.yaml is the user's word: of the coordinator's slots too
        rest = {name: measured for name, measured in there.items() if name != node}
        without = seconds(own, rest, count, local)
        if without < best:
            out[node] = (
                f"it would lengthen a whole build: about {best:.0f} s with it, {without:.0f} s without "
                f"(an object takes {there[node].alone:.1f} s there)"
            )
            there, best = rest, without
    slots = {
        node: limits[node] if node in told else min(limits[node], wanted(own, measured))
        for node, measured in there.items()
    }
    notes = [
        f"{node} lends {slots[node]} of the {wanted(own, there[node])} slots that its measured throughput "
        f"({there[node].rate:.2f} objects/s) asks for: no more fit"
        for node in there
        if node not in told and slots[node] < wanted(own, there[node])
    ]
    return Shares(
        slots=slots,
        plain=frozenset(node for node, measured in there.items() if measured.bandwidth > LZO_BELOW),
        local=_left(own, there) if local is None else local,
        out=out,
        notes=tuple(notes),
    )


def wanted(own: Measured, worker: Measured) -> int:
    """Slots that keep a worker at work."""
    under_way = worker.rate * (worker.alone + own.cpp)
    return max(1, math.ceil(under_way - 0.05))


def late(own: Measured, worker: Measured) -> float:
    """Seconds that a typical object takes there while all its slots are at work."""
    return worker.alone * max(1.0, wanted(own, worker) / worker.parallel)


def cost(own: Measured) -> float:
    """CPU seconds of the coordinator for a unit that is compiled elsewhere."""
    return own.cpp + OVERHEAD * own.compile


def seconds(own: Measured, workers: Mapping[str, Measured], objects: int, local: int | None = None) -> float:
    """About how long the objects take, from the time the first is handed out; distinguishes sets of nodes, no more:
    `doit simulate` has the better model."""
    remote = sum(worker.rate for worker in workers.values())
    here = own.compile * (1 + OVERHEAD)
    if not remote:
        able = own.capacity if local is None else min(own.capacity, float(max(1, local)))
        return objects * here / able + LATE * own.alone
    if remote * cost(own) >= own.capacity:
        rate, compiles = own.capacity / cost(own), False
    else:
        spare = own.capacity - remote * cost(own)
        spare = spare if local is None else min(spare, float(local))
        rate, compiles = remote + spare / here, spare > 0
    last = [late(own, worker) for worker in workers.values()]
    return objects / rate + LATE * max([*last, own.alone] if compiles else last)


def _left(own: Measured, workers: Mapping[str, Measured]) -> int:
    """Slots of the coordinator's own compiler: the cores that preprocessing for the workers leaves."""
    return max(0, round(own.capacity - sum(worker.rate for worker in workers.values()) * cost(own)))
