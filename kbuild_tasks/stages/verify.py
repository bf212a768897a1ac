"""verify:<node>: is it well on the new kernel? Asked twice, `settle` apart, in the same boot; then the default moves.

Each time all of it: what runs, its configuration, its modules, what is new in the kernel log, units, mounts, time, and
the user's own commands, as a difference to the node's baseline (core/verify.py). What is still starting is waited for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kbuild_tasks.core import verify
from kbuild_tasks.core.errors import KbuildError, NodeRefused, NodeUnreachable
from kbuild_tasks.core.history import AFTER_ARMING
from kbuild_tasks.core.kubectl import ApiUnreachable
from kbuild_tasks.core.model import Outcome
from kbuild_tasks.core.nodestate import Act
from kbuild_tasks.core.verify import Check, Finding
from kbuild_tasks.effects import clock, commands, helper, k3s
from kbuild_tasks.effects.context import Context
from kbuild_tasks.effects.endings import expired, fell_back, finish
from kbuild_tasks.effects.files import read_record
from kbuild_tasks.effects.resume import remove
from kbuild_tasks.effects.rollout import Visit, baseline_file, observe
from kbuild_tasks.effects.waiting import NotBack, Wait

PATIENCE = 90  # seconds for units, mounts, time and commands to become as they were
PAUSE = 2
LOSSES = 5  # times that a node may be lost and found again
PROBE = 300  # modprobe of a long list, and all modules read, on a small board


def run(ctx: Context) -> Outcome:
    """Raises KbuildError: a check failed, or the node went down again."""
    visit = Visit(ctx)
    if visit.state in AFTER_ARMING:
        _look(visit, anew=False)
    else:
        visit.look()
    told, losses = "", 0
    while (step := visit.next()).act != Act.DONE:
        if step.act in (Act.VERIFY, Act.SETTLE):
            if step.act == Act.SETTLE:
                _settle(visit)
            try:
                told, known = _once(visit)
            except NodeUnreachable as error:
                losses += 1
                if losses > LOSSES:
                    raise visit.hold(error, "lost") from None
                _look(visit)  # a short loss, or another boot: the next step tells
                continue
            state = "VERIFIED" if step.act == Act.VERIFY else "VERIFIED2"
            visit.record(state, told, boot_id=visit.seen.boot_id, **known)
        elif step.act == Act.BACK:  # its default by a commit that was not written down, or booted by hand
            visit.record("BACK", step.why, boot_id=visit.seen.boot_id)
        elif step.act == Act.COMMIT:
            _commit(visit)
        elif step.act == Act.UNCORDON:
            finish(visit)
        elif step.act == Act.FELL_BACK:
            raise fell_back(visit, None, step.why)
        elif step.act == Act.EXPIRED:
            raise expired(visit, step.why)
        elif step.act in (Act.REFUSE, Act.DENIED, Act.NOT_TRIED):
            raise visit.stop(step)
        else:
            raise NodeRefused(f"{visit.node.name} has not booted the new kernel", f"doit reboot:{visit.node.name}")
        visit.say("")
    visit.free()
    if visit.node.connection == "local":
        remove(ctx)
    if not told:
        return Outcome(f"{visit.build.named} is its default and known-good", run={"state": "fresh"})
    twice = f"{told}, twice, {ctx.cluster.rollout.settle} s apart"
    return Outcome(f"{twice}; {visit.build.named} is its default now")


def _look(visit: Visit, *, anew: bool = True) -> None:
    """Wait until it answers: it was up, and went away. Raises NotBack."""
    try:
        visit.look(anew=anew)
    except NodeUnreachable:
        try:
            visit.saw(Wait(visit, "").until_back())
        except NotBack as error:
            raise visit.hold(error, "lost") from None


def _once(visit: Visit) -> tuple[str, dict[str, Any]]:
    """All checks, again and again while what failed may still become right: what is told, what the next look must know.
    Raises NodeRefused, and holds the node."""
    boot_id = str(visit.data["boot_id"])
    baseline = read_record(baseline_file(visit.ctx.paths, visit.node.name))
    if baseline.get("build") != visit.build.build:
        raise visit.hold(NodeRefused(f"{visit.node.name} has no baseline from before its reboot",
                                     f"doit rollback:{visit.node.name}"))  # fmt: skip
    renewed = _ready(visit)
    deadline = clock.monotonic() + PATIENCE
    while True:
        visit.say("verifying")
        now = _ask(visit, baseline)
        findings = verify.compare(visit.build, boot_id, baseline, now, visit.cluster.rollout)
        _log(visit, findings)
        bad = verify.failed(findings)
        if not bad:
            return verify.counts(findings), renewed
        if {now.observe.get("boot_id"), now.probe.get("boot_id") or boot_id} != {boot_id}:
            raise NodeUnreachable(f"{visit.node.name} was rebooted while it was verified")
        if not all(finding.soon for finding in bad) or clock.monotonic() > deadline:
            raise _failed(visit, bad, findings)
        visit.say(f"waiting: {bad[0].what} {bad[0].told}")
        clock.sleep(PAUSE)


def _ask(visit: Visit, baseline: dict[str, Any]) -> Check:
    rollout = visit.cluster.rollout
    answer = observe(visit.cluster, visit.ctx.paths, visit.node)
    modules = " ".join(rollout.verify_modules)
    wanted = {"modules": modules, "release": visit.build.release, "build": visit.build.build}
    probe = visit.ask("probe", timeout=PROBE, **wanted)
    ran = commands.run(visit.cluster, visit.node, rollout.verify_commands) if rollout.verify_commands else []
    health = visit.ask("baseline")  # last: what the checks themselves stirred up is in the log now
    return Check(answer, health, probe, ran, _skew(float(answer.get("skew", 0.0)), baseline))


def _skew(seen: float, baseline: dict[str, Any]) -> float:
    """Seconds between the node's clock and ours. By how much ours was set since the baseline is no fault of the node;
    but where both were set alike, nothing came between them."""
    before = float(baseline.get("skew", 0.0))
    return min(seen, seen + clock.stepped(baseline.get("clock")), key=lambda skew: abs(skew - before))


def _ready(visit: Visit) -> dict[str, Any]:
    """The kubelet's renewal in this boot. That nobody can be asked, but for a server's own API, says nothing of this
    kernel."""
    try:
        k3s.api(visit)
    except KbuildError as error:
        raise visit.hold(error) from None
    try:
        return k3s.ready(visit, visit.build.release)
    except ApiUnreachable as error:
        raise (_deny(visit, error.message, error) if visit.node.k3s == "server" else visit.hold(error)) from None
    except KbuildError as error:
        raise _deny(visit, error.message, error) from None


def _failed(visit: Visit, bad: Sequence[Finding], findings: Sequence[Finding]) -> KbuildError:
    told = f"{verify.counts(findings)} failed: {', '.join(finding.what for finding in bad)}"
    error = NodeRefused(
        f"runs {visit.build.release}, and {told}",
        f"doit rollback:{visit.node.name} boots known-good; its default never moved; not tried again there",
        evidence=[f"{finding.what}: {finding.told}" for finding in bad],
        log=visit.ctx.shown(visit.ctx.log),
    )
    return _deny(visit, told, error)


def _deny(visit: Visit, why: str, error: KbuildError) -> KbuildError:
    """Not tried again here. A node that is gone now cannot be told; the journal knows."""
    try:
        visit.do("deny", build=visit.build.build, why=helper.text(why))
    except NodeUnreachable as lost:
        error = KbuildError(error.message, error.hint, evidence=[*error.evidence, lost.message], log=error.log)
    visit.record("HELD", why, kind="verify")
    return error


def _settle(visit: Visit) -> None:
    seconds = visit.cluster.rollout.settle
    visit.say(f"settling for {seconds} s")
    clock.sleep(seconds)


def _commit(visit: Visit) -> None:
    """Only now the default moves; read back."""
    answer = visit.do("commit", build=visit.build.build)
    if answer.get("default") != visit.build.entry:
        raise visit.hold(
            NodeRefused(f"{visit.node.name} did not take {visit.build.entry} as its default",
                        "its loader does not keep what it is told: bootctl, grub-editenv list",
                        evidence=[f"the default is {answer.get('default')}"])
        )  # fmt: skip
    visit.record("COMMITTED", boot_id=visit.seen.boot_id)


def _log(visit: Visit, findings: Sequence[Finding]) -> None:
    visit.ctx.log.parent.mkdir(parents=True, exist_ok=True)
    with open(visit.ctx.log, "a", encoding="utf-8") as file:
        file.write("\n".join([clock.stamp(), *verify.table(findings), ""]) + "\n")
