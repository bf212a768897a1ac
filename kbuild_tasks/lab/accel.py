"""Does a Linux guest really boot with KVM here? Asked of a guest, because nothing else tells.

/dev/kvm may open, KVM may call itself enabled, and a BIOS may run in it, while no kernel comes up (seen with KVM on
top of a software hypervisor: the kernel is emulated for a minute, and then stands still). So the base image's own
kernel is started without a disk: where it comes to look for one and gives up, all of its own start-up was done. The
answer is kept, for this machine, its kernel and its QEMU.
"""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from kbuild_tasks.effects import shell
from kbuild_tasks.effects.files import read_json, sha256_text, write_json
from kbuild_tasks.lab.vm import ACCELERATORS, PROGRAM

PROBE_SECONDS = 8  # a guest with KVM is there in one or two
PROOF = "Unable to mount root fs"


def choose(kernel: Path, cache: Path, tell: Callable[[str], None]) -> str:
    """ "kvm" | "tcg" for guests of this machine. cache: file that remembers the answer."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    machine = _machine()
    known = read_json(cache)
    if isinstance(known, dict) and known.get("machine") == machine and known.get("accelerator") in ACCELERATORS:
        return str(known["accelerator"])
    tell(f"trying whether guests boot with KVM (once, at most {PROBE_SECONDS} s)")
    accelerator = "kvm" if boots(kernel) else "tcg"
    write_json(cache, {"machine": machine, "accelerator": accelerator})
    return accelerator


def boots(kernel: Path, seconds: float = PROBE_SECONDS, accelerator: str = "kvm") -> bool:
    """Whether this kernel comes to the end of its own start-up."""
    how, cpu = ACCELERATORS[accelerator]
    argv = [PROGRAM, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "q35"]
    argv += ["-accel", how, "-cpu", cpu, "-smp", "2", "-m", "256", "-kernel", str(kernel), "-serial", "stdio"]
    argv += ["-append", "console=ttyS0 panic=-1 root=/dev/none"]
    with tempfile.TemporaryFile() as said:
        with shell.spawn(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.DEVNULL) as guest:
            try:
                guest.wait(seconds)
            except subprocess.TimeoutExpired:
                shell.end(guest)
        said.seek(0)
        return PROOF.encode() in said.read()


def _machine() -> str:
    """What the answer depends on: processor, kernel, QEMU; and the boot, as a hypervisor below may have changed."""
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith(("model name", "flags"))]
    version = shell.run([PROGRAM, "--version"], timeout=60).out
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    return sha256_text("\0".join([*cpu[:2], platform.release(), platform.version(), version, boot]))[:16]
