"""rollback:<node>: back to known-good, by the user's word. The build that is taken back is not tried again there."""

from __future__ import annotations

from kbuild_tasks.core.errors import KbuildError, NodeRefused, NodeUnreachable
from kbuild_tasks.core.model import Outcome
from kbuild_tasks.effects import helper, reach
from kbuild_tasks.effects import node as remote
from kbuild_tasks.effects.context import Context
from kbuild_tasks.effects.endings import uncordon
from kbuild_tasks.effects.rollout import Visit
from kbuild_tasks.effects.waiting import Wait

WHY = "rolled back by the user"


def run(ctx: Context) -> Outcome:
    """Raises KbuildError: no known-good kernel, or the node does not come back on it."""
    visit = Visit(ctx)
    visit.look(anew=True)
    back_to = visit.run.back_to
    good = visit.answer.get(back_to.replace("-", "_"))
    if not good:
        raise NodeRefused(f"{visit.node.name} has no {back_to} kernel on record: nothing to go back to")
    taken_back = _taken_back(visit, str(good.get("build") or ""))
    answer = visit.act("rollback", {} if back_to == "known-good" else {"to": back_to})
    if taken_back:
        visit.do("deny", build=taken_back, why=helper.text(WHY))
    trial = bool(taken_back) and visit.seen.selected == f"kbuild-{taken_back}"  # maybe the same vmlinux
    if _runs(visit, good) and not trial:
        return _settled(visit, taken_back, f"runs its {back_to} {good.get('release')}")
    away = _reboot(visit)
    if not _runs(visit, good):
        raise NodeRefused(
            f"{visit.node.name} came back on {visit.seen.release}, and its {back_to} is {good.get('release')}",
            f"its default is {answer.get('default')}: look at its console",
        )
    return _settled(visit, taken_back, f"came back on its {back_to} {good.get('release')} after {away:.0f} s")


def _taken_back(visit: Visit, good: str) -> str:
    """The build that is tried or held there, "" for none."""
    history = visit.history
    committed = str((visit.answer.get("known_good") or {}).get("build") or "")
    if visit.run.back_to == "previous" and committed and committed != good:
        return committed
    tried = history.build if history.state not in ("", "UNCORDONED", "ROLLED_BACK") or history.held else ""
    for build in (visit.seen.trial, tried):
        if build and build != good:
            return build
    return ""


def _runs(visit: Visit, good: dict[str, object]) -> bool:
    seen = visit.seen
    if good.get("build_id") and seen.build_id and good["build_id"] != seen.build_id:
        return False
    return good.get("release") == seen.release


def _reboot(visit: Visit) -> float:
    """Seconds until it was back. A node whose pods were not moved yet is drained first."""
    batch = next((batch for batch in visit.run.order if visit.node.name in batch), ())
    others = [visit.cluster.nodes[name] for name in visit.run.names() if name not in batch]
    if down := reach.silent(others):
        raise NodeRefused(f"{visit.node.name} is not rebooted while {', '.join(down)} is down", "bring it back first")
    if visit.node.k3s and "was_cordoned" not in visit.history.data:
        from kbuild_tasks.effects.kubernetes import Kubernetes

        if (kubernetes := Kubernetes.of(visit.cluster)) is not None:
            visit.say("draining")
            drained = kubernetes.cordon_and_drain(visit.node, visit.cluster.rollout.drain_timeout)
            build = visit.history.build or visit.build.build
            visit.journal.append(build, "HELD", "drained", {"was_cordoned": drained.was_cordoned, "kind": "other"})
        visit.do("k3s", action="stop", timeout=180)
    wait = Wait(visit, visit.seen.boot_id)
    visit.say("rebooting")
    try:
        visit.do("reboot", delay=1, boot_id=visit.seen.boot_id)
    except NodeUnreachable:
        visit.say("rebooting, its answer was lost")
    remote.hang_up(visit.cluster, visit.node)
    try:
        visit.saw(wait.until_back())
    finally:
        visit.run.away[visit.node.name] = round(wait.waited, 1)
    return wait.waited


def _settled(visit: Visit, taken_back: str, told: str) -> Outcome:
    warning = uncordon(visit)
    if taken_back:
        visit.journal.append(taken_back, "ROLLED_BACK", WHY)
        told += f"; build {taken_back} is not tried again there"
    try:
        visit.run.lease.give_back(visit.node, visit.seen.boot_id)
    except KbuildError as error:
        warning = warning or error.message
    return Outcome(told, run={} if taken_back else {"state": "fresh"}, warnings=(warning,) if warning else ())
