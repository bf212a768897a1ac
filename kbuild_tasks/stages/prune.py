"""prune:<node>: what old builds left on a node goes: boot entries, boot files, kept modules, staged packages.

Never part of a roll-out: somebody has to say it. What runs, is known-good, previous, the default, or being rolled out
stays; the helper on the node refuses it as well, by its own records.
"""

from __future__ import annotations

from kbuild_tasks.core import prune
from kbuild_tasks.core.errors import NodeRefused
from kbuild_tasks.core.model import Outcome
from kbuild_tasks.effects import helper
from kbuild_tasks.effects.context import Context
from kbuild_tasks.effects.rollout import Visit

FORGET = 300  # seconds: a small board removes thousands of files


def run(ctx: Context) -> Outcome:
    """Raises NodeRefused while a roll-out is under way there, or for a build that is needed."""
    visit = Visit(ctx)
    visit.look(anew=True)
    name = visit.node.name
    if visit.seen.helper != helper.version():
        raise NodeRefused(
            f"{name} has another helper than this program: it does not tell which builds it has",
            helper.hint_to_install(visit.cluster, visit.node),
        )
    if why := prune.in_the_way(visit.answer, visit.history):
        raise NodeRefused(f"{name} {why}: nothing is removed there", f"doit rollout, or doit rollback:{name}, ends it")
    chosen = _chosen(visit)
    if not chosen:
        wanted = visit.run.only_build
        nothing = f"it has no build {wanted}" if wanted else "nothing to remove"
        return Outcome(f"{nothing}; {_what_stays(visit)}", run={"state": "fresh"})
    ours = bool((visit.answer.get("lease") or {}).get("who"))
    freed = boot = 0
    for build in chosen:
        visit.say(f"removing {build}")
        values: dict[str, str | int] = {"build": build.removeprefix(prune.KEPT)}
        if build.startswith(prune.KEPT):
            values["kept"] = 1
        answer = visit.act("forget", values, timeout=FORGET)
        freed += int(answer.get("freed") or 0)
        boot += int(answer.get("freed_boot") or 0)
    visit.look(anew=True)
    if not ours:  # a roll-out that waits here keeps its lease
        visit.free()
    where = str((visit.answer.get("loader") or {}).get("boot") or "/boot")
    told = f"removed {' '.join(chosen)}: {prune.size(freed)} of / and {prune.size(boot)} of {where} are free again"
    return Outcome(f"{told}; {_what_stays(visit)}", run={"removed": chosen, "freed": freed, "freed_boot": boot})


def _chosen(visit: Visit) -> list[str]:
    """The one that was asked for (build=ID), or all that nothing needs."""
    wanted = visit.run.only_build
    if not wanted:
        return prune.old(visit.answer, visit.history, visit.build.build)
    if why := prune.needed(visit.answer, visit.history, visit.build.build).get(wanted):
        raise NodeRefused(
            f"{visit.node.name} needs build {wanted}: {why}", "doit status --json tells what each node has"
        )
    return [wanted] if wanted in (visit.answer.get("builds") or ()) else []


def _what_stays(visit: Visit) -> str:
    needed = prune.needed(visit.answer, visit.history, visit.build.build)
    records = [("known-good", visit.answer.get("known_good")), ("previous", visit.answer.get("previous"))]
    stays = [
        f"{word} {record.get('release')}" + (f" (build {record['build']})" if record.get("build") else "")
        for word, record in records
        if record and (not record.get("build") or record["build"] in needed)
    ]
    return f"{', '.join(stays)} {'stays' if len(stays) == 1 else 'stay'}" if stays else "nothing was rolled out there"
