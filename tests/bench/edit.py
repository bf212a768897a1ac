"""One line of a patch edited: to new objects, and to packages, on the example kernel in the lab.

Beside it, in the same run: the same line edited by hand in a copy of the same tree and plain `make`; the same edit
after the coordinator's tmpfs was lost; plain makepkg from nothing (without the series and the fragments, so with less
to do than ours). Rounds are interleaved; medians are compared. The lab's nodes share this machine's cores, so that
distribution gains nothing here.
"""

from __future__ import annotations

import itertools
import statistics
from pathlib import Path
from typing import Any

from kbuild_tasks.effects import makepkg
from kbuild_tasks.lab.lab import Lab
from tests.lab.project import ROOT, WORKDIR, Project

ROUNDS = 3
PATCH = "patches/0001-virtio_blk-say-how-deep-the-queues-are.patch"
SOURCE, SAYS = "drivers/block/virtio_blk.c", "requests a queue"
HAND, SCRATCH = f"{WORKDIR}/hand", f"{WORKDIR}/scratch"
MAKE = "make -s -j2 bzImage modules"
GOALS = {
    "doit compile / edit by hand and make": 1.15,
    "doit after the tmpfs was lost / with it": 3,
    "makepkg from nothing / doit": 20,
}


class Bench:
    def __init__(self, root: Path) -> None:
        lab = Lab(root)
        lab.up()
        self.project = Project.make(lab, "bench-edit")
        self.words = (f"{SAYS}, {number}" for number in itertools.count(1))
        self.said = SAYS
        clean = makepkg.environment().items()
        self.env = "env -i " + " ".join(f"{name}='{value}'" for name, value in clean if name not in ("HOME", "USER"))

    def timed(self, script: str) -> float:
        """Seconds of a script in the coordinator, as builder, timed there."""
        out = self.project.node(f"set -e; date +%s.%N; {{ {script}; }} >/tmp/bench.out 2>&1 || "
                                "{ cat /tmp/bench.out; exit 1; }; date +%s.%N")  # fmt: skip
        began, ended = out.split()[-2:]
        return float(ended) - float(began)

    def doit(self, *tasks: str) -> float:
        return self.timed(f"cd {self.project.root} && {ROOT}/.venv/bin/doit {' '.join(tasks)}")

    def edit(self) -> str:
        """Another word in the patch; the command that makes it in the copy of the tree."""
        old, self.said = self.said, next(self.words)
        self.project.edit(PATCH, old, self.said)
        return f"sed -i 's/{old}/{self.said}/' {HAND}/{SOURCE}"

    def compiled(self) -> int:
        return len(self.project.compiled()["objects"])


def measure(root: Path) -> dict[str, Any]:
    """{"seconds": {what: [each]}, "objects": of the edits, "ratios", "goals"}. Raises AssertionError."""
    bench = Bench(root)
    project = bench.project
    seconds: dict[str, list[float]] = {"doit, all of it": [bench.doit()]}
    tree = f"{WORKDIR}/makepkg/{project.results('compile')['tree']}"
    project.node(f"cp -a {tree} {HAND} && cd {HAND} && {bench.env} {MAKE}")
    objects = []
    for _ in range(ROUNDS):
        by_hand = bench.edit()
        seconds.setdefault("doit compile", []).append(bench.doit("compile"))
        objects.append(bench.compiled())
        seconds.setdefault("by hand", []).append(bench.timed(f"{by_hand} && cd {HAND} && {bench.env} {MAKE}"))
        bench.edit()
        seconds.setdefault("doit", []).append(bench.doit())
        objects.append(bench.compiled())
        assert project.node(f"grep -c '{bench.said}' {tree}/{SOURCE}").strip() == "1"
    seconds["makepkg"] = [bench.timed(
        f"rm -rf {SCRATCH} && cp -r {project.root}/kernel {SCRATCH} && cd {SCRATCH} && "
        f"{bench.env} HOME=/home/builder MAKEFLAGS=-j2 PKGEXT=.pkg.tar.zst makepkg --nodeps --force"
    )]  # fmt: skip
    for _ in range(ROUNDS):
        project.doit("release")
        bench.edit()
        seconds.setdefault("doit, tmpfs lost", []).append(bench.doit())
        objects.append(bench.compiled())
    project.doit("release")
    middle = {what: statistics.median(each) for what, each in seconds.items()}
    ratios = {
        "doit compile / edit by hand and make": middle["doit compile"] / middle["by hand"],
        "doit after the tmpfs was lost / with it": middle["doit, tmpfs lost"] / middle["doit"],
        "makepkg from nothing / doit": middle["makepkg"] / middle["doit"],
    }
    return {"seconds": seconds, "objects": objects, "ratios": ratios, "goals": GOALS}
