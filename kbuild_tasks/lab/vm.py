"""One VM, as the holder sees it: a QEMU in the node's cgroup, its network card a tap at the lab's bridge.

The process is the machine: killing it is the power cut, freezing it the hang, its end with status 0 a guest that
switched itself off; a guest's reboot stays inside. What a power cut may lose is honest: the disk's cache is the
machine's own page cache, which outlives QEMU, so what the guest has synced is there afterwards, and what it had only
in its memory is not. A disk that also loses or reorders what it took is somebody else's: where SERVED lies beside the
disk when the VM is switched on, its disk is what an NBD server there says (tests/vm/faults/disk.py).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kbuild_tasks.lab.cgroups import Tree
from kbuild_tasks.lab.nodes import Network, Node

PROGRAM = "qemu-system-x86_64"
# Translated code is kept in up to tb-size MiB, a quarter of the guest's memory or more without the limit. With it a VM
# stays below 800 MiB on the machine.
ACCELERATORS = {"kvm": ("kvm", "host"), "tcg": ("tcg,thread=multi,tb-size=128", "qemu64")}
FIRMWARE = (  # (code, variables) of UEFI without Secure Boot: Debian, Arch
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
)
SERVED = "disk.sock"
SEED = "opt/kbuild-lab/seed"  # the name in fw_cfg under which a guest finds its identity


@dataclass(frozen=True)
class VmSpec:
    """A VM as lab.py asks for it.

    kind          one of names.VM_KINDS
    images        directory of its base image, below the labs' bases: locked while the lab is up
    accelerator   "kvm" | "tcg"
    firmware      path of the UEFI code, "" for a BIOS
    """

    name: str
    kind: str
    images: str
    accelerator: str
    firmware: str
    memory: int = 512
    cpus: int = 2

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> VmSpec:
        return cls(**value)


def directory(node: str, kind: str) -> str:
    """Where below .lab/nodes a VM's disk lies: not where a container of that name, or another kind, has it."""
    return f"{node}.{kind}"


def mac(node: str) -> str:
    """52:54:00 is QEMU's own prefix; the rest is the address."""
    return f"52:54:00:77:00:{10 + int(node.removeprefix('kubenode')):02x}"


class Vm(Node):
    def __init__(self, spec: VmSpec, tree: Tree) -> None:
        super().__init__(spec.name, tree)
        self.spec = spec
        self.kind = spec.kind

    def make(self, network: Network) -> None:
        images = os.open(f"/run/bases/{self.spec.images}", os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(images, fcntl.LOCK_SH)  # in use as long as the holder lives
        self.tree.make(self.name)
        network.attach_tap(self.name)

    def argv(self) -> list[str]:
        place = f"/run/disks/{directory(self.name, self.kind)}"
        served = os.path.exists(f"{place}/{SERVED}")
        return qemu_argv(self.spec, place, f"/run/logs/{self.name}-console.log", Network.port(self.name), served)


def qemu_argv(spec: VmSpec, place: str, log: str, port: str, served: bool = False) -> list[str]:
    """qemu-system-x86_64(1): a plain machine with nothing that is not asked for.

    place   directory of disk.qcow2, seed.tar and vars.fd
    log     the serial console is appended there
    served  the disk is what SERVED in place says, not disk.qcow2
    """
    accelerator, cpu = ACCELERATORS[spec.accelerator]
    argv = [PROGRAM, "-name", spec.name, "-nodefaults", "-no-user-config", "-display", "none"]
    # Without a graphics card; a BIOS then has its text screen, on which the loaders wait, on the serial console.
    argv += ["-machine", "q35" if spec.firmware else "q35,graphics=off", "-accel", accelerator, "-cpu", cpu]
    argv += ["-smp", str(spec.cpus), "-m", str(spec.memory)]
    if spec.firmware:
        argv += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={spec.firmware}"]
        argv += ["-drive", f"if=pflash,unit=1,format=raw,file={place}/vars.fd"]
    disk = f"format=qcow2,discard=unmap,file={place}/disk.qcow2"
    if served:
        disk = f"driver=nbd,server.type=unix,server.path={place}/{SERVED}"
    argv += ["-drive", f"if=none,id=root,cache=writeback,{disk}"]
    argv += ["-device", "virtio-blk-pci,drive=root,bootindex=0"]
    argv += ["-netdev", f"tap,id=net,ifname={port},script=no,downscript=no,vhost=off"]
    argv += ["-device", f"virtio-net-pci,netdev=net,mac={mac(spec.name)},romfile="]  # no ROM: no boot from the network
    argv += ["-device", "virtio-rng-pci"]
    argv += ["-device", "i6300esb", "-action", "watchdog=reset"]
    argv += ["-fw_cfg", f"name={SEED},file={place}/seed.tar"]
    argv += ["-chardev", f"file,id=console,append=on,path={log}", "-serial", "chardev:console"]
    return argv


def firmware(kind: str) -> tuple[str, str]:
    """(code, variables) for a kind of VM: ("", "") for a BIOS, or where the machine has no UEFI for guests."""
    if kind == "systemd-boot":
        for code, variables in FIRMWARE:
            if Path(code).exists() and Path(variables).exists():
                return code, variables
    return "", ""
