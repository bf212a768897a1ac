"""What tests ask of VMs: which boot it is, to wait for the next, and one that is as new."""

from __future__ import annotations

import re
import time
from pathlib import Path

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.lab import vm, vm_disk, vm_image
from kbuild_tasks.lab.lab import Lab

VMS = ("kubenode7", "kubenode8")
BOOT_SECONDS = 400  # two boots, on a machine that has other things to do; alone 25 each


def boot_id(lab: Lab, node: str) -> str:
    """Raises NodeUnreachable."""
    said = lab.exec(node, ["cat", "/proc/sys/kernel/random/boot_id"], timeout=60).out.strip()
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", said), said
    return said


def wait_for_boot(lab: Lab, node: str, before: str, seconds: float = BOOT_SECONDS) -> float:
    """Wait until the node answers with another boot id than `before`; how long it took."""
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        try:
            if boot_id(lab, node) != before:
                return time.monotonic() - started
        except KbuildError:
            pass
        time.sleep(0.5)
    raise AssertionError(f"{node} did not come back within {seconds} s: {console(lab, node)[-2000:]}")


def console(lab: Lab, node: str) -> str:
    return (Path(lab.places.logs) / f"{node}-console.log").read_text(errors="replace")


def root(lab: Lab, node: str, script: str) -> str:
    """Output of a shell script, run as root there."""
    return lab.exec(node, ["sh", "-euc", script], user="root", timeout=120).out


def reboot(lab: Lab, node: str) -> str:
    """Ask the node to reboot; its boot id before."""
    before = boot_id(lab, node)
    lab.exec(node, ["systemctl", "reboot"], user="root", check=False, timeout=120)
    return before


def as_new(lab: Lab, *nodes: str) -> None:
    """Those that a roll-out has been on get a new disk, and boot the image's own kernel; they answer."""
    used = [node for node in nodes if root(lab, node, "ls -A /var/lib/kbuild-tasks/rollout 2>/dev/null || :")]
    kinds = {node.name: node.kind for node in lab.status()}
    for node in used:
        lab.stop(node)
        (lab.places.disks / vm.directory(node, kinds[node]) / "made").unlink()
        images = vm_image.ensure(lab.places, [kinds[node]], print)
        vm_disk.specs(lab.places, images, {node: kinds[node]}, "")
        lab.start(node, wait=False)
    lab.up()
