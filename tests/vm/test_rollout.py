"""The roll-out on VMs that really boot, as a user would live through it: a power cut, a panic, and the good end.

One build goes through all of it, so that it is installed once: the tests are in order. The long fault runs, of which
script/faults prints the table, have the rest.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator

import pytest

from kbuild_tasks.lab.lab import Lab
from tests.vm.faults.halt import Halt
from tests.vm.machines import VMS, boot_id, root, wait_for_boot
from tests.vm.rollout_project import CANARY, SECOND, STATES, Rollout, booted

pytestmark = [
    pytest.mark.lab,
    pytest.mark.vm,
    pytest.mark.skipif(not shutil.which("apt-get"), reason="the kernel that is rolled out is Debian's"),
]

AFTER = list(STATES[STATES.index("ARMED") :])


@pytest.fixture(scope="module")
def project(vms: Lab) -> Iterator[Rollout]:
    made = Rollout.of_debian(vms, "rollout")
    made.settings(settle="1s", panic_timeout="1s")
    yield made


def test_power_cut_while_it_is_installed(vms: Lab, project: Rollout) -> None:
    run = project.start("deploy", f"only={SECOND}")
    assert project.wait_for(SECOND, "STAGED", run)
    before = boot_id(vms, SECOND)
    vms.stop(SECOND)  # the helper installs
    out = project.end(run)
    assert run.returncode == 1, out
    assert f"FAILED deploy:{SECOND}" in out
    assert project.passed(SECOND)[-1] in ("STAGED", "HELD")
    vms.start(SECOND)
    wait_for_boot(vms, SECOND, before)
    project.doit("deploy", f"only={SECOND}")
    assert project.passed(SECOND)[-1] == "BOOTFILES_OK"


def test_a_kernel_that_panics_costs_one_reboot(vms: Lab, project: Rollout) -> None:
    old = vms.exec(CANARY, ["uname", "-r"]).out.strip()
    other = boot_id(vms, SECOND)
    before = booted(vms, CANARY)
    halt = Halt(project, f"{CANARY} arm")
    assert halt.wait(), halt.end()
    entry = f"/boot/loader/entries/kbuild-{project.build()}.conf"
    root(vms, CANARY, f"cp {entry} /root/good; sed -i 's/^options .*/& init=\\/bin\\/false/' {entry}; sync")
    out = halt.end()
    assert halt.run.returncode == 1
    assert f"FAILED reboot:{CANARY}" in out
    assert "the new kernel panicked" in out, out
    assert "Kernel panic - not syncing: Attempted to kill init!" in out
    assert "roll-out halted" in out
    assert f"hint: see build/logs/{CANARY}-console.log; the failed build is not tried again there" in out
    assert booted(vms, CANARY) == [*before, project.release(), old], "it came back by itself"
    assert vms.exec(CANARY, ["uname", "-r"]).out.strip() == old
    assert boot_id(vms, SECOND) == other, "nothing else is rebooted"

    again = project.doit("rollout", status=1)
    assert f"failed on {CANARY} and is not tried again there" in again
    assert booted(vms, CANARY) == [*before, project.release(), old]
    root(vms, CANARY, f"cp /root/good {entry}; sync")
    project.doit(f"allow:{CANARY}")


def test_two_vms_run_the_kernel_and_again_nothing_is_done(vms: Lab, project: Rollout) -> None:
    before = {node: booted(vms, node) for node in VMS}
    out = project.doit("rollout")
    tasks = project.last_run()["tasks"]
    for node in VMS:
        assert booted(vms, node) == [*before[node], project.release()], out
        assert vms.exec(node, ["uname", "-r"]).out.strip() == project.release(), out
        assert project.passed(node)[-len(AFTER) :] == AFTER
        assert set(STATES) <= set(project.passed(node))
        assert {tasks[f"{verb}:{node}"]["state"] for verb in ("reboot", "verify")} == {"done"}

    began = time.monotonic()
    out = project.doit("rollout")
    seconds = time.monotonic() - began
    assert "fresh  verify             2 nodes" in out
    assert {node: booted(vms, node) for node in VMS} == {n: [*old, project.release()] for n, old in before.items()}
    assert seconds < 15, "a roll-out with nothing to do"  # on a busy machine; script/faults again has the goal, 3 s
