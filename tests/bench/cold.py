"""Every object of a configured tree compiled: by doit; by make with distcc, as well as one can set it by hand; by make
alone; and by doit with a ccache that has it all.

By hand: plain distcc in a masquerade directory, the same workers, and the best of several hosts lists (slots for each
worker, slots of the coordinator, lzo or not) and -j, each tried on a part of the tree; with the settings that people
who use distcc for kernels give (a short pause, more preprocessors, its files on the tmpfs). `make clean` is before each
build; the tree and its path are the same. CPU is the coordinator's: all of a command and what it waited for. doit's
time is that of `doit compile` from the prompt, so with its start, prepare and the end of build mode.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from kbuild_tasks.core.errors import KbuildError
from tests.bench.place import Place, Took, counted

GOALS = {
    "doit / distcc by hand": 0.85,
    "coordinator CPU an object, doit / distcc by hand": 0.55,
    "cold local build / doit, all in ccache": 6,
}


@dataclass(frozen=True)
class Setting:
    """What a hand would tune. worker, local: slots; lzo: whether sources travel packed."""

    worker: int
    local: int
    lzo: bool = True

    def hosts(self, where: list[str]) -> str:
        far = " ".join(f"{at}/{self.worker}{',lzo' if self.lzo else ''}" for at in where)
        near = f" localhost/{self.local}" if self.local else ""
        return f"--localslots={max(2, self.local)} --localslots_cpp={self.local + 8} {far}{near}"

    def jobs(self, workers: int) -> int:
        return self.worker * workers + self.local


SETTINGS = (
    Setting(2, 1),
    Setting(3, 0),
    Setting(3, 1),
    Setting(3, 2),
    Setting(4, 0),
    Setting(4, 1),
    Setting(3, 1, False),
)


def measure(place: Place) -> dict[str, Any]:
    """{"seconds", "cpu": {what: [each]}, "objects", "tried": {setting: seconds}, "best", "ratios", "goals"}."""
    place.ccache(False)
    place.doit("compile")
    place.limit()
    objects = len(place.compiled()["objects"])
    where = place.serve()
    tried = {setting: by_hand(place, setting, where, place.part).seconds for setting in SETTINGS}
    best = min(tried, key=lambda setting: tried[setting])
    place.unserve()
    took: dict[str, list[Took]] = {}
    nodes: list[dict[str, int]] = []
    for _ in range(place.rounds):
        took.setdefault("doit", []).append(ours(place, objects))
        nodes.append(place.compiled()["per_node"])
        where = place.serve()
        took.setdefault("distcc by hand", []).append(by_hand(place, best, where, place.targets, objects))
        place.unserve()
        place.clean()
        took.setdefault("local", []).append(place.run(place.make(f"-j{place.cores} {place.targets}")))
    place.ccache(True)
    took["doit, ccache empty"] = [ours(place, objects)]
    for _ in range(place.rounds):
        place.clean()
        took.setdefault("doit, ccache full", []).append(place.doit("compile"))
        cached = place.compiled()
        if cached["objects"] or cached["ccache"]["hits"] != objects:
            raise KbuildError(f"ccache had {cached['ccache']['hits']} of {objects} objects", "it was to have all")
    place.ccache(False)
    middle = {what: statistics.median(one.seconds for one in each) for what, each in took.items()}
    cpu = {what: statistics.median(one.cpu for one in each) for what, each in took.items()}
    return {
        "seconds": {what: [round(one.seconds, 2) for one in each] for what, each in took.items()},
        "cpu": {what: [round(one.cpu, 2) for one in each] for what, each in took.items()},
        "objects": objects,
        "per_node": nodes,
        "tried": {str(setting): round(seconds, 2) for setting, seconds in tried.items()},
        "best": str(best),
        "ratios": {
            "doit / distcc by hand": middle["doit"] / middle["distcc by hand"],
            "coordinator CPU an object, doit / distcc by hand": cpu["doit"] / cpu["distcc by hand"],
            "coordinator CPU an object, distcc by hand / local": cpu["distcc by hand"] / cpu["local"],
            "doit / local": middle["doit"] / middle["local"],
            "cold local build / doit, all in ccache": middle["local"] / middle["doit, ccache full"],
            "cold local build / doit, all in ccache, CPU": cpu["local"] / cpu["doit, ccache full"],
        },
        "goals": GOALS if place.goals else {},
    }


def ours(place: Place, objects: int) -> Took:
    place.clean()
    took = place.doit("compile")
    told = place.compiled()
    if len(told["objects"]) != objects or told["fallbacks"]:
        raise KbuildError(
            f"{len(told['objects'])} of {objects} objects were compiled, {len(told['fallbacks'])} fell back",
            "the figures compare different work",
        )
    return took


def by_hand(place: Place, setting: Setting, where: list[str], targets: str, objects: int | None = None) -> Took:
    """distcc 3.4 in a masquerade directory, so that kbuild records `gcc`."""
    place.clean()
    if objects is None:  # a part of the tree: what comes before it is not what is tuned
        place.run(place.make(f"-j{place.cores} prepare"))
    directory = f"{place.workdir}/hand"
    more = {
        "PATH": f"{directory}/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "DISTCC_DIR": f"{directory}/state",
        "TMPDIR": f"{directory}/tmp",
        "DISTCC_HOSTS": setting.hosts(where),
        "DISTCC_PAUSE_TIME_MSEC": "50",
        "DISTCC_NO_REWRITE_CROSS": "1",
    }
    setup = (
        f"rm -rf {directory}; mkdir -p {directory}/bin {directory}/state {directory}/tmp; "
        f"ln -s /usr/bin/distcc {directory}/bin/gcc"
    )
    took = place.run(f"{setup}; {place.make(f'-j{setting.jobs(len(where))} {targets}', more)}; rm -rf {directory}")
    if objects is not None and not objects <= counted(took.out):
        raise KbuildError(f"make compiled {counted(took.out)} objects, doit {objects}", "the trees differ")
    return took
