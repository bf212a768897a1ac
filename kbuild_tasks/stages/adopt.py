"""adopt: what another coordinator has built goes on here, as far as it is whole and its receipts tell of it.

What is fetched: its receipts (with copies of the inputs they name), its source trees, downloads, what lies beside the
tree in $srcdir, what kbuild made, the packages. Whether all that is what this project wants is decided afterwards, by
the receipts as ever: a stage whose inputs differ here runs, and compiles what differs.

Nothing of ours is overwritten unless `replace` says so. Until all has come nothing here has changed, but for objects in
the repository, which are what their names say.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kbuild_tasks.core.errors import CommandFailed, KbuildError, NodeUnreachable
from kbuild_tasks.core.later import later
from kbuild_tasks.core.model import Outcome
from kbuild_tasks.effects import adopt_check, adopted
from kbuild_tasks.effects.context import Context

if TYPE_CHECKING:
    from kbuild_tasks.core import adoption
    from kbuild_tasks.effects import adopt, startdir
    from kbuild_tasks.effects.adopt import Other
    from kbuild_tasks.effects.tree import Trees
    from kbuild_tasks.effects.unpack import Member
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
    """Raises KbuildError: something here is in the way, no room, less there than here; NodeUnreachable, NodeRefused of
    the other node."""
    assert ctx.node is not None
    replace = _refuse(ctx, wanted)
    other = adopt.Other(ctx.cluster, ctx.node, wanted.project, wanted.workdir)
    place, found = adopted.scratch(ctx.paths), adopt_check.Found()
    shutil.rmtree(place, ignore_errors=True)
    try:
        try:
            came = _fetch(ctx, wanted, other, found)
        except NodeUnreachable as error:
            hint = f"{error.hint or 'is it switched on?'}; then doit adopt again. Without it doit makes all of it here"
            raise NodeUnreachable(error.message, hint, evidence=error.evidence) from None
        except CommandFailed as error:  # a run that was started there ends what sends, for one
            hint = error.hint or "doit adopt again. Without it doit makes all of it here"
            raise KbuildError(error.message, hint, evidence=error.evidence) from None
        ctx.emit("adopt", {"step": "check it and put it in place"})
        return _place(ctx, wanted, came, replace, found)
    finally:
        shutil.rmtree(place, ignore_errors=True)


@dataclass(frozen=True)
class _Came:
    """What was fetched; kept: the kept.json of what kbuild made, None where that was not taken; packages: by name."""

    offer: adoption.Offer
    files: Mapping[str, Member]
    kept: Mapping[str, Any] | None
    packages: Mapping[str, Member]


def _fetch(ctx: Context, wanted: Wanted, other: Other, found: adopt_check.Found) -> _Came:
    """All that is of use, checked, in the scratch directory and the repository; nothing else here has changed."""
    from kbuild_tasks.effects.project import Project
    from kbuild_tasks.effects.tree import Trees

    ctx.emit("adopt", {"step": f"ask {other.node.name}"})
    offer = adoption.offer(other.node.name, other.look(), wanted.stages, wanted.project, Project(ctx.cluster).compiler)
    if wanted.replace:
        _refuse_loss(ctx, wanted, offer)
    _refuse_full(ctx, offer.bytes)
    trees = Trees(ctx.paths.repository)
    _trees(ctx, wanted, other, trees, offer)
    ctx.emit("adopt", {"step": "fetch packages, downloads and receipts"})
    files = other.files(dict(_files(wanted, offer, found)), adopted.scratch(ctx.paths) / "all", _room(ctx))
    packages = adopt_check.packages(offer, files, found)
    _room_beside(ctx, packages)
    return _Came(offer, files, _objects(ctx, wanted, other, trees, offer, found), packages)


def _place(ctx: Context, wanted: Wanted, came: _Came, replace: bool, found: adopt_check.Found) -> Outcome:
    paths, offer = ctx.paths, came.offer
    startdir.sync(paths, paths.root / ctx.cluster.kernel.pkgbuild)  # first: it may find no PKGBUILD
    stages = [stage for stage in offer.receipts if stage != "package" or came.packages]
    adopted.begin(paths, offer, stages, wanted.stages)
    if replace:
        adopted.remove(paths, stages, offer.place, objects=came.kept is not None, packages=bool(came.packages))
    adopted.sources(paths, offer, came.files, found)
    adopted.beside(paths, offer, found)
    adopted.inputs(paths, offer, came.files)
    if came.kept is not None:
        adopted.objects(paths, came.kept, found)
    if came.packages:
        adopted.packages(paths, offer, came.packages, found)
    adopted.receipts(paths, offer, stages)
    return _told(ctx, wanted, offer, stages, found)


def _refuse(ctx: Context, wanted: Wanted) -> bool:
    """Whether what is here may go: because it was said, or because it is what an adopt left that was ended."""
    there = adopted.in_the_way(ctx.paths, wanted.stages)
    if there and not wanted.replace and not adopted.was_ended(ctx.paths, wanted.stages):
        raise KbuildError(
            "this project has built here already: what another coordinator has would take its place",
            "doit plan tells whether anything is missing; doit adopt replace=yes if what is here may go",
            evidence=there,
        )
    return bool(there)


def _refuse_loss(ctx: Context, wanted: Wanted, offer: adoption.Offer) -> None:
    assert ctx.node is not None
    lacks = [stage for stage in wanted.stages if stage not in offer.receipts and ctx.paths.receipt(stage).exists()]
    if lacks:
        raise KbuildError(
            f"{ctx.node.name} has less than this project has built here: its {lacks[0]} has not ended",
            "nothing was changed; doit makes what is missing here",
            evidence=[str(ctx.paths.receipt(stage)) for stage in lacks],
        )


def _room(ctx: Context) -> int:
    """Bytes that what comes may take."""
    return shutil.disk_usage(ctx.paths.state).free - RESERVE


def _refuse_full(ctx: Context, needed: int) -> None:
    free = _room(ctx)
    if needed > free:
        raise KbuildError(
            f"{ctx.paths.state} has no room for what another coordinator has: {needed / 2**30:.1f} GiB are needed, "
            f"and {max(0, free) / 2**30:.1f} are free, less 1 GiB for others",
            f"df -h {ctx.paths.state}; free some, or let doit make all of it here",
        )


def _room_beside(ctx: Context, packages: Mapping[str, Member]) -> None:
    """The project may be on another disk than what came."""
    root = ctx.paths.root
    needed = sum(member.size for member in packages.values())
    if os.stat(root).st_dev == os.stat(ctx.paths.state).st_dev or needed <= shutil.disk_usage(root).free:
        return
    raise KbuildError(f"{root} has no room for the packages: {needed / 2**20:.0f} MiB are needed", f"df -h {root}")


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


def _files(wanted: Wanted, offer: adoption.Offer, found: adopt_check.Found) -> Iterator[tuple[str, str]]:
    """Path there -> place below the scratch directory's "all"; that of a directory ends in a slash."""
    beside = offer.receipts["extract"]["results"]["beside"]
    project, state = offer.root.rstrip("/"), f"{wanted.workdir.rstrip('/')}.state"
    yield f"{project}/build/config", "project/build/config"
    for name in offer.inputs:
        yield f"{project}/build/inputs/{name}", f"project/build/inputs/{name}"
    for name in (*offer.packages, *offer.signatures):
        yield f"{project}/artifacts/{name}", f"project/artifacts/{name}"
    for name, pin in offer.sources.items():
        if adoption.pinned(name, pin, beside):
            yield f"{state}/sources/{name}", f"state/sources/{name}"
        else:
            found.not_taken.append(f"{name}: no sum tells what it holds; it is downloaded when it is needed")
    yield f"{state}/pristine", "state/pristine/"
    yield f"{state}/srcdir/{offer.pkgbase}", f"state/srcdir/{offer.pkgbase}/"


def _objects(
    ctx: Context,
    wanted: Wanted,
    other: Other,
    trees: Trees,
    offer: adoption.Offer,
    found: adopt_check.Found,
) -> dict[str, Any] | None:
    """Fetch what kbuild made; its kept.json, None where it cannot be gone on with."""
    if not offer.objects or wanted.workdir != str(ctx.paths.workdir):
        return None
    ctx.emit("adopt", {"step": "fetch what kbuild made"})
    top, sources = adopted.scratch(ctx.paths) / "files", trees.files(offer.trees[-1])
    if offer.objects == "kept":
        came = other.kept(offer.kept["files"], top, _room(ctx))
    else:
        try:
            came = other.made(offer.place, sources, top, _room(ctx))
        except CommandFailed as error:
            if error.code not in (1, 2):  # tar's: a file has changed, a file could not be read
                raise
            shutil.rmtree(top, ignore_errors=True)
            found.not_taken.append(f"what kbuild made: not all of it could be read there ({_last(error)})")
            return None
    return adopt_check.objects(ctx.paths, offer, top, came, sources, found)


def _last(error: CommandFailed) -> str:
    return error.evidence[0] if error.evidence else error.message


def _told(
    ctx: Context, wanted: Wanted, offer: adoption.Offer, stages: Sequence[str], found: adopt_check.Found
) -> Outcome:
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
