"""What a build waited for, told from its trace: one word and one sentence.

    serial       most of the time no objects were made: configuration, links, modpost, the image
    coordinator  its processors were full while objects were made
    network      its link was
    workers      neither was, and all slots were at work
    make         neither were the slots: make had no more objects ready at a time

In that order, for each hides those that come after it: where the coordinator is full, slots are at work all the time,
with jobs that wait to be preprocessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kbuild_tasks.core.spans import CACHED
from kbuild_tasks.core.trace import Timeline

FULL = 0.9
LINK_FULL = 0.8  # of what one stream was measured to carry
AT_WORK = 0.75  # slots are held from before preprocessing, so that less than this is make's doing


@dataclass(frozen=True)
class Bound:
    by: str
    sentence: str


def main_part(line: Timeline) -> tuple[float, float]:
    """When objects were made: the phase "compile" in which most of them began (others are those of the boot loader's
    and of kbuild's own programs); without phases from the first to the last."""
    began = [span.begin for span in line.spans]
    parts = [(begin, end) for name, begin, end in line.phases if name == "compile"]
    if parts:
        return max(parts, key=lambda part: sum(part[0] <= at < part[1] for at in began))
    return min(began, default=0.0), max((span.end for span in line.spans), default=0.0)


def bound(
    line: Timeline,
    *,
    cores: int = 0,
    cpu_seconds: float = 0.0,
    sent: Sequence[tuple[float, float]] = (),
    link: float = 0.0,
) -> Bound | None:
    """None where nothing was compiled.

    cores        of the coordinator; cpu_seconds: what this build has taken of them; 0: not known
    sent         (second, bytes that had left the coordinator by then)
    link         bytes a second that its link carries, 0: not known
    """
    made = [span for span in line.spans if span.kind != CACHED]
    if not made or line.seconds <= 0:
        return None
    begin, end = main_part(line)
    window = max(end - begin, 0.01)
    if window < 0.5 * line.seconds:
        return Bound(
            "serial",
            f"bounded by serial steps: objects were made in {_s(window)} of {_s(line.seconds)}, the rest is kbuild's "
            "own work before and after, on one core",
        )
    busy = _mean([share for at, share in line.cpu if begin <= at <= end])
    own = cpu_seconds / (cores * line.seconds) if cores and cpu_seconds else None
    slots = sum(line.slots.values())
    used = sum(max(0.0, min(span.end, end) - max(span.begin, begin)) for span in made)
    at_work = min(1.0, used / (slots * window)) if slots else 0.0
    remote = len(line.slots) > 1 or any(span.node != line.nodes[-1] for span in made)
    here = sum(span.seconds for span in made if span.node == line.nodes[-1]) / (cores * window) if cores else 0.0
    if busy is not None and busy >= FULL and not (remote and here >= 0.5):  # else it is one of the workers
        if own is not None and own < 0.6 * busy:
            return Bound(
                "coordinator",
                f"bounded by the coordinator's CPU: {busy:.0%} busy while objects were made, but {own:.0%} by this "
                "build: something else runs there",
            )
        more = "more nodes will not help, a faster coordinator would" if remote else "workers would help"
        return Bound(
            "coordinator", f"bounded by the coordinator's CPU, {busy:.0%} busy while objects were made: {more}"
        )
    pace = _pace(sent, begin, end)
    if link > 0 and pace >= LINK_FULL * link:
        return Bound(
            "network",
            f"bounded by the coordinator's network: {pace / 1e6:.0f} MB/s of {link / 1e6:.0f} MB/s while objects were "
            "made: a faster link would help, more nodes will not",
        )
    cpu = f", the coordinator's CPU {busy:.0%} busy" if busy is not None else ""
    if at_work >= AT_WORK:
        return Bound(
            "workers",
            f"bounded by {'the slots' if remote else 'the slots of the coordinator'}: all {slots} at work "
            f"{at_work:.0%} of the time{cpu}: more or faster nodes would help",
        )
    return Bound(
        "make",
        f"bounded by make: of {slots} slots {at_work * slots:.1f} were at work on average{cpu}: too few objects were "
        "ready at a time",
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _pace(sent: Sequence[tuple[float, float]], begin: float, end: float) -> float:
    """Bytes a second, in the part of the time that was asked for."""
    inside = [(at, count) for at, count in sent if begin <= at <= end]
    if len(inside) < 2 or inside[-1][0] <= inside[0][0]:
        return 0.0
    return (inside[-1][1] - inside[0][1]) / (inside[-1][0] - inside[0][0])


def _s(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
