"""The other kinds of VMs: each loader boots an entry once, and the default is what it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kbuild_tasks.lab.lab import Lab
from tests.vm.machines import VMS, boot_id, console, reboot, root, wait_for_boot

pytestmark = [pytest.mark.lab, pytest.mark.vm]

KINDS = {"kubenode9": "grub", "kubenode10": "extlinux"}
ARM = {  # an entry that cannot mount a root, to be booted once
    "grub": """
    cat > /boot/grub/custom.cfg <<EOF
    menuentry bad --id bad { linux /boot/$(uname -r | sed s/^/vmlinuz-/) root=none panic=2 console=ttyS0
    }
EOF
    grub-reboot bad; grub-editenv list""",
    "extlinux": """
    cat >> /boot/extlinux/extlinux.conf <<EOF
label bad
  linux ../vmlinuz-$(uname -r)
  append root=none panic=2 console=ttyS0
EOF
    extlinux --once=bad /boot/extlinux; tail -c 1024 /boot/extlinux/ldlinux.sys | grep -ao bad""",
}
IS_ARMED = {"grub": "next_entry=bad", "extlinux": "bad"}


@pytest.fixture(scope="module")
def loaders(vms: Lab) -> Iterator[Lab]:
    """The VMs of all kinds are up; those that the tests here do not need stand still."""
    vms.up(vms=["systemd-boot"] * len(VMS) + list(KINDS.values()))
    yield vms
    for node in KINDS:
        vms.stop(node)


@pytest.mark.parametrize("node", KINDS)
def test_an_entry_is_booted_once(loaders: Lab, node: str) -> None:
    assert {n.name: n.kind for n in loaders.status()}[node] == KINDS[node]
    assert root(loaders, node, ARM[KINDS[node]] + "; sync").split()[-1] == IS_ARMED[KINDS[node]]
    panics = console(loaders, node).count("Kernel panic")
    before = reboot(loaders, node)
    wait_for_boot(loaders, node, before)
    assert console(loaders, node).count("Kernel panic - not syncing: VFS: Unable to mount root fs") == panics + 1
    assert "root=none" not in root(loaders, node, "cat /proc/cmdline")
    before = boot_id(loaders, node)
    loaders.stop(node)
    loaders.start(node)
    assert boot_id(loaders, node) != before
    assert console(loaders, node).count("Kernel panic") == panics + 1
