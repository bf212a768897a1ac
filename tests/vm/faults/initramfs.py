"""initramfs: the boot matrix's faults of an initramfs (T7), with a kernel that needs one: Debian's, for which the node
made it itself (tests/vm/debian_kernel.py). The example kernel has its drivers built in.
"""

from __future__ import annotations

from collections.abc import Iterator

from kbuild_tasks.lab.lab import Lab
from tests.vm.faults import Row
from tests.vm.faults.matrix import Fault, cut, faults
from tests.vm.rollout_project import Rollout

PROJECT = Rollout.of_debian
CUT = cut("/boot/kbuild/$build/initrd.img")
FAULTS = (
    Fault("initramfs cut short, before arming", CUT, "other bytes", refused=True),
    Fault("initramfs cut short, after arming", CUT, "the new kernel did not get its disks", after=True),
)


def run(lab: Lab, project: Rollout, count: int | None) -> Iterator[Row]:
    yield from faults(lab, project, FAULTS[: count or len(FAULTS)])
