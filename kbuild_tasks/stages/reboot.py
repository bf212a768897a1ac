"""reboot:<node>: arm the trial for one boot, reboot, and prove by the boot id that it did.

The old kernel stays the default: a trial that panics or is cut off comes back on it by itself. What a kill leaves is
told by journal and node together (core/nodestate.py); a reboot is asked for only in the boot in which it was armed, and
the helper refuses it in any other.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import TypeVar

from kbuild_tasks.core import window
from kbuild_tasks.core.errors import Interrupted, KbuildError, NodeRefused, NodeUnreachable
from kbuild_tasks.core.history import AFTER_ARMING
from kbuild_tasks.core.model import Outcome, Rollout
from kbuild_tasks.core.nodestate import Act
from kbuild_tasks.effects import clock, commands, k3s, reach
from kbuild_tasks.effects import node as remote
from kbuild_tasks.effects.context import Context
from kbuild_tasks.effects.endings import console_size, expired, fell_back, lost, not_tried, undo
from kbuild_tasks.effects.files import unreadable
from kbuild_tasks.effects.resume import install, remove
from kbuild_tasks.effects.rollout import Visit, take_baseline
from kbuild_tasks.effects.waiting import NotBack, Wait

DELAY = 1  # seconds between the helper's answer and the reboot
UNSEEN = 900  # seconds more than it may take to verify a trial without commands, after which it goes back by itself
LEAVING = 300  # seconds that the coordinator waits for its own end
T = TypeVar("T")
BEHIND = (Act.VERIFY, Act.SETTLE, Act.COMMIT, Act.UNCORDON)


def run(ctx: Context) -> Outcome:
    """Raises KbuildError: not now (window, quorum, another node is down), or the node came back wrong or not at all."""
    visit = Visit(ctx)
    told, said = "", ""
    emptied = False  # by this run
    if visit.state == "REBOOTING":  # killed while it was on its way: it may be down now
        told = _wait(visit)
    elif visit.state in AFTER_ARMING:
        return Outcome("is back already", run={"state": "fresh"})
    else:
        visit.look()
    while (step := visit.next()).act not in (Act.DONE, *BEHIND):
        if step.act == Act.DRAIN:
            _may_begin(visit)
            _carefully(take_baseline, visit)
            said = _carefully(k3s.empty, visit)
            emptied = True
        elif step.act == Act.ARM:
            _may_begin(visit)
            _carefully(take_baseline, visit)
            if visit.node.k3s and not emptied:
                _carefully(k3s.still_empty, visit)
            _carefully(_arm, visit)
        elif step.act == Act.REBOOT:
            _carefully(_commit_to_it, visit)
            told = _wait(visit)
        elif step.act == Act.BACK:
            visit.record("BACK", step.why, boot_id=visit.seen.boot_id)
        elif step.act == Act.FELL_BACK:
            raise fell_back(visit, visit.run.away.get(visit.node.name), step.why)
        elif step.act == Act.EXPIRED:
            raise expired(visit, step.why)
        elif step.act == Act.NOT_TRIED:
            raise not_tried(visit, visit.stop(step))
        elif step.act in (Act.REFUSE, Act.DENIED):
            raise visit.stop(step)
        else:
            raise NodeRefused(f"{visit.node.name} has not got the kernel yet", f"doit deploy:{visit.node.name}")
    visit.say("")
    visit.run.remember(visit.node, visit.answer)
    if told:
        run_ = {"away": visit.run.away.get(visit.node.name)}
        return Outcome(f"{visit.build.release} {told}", run=run_, warnings=(said,) if said else ())
    return Outcome(f"on {visit.build.release} already", run={"state": "fresh"})


def _may_begin(visit: Visit) -> None:
    """Raises where it may not go down. What a run that was killed has done to it is then taken back."""
    if visit.state in ("DRAINED", "ARMED"):
        _carefully(_may_go_down, visit)
    else:
        _may_go_down(visit)


def _may_go_down(visit: Visit) -> None:
    """Raises where it may not: outside of the window, or while another node is down, also one that this run leaves
    out (only=)."""
    _in_window(visit)
    others = visit.run.others(visit.node)
    if leaving := visit.run.leaving(others):
        raise NodeRefused(
            f"{visit.node.name} is not rebooted while {', '.join(leaving)} may go down at any moment: asked to reboot, "
            "and still in the old boot",
            f"doit rollout without only= goes on with it; there: systemctl list-jobs, or doit rollback:{leaving[0]}",
        )
    down = reach.silent(others)
    if down:
        raise NodeRefused(
            f"{visit.node.name} is not rebooted while {', '.join(down)} {'is' if len(down) == 1 else 'are'} down",
            f"bring {'it' if len(down) == 1 else 'them'} back, or set hold: true there in {visit.cluster.source}",
        )


def _may_still_go_down(visit: Visit) -> None:
    """It stayed in its old boot: asked and did not go down, or never asked. Where it may not go down now it is as if it
    had only been armed (written first: what it boots from here on is held against no build), and that is taken back."""
    try:
        _may_go_down(visit)
    except KbuildError as error:
        visit.record("ARMED", "its reboot is not asked for again", boot_id=visit.seen.boot_id)
        raise _taken_back(visit, error) from None


def _in_window(visit: Visit) -> None:
    opening = visit.cluster.rollout.window
    if opening is not None and not window.is_open(opening, clock.utc()):
        raise NodeRefused(
            f"{visit.node.name} is not rebooted now: the window {window.tell(opening, clock.utc())}",
            "doit rollout then goes on where it stopped; rollout.window in cluster.yaml sets it",
        )


def _arm(visit: Visit) -> None:
    build, rollout = visit.build, visit.cluster.rollout
    if visit.data.get("fence") != visit.fence:
        # installed by an earlier run: what lies on the boot partition is read back once more before it is trusted
        modules = " ".join(rollout.verify_modules)
        answer = visit.do("bootfiles", build=build.build, modules=modules, panic=rollout.panic_timeout, timeout=1800)
        if answer.get("missing") or answer.get("changed") or answer.get("modules_missing"):
            raise NodeRefused(f"{visit.node.name}: files of {build.release} have changed since deploy",
                              f"doit rollback:{visit.node.name}, then doit allow:{visit.node.name}")  # fmt: skip
    kubelet = k3s.stop(visit) if visit.node.k3s else {}
    visit.say("arming")
    values: dict[str, str | int] = {"build": build.build, "panic": rollout.panic_timeout}
    answer = visit.act("arm", {**values, "timeout": unseen(rollout)})
    default = answer.get("default")
    if answer.get("armed") != build.entry or not default or default == build.entry:
        raise NodeRefused(f"{visit.node.name} did not arm the trial (armed {answer.get('armed')}, default {default})",
                          "its loader does not keep what it is told: bootctl, grub-editenv list")  # fmt: skip
    visit.record("ARMED", boot_id=visit.seen.boot_id, fence=visit.fence, default=default, **kubelet)
    visit.seen = dataclasses.replace(visit.seen, armed=build.entry)  # as the helper read it back


def unseen(rollout: Rollout) -> int:
    """Seconds after its boot in which a trial must be verified, else it goes back by itself."""
    commanded = 2 * commands.LIMIT * len(rollout.verify_commands)
    return rollout.reboot_timeout + rollout.settle + UNSEEN + commanded


def _commit_to_it(visit: Visit) -> None:
    _may_go_down(visit)  # once more: a drain takes its time, and it may have been armed by a run that was killed
    if visit.node.connection == "local":
        install(visit.ctx, "rollout")
    seen = visit.seen
    console = console_size(visit)  # what stands there now was said by earlier boots
    visit.record("REBOOTING", boot_id=seen.boot_id, console=console, **{"from": seen.release})


def _carefully(act: Callable[[Visit], T], visit: Visit) -> T:
    """A step before the reboot; where it fails, the node is left as it was: disarmed, k3s running, not cordoned."""
    try:
        return act(visit)
    except Interrupted:  # as after a kill: the next run goes on, and puts right what is half done
        raise
    except KbuildError as error:
        raise _taken_back(visit, error) from None
    except OSError as error:  # the journal's disk is full, say
        raise _taken_back(visit, unreadable(error)) from None


def _taken_back(visit: Visit, error: KbuildError) -> KbuildError:
    """What cannot be taken back is said too, and hides nothing; the next run puts it right."""
    for take_back in (undo, _stays_up):
        try:
            take_back(visit)
        except (KbuildError, OSError) as failed:
            told = failed.message if isinstance(failed, KbuildError) else unreadable(failed).message
            if told != error.message:
                error.evidence = (*error.evidence, f"and it is not as it was before: {told}")
    with contextlib.suppress(OSError):
        visit.hold(error)
    return error


def _stays_up(visit: Visit) -> None:
    """No later boot of this machine goes on with a roll-out that was called off. Raises KbuildError."""
    if visit.node.connection == "local":
        remove(visit.ctx)


def _wait(visit: Visit) -> str:
    """Ask for the reboot (after a kill once more: in another boot the helper refuses), and wait for the new boot."""
    boot_id = str(visit.data["boot_id"])
    itself = visit.node.connection == "local"
    if not visit.answer and _is_there(visit):
        if visit.seen.boot_id != boot_id:
            return "after a reboot that an earlier run asked for"
        _may_still_go_down(visit)
    if itself:
        install(visit.ctx, "rollout")  # again: a run that was killed may have been so before it
    wait = Wait(visit, boot_id, 0.0 if visit.answer else clock.ago(visit.journal.since("REBOOTING")))
    if visit.answer:
        _ask(visit, boot_id)
    if itself:
        visit.say("this machine reboots; the roll-out goes on by itself when it is back")
        clock.sleep(LEAVING)
        raise NodeRefused(f"{visit.node.name} did not go down", "systemctl list-jobs; then doit rollout goes on")
    remote.hang_up(visit.cluster, visit.node)
    try:
        answer = wait.until_back()
    except NotBack as error:
        visit.run.away[visit.node.name] = wait.asked
        raise visit.hold(lost(visit, error), "lost") from None
    visit.saw(answer)
    away = round(wait.asked, 1)
    visit.run.away[visit.node.name] = away
    return f"after {away:.0f} s"


def _is_there(visit: Visit) -> bool:
    """Whether it can be asked now; a node on its way down or up cannot."""
    try:
        visit.look(anew=True)
    except KbuildError:
        return False
    return True


def _ask(visit: Visit, boot_id: str) -> None:
    visit.say("rebooting")
    try:
        visit.do("reboot", delay=DELAY, boot_id=boot_id)
    except NodeUnreachable:
        return  # it may be gone before its answer is here: the boot id will tell
    except KbuildError as error:
        if _is_there(visit) and visit.seen.boot_id != boot_id:
            return
        visit.hold(error)
        _stays_up(visit)
        raise
