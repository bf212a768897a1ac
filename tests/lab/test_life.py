"""Up and down for real, also after a kill: what is there before must be there after, and nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from kbuild_tasks.core.errors import CommandFailed, KbuildError
from kbuild_tasks.lab.lab import Lab
from tests.lab import machine

pytestmark = pytest.mark.lab


def _leaders(lab: Lab) -> dict[str, int]:
    return {node.name: lab.leader(node.name) for node in lab.status()}


def test_up_is_idempotent_and_down_leaves_nothing(breakable: Lab) -> None:
    links = machine.links()
    nodes = breakable.up(2)
    assert [(n.name, n.state, n.cut) for n in nodes] == [("kubenode1", "on", False), ("kubenode2", "on", False)]
    before = _leaders(breakable)
    breakable.up()
    assert _leaders(breakable) == before
    spaces = machine.namespaces(breakable.tree.pids())
    assert {space.split(":")[0] for space in spaces} >= {"net", "pid", "mnt"}
    assert machine.leftovers(breakable, spaces), "the look-up itself finds a lab that is up"
    assert machine.links() == links
    assert breakable.down()
    assert machine.leftovers(breakable, spaces) == []
    assert machine.links() == links
    assert not breakable.down()
    assert breakable.status() == []
    with pytest.raises(KbuildError, match="not up"):
        breakable.exec("kubenode1", ["true"])


def test_a_killed_holder_takes_all_with_it(breakable: Lab) -> None:
    breakable.up(2)
    spaces = machine.namespaces(breakable.tree.pids())
    holder = json.loads(breakable.places.state.read_text())["pid"]
    os.kill(holder, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while machine.alive_in(spaces) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert machine.alive_in(spaces) == []
    assert breakable.status() == []
    with pytest.raises(KbuildError, match="not up") as caught:
        breakable.stop("kubenode1")
    assert caught.value.hint == "doit lab up"
    breakable.up(2)
    assert breakable.exec("kubenode2", ["hostname"]).out == "kubenode2\n"
    spaces |= machine.namespaces(breakable.tree.pids())
    breakable.down()
    assert machine.leftovers(breakable, spaces) == []


@pytest.mark.parametrize("delay", [0.15, 0.3, 0.45, 0.6, 0.9, 1.5])
def test_killed_while_it_comes_up(breakable: Lab, delay: float) -> None:
    """The command and whatever it had started so far are killed; then down leaves nothing, and up works."""
    breakable.down()
    program = "import sys; from pathlib import Path; from kbuild_tasks.lab.lab import Lab; "
    program += "Lab(Path(sys.argv[1]), Path(sys.argv[2])).up(2)"
    argv = [sys.executable, "-c", program, str(breakable.root), str(breakable.places.bases)]
    command = subprocess.Popen(argv, start_new_session=True)
    time.sleep(delay)
    started = breakable.tree.pids()
    spaces = machine.namespaces(started)
    command.kill()
    for pid in started[:1]:  # the lowest: launcher or holder
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    command.wait()
    breakable.down()
    assert machine.leftovers(breakable, spaces) == []


def test_up_heals(breakable: Lab) -> None:
    breakable.up(2)
    breakable.cut("kubenode2")
    breakable.freeze("kubenode2")
    breakable.stop("kubenode1")
    assert [(n.state, n.cut) for n in breakable.status()] == [("off", False), ("frozen", True)]
    assert [(n.state, n.cut) for n in breakable.up()] == [("on", False), ("on", False)]


def test_nodes_are_added_and_never_taken_away(breakable: Lab) -> None:
    breakable.up(2)
    leader = breakable.leader("kubenode2")
    assert len(breakable.up(3)) == 3
    assert len(breakable.up(1)) == 3
    assert breakable.leader("kubenode2") == leader
    script = "ssh -o BatchMode=yes ansible@10.77.0.13 hostname; ssh -o BatchMode=yes ansible@kubenode3 hostname"
    assert breakable.exec("kubenode1", ["sh", "-c", script]).out == "kubenode3\nkubenode3\n"
    breakable.down()


def test_a_frozen_lab_goes_down(breakable: Lab) -> None:
    breakable.up(2)
    spaces = machine.namespaces(breakable.tree.pids())
    breakable.freeze("kubenode1")
    breakable.freeze("kubenode2")
    breakable.down()
    assert machine.leftovers(breakable, spaces) == []


def test_disks_survive_down_and_go_with_wipe(breakable: Lab) -> None:
    breakable.up(1)
    breakable.exec("kubenode1", ["sh", "-c", "echo kept > ~/file"])
    identity = "cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub"
    before = breakable.exec("kubenode1", ["sh", "-c", identity]).out
    breakable.down()
    breakable.up(1)
    assert breakable.exec("kubenode1", ["cat", "/home/builder/file"]).out == "kept\n"
    assert breakable.exec("kubenode1", ["sh", "-c", identity]).out == before
    breakable.down(wipe=True)
    breakable.up(1)
    with pytest.raises(CommandFailed):
        breakable.exec("kubenode1", ["cat", "/home/builder/file"])
    breakable.down()


def test_two_labs_do_not_meet(lab: Lab, breakable: Lab) -> None:
    breakable.up(2)
    boot_id = ["cat", "/proc/sys/kernel/random/boot_id"]
    ssh = ["ssh", "-o", "BatchMode=yes", "ansible@10.77.0.12", *boot_id]
    for one in (lab, breakable):
        assert one.exec("kubenode1", ssh).out == one.exec("kubenode2", boot_id).out
    assert lab.exec("kubenode2", boot_id).out != breakable.exec("kubenode2", boot_id).out
    breakable.down()
    assert lab.exec("kubenode2", ["hostname"]).out == "kubenode2\n"
