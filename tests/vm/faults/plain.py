"""plain: the same power cuts in a plain `pacman -U` of a same-named package, for comparison with cuts.

Each time from the same disk, on which the first package was installed and booted in the ordinary Arch way (arch.py):
the second one is another release, as with any update of a kernel. The cut comes at a moment drawn evenly from the time
that pacman takes and the AFTER seconds behind it, in which what was written lies in the page cache; it loses of the
disk's write cache what a cut in cuts does. The moments are pictures of AT_ONCE in one installation (album.py).
"""

from __future__ import annotations

import contextlib
import os
import queue
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.lab.lab import Lab
from tests.lab.project import ROOT
from tests.vm.faults import Row
from tests.vm.faults.arch import INSTALL, SETUP, bring, install, sums, whole
from tests.vm.faults.machine import Machine
from tests.vm.machines import VMS, root
from tests.vm.rollout_project import Rollout
from tests.vm.variant import make

TIMES = 24
AT_ONCE = 6  # pictures of one installation
AFTER = 5.0  # seconds
# What the firmware says when its loader ended, what a kernel says that has nothing to come back to.
HOPELESS = r"Shell>|Interactive Shell|No bootable|Kernel panic - not syncing|emergency mode"


@dataclass
class Work:
    seed: int
    release: str  # of the first package
    packages: list[Path]
    cuts: list[dict[str, Any]] = field(default_factory=list)
    told: queue.Queue[Row] = field(default_factory=queue.Queue)
    left: int = 0
    guard: threading.Lock = field(default_factory=threading.Lock)

    def more(self) -> int:
        """How many cuts come next."""
        with self.guard:
            count = min(self.left, AT_ONCE)
            self.left -= count
            return count

    def tell(self, cut: dict[str, Any]) -> None:
        with self.guard:
            self.cuts.append(cut)
        what = f"{len(self.cuts)} {cut['node']} after {cut['after']} of {cut['takes']} s"
        self.told.put(Row(what, "", f"{cut['ends']}; lost {cut['lost']} of {cut['unsafe']}", None, cut))


def run(lab: Lab, project: Rollout, count: int | None) -> Iterator[Row]:
    seed = int(os.environ.get("KBUILD_TEST_SEED", "") or time.time())
    print(f"    seed {seed} (KBUILD_TEST_SEED)", flush=True)
    first = _package(project)
    kept, release = project.root / first.name, project.release()
    shutil.copyfile(first, kept)
    make(project.root, "second", pkgrel=2, build_id="5ec0" * 10)
    work = Work(seed, release, [kept, _package(project)], left=count or TIMES)
    threads = [threading.Thread(target=_one, args=(lab, node, work)) for node in VMS]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) or not work.told.empty():
        with contextlib.suppress(queue.Empty):
            yield work.told.get(timeout=1)
    yield from rows(work)


def _package(project: Rollout) -> Path:
    return next(path for path in (project.root / "artifacts").glob("*.pkg.tar.zst") if "-headers-" not in path.name)


def _one(lab: Lab, node: str, work: Work) -> None:
    choice = random.Random(f"{work.seed} plain {node}")
    machine = Machine(lab, node, ROOT / "build" / "faults")
    name = f"plain-{node}"
    try:
        second, takes = _prepare(machine, work, name)
        while count := work.more():
            machine.load(name)
            for cut in _cuts(machine, choice, second, takes, count):
                machine.load(str(cut["picture"]))
                work.tell(cut | _look(machine, work, second))
                machine.off()
                machine.forget(str(cut["picture"]))
    finally:
        machine.close()
        machine.forget(name)


def _prepare(machine: Machine, work: Work, name: str) -> tuple[str, float]:
    """The disk from which each starts, kept; where the second package lies on it, and the seconds that it takes."""
    machine.fresh()
    root(machine.lab, machine.node, SETUP)
    first, second = (bring(machine, word, path) for word, path in zip(("one", "two"), work.packages, strict=True))
    status, said = install(machine, first)
    assert status == 0 and "error" not in said, said
    machine.switch_off()
    machine.keep(name)
    machine.on()
    assert root(machine.lab, machine.node, "uname -r").strip() == work.release
    began = time.monotonic()
    status, said = install(machine, second)
    takes = round(time.monotonic() - began, 1)
    assert status == 0 and "error" not in said, said
    machine.off()
    return second, takes


def _cuts(machine: Machine, choice: random.Random, second: str, takes: float, count: int) -> list[dict[str, Any]]:
    """One installation, with pictures of its disk."""
    machine.on()
    moments = sorted(round(choice.uniform(0.0, takes + AFTER), 2) for _ in range(count))
    command = machine.lab.command(machine.node, ["sh", "-c", INSTALL.format(second)], user="root")
    taken: list[dict[str, Any]] = []
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as ssh:
        began = time.monotonic()
        for after in moments:
            time.sleep(max(0.0, began + after - time.monotonic()))
            within, chance = ssh.poll() is None, choice.choice((0.0, 0.5, 1.0))
            name, stopped = f"plain-{machine.node}-{len(taken)}", time.monotonic()
            lost, unsafe = machine.picture(name, chance, choice.randrange(1 << 30))
            began += time.monotonic() - stopped  # in which its disk stood still
            taken.append({
                "node": machine.node, "picture": name, "after": after, "takes": takes, "within": within,
                "probability": chance, "lost": lost, "unsafe": unsafe, "boots": False, "modules": False,
                "whole": False, "again": None,
            })  # fmt: skip
        machine.off()
        ssh.kill()
    return taken


def _look(machine: Machine, work: Work, second: str) -> dict[str, Any]:
    since = machine.length()
    try:
        machine.on(HOPELESS)
    except KbuildError:
        last = [line for line in machine.said(since).splitlines() if line.strip()][-1:]
        return {"ends": "DOES NOT BOOT", "console": last}
    release = root(machine.lab, machine.node, "uname -r").strip()
    loads = "for m in overlay br_netfilter; do modprobe $m || echo no; done 2>/dev/null"
    modules = "no" not in root(machine.lab, machine.node, loads)
    package = next(p for p in work.packages if f"usr/lib/modules/{release}/vmlinuz" in sums(p))
    wrong = whole(machine, sums(package))
    status, _ = install(machine, second)
    ends = f"boots {release}, modules {'load' if modules else 'DO NOT LOAD'}, {len(wrong)} files wrong, again: {status}"
    return {"boots": True, "modules": modules, "whole": not wrong, "again": status, "release": release, "ends": ends}


def rows(work: Work) -> Iterator[Row]:
    cuts, total = work.cuts, len(work.cuts)
    within = [cut for cut in cuts if cut["within"]]
    yield Row("plain pacman -U, power cut", "", f"boots {sum(c['boots'] for c in cuts)}/{total}", None,
              {"seed": work.seed})  # fmt: skip
    yield Row("  of them while pacman ran", "", f"boots {sum(c['boots'] for c in within)}/{len(within)}")
    yield Row("  boots and loads its modules", "", f"{sum(c['modules'] for c in cuts)}/{total}")
    yield Row("  boots and has every file of its package", "", f"{sum(c['whole'] for c in cuts)}/{total}")
    yield Row(
        "  a second pacman -U goes through", "", f"{sum(c['again'] == 0 for c in cuts)}/{sum(c['boots'] for c in cuts)}"
    )
