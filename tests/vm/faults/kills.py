"""kills: T1, the coordinator is killed (kill -9) at each state of a journal, and again in the middle of what follows;
T3, a second operator is refused, and one that was overtaken cannot act.

T1 is one roll-out of one VM for each way of killing, with a kill at every state: the next run has to go on from there.
What counts is how often the VM's console saw a kernel start: once, for the one reboot that was due.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from kbuild_tasks.lab.lab import Lab
from tests.lab.project import ROOT
from tests.vm.faults import Row
from tests.vm.faults.halt import Halt
from tests.vm.machines import VMS, boot_id
from tests.vm.rollout_project import CANARY, SECOND, STATES, Rollout, booted

ONLY = f"only={SECOND}"
AFTER = (0.0, 0.7)  # seconds for which a run goes on after the state at which it is killed


def run(lab: Lab, project: Rollout, count: int | None) -> Iterator[Row]:
    project.settings(settle="2s")
    for number, seconds in enumerate(AFTER[:count]):
        if number:
            project.variant("killed later")
        yield _killed(lab, project, seconds)
    yield from _two_operators(lab, project)


def _killed(lab: Lab, project: Rollout, seconds: float) -> Row:
    before = booted(lab, SECOND)
    killed = []
    for state in STATES:
        if state in project.passed(SECOND):
            continue  # it came in the moment for which the last run went on
        halt = Halt(project, f"{SECOND} {state}", "rollout", ONLY)
        if not halt.wait():
            raise AssertionError(f"never came to {state}: {halt.end()}")
        if seconds:
            halt.go_on()
            time.sleep(seconds)
        if halt.run.poll() is None:
            halt.kill()
            killed.append(state)
    out = project.doit("rollout", ONLY)
    started = booted(lab, SECOND)[len(before) :]
    order = list(dict.fromkeys(project.passed(SECOND)))
    well = started == [project.release()] and order == list(STATES)
    when = f"{seconds:g} s after it" if seconds else "the record on the disk, its act not begun"
    return Row(
        f"T1 killed at each state, {when}",
        "resumed n/n, one reboot",
        f"{len(killed)} kills, resumed {'all' if well else 'NOT ALL'}, kernels started: {len(started)}",
        well and "FAILED" not in out,
        {"killed": killed, "started": started, "journal": project.passed(SECOND)},
    )


def _two_operators(lab: Lab, project: Rollout) -> Iterator[Row]:
    project.variant("two operators")
    other = _second(project)
    boots = {node: boot_id(lab, node) for node in VMS}
    first = Halt(project, f"{CANARY} ARMED", "rollout")
    assert first.wait(), first.end()

    out = project.doit("rollout", status=1)
    refused = "another run is in progress" in out
    yield Row("T3 a second run in the same project", "refused, with who and since", _last(out), refused)

    out = other.doit("rollout", status=1)
    refused = f"{CANARY} is in the roll-out of builder@kubenode1:{project.root}, since" in out
    idle = not other.journal(CANARY) and not other.journal(SECOND)
    yield Row("T3 another operator's project", "refused, with who and since", _last(out), refused and idle)

    other.doit(f"takeover:{CANARY}")
    out = first.end()
    same = {node: boot_id(lab, node) for node in VMS} == boots
    yield Row(
        "T3 the first one goes on after it was overtaken",
        "cannot act: no reboot",
        f"{'no reboot' if same else 'REBOOTED'}: {_last(out)}",
        same and first.run.returncode == 1 and project.passed(CANARY)[-1] == "HELD",
        {"said": out.splitlines()[-8:]},
    )
    other.doit("rollback", f"only={CANARY}")
    other.doit(f"allow:{CANARY}")
    other.doit("rollout", f"only={CANARY}")
    ended = other.passed(CANARY)[-1:] == ["UNCORDONED"]
    yield Row("T3 the one that took over", "finishes", "finished" if ended else "did NOT finish", ended)


def _second(project: Rollout) -> Rollout:
    """The same packages in a project elsewhere: another operator."""
    root = ROOT / "build/test/faults-operator"
    project.node(f"rm -rf {root}; cp -a {project.root} {root}; rm -rf {root}/build/rollout {root}/build/.lock")
    return Rollout(project.lab, root)


def _last(out: str) -> str:
    failed = [line for line in out.splitlines() if "FAILED" in line] or out.splitlines()[-1:]
    return " ".join(failed[0].split()) if failed else ""
