"""One line of a patch edited: to new vmlinux and modules, and to packages.

Beside it, in the same run: the same line edited by hand in the very same tree and plain `make`, which finds all that
doit has compiled (kbuild's records are the same) and is put back after it; the same edit after the coordinator's tmpfs
was lost; plain makepkg from the archive. Rounds are interleaved, so that a busy moment of the machine meets all of
them; medians are compared. CPU seconds are told beside: they hardly move with the machine.
"""

from __future__ import annotations

import statistics
from typing import Any

from kbuild_tasks.core.errors import KbuildError
from tests.bench.place import Place, Took, counted

ROUNDS, LOSSES = 3, 2
GOALS = {
    "doit compile / edit by hand and make": 1.15,
    "doit after the tmpfs was lost / with it": 3,
    "makepkg from nothing / doit": 20,
}


def measure(place: Place) -> dict[str, Any]:
    """{"seconds", "cpu": {what: [each]}, "objects": of the edits, "ratios", "goals"}. Raises KbuildError."""
    took: dict[str, list[Took]] = {"doit from nothing": [place.doit()]}
    objects: list[int] = []

    def note(what: str, one: Took) -> None:
        took.setdefault(what, []).append(one)

    for _ in range(ROUNDS):
        place.edit()
        note("doit compile", place.doit("compile"))
        objects.append(len(place.compiled()["objects"]))
        note("by hand", by_hand(place, objects[-1]))
        place.edit()
        note("doit", place.doit())
        objects.append(len(place.compiled()["objects"]))
    note("makepkg", place.run(place.scratch_makepkg(f"{place.workdir}/scratch")))
    place.run(f"rm -rf {place.workdir}/scratch")
    for _ in range(LOSSES):
        place.lose()
        place.edit()
        note("doit, tmpfs lost", place.doit())
        objects.append(len(place.compiled()["objects"]))
    if set(objects) != {objects[0]}:
        raise KbuildError(f"the same edit compiled {objects} objects", "the figures compare different work")
    middle = {what: statistics.median(one.seconds for one in each) for what, each in took.items()}
    cpu = {what: statistics.median(one.cpu for one in each) for what, each in took.items()}
    ratios = {**compared(middle), **{f"{what}, CPU": value for what, value in compared(cpu).items()}}
    return {
        "seconds": {what: [round(one.seconds, 2) for one in each] for what, each in took.items()},
        "cpu": {what: [round(one.cpu, 2) for one in each] for what, each in took.items()},
        "objects": objects[0],
        "ratios": ratios,
        "goals": GOALS if place.goals else {},
    }


def compared(middle: dict[str, float]) -> dict[str, float]:
    return {
        "doit compile / edit by hand and make": middle["doit compile"] / middle["by hand"],
        "doit after the tmpfs was lost / with it": middle["doit, tmpfs lost"] / middle["doit"],
        "makepkg from nothing / doit": middle["makepkg"] / middle["doit"],
    }


def by_hand(place: Place, objects: int) -> Took:
    """Another number in the same line, and make; then the line and the objects as they were, untimed."""
    words = f"-j{place.cores} {place.targets}"
    sed = f"sed -i 's/{place.line}/{place.other_line}/' {place.tree}/{place.source}"
    took = place.run(f"{sed}; {place.make(words)}")
    if counted(took.out) != objects:
        raise KbuildError(f"make compiled {counted(took.out)} objects, doit {objects}", "the trees differ")
    place.run(f"sed -i 's/{place.other_line}/{place.line}/' {place.tree}/{place.source}; {place.make(words)}")
    return took
