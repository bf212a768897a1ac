"""Whose source lies at a place below builddir, and whether a build of it has ended there.

A receipt is one project's and outlives the tree that it tells of: another project may use the same workdir or the same
<workdir>.state/kept, workdir may go to another path and come back, a tmpfs may be mounted over a tree or taken from
one. So what lies there is written beside it, and goes where it goes:

    <builddir>/<pkgbase>/.<srctree>.tree        {"root", "tree"}: stage patch of the project `root` left this source
    <builddir>/<pkgbase>/.<srctree>.built       {"root", "tree", "results"}: compile ended there, with these results
    <builddir>/<pkgbase>/.<srctree>.compiling   effects/leftovers.py: a build is going on, or was killed
    <builddir>/<pkgbase>/.<srctree>.restoring   effects/keep.py: bringing back is going on, or was killed

Not in $srcdir (<builddir>/<pkgbase>/src), which functions of a PKGBUILD copy from. The first two are removed before the
tree is changed, durably, and written last. One that is missing, damaged or another's costs a run of patch and one of
make, when the tree is needed and not before: patch compares by content, make compiles what differs, mostly nothing.
That is also what a tree costs that an older version left, and a project that was moved to another directory: nothing
tells it from a copy, of which the original may have used the tree since.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.files import read_record, sync_directory, write_json
from kbuild_tasks.effects.startdir import remove_tree

# In the top directory of every Linux since 2.6; the first two alone would also be those of, say, busybox.
KERNEL_FILES = ("Makefile", "Kconfig", "Kbuild")


def begin_move(paths: Paths, place: str, tree: str) -> tuple[str, ...]:
    """Before the tree is brought to the source `tree`; returns the source that was left there, where that is known."""
    told = _read(paths, place, "tree")
    if told != _source(paths, tree):
        _drop(paths, place, "built")  # objects of another source; back at this one they are not what was proven
    _drop(paths, place, "tree")
    return (told["tree"],) if isinstance(told.get("tree"), str) else ()


def end_move(paths: Paths, place: str, tree: str, *, written: bool) -> None:
    """When every file is as in `tree`; written: some were not."""
    if written:
        _drop(paths, place, "built")
    write_json(_beside(paths, place, "tree"), _source(paths, tree))


def begin_build(paths: Paths, place: str) -> None:
    _drop(paths, place, "built")


def built(paths: Paths, tree: str, results: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a build of the source `tree` that has ended; results: those of compile's receipt."""
    return {**_source(paths, tree), "results": dict(results)}


def end_build(paths: Paths, place: str, record: Mapping[str, Any]) -> None:
    write_json(_beside(paths, place, "built"), record)


def other_source(paths: Paths, place: str, tree: str) -> str:
    """Why the source at `place` is not `tree` as this project's patch left it; "": it is."""
    told = _read(paths, place, "tree")
    if told == _source(paths, tree):
        return ""
    where = paths.builddir / place
    if told.get("root", _root(paths)) != _root(paths):
        return f"{where} was last used by the project in {told['root']}"
    return f"{where} holds another source" if told else f"nothing tells which source lies in {where}"


def not_built(paths: Paths, place: str, results: Mapping[str, Any]) -> str:
    """Why what lies at `place` is not what this project's compile left with these results; "": it is."""
    told, where = _read(paths, place, "built"), paths.builddir / place
    if not told:
        return f"nothing tells that a build has ended in {where}, or all of it came back"
    if told.get("root") != _root(paths):
        return f"{where} was compiled by the project in {told.get('root')}"
    if told != {**_read(paths, place, "tree"), "results": dict(results)}:
        return f"{where} was compiled from another source, or to another kernel"
    return ""


def forget(paths: Paths, place: str) -> None:
    """All that is told of a tree that is not there any more."""
    for what in ("tree", "built", "compiling", "restoring"):
        _drop(paths, place, what)


def forget_contents(paths: Paths, place: str) -> None:
    """The same, of one that is about to be brought back."""
    for what in ("tree", "built"):
        _drop(paths, place, what)


def mark(paths: Paths, place: str, what: str) -> Path:
    """The file that marks `what` ("compiling", "restoring") as going on at `place`.

    One of an older version, which had one for all trees, becomes that of the first place that asks, as it was then.
    """
    own, old = _beside(paths, place, what), paths.builddir / f".{what}"
    if old.exists() and not own.exists() and own.parent.is_dir():
        os.replace(old, own)
    return own


def remove_others(paths: Paths, pkgbase: str, srctree: str) -> None:
    """Remove kernel trees that this project needs no more: 1.5 GB each, on a tmpfs. Those of its pkgbase, unless a
    project that is still there uses them; of another pkgbase, those that it made itself."""
    for place in list(trees(paths)):
        if place == f"{pkgbase}/src/{srctree}":
            continue
        root = _read(paths, place, "tree").get("root")
        own = root == _root(paths)
        if own or (place.startswith(f"{pkgbase}/") and not (isinstance(root, str) and os.path.isdir(root))):
            _drop(paths, place, "tree")
            _drop(paths, place, "built")
            remove_tree(paths.builddir / place)
            forget(paths, place)


def trees(paths: Paths) -> Iterator[str]:
    """Places of the kernel trees in the workdir."""
    with contextlib.suppress(FileNotFoundError):
        for base in os.listdir(paths.builddir):
            source = paths.builddir / base / "src"
            for entry in os.scandir(source) if source.is_dir() else ():
                if entry.is_dir(follow_symlinks=False) and is_kernel(entry.path):
                    yield f"{base}/src/{entry.name}"


def is_kernel(directory: str | os.PathLike[str]) -> bool:
    return all(os.path.exists(os.path.join(directory, name)) for name in KERNEL_FILES)


def in_repository(repository: Path, tree: str) -> bool:
    """Whether a tree object is there, without a process: ours are never packed. One that somebody packed by hand
    counts as there; git tells when it is used."""
    objects = repository / "objects"
    if (objects / tree[:2] / tree[2:]).is_file():
        return True
    with contextlib.suppress(FileNotFoundError):
        return any(name.endswith(".idx") for name in os.listdir(objects / "pack"))
    return False


def _beside(paths: Paths, place: str, what: str) -> Path:
    base, _, rest = place.partition("/")
    return paths.builddir / base / f".{os.path.basename(rest)}.{what}"


def _read(paths: Paths, place: str, what: str) -> dict[str, Any]:
    return read_record(_beside(paths, place, what))


def _source(paths: Paths, tree: str) -> dict[str, Any]:
    return {"root": _root(paths), "tree": tree}


def _root(paths: Paths) -> str:
    return os.fsencode(paths.root).decode("utf-8", "backslashreplace")


def _drop(paths: Paths, place: str, what: str) -> None:
    path = _beside(paths, place, what)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
        sync_directory(path.parent)
