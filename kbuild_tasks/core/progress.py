"""How far a compilation is: a pure reading of kbuild's output and of counts, and its one-line rendering.

kbuild's short lines are "  CC [M]  fs/ext4/inode.o": the word tells the phase. With V=1 or -s there are none, and the
phase stays what it was: nothing is guessed.
"""

from __future__ import annotations

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


def line(shot: Snapshot, width: int = 0) -> str:
    """One line; `width` > 0 says less of nodes and pace until it fits. A lost node is said to the last."""
    head = [shot.phase, f"{shot.done}/{shot.total} objects" if shot.total is not None else _count(shot.done)]
    pace, left, nodes = [], [], [""]
    if shot.phase == "compile":
        pace = [f"{shot.rate:.1f}/s"]
        left = [f"{duration(shot.eta)} left"] if shot.eta is not None else []
        nodes = _nodes(shot)
    tail = [f"{shot.fallbacks} fell back"] if shot.fallbacks else []
    lost = [f"lost: {' '.join(shot.gone)}"] if shot.gone else []
    choices = [[*head, *pace, *left, told, *tail, *lost] for told in nodes]
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
