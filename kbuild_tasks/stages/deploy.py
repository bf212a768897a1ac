"""deploy:<node>: the packages onto a node, checked there, installed beside the kernel that runs; nothing boots yet.

The old kernel stays the default and keeps its files. pacman's exit status is not believed about hooks and scriptlets:
after it, the helper looks at every file, the modules, the initramfs and what lies on the boot partition.
"""

from __future__ import annotations

from typing import Any

from kbuild_tasks.core import prune
from kbuild_tasks.core.errors import KbuildError, NodeRefused, NodeUnreachable
from kbuild_tasks.core.history import AFTER_ARMING
from kbuild_tasks.core.model import Outcome
from kbuild_tasks.core.nodestate import Act
from kbuild_tasks.effects import helper, k3s, transfer
from kbuild_tasks.effects.context import Context
from kbuild_tasks.effects.endings import finish
from kbuild_tasks.effects.rollout import Visit

CHECK = 300  # seconds: hashes of packages, signatures
INSTALL = 1800  # a small board unpacks 100 MB onto an SD card, and hooks make an initramfs
BOOTFILES = 1800
WRONG = ("missing", "changed", "modules_missing")  # lists of bootfiles' answer that must be empty


def run(ctx: Context) -> Outcome:
    """Raises KbuildError: the node is not reached, refuses, or the result is not what the package says."""
    visit = Visit(ctx)
    if visit.history.back is not None:  # what it shows now is no end of it, and it may be down
        raise visit.stop(visit.next())
    if visit.state in AFTER_ARMING:  # it may be down: reboot and verify wait for it
        return Outcome(f"is on its way into {visit.build.release}", run={"state": "fresh"})
    _look(visit)
    acts = {Act.STAGE: _stage, Act.INSTALL: _install, Act.BOOTFILES: _bootfiles, Act.ABANDON: _abandon}
    acts[Act.UNCORDON] = finish
    done: list[Act] = []
    while (step := visit.next()).act in acts:
        if not done:
            k3s.api(visit)  # what could not be emptied later is not begun
            if visit.run.ready is not None:
                visit.run.ready()
        try:
            acts[step.act](visit)
        except NodeRefused as error:
            raise _with_a_way_to_space(visit, error) from None
        done.append(step.act)
        visit.say("")
    if step.act in (Act.REFUSE, Act.DENIED):
        visit.run.lease.check(visit.node, visit.answer)  # what is strange here may be another operator's work
        raise visit.stop(step)
    default = visit.seen.known_release or visit.seen.release
    default += f" (build {visit.seen.known_good})" if visit.seen.known_good else ""
    if step.act == Act.DONE:
        visit.free()
        return Outcome(f"runs {visit.build.named}, verified", run={"state": "fresh"})
    if not done:
        return Outcome(f"{visit.build.named} is installed already", run={"state": "fresh"})
    return Outcome(f"installed {visit.build.named}; {default} stays the default")


def _with_a_way_to_space(visit: Visit, error: NodeRefused) -> NodeRefused:
    """Where there is no room, and old builds take some: say how they go."""
    if error.word in ("space-root", "space-boot") and (
        builds := prune.old(visit.answer, visit.history, visit.build.build)
    ):
        several = f"{len(builds)} old builds" if len(builds) > 1 else "an old build"
        error.hint = f"doit prune:{visit.node.name} removes {several} there; else {error.hint or 'df -h there'}"
    return error


def _look(visit: Visit) -> None:
    """Observe it with our helper. One that is missing (a node that was installed anew), or is another one, is replaced
    where the account may do that."""
    may_install = visit.cluster.ssh.sudo == "all"
    try:
        visit.look()
    except NodeRefused as error:
        if not may_install or error.word != helper.NONE:
            raise
    if visit.seen.helper == helper.version():
        return
    if may_install:
        visit.say("installing the helper")
        helper.install(visit.cluster, visit.node)
        visit.look(anew=True)
    ours, theirs = helper.version(), visit.seen.helper
    if theirs != ours:
        raise NodeRefused(
            f"{visit.node.name} has another helper ({theirs[:12] or 'unknown'}) than this program ({ours[:12]})",
            helper.hint_to_install(visit.cluster, visit.node),
        )


def _stage(visit: Visit) -> None:
    sent = transfer.send(visit)
    visit.say("checking the packages")
    visit.act("check", {"build": visit.build.build, **_signed(visit)}, timeout=CHECK)
    visit.record("STAGED", f"{sent} bytes sent")


def _signed(visit: Visit) -> dict[str, str | int]:
    """What the node is to make of signatures: 1 they must be good, 0 it does not look; its root may ask for more."""
    signature = visit.cluster.rollout.signature
    if signature == "off":
        return {"signed": 0}
    return {"signed": 1} if signature == "required" or visit.build.signed else {}


def _install(visit: Visit) -> None:
    visit.say("installing")
    answer = _tried(visit, "install", INSTALL, **_signed(visit))
    if answer.get("pacman") != 0:
        said = [str(line) for line in answer.get("said") or ()]
        error = NodeRefused(
            f"{visit.node.name}: pacman ended with status {answer.get('pacman')}; its kernel is as it was",
            f"mend it there, then doit deploy:{visit.node.name}",
            evidence=said[-6:],
        )
        raise visit.hold(error)
    repaired = "; ".join(str(what) for what in answer.get("repaired") or ())
    visit.record("INSTALLED", f"mended: {repaired}" if repaired else "")


def _bootfiles(visit: Visit) -> None:
    visit.say("making and checking the boot files")
    modules = " ".join(visit.cluster.rollout.verify_modules)
    answer = _tried(visit, "bootfiles", BOOTFILES, modules=modules, panic=visit.cluster.rollout.panic_timeout)
    wrong = [f"{kind.replace('_', ' ')}: {name}" for kind in WRONG for name in answer.get(kind) or ()]
    if wrong or answer.get("entry") != visit.build.entry:
        error = NodeRefused(
            f"{visit.node.name}: what is installed is not what the package holds; nothing boots it",
            f"see /var/log/pacman.log there for a hook or scriptlet that failed, then doit deploy:{visit.node.name}",
            evidence=wrong or [f"the boot entry is {answer.get('entry')}, not {visit.build.entry}"],
        )
        raise visit.hold(error)
    boot = {
        "boot_id": visit.seen.boot_id,
        "fence": visit.fence,
        "initramfs": answer.get("initramfs"),
    }
    visit.record("BOOTFILES_OK", f"{answer.get('files')} files", **boot)


def _tried(visit: Visit, verb: str, timeout: float, **more: Any) -> dict[str, Any]:
    """An act whose refusal is remembered with the node."""
    try:
        return visit.do(verb, timeout=timeout, build=visit.build.build, **more)
    except NodeUnreachable:
        raise
    except KbuildError as error:
        raise visit.hold(error) from None


def _abandon(visit: Visit) -> None:
    """An older build had been armed here and never booted: its place is taken."""
    history = visit.history
    visit.do("disarm")
    k3s.back(visit)
    visit.journal.append(history.build, "HELD", f"given up for build {visit.build.build}", {"kind": "given-up"})
    visit.look(anew=True)
