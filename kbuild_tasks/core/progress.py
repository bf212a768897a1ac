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
    fallbacks: int = 0
    gone: Sequence[str] = ()


class Meter:
    """Objects per second over the last WINDOW seconds, and the time that the rest takes at that pace."""

    def __init__(self) -> None:
        self._points: list[tuple[float, int]] = []

    def rate(self, now: float, done: int) -> float:
        self._points.append((now, done))
        while len(self._points) > 2 and now - self._points[0][0] > WINDOW:
            self._points.pop(0)
        (start, before), elapsed = self._points[0], now - self._points[0][0]
        del start
        return (done - before) / elapsed if elapsed > 0 else 0.0


def eta(done: int, total: int | None, rate: float, seconds: float) -> float | None:
    """Seconds left, None in the first ten seconds, without a total, or while nothing gets done."""
    if total is None or rate <= 0 or seconds < WINDOW or done >= total:
        return None
    return (total - done) / rate


def line(shot: Snapshot, width: int = 0) -> str:
    """One line; `width` > 0 drops the less important parts until it fits."""
    objects = f"{shot.done}/{shot.total} objects" if shot.total is not None else _count(shot.done)
    parts = [shot.phase, objects]
    if shot.phase == "compile":
        parts.append(f"{shot.rate:.1f}/s")
        if shot.eta is not None:
            parts.append(f"{duration(shot.eta)} left")
    nodes = " ".join(f"{node} {shot.in_use.get(node, 0)}/{count}" for node, count in shot.slots.items())
    if shot.phase == "compile" and nodes:
        parts.append(nodes)
    if shot.fallbacks:
        parts.append(f"{shot.fallbacks} fell back")
    if shot.gone:
        parts.append(f"lost: {' '.join(shot.gone)}")
    text = "  ".join(parts)
    if width > 0 and len(text) > width and nodes in parts:
        parts[parts.index(nodes)] = f"{sum(shot.in_use.values())}/{sum(shot.slots.values())} slots"
        text = "  ".join(parts)
    while width > 0 and len(text) > width and len(parts) > 2:
        parts.pop()
        text = "  ".join(parts)
    return text[:width] if width > 0 else text


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
