"""VMs behave like machines: they boot their own kernel, reboot, fail, lose power and the network."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time

import pytest

from kbuild_tasks.core.errors import KbuildError, NodeUnreachable
from kbuild_tasks.lab import accel, keys, vm_image
from kbuild_tasks.lab.holder import start_time
from kbuild_tasks.lab.lab import Lab
from kbuild_tasks.lab.session import holder
from tests.lab import machine
from tests.vm.machines import VMS, as_new, boot_id, console, reboot, root, wait_for_boot

pytestmark = [pytest.mark.lab, pytest.mark.vm]


def test_what_a_vm_is(vms: Lab) -> None:
    as_new(vms, *VMS)
    script = """
    hostname; cat /etc/machine-id; id -un; pwd; sudo id -un; systemctl is-system-running --wait
    ip -4 -o address show | awk '$2 != "lo" {print $4}'
    findmnt -no FSTYPE /; findmnt -no FSTYPE /boot; cat /sys/class/dmi/id/sys_vendor
    getent hosts kubenode1 | cut -d' ' -f1
    sudo pacman-key --list-keys > /dev/null && pacman -Qq
    """
    assert vms.exec("kubenode7", ["bash", "-c", script]).out.split() == [
        *["kubenode7", keys.machine_id(vms.root, "kubenode7"), "ansible", "/home/ansible", "root", "running"],
        *["10.77.0.17/24", "ext4", "vfat", "QEMU", "10.77.0.11", "debian-provides"],
    ]
    there = vms.exec("kubenode8", ["uname", "-r"]).out
    assert "cloud" in there
    assert there != subprocess.run(["uname", "-r"], capture_output=True, text=True).stdout
    here = [node for node in vms.status() if node.name in VMS]  # other kinds may be there too, switched off
    assert [(n.state, n.kind) for n in here] == [("on", "systemd-boot")] * 2


def test_the_coordinator_knows_them(vms: Lab) -> None:
    """By name and by address, host keys checked; and they differ."""
    ssh = "ssh -o BatchMode=yes -o StrictHostKeyChecking=yes ansible@"
    script = f"{ssh}kubenode7 hostname; {ssh}10.77.0.18 hostname"
    assert vms.exec("kubenode1", ["sh", "-c", script]).out == "kubenode7\nkubenode8\n"
    ids = {
        root(vms, node, "cat /etc/ssh/ssh_host_ed25519_key.pub /etc/machine-id") for node in ("kubenode7", "kubenode8")
    }
    assert len(ids) == 2


def test_what_is_typed_arrives(vms: Lab) -> None:
    words = ["a b", "$HOME", "'\"\\", "*", "", "é;|&"]
    assert vms.exec("kubenode7", ["printf", "%s\n", *words], env={"X": "y z"}).out.splitlines() == words
    assert (
        vms.exec("kubenode7", ["sh", "-c", "cat; echo $X; exit 3"], stdin="in", env={"X": "y z"}, check=False).out
        == "iny z\n"
    )
    assert vms.exec("kubenode7", ["sh", "-c", "exit 3"], check=False).code == 3


def test_hang_and_network_loss(vms: Lab) -> None:
    ping = ["ping", "-c1", "-W2", "10.77.0.17"]
    vms.freeze("kubenode7")
    assert vms.status()[3].state == "frozen"
    assert vms.exec("kubenode1", ping, check=False).code == 1
    with pytest.raises(KbuildError, match="frozen"):
        vms.exec("kubenode7", ["true"])
    vms.thaw("kubenode7")
    vms.cut("kubenode7")
    assert vms.status()[3].cut
    assert vms.exec("kubenode1", ping, check=False).code == 1
    with pytest.raises(NodeUnreachable, match="kubenode7 could not be reached"):
        vms.exec("kubenode7", ["true"])
    vms.join("kubenode7")
    assert vms.exec("kubenode1", ["ping", "-c3", "-W5", "10.77.0.17"], check=False).code == 0
    assert vms.exec("kubenode7", ["hostname"]).out == "kubenode7\n"


def test_power_cut_loses_what_was_not_synced(vms: Lab) -> None:
    before = boot_id(vms, "kubenode8")
    root(vms, "kubenode8", "rm -f /root/kept /root/lost; sync; echo kept > /root/kept; sync; echo lost > /root/lost")
    vms.stop("kubenode8")
    assert vms.status()[4].state == "off"
    with pytest.raises(KbuildError, match="kubenode8 is not running"):
        vms.exec("kubenode8", ["true"])
    vms.start("kubenode8")
    assert boot_id(vms, "kubenode8") != before
    assert root(vms, "kubenode8", "cat /root/kept; test -s /root/lost || echo gone") == "kept\ngone\n"


def test_a_panic_reboots_into_the_default(vms: Lab) -> None:
    """Once into an entry that cannot mount a root: the guest comes back by itself, in the same QEMU."""
    qemu = vms.leader("kubenode7")
    root(
        vms,
        "kubenode7",
        """cd /boot/loader/entries
    sed -e '/^initrd/d' -e 's/root=[^ ]*/root=none panic=2/' distribution.conf > bad.conf
    bootctl set-oneshot bad.conf && bootctl list | grep -q 'id: bad.conf'; sync""",
    )
    panic = "Kernel panic - not syncing: VFS: Unable to mount root fs"
    panics = console(vms, "kubenode7").count(panic)
    before = reboot(vms, "kubenode7")
    wait_for_boot(vms, "kubenode7", before)
    assert console(vms, "kubenode7").count(panic) > panics
    assert "root=PARTUUID=" in root(vms, "kubenode7", "rm /boot/loader/entries/bad.conf; cat /proc/cmdline")
    assert vms.leader("kubenode7") == qemu


def test_a_vm_that_switches_itself_off_stays_off(vms: Lab) -> None:
    vms.exec("kubenode8", ["systemctl", "poweroff"], user="root", check=False)
    deadline = time.monotonic() + 60
    while (state := vms.status()[4]).state == "on" and time.monotonic() < deadline:
        time.sleep(0.2)
    assert (state.state, state.exit) == ("off", 0)
    boots = [node.boots for node in vms.status()]
    assert {node.state for node in vms.up()} == {"on"}
    assert [node.boots - before for node, before in zip(vms.status(), boots, strict=True)][:5] == [0, 0, 0, 0, 1]


def test_a_killed_lab_leaves_no_vm(vms: Lab, breakable: Lab) -> None:
    breakable.up(1, vms=1)
    assert breakable.exec("kubenode7", ["hostname"]).out == "kubenode7\n"
    processes = {pid: start_time(pid) for pid in breakable.tree.pids()}
    links = machine.links()
    assert not re.search(r"\blab\d", links), "no tap on the machine itself"
    os.kill(holder(breakable.places), signal.SIGKILL)
    deadline = time.monotonic() + 10
    while (left := _alive(processes)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []
    assert breakable.status() == []
    breakable.down()
    # Not by namespaces: their numbers are given away again at once, to another lab that comes up.
    assert machine.leftovers(breakable, set()) == []
    assert vms.exec("kubenode7", ["hostname"]).out == "kubenode7\n"


def _alive(processes: dict[int, int]) -> list[int]:
    found = []
    for pid, started in processes.items():
        with contextlib.suppress(OSError):
            if start_time(pid) == started:
                found.append(pid)
    return found


@pytest.mark.parametrize(("how", "expected"), [("tcg", True), ("none", False)])
def test_the_question_whether_guests_boot(
    vms: Lab, how: str, expected: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Asked of an accelerator that works, and of a machine that only looks at its kernel."""
    kernel = vm_image.ensure(vms.places, [], print).kernel
    if how == "none":
        kernel = tmp_path_factory.mktemp("kernel") / "vmlinuz"
        kernel.write_bytes(b"no kernel")
    assert accel.boots(kernel, 90 if expected else 5, "tcg") == expected
