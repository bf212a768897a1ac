"""calibrate: how fast each node compiles one file of this kernel, alone and with all its slots; how fast its link is.

Nodes are in build mode then, as for a build, so it is the very distccd and compiler. What is found goes into
build/calibration/<node>.json and changes the speed of builds alone: no fingerprint knows of it.

{"version", "node", "at": epoch, "compiler", "cores", "unit": {"object", "sha256", "bytes"}, "jobs", "alone", "rate",
 "trip", "bandwidth"}; the coordinator's has "cpp", "compile", "sample" and "objects": core/calibration.py.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from kbuild_tasks.core import calibration, hosts
from kbuild_tasks.core.errors import CommandFailed, KbuildError, NodeRefused
from kbuild_tasks.core.model import DISTCC_PORT, Outcome
from kbuild_tasks.effects import calibrate, makepkg, places, shell
from kbuild_tasks.effects.compiler import Toolchain, make_front, toolchain
from kbuild_tasks.effects.context import Context
from kbuild_tasks.effects.files import read_record, sha256_file, write_json
from kbuild_tasks.effects.leftovers import Mark, mend

# Objects that every kernel has; where nothing was built yet, the first of them that this one has is made.
ANY = ("kernel/fork", "kernel/sys", "init/main")
HINT = "doit configure, or doit, and doit calibrate again"
MAKE = 1800.0  # seconds for it: kbuild prepares generated headers and its own programs first


def run(ctx: Context) -> Outcome:
    """Raises KbuildError where there is no file of this kernel to time, or the coordinator was not prepared. A worker
    that cannot be measured is a warning."""
    facts = {name: read_record(ctx.paths.facts(name)) for name in ctx.cluster.nodes}
    plan = hosts.plan(ctx.cluster, facts)  # raises, where the coordinator is not fit
    coordinator = ctx.cluster.coordinator.name
    tools = toolchain(ctx.cluster.kernel.arch, ctx.paths)
    tree, records = _records(ctx, tools)
    with calibrate.scratch(ctx.paths.workdir) as scratch:
        env = makepkg.environment({"TMPDIR": str(scratch)})
        here = calibrate.Here(tree, tools.name, env, scratch)
        texts = calibrate.sample(here, tree, records)
        cores = max(1, int(facts[coordinator]["facts"].get("cores") or 1))
        own = calibrate.coordinator(here, texts, cores)
        found: dict[str, Any] = {coordinator: own | {"objects": len(records)}}
        found |= _workers(ctx, facts, texts[0], plan.far and here.request(texts[0].unit, name=plan.far))
    records_of = {}
    for name, value in found.items():
        if isinstance(value, NodeRefused):
            continue
        node_facts = facts[name]["facts"]
        about = {"version": calibration.VERSION, "node": name, "at": round(time.time(), 3)}
        about |= {"compiler": node_facts.get("compiler"), "cores": node_facts.get("cores"), "unit": own["unit"]}
        records_of[name] = about | value
        write_json(ctx.paths.calibration(name), records_of[name])
    plan = hosts.plan(ctx.cluster, facts, records_of)
    return Outcome(
        f"{len(records_of)} {'node' if len(records_of) == 1 else 'nodes'} timed with {own['unit']['object']} "
        f"({own['unit']['bytes'] / 1e6:.1f} MB packed); a build takes -j{plan.jobs}",
        run={"nodes": records_of, "jobs": plan.jobs, "slots": dict(plan.slots)},
        lines=tuple(table(records_of, coordinator, plan)),
        warnings=tuple(f"{n} was not timed: {told.message}" for n, told in found.items() if n not in records_of),
        final=False,
    )


def table(records: Mapping[str, Mapping[str, Any]], coordinator: str, plan: hosts.HostPlan) -> list[str]:
    """The figures, a line a node, and what follows for a build."""
    width = max(len("node"), *map(len, records))
    lines = [f"{'node':<{width}}  {'alone':>8}  {'all at once':>12}  {'round trip':>10}  {'link':>10}  slots"]
    for name, told in records.items():
        trip = f"{1000 * told['trip']:.1f} ms" if "trip" in told else "–"
        link = f"{told['bandwidth'] / 1e6:.0f} MB/s" if "bandwidth" in told else "–"
        slots = plan.slots.get(name, 0)
        remark = "coordinator" if name == coordinator else ""
        lines.append(
            f"{name:<{width}}  {told['alone']:>6.2f} s  {told['rate']:>10.2f}/s  {trip:>10}  {link:>10}  {slots:>5}"
            f"  {remark}".rstrip()
        )
    lines += [f"{name} is left out: {why}" for name, why in plan.left_out if name in records]
    return lines + list(plan.reasons)


def _workers(ctx: Context, facts: Mapping[str, Any], text: calibrate.Text, far: bytes | str | None) -> dict[str, Any]:
    """Links one after the other, for they share the coordinator's; then all compile at once, as in a build. far: the
    request by the name that workers of another architecture have too, where there are some."""
    if isinstance(far, bytes):
        text = replace(text, request=far)
    there: dict[str, tuple[calibrate.There, int]] = {}
    found: dict[str, Any] = {}
    for node in ctx.cluster.workers:
        record = facts.get(node.name) or {}
        mode = record.get("mode") or {}
        jobs = int(mode.get("jobs") or 0)
        if record.get("state") != "ready":
            found[node.name] = NodeRefused(str(record.get("why") or "it was not prepared"))
        elif jobs:
            address, port = str(mode.get("address") or node.address), int(mode.get("port") or DISTCC_PORT)
            there[node.name] = calibrate.There(node.name, address, port, str(mode.get("cc") or "gcc")), jobs
    links: dict[str, Any] = {}
    for name, (worker, _) in there.items():
        links |= calibrate.each({name: worker.link})
    ready = {name: value for name, value in there.items() if not isinstance(links[name], NodeRefused)}
    found |= {name: link for name, link in links.items() if name not in ready}
    told = calibrate.each({name: partial(worker.compiling, text, jobs) for name, (worker, jobs) in ready.items()})
    return found | {
        name: value if isinstance(value, NodeRefused) else value | links[name] for name, value in told.items()
    }


def _records(ctx: Context, tools: Toolchain) -> tuple[Path, list[str]]:
    """The tree, and kbuild's records of objects in it that workers may compile."""
    extracted = (ctx.receipts.get("extract") or {}).get("results")
    patched = (ctx.receipts.get("patch") or {}).get("results")
    if not extracted or not patched:
        raise KbuildError("there is no tree of this kernel to take a file from", HINT)
    place = f"{extracted['pkgbase']}/src/{extracted['srctree']}"
    tree = ctx.paths.builddir / place
    if not tree.is_dir():
        raise KbuildError(f"there is no file to time: {tree} is not there any more", HINT)
    if why := places.other_source(ctx.paths, place, patched["tree"]):
        raise KbuildError(f"there is no file to time: {why}", HINT)
    records = _fit(tree)
    if not records:
        _make_one(ctx, tools, tree, place)
        records = _fit(tree)
    if not records:
        raise KbuildError(f"{tree} has no object that a worker could compile", "docs/distcc.md, local by design")
    return tree, records


def _fit(tree: Path) -> list[str]:
    return [record for record in calibrate.units(tree) if calibrate.unit(tree, record)]


def _make_one(ctx: Context, tools: Toolchain, tree: Path, place: str) -> None:
    """Nothing was built yet: kbuild makes one object, as the build itself would begin; it finds it made then.

    Through the front, for the flags that every object gets; marked as a build that goes on, so that a kill is mended.
    """
    configured = (ctx.receipts.get("configure") or {}).get("results") or {}
    if not configured or sha256_file(tree / ".config") != configured.get("config_sha256"):
        raise KbuildError(f"there is no file to time: {tree} is not configured", HINT)
    name = next((name for name in ANY if (tree / f"{name}.c").is_file()), None)
    if name is None:
        raise KbuildError(f"{tree} was not built yet, and has none of {', '.join(ANY)}", "doit compile, then calibrate")
    mark = Mark(places.mark(ctx.paths, place, "compiling"), tree)
    places.begin_build(ctx.paths, place)
    mend(tree, mark)
    front = make_front(ctx.paths.state / "front", makepkg.SYSTEM_PATH)
    env = {**tools.environment, "PATH": f"{front}:{makepkg.SYSTEM_PATH}", "KBUILD_TASKS_RECORD": "/dev/null"}
    env |= {"KBUILD_TASKS_WORKERS": "", "KBUILD_TASKS_CC": tools.name}
    mark.set()
    try:
        argv = ["make", f"-j{os.cpu_count() or 1}", f"{name}.o"]
        shell.run(argv, cwd=tree, env=makepkg.environment(env), log=ctx.log, timeout=MAKE)
    except CommandFailed as error:
        if error.code > 0:
            mark.clear()  # make ended by itself: it has removed the target that it was at
        raise KbuildError(
            f"kbuild cannot make {name}.o to time it with", "doit compile tells why", evidence=error.evidence,
            log=ctx.shown(ctx.log),
        ) from None  # fmt: skip
    mark.clear()
