"""compile: the PKGBUILD's own build(), with our front before the compiler, so that the nodes share its objects.

make runs on the coordinator and thinks itself alone. Who compiles what is no input: the bytes are the same, and a
worker that is down rebuilds nothing. What is an input beside patch and configure: build() itself, the compiler, arch.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import time
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kbuild_tasks.core.errors import CommandFailed, KbuildError
from kbuild_tasks.core.later import later
from kbuild_tasks.core.model import Inputs, Outcome
from kbuild_tasks.effects import makepkg, places
from kbuild_tasks.effects.context import Context, Paths
from kbuild_tasks.effects.files import sha256_file

if TYPE_CHECKING:
    from kbuild_tasks.core import compiled, diagnostics, hosts
    from kbuild_tasks.core.distribution import Distribution
    from kbuild_tasks.core.trace import Timeline
    from kbuild_tasks.effects import built, ccache, keep, makers, quarantine, speed, stale, trace
    from kbuild_tasks.effects.distcc import Client
    from kbuild_tasks.effects.monitor import Monitor
else:
    trace, speed = later("kbuild_tasks.effects.trace"), later("kbuild_tasks.effects.speed")
    built, ccache = later("kbuild_tasks.effects.built"), later("kbuild_tasks.effects.ccache")
    keep, stale = later("kbuild_tasks.effects.keep"), later("kbuild_tasks.effects.stale")
    makers, quarantine = later("kbuild_tasks.effects.makers"), later("kbuild_tasks.effects.quarantine")
    diagnostics, hosts = later("kbuild_tasks.core.diagnostics"), later("kbuild_tasks.core.hosts")
    compiled = later("kbuild_tasks.core.compiled")

FEW = 10  # fallbacks below this number fail no build: three of five objects of an edit say nothing of a cluster
KEPT_LINES = 4000
_ERROR = re.compile(r"error|undefined|\*\*\*|included from|Killed|multiple definition", re.IGNORECASE)
_CONTEXT = re.compile(r"\s+from \S+:\d+")


def inputs(project: Any) -> Inputs:
    """build() and the files beside the PKGBUILD that it names; what lies in $srcdir counts by the receipt of patch."""
    named = project.pkgbuild.local_files("build", [os.path.basename(path) for path in project.beside_pkgbuild])
    return Inputs(
        files=tuple(path for path in project.beside_pkgbuild if os.path.basename(path) in named),
        values={
            "build": project.pkgbuild.digest("build"),
            "arch": project.cluster.kernel.arch,
            "compiler": project.compiler,
            "epoch": makepkg.EPOCH,
        },
        receipts=("patch", "configure"),
    )


def lost(paths: Paths, results: Mapping[str, Any]) -> Iterable[str]:
    """Why the results of a finished run are not there any more: workdir may be a tmpfs, or be used by others too."""
    tree = paths.builddir / results["tree"]
    if not (tree / "vmlinux").is_file():
        yield f"{tree} has no vmlinux any more"
    elif why := places.not_built(paths, results["tree"], results):
        yield why


def run(ctx: Context) -> Outcome:
    """Raises KbuildError with the compiler's first error and the patch behind it, or when too much fell back."""
    makepkg.refuse_root()
    extracted = ctx.receipts["extract"]["results"]
    place = f"{extracted['pkgbase']}/src/{extracted['srctree']}"
    tree = ctx.paths.builddir / place
    _check_config(ctx, tree, "before")
    quarantine.settle(ctx.paths, ctx.cluster.build)
    facts = quarantine.facts(ctx.paths, ctx.cluster)
    plan = hosts.plan(ctx.cluster, facts, speed.calibrations(ctx.paths, ctx.cluster.nodes))
    started, cpu = time.monotonic(), speed.cpu_seconds()
    told, losses, mended, cached, monitor, line, untraced = _build(ctx, plan, place)
    taken = speed.cpu_seconds() - cpu
    bound = speed.bound_by(ctx.paths, ctx.cluster.coordinator.name, plan.workers, line, monitor, taken)
    seconds = time.monotonic() - started
    _check_config(ctx, tree, "after")
    built.drop_markers(tree)
    source = ctx.receipts["patch"]["results"]["tree"]
    dropped = stale.drop_stale(ctx.paths, place, source, ctx.cluster.kernel.arch)
    record = {
        "objects": list(told.objects),
        "per_node": dict(told.per_node),
        "fallbacks": [dict(entry) for entry in told.fallbacks],
        "local_by_design": dict(told.here),
        "untold": list(told.untold),
        "checked": dict(told.checked),
        "lost_attempts": dict(told.lost),
        "seconds": round(seconds, 2),
        "cpu_seconds": round(taken, 2),
        **({"bound": {"by": bound.by, "sentence": bound.sentence}} if bound and told.objects else {}),
        "jobs": plan.jobs,
        "hosts": plan.hosts,
        "slots": dict(plan.slots),
        "reasons": list(plan.reasons),
        "mended": mended,
        "dropped": dropped,
        **({"ccache": ccache.told(cached, len(told.cached), len(told.objects))} if cached else {}),
    }
    _check_share(ctx, plan, told)
    results = {"tree": place, **built.results(tree)}
    ended = places.built(ctx.paths, source, results)
    unkept = keep.save(ctx.paths, place, source, ctx.cluster.build.keep, ended)
    places.end_build(ctx.paths, place, ended)
    config = ctx.receipts["configure"]["results"]["config_sha256"]
    unkept_trace = trace.keep_whole(ctx.paths, line, tree, taken, config)
    return Outcome(
        compiled.message(told, plan, ctx.cluster.coordinator.name),
        results=results,
        run=record,
        lines=(bound.sentence,) if bound and told.objects else (),
        warnings=(
            *compiled.warnings(plan, told, losses, ctx.cluster.coordinator.name),
            *filter(None, (untraced, unkept, unkept_trace)),
            *_no_ccache(ctx),
        ),
    )


def _no_ccache(ctx: Context) -> Iterable[str]:
    if ctx.cluster.build.ccache and not ccache.is_there():
        yield "build.ccache: ccache is not installed here, nothing was cached; install it on the coordinator"


class _Built(NamedTuple):
    """line: what build/trace.json has; untraced: why it was not written."""

    told: Distribution
    losses: list[Any]
    mended: list[str]
    cached: dict[str, str]
    monitor: Monitor
    line: Timeline | None
    untraced: str | None


def _build(ctx: Context, plan: hosts.HostPlan, place: str) -> _Built:
    from kbuild_tasks.effects.compiler import make_front, toolchain, unanswered
    from kbuild_tasks.effects.distcc import Client
    from kbuild_tasks.effects.leftovers import Mark, mend, tells_of_kill
    from kbuild_tasks.effects.monitor import Monitor

    tree = ctx.paths.builddir / place
    mark = Mark(places.mark(ctx.paths, place, "compiling"), tree)
    places.begin_build(ctx.paths, place)
    mended = mend(tree, mark)
    front = make_front(ctx.paths.state / "front", makepkg.SYSTEM_PATH)
    client = Client(ctx.paths, plan, front, ctx.cluster.build.check_share)
    client.start()
    source = ctx.receipts["patch"]["results"]["tree"]
    tools = toolchain(ctx.cluster.kernel.arch, ctx.paths)
    cached = ccache.environment(ctx.cluster.build, ctx.paths, source, front, client.temporary, tools.identity)
    env = {**tools.environment, "KBUILD_TASKS_CC": tools.name, **client.environment(makepkg.SYSTEM_PATH)}
    env |= {**_counted(plan), **cached}
    monitor = Monitor(client, ctx.cluster.coordinator.name, tree, ctx.emit, began=client.started)
    kept: deque[str] = deque(maxlen=KEPT_LINES)

    def on_line(line: str) -> None:
        monitor.on_line(line)
        if _ERROR.search(line) or _CONTEXT.match(line):
            kept.append(line)

    mark.set()
    try:
        makepkg.run_function(
            ctx.paths,
            "build",
            pkgbuild=ctx.paths.root / ctx.cluster.kernel.pkgbuild,
            pkgver=ctx.receipts["extract"]["results"].get("pkgver"),
            arch=ctx.cluster.kernel.arch,
            env=makepkg.environment(env),
            jobs=plan.jobs,
            log=ctx.log,
            on_line=on_line,
            tick=monitor.tick,
        )
        mark.clear()
        monitor.close()
        if monitor.error:
            raise monitor.error
        told, line, untraced = _told(ctx, client, monitor, place)
        if client.dead:
            raise unanswered(ctx.shown(ctx.log))
        if told.wrong:  # a build() that goes on after a failure of make
            raise quarantine.caught(ctx, told)
        return _Built(told, monitor.losses, mended, cached, monitor, line, untraced)
    except CommandFailed as failed:
        monitor.close()
        if failed.code > 0 and not tells_of_kill(kept):
            mark.clear()  # make ended by itself: it has removed the targets it was at
        told = None
        with contextlib.suppress(OSError):  # the same full disk may end both, and it is the build's end that is told
            told, _, _ = _told(ctx, client, monitor, place, failed=True)
        if told and told.wrong:
            raise quarantine.caught(ctx, told) from None
        raise _explained(ctx, failed, list(kept), tree) from None
    finally:
        monitor.close()
        client.close()
        ctx.emit("compile", {"ended": True})


def _told(
    ctx: Context, client: Client, monitor: Monitor, place: str, failed: bool = False
) -> tuple[Distribution, Timeline | None, str | None]:
    """What became of the objects; when and where each was made goes into build/trace.json. Raises OSError."""
    coordinator, tree = ctx.cluster.coordinator.name, ctx.paths.builddir / place
    told = client.finish(time.monotonic(), coordinator, tree)
    with contextlib.suppress(OSError):  # what has no maker is doubted
        makers.save(ctx.paths, place, told.made, ctx.cluster.nodes)
    return told, *trace.save(ctx.paths, client, monitor, told, coordinator, tree, failed)


def _counted(plan: hosts.HostPlan) -> dict[str, str]:
    """make -j$(nproc) in a build() overrides the -j of MAKEFLAGS. nproc(1): "If the OMP_NUM_THREADS ... environment
    variables are set, then they will determine the minimum ... returned value"; so it counts the nodes' slots."""
    return {"OMP_NUM_THREADS": str(plan.jobs), "OMP_THREAD_LIMIT": str(plan.jobs)}


def _explained(ctx: Context, failed: CommandFailed, lines: list[str], tree: Path) -> CommandFailed:
    touched = ctx.receipts.get("patch", {}).get("results", {}).get("touched") or {}
    told = diagnostics.explain(lines, touched, str(tree))
    if told is None or "no space left" in failed.message:
        return failed
    text, evidence, hint = told
    if damaged := re.match(r"(\S*\.cmd):[0-9]+: ", text):
        text = f"a record of kbuild is damaged: {text}"
        hint = f"rm {shlex.quote(f'{tree}/{damaged[1]}')}, then doit makes it anew; and look at the disk"
    return CommandFailed(text, hint, evidence=evidence, log=ctx.shown(ctx.log), code=failed.code)


def _check_config(ctx: Context, tree: Path, when: str) -> None:
    """What is compiled is what configure has proven, not what someone or build() made of it."""
    wanted = ctx.receipts["configure"]["results"]["config_sha256"]
    if sha256_file(tree / ".config") == wanted:
        return
    if not tree.is_dir():
        raise KbuildError(f"{tree} is not there any more", "doit again: it brings the tree back")
    if when == "before":
        raise KbuildError(
            f"{tree}/.config is not the one that configure made and proved",
            "run: doit forget configure, and doit again",
        )
    raise KbuildError(
        "build() of the PKGBUILD changed .config: the proof of configure does not hold for this kernel",
        f"compare {tree}/.config with the receipt's; move the change into a fragment",
        log=ctx.shown(ctx.log),
    )


def _check_share(ctx: Context, plan: hosts.HostPlan, told: Distribution) -> None:
    limit, count = ctx.cluster.build.fail_local_share, len(told.fallbacks)
    if not plan.hosts or told.fallback_share <= limit or (count < FEW and limit > 0):
        return
    raise KbuildError(
        f"{count} of {told.far} objects that workers should have compiled were compiled on the coordinator: "
        f"{told.fallback_share:.0%}, build.fail_local_share is {limit:.0%}",
        "the objects are good: mend the workers, or run doit again to go on with them as they are",
        evidence=compiled.grouped(told),
        log=ctx.shown(ctx.log),
    )
