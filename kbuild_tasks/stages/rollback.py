"""rollback:<node>: back to known-good, by the user's word. The build that is taken back is not tried again there.

The journal says so before anything is done, and once more before the reboot: a run that is ended in between leaves a
node that no roll-out touches, and the same word goes on with it.
"""

from __future__ import annotations

from kbuild_tasks.core.errors import KbuildError, NodeRefused, NodeUnreachable
from kbuild_tasks.core.history import TAKEN_BACK, rolls_back
from kbuild_tasks.core.model import Outcome
from kbuild_tasks.effects import clock, helper, k3s, reach, resume
from kbuild_tasks.effects import node as remote
from kbuild_tasks.effects.context import Context
from kbuild_tasks.effects.rollout import Visit
from kbuild_tasks.effects.waiting import Wait


def run(ctx: Context) -> Outcome:
    """Raises KbuildError: no known-good kernel, or the node does not come back on it."""
    visit = Visit(ctx)
    waited = _look(visit)
    back_to = _back_to(visit)
    good = visit.answer.get(back_to.replace("-", "_"))
    if not good and _never_begun(visit):  # `doit rollback` goes on with the others
        return Outcome("nothing was rolled out there: nothing to go back to", run={"state": "fresh"})
    if not good:
        raise NodeRefused(
            f"{visit.node.name} has no {back_to} kernel on record: nothing to go back to",
            f"doit rollback:{visit.node.name} goes to known-good; doit prune removes a previous one that was taken back"
            if back_to == "previous"
            else "doit status --ask; the kernel that it runs stays its default",
        )
    build = str(good.get("build") or "")
    taken_back = _taken_back(visit, back_to, build)
    trial = bool(taken_back) and visit.seen.selected == f"kbuild-{taken_back}"  # maybe the same vmlinux
    named = f"{_wanted(visit)} {good.get('release')}" + (f" (build {build})" if build else "")
    stays = _runs(visit, good) and not trial and not _may_go_down(visit)
    if not stays or (taken_back and not _is_taken_back(visit, taken_back)):
        visit.run.lease.check(visit.node, visit.answer)
        _begin(visit, taken_back, f"to its {named}, by the user's word")
    if taken_back:  # first: a run that is killed after it and comes again knows by it which one it was leaving
        visit.do("deny", build=taken_back, why=helper.text(TAKEN_BACK))
    answer = visit.act("rollback", {} if back_to == "known-good" else {"to": back_to})
    if stays:
        told = f"runs its {named}" if waited is None else f"came back on its {named} after {waited:.0f} s"
        told += "" if taken_back or visit.history.back is not None else _further(visit)
        return _settled(visit, build, taken_back, told)
    away, said = _reboot(visit, taken_back, named)
    if not _runs(visit, good):
        raise NodeRefused(
            f"{visit.node.name} came back on {visit.seen.release}, and its {named.replace(' ', ' is ', 1)}",
            f"its default is {answer.get('default')}: look at its console",
        )
    return _settled(visit, build, taken_back, f"came back on its {named} after {away:.0f} s", said)


def _look(visit: Visit) -> float | None:
    """One that an earlier run has asked to reboot may be down: it is waited for. Seconds since then, None for one that
    is there. Raises NodeUnreachable, NotBack."""
    back = visit.history.back
    try:
        visit.look(anew=True)
    except NodeUnreachable:
        if back is None or not back.data.get("boot_id"):
            raise
        return _wait(visit, Wait(visit, "", clock.ago(back.at), _again(visit)))
    return None


def _wanted(visit: Visit) -> str:
    """What it goes back to: as the user says, or has said to a run that was ended."""
    return "previous" if "previous" in (visit.run.back_to, visit.history.back_to) else "known-good"


def _again(visit: Visit) -> str:
    return rolls_back(visit.node.name, _wanted(visit))


def _begin(visit: Visit, taken_back: str, note: str, **data: str) -> None:
    """Written before it is done; once, where an earlier run has begun it."""
    if data or visit.history.back is None or visit.history.back_to != _wanted(visit):
        visit.journal.append(taken_back, "ROLLING_BACK", note, {"to": _wanted(visit), **data})


def _further(visit: Visit) -> str:
    """Known-good runs, and somebody wanted to go back: to the one before it, where there is one."""
    previous = visit.answer.get("previous") or {}
    if visit.run.back_to == "previous" or not previous or str(previous.get("build") or "-") in visit.seen.denied:
        return ""
    return f"; doit rollback:{visit.node.name} to=previous goes to {previous.get('release')}"


def _never_begun(visit: Visit) -> bool:
    """The installation writes the record first: where there is none, not even a damaged one, nothing was."""
    told = visit.answer
    return not (told.get("known_good") or told.get("trial") or told.get("damaged") or visit.history.in_flight)


def _may_go_down(visit: Visit) -> bool:
    """Asked to reboot (or about to be, when that run was killed), and still in the old boot: it may be on its way down.
    The next node must not go before this one is back."""
    return visit.history.asked_in == visit.seen.boot_id


def _back_to(visit: Visit) -> str:
    """Which record is gone back to. `previous` becomes known-good by going back to it, and the kernel that was left
    becomes previous: that one is denied, and is not gone back to when the same is asked once more."""
    if _wanted(visit) != "previous":
        return "known-good"
    previous = visit.answer.get("previous")
    if not previous:
        return "previous"
    build = str(previous.get("build") or "")
    if build and (build in visit.seen.denied or build in visit.history.failed):
        return "known-good"
    listed = [entry.get("id") for entry in (visit.answer.get("loader") or {}).get("entries") or ()]
    if listed and previous.get("entry") not in listed:
        raise NodeRefused(
            f"{visit.node.name} has no boot entry {previous.get('entry')} of its previous {previous.get('release')}",
            "it was removed there; build that kernel again and roll it out",
        )
    return "previous"


def _taken_back(visit: Visit, back_to: str, good: str) -> str:
    """The build that is tried or held there, "" for none."""
    history = visit.history
    committed = str((visit.answer.get("known_good") or {}).get("build") or "")
    if back_to == "previous" and committed and committed != good:
        return committed
    if back_to != _wanted(visit):  # done before: the kernel that was left is the previous one now
        return str((visit.answer.get("previous") or {}).get("build") or "")
    tried = history.build if history.state not in ("", "UNCORDONED", "ROLLED_BACK") or history.held else ""
    begun = history.back.build if history.back is not None else ""  # the trial's record may be gone from the node
    for build in (visit.seen.trial, tried, begun):
        if build and build != good:
            return build
    return ""


def _is_taken_back(visit: Visit, build: str) -> bool:
    return (visit.history.state, visit.history.build) == ("ROLLED_BACK", build)


def _runs(visit: Visit, good: dict[str, object]) -> bool:
    seen = visit.seen
    if good.get("build_id") and seen.build_id and good["build_id"] != seen.build_id:
        return False
    return good.get("release") == seen.release


def _reboot(visit: Visit, taken_back: str, named: str) -> tuple[float, str]:
    """Seconds until it was back, and what is to be said. A node with k3s is drained first."""
    others, name = visit.run.others(visit.node), visit.node.name
    if leaving := visit.run.leaving(others):
        raise NodeRefused(
            f"{name} is not rebooted while {', '.join(leaving)} may go down at any moment: asked to reboot, "
            "and still in the old boot",
            f"doit rollback:{leaving[0]} first",
        )
    if down := reach.silent(others):
        raise NodeRefused(f"{name} is not rebooted while {', '.join(down)} is down", "bring it back first")
    warning = k3s.leave(visit) if visit.node.k3s else ""
    if visit.node.connection == "local":
        resume.install(visit.ctx, f"rollback:{visit.node.name}", f"to={_wanted(visit)}")
    try:
        _begin(visit, taken_back, f"to its {named}; asked to reboot", boot_id=visit.seen.boot_id)
    except OSError:  # the journal's disk is full: it stays up, and need not stay empty
        if visit.node.k3s:
            k3s.take_pods_again(visit)
        raise
    wait = Wait(visit, visit.seen.boot_id, again=_again(visit))
    visit.say("rebooting")
    try:
        visit.do("reboot", delay=1, boot_id=visit.seen.boot_id)
    except NodeUnreachable:
        visit.say("rebooting, its answer was lost")
    remote.hang_up(visit.cluster, visit.node)
    return _wait(visit, wait), warning


def _wait(visit: Visit, wait: Wait) -> float:
    try:
        visit.saw(wait.until_back())
    finally:
        visit.run.away[visit.node.name] = round(wait.asked, 1)
    return wait.asked


def _settled(visit: Visit, good: str, taken_back: str, told: str, said: str = "") -> Outcome:
    begun = visit.history.back is not None
    warning = k3s.take_pods_again(visit) if visit.node.k3s else ""
    if visit.node.connection == "local":
        resume.remove(visit.ctx)
    if visit.history.in_flight and visit.history.build == good:  # committed, or tried once more: it is its known-good
        visit.journal.append(good, "UNCORDONED", TAKEN_BACK)
    again = _is_taken_back(visit, taken_back)
    if taken_back and not again:
        visit.journal.append(taken_back, "ROLLED_BACK", TAKEN_BACK)
        told += f"; build {taken_back} is not tried again there"
    elif visit.history.back is not None:
        visit.journal.append("", "ROLLED_BACK", TAKEN_BACK)
    try:
        visit.free()
    except KbuildError as error:
        warning = warning or error.message
    return Outcome(told, run={} if begun else {"state": "fresh"}, warnings=tuple(filter(None, (said, warning))))
