"""matrix: kernels that are bad in every way that the boot matrix names, each on the canary of a real `doit rollout`.

One build, whose files or boot entry are spoilt on the canary at a moment that is named: "before arming" is between
bootfiles and arm, where the helper still looks at them; "after arming" is when nobody looks any more but the loader.
The second VM waits its turn: it must not be rebooted (the installation runs beside the canary's reboot). A node counts
as lost if nothing but cutting its power brings it back.

The dead man's time is shortened (halt.py): a trial that nobody can reach goes back half a minute after the deadline
instead of a quarter of an hour. The seconds are from the moment at which the fault struck, right before the reboot, to
an answer of the old kernel.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.lab.lab import Lab
from tests.vm.faults import Row
from tests.vm.faults.halt import Halt
from tests.vm.machines import boot_id, reboot, root, wait_for_boot
from tests.vm.rollout_project import CANARY, SECOND, Rollout, booted

ENTRY = "/boot/loader/entries/kbuild-$build.conf"
KERNEL = "/boot/kbuild/$build/vmlinuz"
TIMES = 3  # that the deadline of a reboot is as long as a plain one, which is measured first
UNSEEN = 30
SHUT = "#!/bin/sh\nexec sleep 1000000\n"


@dataclass(frozen=True)
class Fault:
    """name and what is done on the canary, as root, with $build and, for options, the entry's line.

    after    strikes after arming
    told     what the roll-out must say
    lost     nodes that it may cost until somebody cuts the power
    refused  nothing is rebooted
    mended   the roll-out puts it right, and ends well
    """

    name: str
    script: str
    told: str
    after: bool = False
    lost: int = 0
    refused: bool = False
    mended: bool = False


def options(words: str) -> str:
    return f"sed -i 's|^options .*|& {words}|' {ENTRY}"


def cut(file: str) -> str:
    return f'truncate -s "$(($(stat -c %s {file}) * 6 / 10))" {file}'


OLD_KERNEL = "k=$(ls /boot/vmlinuz-*cloud*); i=$(ls /boot/initrd.img-*cloud*)"
FLIP = "printf x | dd of=FILE bs=1 seek=999999 conv=notrunc status=none"
NO_NETWORK = "systemd.mask=systemd-networkd.service systemd.mask=systemd-networkd.socket"
FAULTS = (
    Fault("no root (panic)", f"sed -i 's|root=[^ ]*|root=/dev/none|' {ENTRY}", "the new kernel panicked"),
    Fault("init dies (panic)", options("init=/bin/false"), "the new kernel panicked"),
    Fault("entry torn, before arming", f": > {ENTRY}", "has no boot entry", refused=True),
    Fault("entry torn, after arming", f": > {ENTRY}", "came back", after=True),
    Fault("kernel cut short, before arming", cut(KERNEL), "other bytes", refused=True),
    Fault("kernel flipped, before arming", FLIP.replace("FILE", KERNEL), "other bytes", refused=True),
    Fault("another kernel under its name", f"cp /boot/vmlinuz-*cloud* {KERNEL}", "other bytes", refused=True),
    Fault(
        "a wrong kernelrelease boots",
        f'{OLD_KERNEL}; sed -i "s|^linux .*|linux ${{k#/boot}}|; /^linux/a initrd ${{i#/boot}}" {ENTRY}',
        "came back",
        after=True,
    ),
    Fault("no driver for the network", options("initcall_blacklist=virtio_net_driver_init"), "silent"),
    Fault("network not brought up", options(NO_NETWORK), "silent"),
    Fault("sshd dead", options("systemd.mask=ssh.service systemd.mask=ssh.socket"), "sshd does not run"),
    Fault("hangs, no panic", options("init=/root/hang"), "silent", lost=1),
    Fault("no panic= in its entry", f"sed -i 's| *panic=[0-9]*||' {ENTRY}", "", mended=True),  # last: it ends well
)


def run(lab: Lab, project: Rollout, count: int | None) -> Iterator[Row]:
    yield from faults(lab, project, FAULTS[: count or len(FAULTS)])


def faults(lab: Lab, project: Rollout, chosen: Sequence[Fault]) -> Iterator[Row]:
    root(lab, CANARY, f"printf '%s' '{SHUT}' > /root/hang; chmod 755 /root/hang; sync")
    plain = wait_for_boot(lab, CANARY, reboot(lab, CANARY))
    yield Row("a plain reboot of the canary", "", f"{plain:.0f} s")
    timeout = max(60, round(TIMES * plain))
    project.settings(settle="2s", panic_timeout="2s", reboot_timeout=f"{timeout}s")
    old = lab.exec(CANARY, ["uname", "-r"]).out.strip()
    lost = touched = may = 0
    for fault in chosen:
        row = _one(lab, project, fault, old, timeout)
        lost += int(row.figures["lost"])
        touched += int(row.figures["touched"])
        may += fault.lost
        yield row
    yield Row("all of it: nodes lost", f"<= {may}" + (", the hang" if may else ""), str(lost), lost <= may)
    yield Row("all of it: other nodes touched", "0", str(touched), touched == 0)


def _one(lab: Lab, project: Rollout, fault: Fault, old: str, timeout: int) -> Row:
    other, kernels = boot_id(lab, SECOND), booted(lab, CANARY)
    halt = Halt(project, f"{CANARY} {'reboot' if fault.after else 'arm'}", unseen=UNSEEN)
    if not halt.wait():
        out = halt.end()
        raise KbuildError(f"{fault.name}: the roll-out never came to its reboot", evidence=out.splitlines()[-12:])
    before = boot_id(lab, CANARY)
    root(lab, CANARY, f"build={project.build()}; {fault.script}; sync")
    struck = time.monotonic()
    out = halt.end()
    status = halt.run.returncode
    lost, seconds = (0, 0.0)
    if not (fault.mended or fault.refused):
        lost, seconds = _come_back(lab, before, old, struck, 0 if fault.lost else 2 * timeout + UNSEEN + 60)
    started = booted(lab, CANARY)[len(kernels) :]
    touched = boot_id(lab, SECOND) != other and not fault.mended
    told = _told(out)
    figures = {"lost": lost, "seconds": seconds, "touched": int(touched), "status": status, "told": told,
               "kernels": started}  # fmt: skip
    good = fault.told in out and lost <= fault.lost and not touched and (status == 0) == fault.mended
    if fault.refused:
        good = good and not started
        seen = f"refused, nothing rebooted: {told}"
    elif fault.mended:
        seen = f"mended and rolled out: {' '.join(started)}"
    else:
        seen = f"{'LOST, power cut, then ' if lost else ''}old kernel after {seconds:.0f} s: {told}"
        _clean(project)
    goal = f"{'one node' if fault.lost else 'no node'} lost, others untouched"
    return Row(fault.name, goal, seen, good, figures)


def _come_back(lab: Lab, before: str, old: str, since: float, patience: float) -> tuple[int, float]:
    """Whether its power had to be cut, because it was not back after `patience` seconds; and after how many seconds, of
    its life or from the power on, it was on its old kernel."""
    while time.monotonic() - since < patience:
        try:
            if boot_id(lab, CANARY) != before and lab.exec(CANARY, ["uname", "-r"], timeout=60).out.strip() == old:
                return 0, round(time.monotonic() - since, 1)
        except KbuildError:
            time.sleep(1)
    lab.stop(CANARY)
    began = time.monotonic()
    lab.start(CANARY)
    assert lab.exec(CANARY, ["uname", "-r"]).out.strip() == old, "its default was not the old kernel"
    return 1, round(time.monotonic() - began, 1)


def _told(out: str) -> str:
    """The line of the task that failed, without the table's columns."""
    for line in out.splitlines():
        if found := re.match(r"\s*FAILED\s+\S+\s+(.*)", line):
            return found[1].strip()
    return out.splitlines()[-1].strip() if out else ""


def _clean(project: Rollout) -> None:
    """As before the fault: the old kernel runs, and the build may be tried again."""
    project.doit("rollback", f"only={CANARY}")
    project.doit(f"allow:{CANARY}")
