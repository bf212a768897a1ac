"""cuts: the power of a node goes at marked and at drawn moments between deploy and COMMITTED.

Two VMs, each with a roll-out of its own (doit rollout only=NODE), in chains: what was cut off is switched on again,
must boot by itself, is looked at, and the next `doit rollout` goes on until its own moment comes; the last one of a
chain comes to its end, and then the next build is rolled out. In three cuts of four doit is killed with the node.

Every second roll-out is not cut off: pictures of its disk are taken instead, and booted (album.py).

A cut is a SIGKILL of QEMU: what the guest had in memory is gone. Of what it had written to its disk and not flushed, a
third of the cuts loses nothing, a third a random half in pieces of 4 KiB, a third everything (disk.py).
"""

from __future__ import annotations

import contextlib
import os
import queue
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.lab.lab import Lab
from tests.lab.project import ROOT
from tests.vm.faults import Row
from tests.vm.faults.album import photograph
from tests.vm.faults.chain import Chain
from tests.vm.faults.machine import Machine
from tests.vm.faults.moments import MARKS, Moment, deal, drawn, marked
from tests.vm.machines import VMS
from tests.vm.rollout_project import Rollout

CUTS = 100
IN_A_CHAIN = 8
EXPECTED = (KbuildError, AssertionError, OSError, subprocess.SubprocessError)


@dataclass
class Work:
    """What both threads share: moments that are still to come, and what came of the others."""

    seed: int
    wanted: int
    left: list[list[Moment]] = field(default_factory=list)
    cuts: list[dict[str, Any]] = field(default_factory=list)
    chains: list[dict[str, Any]] = field(default_factory=list)
    lengths: dict[str, float] = field(default_factory=dict)
    told: queue.Queue[Row] = field(default_factory=queue.Queue)
    turns: int = 0
    guard: threading.Lock = field(default_factory=threading.Lock)

    def more(self, choice: random.Random) -> list[Moment]:
        """The next chain; empty when there were enough cuts."""
        with self.guard:
            if len(self.cuts) >= self.wanted:
                return []
            if not self.left:
                moments = marked(choice)
                moments += drawn(choice, self.lengths, len(moments))
                self.left = deal(choice, moments, IN_A_CHAIN)
            return self.left.pop()

    def turn(self) -> bool:
        """Whether pictures are taken this time: every second time."""
        with self.guard:
            self.turns += 1
            return self.turns % 2 == 0

    def end(self, chain: dict[str, Any]) -> None:
        with self.guard:
            self.chains.append(chain)
        kind = f" ({chain['kind']}, {chain['cuts']} cuts)" if "kind" in chain else ""
        what = f"{chain['node']}: a roll-out{kind}"
        seen = "at its end, as it should be" if chain["good"] else str(chain["why"])
        self.told.put(Row(what, "comes to its end", seen, chain["good"], chain))

    def tell(self, cut: dict[str, Any]) -> None:
        with self.guard:
            self.cuts.append(cut)
            number = len(self.cuts)
        held = cut["default_holds"] or cut["state"] == "VERIFIED2"  # in commit it may be the new one
        seen = f"{cut['runs']} after {cut['seconds']} s" if cut["boots"] else "DOES NOT BOOT"
        seen += f"; lost {cut['lost']} of {cut['unsafe']}" + (
            f"; CHANGED {cut['changed'][:3]}" if cut["changed"] else ""
        )
        seen += "" if held else f"; DEFAULT {cut['default']}"
        what = f"{number} {cut['node']} {cut['state'] or 'begin'}: {cut['moment']}"
        self.told.put(Row(what, "", seen, cut["boots"] and cut["loads"] and held and not cut["changed"], cut))


def run(lab: Lab, project: Rollout, count: int | None) -> Iterator[Row]:
    seed = int(os.environ.get("KBUILD_TEST_SEED", "") or time.time())
    print(f"    seed {seed} (KBUILD_TEST_SEED)", flush=True)
    work = Work(seed, count or CUTS)
    projects = [project, *(Rollout.built(lab, f"faults-cuts-{node}") for node in VMS[1:])]
    threads = [threading.Thread(target=_one, args=(lab, p, node, work)) for p, node in zip(projects, VMS, strict=True)]
    for thread in threads:
        thread.start()
    # Ctrl-C (or SIGINT) ends it after the roll-outs that are on their way, with the table of what was seen.
    signal.signal(signal.SIGINT, lambda *_: setattr(work, "wanted", 0))
    while any(thread.is_alive() for thread in threads) or not work.told.empty():
        with contextlib.suppress(queue.Empty):
            yield work.told.get(timeout=1)
    yield from rows(work, count or CUTS)


def _one(lab: Lab, project: Rollout, node: str, work: Work) -> None:
    choice = random.Random(f"{work.seed} {node}")
    machine = Machine(lab, node, ROOT / "build" / "faults")
    project.settings(settle="1s", canary=f"[{node}]")
    project.alone(node)  # else no node is rebooted while the other one, of which it knows nothing, is cut off
    chain = Chain(project, machine, choice, work.tell)
    try:
        chain.begin()
        with work.guard:
            work.lengths = work.lengths or chain.lengths
            print(
                f"    {node}: {sum(chain.lengths.values()):.0f} s from deploy to COMMITTED: {chain.lengths}", flush=True
            )
        while moments := work.more(choice):
            try:
                album = work.turn()
                work.end(photograph(chain, moments) if album else chain.follow(moments))
            except EXPECTED as error:
                work.end({"node": node, "good": False, "why": f"{type(error).__name__}: {error}"})
                chain.begin()
    except EXPECTED as error:
        work.end({"node": node, "good": False, "why": f"gave up: {type(error).__name__}: {error}"})
    finally:
        machine.close()


def rows(work: Work, wanted: int) -> Iterator[Row]:
    cuts = work.cuts
    total, boots = len(cuts), sum(cut["boots"] for cut in cuts)
    kinds = len({cut["moment"] for cut in cuts if cut["marked"]})
    figures = {"seed": work.seed, "lengths": work.lengths}
    at_marks = sum(cut["marked"] for cut in cuts)
    of = f"{at_marks} marked ({kinds} of {len(MARKS)} marks), {total - at_marks} drawn"
    yield Row(f"power cut, {of}", f"boots {wanted}/{wanted}", f"boots {boots}/{total}",
              boots == total >= wanted, figures)  # fmt: skip
    for name, low, high in (("nothing", 0.0, 0.0), ("half", 0.1, 0.9), ("all", 1.0, 1.0)):
        some = [cut for cut in cuts if low <= cut["probability"] <= high]
        pieces, cold = sum(cut["lost"] for cut in some), sum(cut["lost"] > 0 for cut in some)
        came = sum(cut["boots"] for cut in some)
        seen = f"boots {came}/{len(some)}, {pieces} pieces lost in {cold} cuts"
        yield Row(f"  of them losing {name} of the write cache", "", seen)
    looked = [cut for cut in cuts if cut["boots"]]
    wrong = sum(len(cut["changed"]) for cut in looked)
    files = sum(cut["files"] for cut in looked)
    yield Row(
        "files of the old kernel that changed", "0", f"{wrong} of {files} hashed in {len(looked)} looks", wrong == 0
    )
    loads = sum(cut["loads"] for cut in looked)
    yield Row("the kernel that booted has its modules", f"{len(looked)}/{len(looked)}", f"{loads}/{len(looked)}",
              loads == len(looked))  # fmt: skip
    before = [cut for cut in looked if cut["state"] != "VERIFIED2"]
    held = sum(cut["default_holds"] for cut in before)
    yield Row("default is known-good, before commit", f"{len(before)}/{len(before)}", f"{held}/{len(before)}",
              held == len(before))  # fmt: skip
    good = sum(chain["good"] for chain in work.chains)
    yield Row("doit rollout then comes to its end", f"{len(work.chains)}/{len(work.chains)}",
              f"{good}/{len(work.chains)} roll-outs", good == len(work.chains) > 0)  # fmt: skip
