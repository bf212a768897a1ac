"""How far a compilation is: a pure reading of kbuild's output and of counts, and its one-line rendering.

kbuild's short lines are "  CC [M]  fs/ext4/inode.o": the word tells the phase. With V=1 or -s there are none, and the
phase stays what it was: nothing is guessed.
"""

from __future__ import annotations

import os.path
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_PHASES = {
    "CC": "compile",
    "AS": "compile",
    "LD": "link",
    "AR": "compile",
    "MODPOST": "modpost",
    "KSYMS": "link",
    "SYSMAP": "link",
    "BTF": "link",
    "BTFIDS": "link",
    "SORTTAB": "link",
    "GEN": "",
    "OBJCOPY": "image",
    "GZIP": "image",
    "XZKERN": "image",
    "ZSTD22": "image",
    "LZ4": "image",
    "BUILD": "image",
    "SIGN": "link",
    "HOSTCC": "prepare",
    "HOSTLD": "prepare",
    "UPD": "",
    "WRAP": "prepare",
    "SYSHDR": "prepare",
    "SYSTBL": "prepare",
}
WINDOW = 10.0  # seconds over which objects per second are counted
PACE = 60.0  # seconds whose pace the time left is reckoned from


def phase_of(line: str) -> str:
    """The phase that a line of kbuild's output tells: prepare, compile, link, modpost, image; "" if none."""
    if not line.startswith("  ") or line[2:3] == " ":
        return ""
    word, _, rest = line[2:].partition(" ")
    phase = _PHASES.get(word, "")
    if phase == "link" and word == "LD" and not rest.strip().startswith(("vmlinux", ".tmp_vmlinux")):
        return "link" if "[M]" in rest else ""  # directories and host tools are linked all along
    return phase


@dataclass(frozen=True)
class Snapshot:
    """One moment of a compilation.

    total      objects of kernel C that this build has to make, None while nobody knows
    eta        seconds for the rest of them, None where that would be a guess
    in_use     node -> slots at work, of `slots`
    per_node   node -> objects so far
    rates      node -> objects per second
    gone       nodes that were lost
    cpu        busy share of the coordinator's CPUs, 0..1, None while it is not known
    longest    the object that is being made for the longest time, and for how many seconds; None: none takes long
    """

    done: int
    total: int | None = None
    phase: str = "prepare"
    seconds: float = 0.0
    rate: float = 0.0
    eta: float | None = None
    in_use: Mapping[str, int] = field(default_factory=dict)
    slots: Mapping[str, int] = field(default_factory=dict)
    per_node: Mapping[str, int] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)
    fallbacks: int = 0
    gone: Sequence[str] = ()
    cpu: float | None = None
    longest: tuple[str, float] | None = None


class Meter:
    """How fast a count grows: over the last WINDOW seconds for people to see, over PACE seconds to predict with: big
    and small objects come in heaps, and a time left that follows the last ten seconds jumps threefold."""

    def __init__(self) -> None:
        self._points: list[tuple[float, int]] = []

    def add(self, now: float, done: int) -> None:
        self._points.append((now, done))
        while len(self._points) > 2 and now - self._points[0][0] > PACE:
            self._points.pop(0)

    def rate(self, window: float = WINDOW) -> float:
        """Counted per second over the last `window` seconds, or since the first point."""
        now, done = self._points[-1]
        start, before = next((t, n) for t, n in self._points if now - t <= window)
        return (done - before) / (now - start) if now > start else 0.0


def eta(done: int, total: int | None, rate: float, seconds: float) -> float | None:
    """Seconds left, None in the first ten seconds, without a total, or while nothing gets done."""
    if total is None or rate <= 0 or seconds < WINDOW or done >= total:
        return None
    return (total - done) / rate


def cpu_ticks(stat: str) -> tuple[int, int] | None:
    """(busy, all) clock ticks of all CPUs, from /proc/stat; proc(5): user nice system idle iowait irq softirq steal.
    What waits for a disk is idle, as in top(1)."""
    words = stat.partition("\n")[0].split()
    if len(words) < 5 or words[0] != "cpu" or not all(word.isdecimal() for word in words[1:]):
        return None
    ticks = [int(word) for word in words[1:9]]  # guest is part of user
    return sum(ticks) - sum(ticks[3:5]), sum(ticks)


def bytes_sent(table: str) -> int:
    """Of all interfaces but the loopback, from /proc/net/dev; proc(5): "name: 8 columns received, 8 transmitted"."""
    total = 0
    for line in table.splitlines():
        name, colon, columns = line.partition(":")
        words = columns.split()
        if colon and name.strip() != "lo" and len(words) >= 9 and words[8].isdecimal():
            total += int(words[8])
    return total


def busy(before: tuple[int, int], after: tuple[int, int]) -> float | None:
    """The busy share between two readings of cpu_ticks(), None while the clock has not moved."""
    whole = after[1] - before[1]
    return min(1.0, max(0.0, (after[0] - before[0]) / whole)) if whole > 0 else None


def line(shot: Snapshot, width: int = 0) -> str:
    """One line; `width` > 0 says less of the longest object, of nodes, CPU and pace until it fits. A lost node is said
    to the last."""
    head = [shot.phase, f"{shot.done}/{shot.total} objects" if shot.total is not None else _count(shot.done)]
    pace, left, nodes, cpu, longest = [], [], [""], "", ""
    if shot.phase == "compile":
        pace = [f"{shot.rate:.1f}/s"]
        left = [f"{duration(shot.eta)} left"] if shot.eta is not None else []
        nodes = _nodes(shot)
        cpu = f"cpu {shot.cpu:.0%}" if shot.cpu is not None else ""
        longest = f"{shot.longest[0]} {duration(shot.longest[1])}" if shot.longest else ""
    tail = [f"{shot.fallbacks} fell back"] if shot.fallbacks else []
    lost = [f"lost: {' '.join(shot.gone)}"] if shot.gone else []
    choices = [
        [*head, *pace, *left, nodes[0], cpu, *tail, *lost, longest],
        [*head, *pace, *left, nodes[0], cpu, *tail, *lost, os.path.basename(longest)],
    ]
    choices += [[*head, *pace, *left, told, cpu, *tail, *lost] for told in nodes]
    choices += [[*head, *pace, *left, nodes[-1], *tail, *lost]]
    choices += [[*head, *left, *tail, *lost], [*head, *tail, *lost], [*head, *lost]]
    texts = ["  ".join(part for part in parts if part) for parts in choices]
    return next((text for text in texts if not width or len(text) <= width), texts[-1][:width])


def _nodes(shot: Snapshot) -> list[str]:
    """What is told of the nodes, from most to nothing. Slots of a lost node are no slots."""
    slots = {node: count for node, count in shot.slots.items() if node not in shot.gone}
    if not slots:
        return [""]
    short = [f"{node} {shot.in_use.get(node, 0)}/{count}" for node, count in slots.items()]
    full = [
        f"{text} {shot.rates[node]:.1f}/s" if node in shot.rates else text
        for node, text in zip(slots, short, strict=True)
    ]
    at_work = sum(shot.in_use.get(node, 0) for node in slots)
    return ["  ".join(full), " ".join(short), f"{at_work}/{sum(slots.values())} slots", ""]


def duration(seconds: float) -> str:
    """ "45 s", "3 min 20 s", "1 h 5 min" """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _count(done: int) -> str:
    return f"{done} object" if done == 1 else f"{done} objects"
