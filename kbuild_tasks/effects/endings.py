"""How an attempt ends on a node: well, badly, or taken back; what is undone, and what is not tried again."""

from __future__ import annotations

from pathlib import Path

from kbuild_tasks.core import diagnosis
from kbuild_tasks.core.errors import KbuildError, NodeRefused, NodeUnreachable
from kbuild_tasks.effects import helper, k3s
from kbuild_tasks.effects.files import write_atomic
from kbuild_tasks.effects.rollout import Visit

TAIL = 64 << 10  # bytes of a console log that are read


def fell_back(visit: Visit, away: float | None, why: str) -> KbuildError:
    """The node runs another kernel than its trial. The journal's FELL_BACK is written last: a kill before it repeats
    all of this, which does no harm."""
    lines = _last_words(visit)
    told, evidence = diagnosis.fell_back(visit.seen, visit.build, away, lines, why)
    visit.do("deny", build=visit.build.build, why=helper.text(told))
    visit.do("disarm")
    warning = k3s.take_pods_again(visit)
    visit.record("FELL_BACK", told, away=away, evidence=evidence)
    name = visit.node.name
    console = console_log(visit)
    seen = f"see {visit.ctx.shown(console)}; " if console.exists() else ""
    return NodeRefused(
        f"{name} {told}" if away is None else told,
        f"{seen}the failed build is not tried again there",
        evidence=[*evidence, *([warning] if warning else [])],
    )


def expired(visit: Visit, why: str) -> KbuildError:
    """The trial went well for all that is known, and nobody was there to see it."""
    visit.do("disarm")
    warning = k3s.take_pods_again(visit)
    error = NodeRefused(
        f"{visit.node.name} is on {visit.seen.release} again: {why}",
        "doit rollout tries it once more",
        evidence=[warning] if warning else [],
    )
    return visit.hold(error, "expired")


def not_tried(visit: Visit, error: KbuildError) -> KbuildError:
    """It booted its old kernel though the trial was armed: the build is not to blame, and nothing stays armed for some
    later boot."""
    visit.do("disarm")
    if warning := k3s.take_pods_again(visit):
        error.evidence = (*error.evidence, warning)
    return visit.hold(error, "not-tried")


def lost(visit: Visit, error: NodeUnreachable) -> NodeUnreachable:
    """The deadline is over; what its console said last, where it is recorded, tells more than silence."""
    _, evidence = diagnosis.reason(_console(visit))
    return NodeUnreachable(error.message, error.hint, evidence=[*error.evidence, *evidence]) if evidence else error


def undo(visit: Visit) -> None:
    """Armed or drained, and now it may not go down: as it was before. Disarmed whatever the journal says: an `arm`
    whose answer was lost, or that the helper refused late, is not in it."""
    visit.do("disarm")
    if visit.state not in ("DRAINED", "ARMED"):
        return
    k3s.back(visit)
    visit.record("BOOTFILES_OK", "taken back before its reboot", boot_id=visit.seen.boot_id, fence=0)


def finish(visit: Visit) -> None:
    """After the commit: pods may come back, and any operator may be the next one there."""
    k3s.uncordon(visit)
    visit.journal.append(visit.history.build, "UNCORDONED", "done")
    visit.free()
    visit.look(anew=True)


def _recorded(visit: Visit) -> Path:
    """Where the lab, or whoever records serial consoles, leaves a node's."""
    return visit.ctx.paths.build / "console" / f"{visit.node.name}-console.log"


def _console(visit: Visit) -> list[str]:
    """What the node said since it was asked to reboot; kept in build/logs for who wants to read all of it."""
    since = int(visit.data.get("console") or 0)
    try:
        with open(_recorded(visit), "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(since if since <= size else 0, size - TAIL))
            said = file.read()
    except OSError:
        return []  # most clusters have none
    write_atomic(console_log(visit), said, durable=False)
    return said.decode("utf-8", "replace").splitlines()


def console_log(visit: Visit) -> Path:
    return visit.ctx.paths.build / "logs" / f"{visit.node.name}-console.log"


def console_size(visit: Visit) -> int:
    """Bytes of the node's console so far."""
    try:
        return _recorded(visit).stat().st_size
    except OSError:
        return 0


def _last_words(visit: Visit) -> list[str]:
    """Of the kernel that did not stay: its console, pstore, the journal of the boot before."""
    lines = _console(visit)
    try:
        answer = visit.ask("journal", boot="previous")
    except KbuildError:
        return lines
    pstore = answer.get("pstore") or {}
    for text in pstore.values() if isinstance(pstore, dict) else pstore:
        lines += str(text).splitlines()
    if answer.get("release") not in (None, visit.build.release):  # the trial died before it could write a journal
        return lines
    return lines + [str(line) for line in answer.get("lines") or ()]
