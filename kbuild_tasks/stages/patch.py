"""patch: the series, and what the PKGBUILD's prepare() does, as one tree; then the build tree is moved to it.

Every patch is parsed before any is applied, all are applied to an index, prepare() runs in a tree of its own: until
the last step nothing that is built from has changed, so a failure leaves the build tree as it was.

    <state>/prepare/makepkg/<pkgbase>/src/<srctree>    where prepare() runs; kept, so that the next run moves it too
    <workdir>/makepkg/<pkgbase>/src/<srctree>          the build tree; effects/keep.py brings a lost one back
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kbuild_tasks.core.errors import ConfigError, KbuildError
from kbuild_tasks.core.model import Inputs, Outcome
from kbuild_tasks.effects import places, startdir
from kbuild_tasks.effects.beside import digests, entries
from kbuild_tasks.effects.context import Context, Paths

_RELEASE = re.compile(r"[0-9]+\.[0-9]+(\.[0-9]+)?[-+.~_0-9A-Za-z]*")

if TYPE_CHECKING:
    from kbuild_tasks.core.patchfile import Patch


def inputs(project: Any) -> Inputs:
    """The series in its order, prepare() and the files beside the PKGBUILD that it names; the pristine tree."""
    series = (project.series_file,) if project.series_file else ()
    named = project.pkgbuild.local_files("prepare", [os.path.basename(path) for path in project.beside_pkgbuild])
    beside = tuple(path for path in project.beside_pkgbuild if os.path.basename(path) in named)
    return Inputs(
        files=(*series, *project.series, *beside),
        values={"prepare": project.pkgbuild.digest("prepare"), "arch": project.cluster.kernel.arch},
        receipts=("extract",),
    )


def lost(paths: Paths, results: Mapping[str, Any]) -> Iterable[str]:
    """Why the results of a finished run are not there any more: workdir may be a tmpfs, or be used by others too."""
    tree = paths.builddir / results["place"]
    if not (tree / "Makefile").is_file():
        yield f"the build tree {tree} is not there"
    elif why := places.other_source(paths, results["place"], results["tree"]):
        yield why
    if not places.in_repository(paths.repository, results["tree"]):  # made anew by extract; later stages read it
        yield f"{paths.repository} does not hold the patched source any more"
    if missing := startdir.prepared_missing(paths, results["place"].partition("/")[0], results["prepared"]):
        yield f"{missing}, which prepare() made, is not there"


def run(ctx: Context) -> Outcome:
    """Raises ConfigError for a patch that cannot be read or does not apply, CommandFailed when prepare() fails."""
    from kbuild_tasks.effects.keep import restore
    from kbuild_tasks.effects.project import Project
    from kbuild_tasks.effects.tree import Trees

    project = Project(ctx.cluster)
    extracted = ctx.receipts["extract"]["results"]
    place = f"{extracted['pkgbase']}/src/{extracted['srctree']}"
    trees = Trees(ctx.paths.repository)
    patches = read_series(ctx.paths.root, project.series)
    ctx.emit("patch", {"step": "apply"})
    tree = apply(trees, extracted["tree"], patches)
    message = f"{len(patches)} applied" if patches else "no patches: the source as it is"
    beside: dict[str, str] = extracted["beside"]
    prepared: list[str] = []
    releases: dict[str, str] = {}
    if "prepare" in project.pkgbuild.functions:
        ctx.emit("patch", {"step": "prepare()"})
        tree, files = run_prepare(ctx, trees, tree, place, extracted)
        count = len(files)
        message += f"; prepare() changed {count} file{'' if count == 1 else 's'}" if count else ""
        beside, prepared = _left_beside(ctx, place, extracted)
        releases = told_releases(_prepare_paths(ctx).builddir / place, [*files, *(f"../{name}" for name in prepared)])
    startdir.keep_prepared(ctx.paths, extracted["pkgbase"], (_prepare_paths(ctx).builddir / place).parent, prepared)
    ctx.emit("patch", {"step": "bring back what was built"})
    left = places.begin_move(ctx.paths, place, tree)
    brought = restore(ctx.paths, place)
    message += f"; {brought}" if brought else ""
    ctx.emit("patch", {"step": "move the tree"})
    written = trees.move(ctx.paths.builddir / place, tree, left=left)
    places.end_move(ctx.paths, place, tree, written=bool(written))
    results = {
        "tree": tree,
        "place": place,
        "series": [os.path.basename(path) for path in project.series],
        "touched": touched(patches),
        "beside": beside,
        "prepared": prepared,
        "releases": releases,
    }
    return Outcome(message, results, warnings=_unlisted(ctx, project))


def read_series(root: Path, files: Sequence[str]) -> tuple[Patch, ...]:
    """Parse all patches (paths relative to `root`). Raises ConfigError."""
    from kbuild_tasks.core.patchparse import parse_patch
    from kbuild_tasks.effects.packed import unpacked

    patches = []
    for path in files:
        try:
            data = (root / path).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise ConfigError(f"there is no patch {path}", "correct the series file, or put the patch there") from None
        patches.append(parse_patch(path, unpacked(path, data)))
    return tuple(patches)


def apply(trees: Any, base: str, patches: Sequence[Patch]) -> str:
    """The tree with the series on it. Raises ConfigError that says which patch fails, where and why."""
    from kbuild_tasks.core.patchfile import text
    from kbuild_tasks.effects.tree import DoesNotApply

    rounds = [(position, files) for position, patch in enumerate(patches) for files in patch.rounds()]
    try:
        applied: str = trees.apply(base, [(patches[position].name, text(files)) for position, files in rounds])
    except DoesNotApply as failed:
        from kbuild_tasks.core.patchwhy import refusal

        position, files = rounds[failed.position]
        before = failed.before
        raise refusal(
            patches,
            position,
            files,
            lambda path: trees.read(before, path),
            lambda: trees.files(before),
            failed.said,
            failed.reverses,
        ) from None
    return applied


def run_prepare(
    ctx: Context, trees: Any, tree: str, place: str, extracted: Mapping[str, Any]
) -> tuple[str, Sequence[str]]:
    """prepare() of the PKGBUILD on a tree of its own -> (the tree that it left, the files that it changed)."""
    from kbuild_tasks.effects import makepkg
    from kbuild_tasks.effects.compiler import toolchain

    makepkg.refuse_root()
    paths = _prepare_paths(ctx)
    scratch = paths.builddir / place
    if scratch.parent.is_dir():
        for entry in os.scandir(scratch.parent):  # makepkg brings them back as they were unpacked
            if entry.name != scratch.name:
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry)
                else:
                    os.unlink(entry)
    trees.move(scratch, tree, clean=True)
    makepkg.run_function(
        paths,
        "prepare",
        pkgbuild=ctx.paths.root / ctx.cluster.kernel.pkgbuild,
        pkgver=extracted.get("pkgver"),
        arch=ctx.cluster.kernel.arch,
        env=makepkg.environment(toolchain(ctx.cluster.kernel.arch, ctx.paths).environment),
        jobs=os.cpu_count() or 1,
        log=ctx.log,
    )
    if not scratch.is_dir():
        raise KbuildError(f"prepare() of the PKGBUILD removed {scratch.name}, the kernel's tree")
    left = trees.snapshot(scratch, tree)
    return left.tree, left.paths


def _prepare_paths(ctx: Context) -> Paths:
    return Paths(ctx.paths.root, ctx.paths.state / "prepare", ctx.paths.state)


def _left_beside(ctx: Context, place: str, extracted: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """(what lies beside the tree now that prepare() ran, by content; the entries that it made or changed)"""
    tree = _prepare_paths(ctx).builddir / place
    left = digests(entries(tree.parent, tree.name), ctx.paths.sources, extracted["sources"])
    return left, [name for name, total in left.items() if extracted["beside"].get(name) != total]


def told_releases(tree: Path, files: Sequence[str]) -> dict[str, str]:
    """Of `files`, those that hold a kernel's name and nothing else: prepare() wrote it (make -s kernelrelease >version)
    for the package functions, from a .config that is not the one which configure is going to make."""
    found = {}
    for name in files:
        path = tree / name
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 100:
            text = path.read_text("utf-8", "replace").strip()
            if _RELEASE.fullmatch(text):
                found[os.path.normpath(name)] = text
    return found


def touched(patches: Sequence[Patch]) -> dict[str, list[str]]:
    """path -> names of the patches that touch it, in order: for whoever explains a compiler error."""
    found: dict[str, list[str]] = {}
    for patch in patches:
        for path in patch.paths:
            found.setdefault(path, []).append(os.path.basename(patch.name))
    return found


def _unlisted(ctx: Context, project: Any) -> tuple[str, ...]:
    from kbuild_tasks.core.series import unlisted

    directory = ctx.cluster.kernel.patches
    if not directory:
        return ()
    names = os.listdir(ctx.paths.root / directory)
    series = [path.removeprefix(f"{directory}/") for path in project.series]
    return unlisted(names, series, project.series_file or directory)
