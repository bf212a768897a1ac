"""adopt: what another coordinator has built goes on here, as far as it is whole and its receipts tell of it.

What is fetched: its receipts (with copies of the inputs they name), its source trees, downloads, what lies beside the
tree in $srcdir, what kbuild made, the packages. Whether all that is what this project wants is decided afterwards, by
the receipts as ever: a stage whose inputs differ here runs, and compiles what differs.

Nothing of ours is overwritten unless `replace` says so. Until all has come nothing here has changed, but for objects in
the repository, which are what their names say.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kbuild_tasks.core.errors import CommandFailed, KbuildError, NodeUnreachable
from kbuild_tasks.core.later import later
from kbuild_tasks.core.model import Outcome
from kbuild_tasks.effects import adopted
from kbuild_tasks.effects.context import Context

if TYPE_CHECKING:
    from kbuild_tasks.core import adoption
    from kbuild_tasks.effects import adopt, startdir
    from kbuild_tasks.effects.adopt import Other
    from kbuild_tasks.effects.tree import Trees
else:
    adoption, adopt = later("kbuild_tasks.core.adoption"), later("kbuild_tasks.effects.adopt")
    startdir = later("kbuild_tasks.effects.startdir")

RESERVE = 1 << 30  # bytes of the disk that are left to others


@dataclass(frozen=True)
class Wanted:
    """Of whom: the project's directory and workdir on ctx.node; stages: all of the build half, in their order."""

    project: str
    workdir: str
    stages: Sequence[str]
    replace: bool = False


def run(ctx: Context, wanted: Wanted) -> Outcome:
    """Raises KbuildError: something here is in the way, no room; NodeUnreachable, NodeRefused of the other node."""
    from kbuild_tasks.effects.project import Project
    from kbuild_tasks.effects.tree import Trees

    assert ctx.node is not None
    node, paths = ctx.node, ctx.paths
    _refuse(ctx, wanted)
    other = adopt.Other(ctx.cluster, node, wanted.project, wanted.workdir)
    place = adopted.scratch(paths)
    shutil.rmtree(place, ignore_errors=True)
    ctx.emit("adopt", {"step": f"ask {node.name}"})
    try:
        told = other.look()
        offer = adoption.offer(node.name, told, wanted.stages, wanted.project, Project(ctx.cluster).compiler)
        room = _room(ctx, told)
        trees = Trees(paths.repository)
        _trees(ctx, wanted, other, trees, offer)
        ctx.emit("adopt", {"step": "fetch packages, downloads and receipts"})
        files = other.files(dict(_files(wanted, offer)), place / "all", room)
        objects = _objects(ctx, wanted, other, trees, offer, room)
    except NodeUnreachable as error:
        shutil.rmtree(place, ignore_errors=True)
        hint = f"{error.hint or 'is it switched on?'}; then doit adopt again. Without it doit makes all of it here"
        raise NodeUnreachable(error.message, hint, evidence=error.evidence) from None
    except CommandFailed as error:  # a run that was started there ends what sends, for one
        shutil.rmtree(place, ignore_errors=True)
        hint = error.hint or "doit adopt again. Without it doit makes all of it here"
        raise KbuildError(error.message, hint, evidence=error.evidence) from None
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    ctx.emit("adopt", {"step": "check it and put it in place"})
    if wanted.replace:
        adopted.remove(paths, wanted.stages, offer.place)
    startdir.sync(paths, paths.root / ctx.cluster.kernel.pkgbuild)
    found = adopted.Found()
    adopted.sources(paths, offer, files, found)
    adopted.beside(paths, offer, found)
    adopted.inputs(paths, offer, files)
    if objects is not None:
        adopted.objects(paths, offer, objects, found)
    whole = adopted.packages(paths, offer, files, found)
    stages = [stage for stage in offer.receipts if stage != "package" or whole]
    adopted.receipts(paths, offer, stages)
    shutil.rmtree(place, ignore_errors=True)
    return _told(ctx, wanted, offer, stages, found)


def _refuse(ctx: Context, wanted: Wanted) -> None:
    there = adopted.in_the_way(ctx.paths, wanted.stages)
    if there and not wanted.replace:
        raise KbuildError(
            "this project has built here already: what another coordinator has would take its place",
            "doit plan tells whether anything is missing; doit adopt replace=yes if what is here may go",
            evidence=there,
        )


def _room(ctx: Context, told: dict[str, Any]) -> int:
    """Bytes that what comes may take."""
    needed = told.get("bytes")
    free = shutil.disk_usage(ctx.paths.state).free - RESERVE
    if isinstance(needed, int) and needed > free:
        raise KbuildError(
            f"{ctx.paths.state} has no room for what another coordinator has: {needed / 2**30:.1f} GiB are needed, "
            f"and {max(0, free) / 2**30:.1f} are free, less 1 GiB for others",
            f"df -h {ctx.paths.state}; free some, or let doit make all of it here",
        )
    return free


def _trees(ctx: Context, wanted: Wanted, other: Other, trees: Trees, offer: adoption.Offer) -> None:
    if trees.whole(offer.trees):
        return
    ctx.emit("adopt", {"step": "fetch the source"})
    evidence: Sequence[str] = ()
    try:
        other.trees(trees, offer.trees)
    except CommandFailed as error:
        evidence = error.evidence
    if not trees.whole(offer.trees):
        raise KbuildError(
            f"{other.node.name} did not send all of the source that its receipts tell of",
            f"is {wanted.workdir}.state/repo.git whole there? Without it doit makes all of it here",
            evidence=evidence,
        )


def _files(wanted: Wanted, offer: adoption.Offer) -> Iterator[tuple[str, str]]:
    """Path there -> place below the scratch directory's "all"."""
    project, state = wanted.project.rstrip("/"), f"{wanted.workdir.rstrip('/')}.state"
    yield f"{project}/build/config", "project/build/config"
    for name in offer.inputs:
        yield f"{project}/build/inputs/{name}", f"project/build/inputs/{name}"
    for name in (*offer.packages, *offer.signatures):
        yield f"{project}/artifacts/{name}", f"project/artifacts/{name}"
    for name in offer.sources:
        yield f"{state}/sources/{name}", f"state/sources/{name}"
    yield f"{state}/srcdir/{offer.pkgbase}", f"state/srcdir/{offer.pkgbase}"


def _objects(
    ctx: Context, wanted: Wanted, other: Other, trees: Trees, offer: adoption.Offer, room: int
) -> dict[str, Any] | None:
    if not offer.objects or wanted.workdir != str(ctx.paths.workdir):
        return None
    ctx.emit("adopt", {"step": "fetch what kbuild made"})
    top = adopted.scratch(ctx.paths) / "files"
    if offer.objects == "kept":
        return other.kept(offer.kept["files"], top, room)
    return other.made(offer.place, trees.files(offer.trees[-1]), top, room)


def _told(ctx: Context, wanted: Wanted, offer: adoption.Offer, stages: Sequence[str], found: adopted.Found) -> Outcome:
    assert ctx.node is not None
    why = offer.why
    if offer.objects and wanted.workdir != str(ctx.paths.workdir):
        why = f"its workdir is {wanted.workdir}, and a tree at another path is compiled anew"
    warnings = [f"not taken: {line}" for line in found.not_taken]
    if why:
        warnings.append(f"what kbuild made stays on {ctx.node.name}: {why}")
    parts = [f"{', '.join(stages)} of {ctx.node.name}"]
    parts += [f"{found.objects} files that kbuild made"] if found.objects else []
    parts += [f"{len(found.packages)} package{'' if len(found.packages) == 1 else 's'}"] if found.packages else []
    parts += [f"{len(found.sources)} download{'' if len(found.sources) == 1 else 's'}"] if found.sources else []
    record = {"from": ctx.node.name, "stages": list(stages), "objects": found.objects, "packages": found.packages}
    return Outcome("; ".join([*parts, "see doit plan"]), run=record, warnings=tuple(warnings), final=False)
