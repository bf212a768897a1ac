"""What came from another coordinator, put in place, whole or not at all, once effects/adopt_check.py has passed it.

    <state>/adopting/all/state/...       downloads, and what lies in $srcdir beside the tree
    <state>/adopting/files/...           what kbuild made, as effects/keep.py keeps it
    <state>/adopting/all/project/...     config, copies of inputs, packages
    <state>/repo.git                     trees: an object's name is its content, so they go in at once
    <state>/adopt.placing                {"root", "receipts"}: putting in place goes on, or was ended

Nothing is in use before all of it is on the disk; the receipts, which make it count, are written last, and those that
were here go first. A run that was ended in between leaves receipts that are missing, and adopt.placing: while no other
receipt than those it tells of is here, nothing was built since, and the next adopt may go on over what lies here.

What kbuild made becomes the kept copy of a tree that is not there (effects/keep.py), under our project's name: its
records are not believed because another project's root stands in them, and they are written anew only where kernel,
modules and .config have the sums that its receipt tells. The next stage that needs the tree brings it back, with the
times that it had.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kbuild_tasks.core.adoption import Offer, pinned
from kbuild_tasks.core.manifest import named
from kbuild_tasks.effects import places, shell, startdir
from kbuild_tasks.effects.adopt_check import Found
from kbuild_tasks.effects.beside import digests, entries
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.files import read_json, read_record, sync_directory, write_json
from kbuild_tasks.effects.unpack import Member


def scratch(paths: Paths) -> Path:
    return paths.state / "adopting"


def in_the_way(paths: Paths, stages: Sequence[str]) -> list[str]:
    """What this project has made here itself, and would be lost; none: nothing was built here."""
    there = [paths.receipt(stage) for stage in stages]
    there += [paths.artifacts / "manifest.json", paths.kept / "kept.json"]
    if paths.builddir.is_dir():
        there += [path for path in sorted(paths.builddir.glob("*/src/*")) if path.is_dir() and places.is_kernel(path)]
    return [str(path) for path in there if path.exists()]


def begin(paths: Paths, offer: Offer, stages: Sequence[str], known: Sequence[str]) -> None:
    """From now on what is here is what adopt leaves; stages: those of which the receipt comes, known: all."""
    ours = {stage: read_record(paths.receipt(stage)) for stage in known}
    write_json(_mark(paths), {"root": str(paths.root), "receipts": {**ours, **{s: offer.receipts[s] for s in stages}}})


def was_ended(paths: Paths, stages: Sequence[str]) -> bool:
    """Whether an adopt of this project was ended while it put things in place, and nothing was built since."""
    told = read_record(_mark(paths))
    known = told.get("receipts")
    if told.get("root") != str(paths.root) or not isinstance(known, dict):
        return False
    return all(not paths.receipt(s).exists() or read_record(paths.receipt(s)) == known.get(s) for s in stages)


def _mark(paths: Paths) -> Path:
    return paths.state / "adopt.placing"


def remove(paths: Paths, stages: Sequence[str], place: str, *, objects: bool, packages: bool) -> None:
    """What in_the_way() told of, where what comes takes its place: receipts of `stages` first; the kept copy and the
    tree where objects come, artifacts/ where packages come."""
    for stage in reversed(stages):
        paths.receipt(stage).unlink(missing_ok=True)
    _sync(paths.build)
    if packages:
        for name in [*named(read_json(paths.artifacts / "manifest.json")), "manifest.json"]:
            with contextlib.suppress(IsADirectoryError):
                (paths.artifacts / name).unlink(missing_ok=True)
    if objects:
        (paths.kept / "kept.json").unlink(missing_ok=True)
        shutil.rmtree(paths.kept, ignore_errors=True)
        startdir.remove_tree(paths.builddir / place)
        places.forget(paths, place)


def sources(paths: Paths, offer: Offer, came: Mapping[str, Member], found: Found) -> None:
    """Put downloads in place that have the sum which the PKGBUILD, or a receipt, tells."""
    beside = offer.receipts["extract"]["results"]["beside"]
    paths.sources.mkdir(parents=True, exist_ok=True)
    for name, pin in offer.sources.items():
        member = came.get(f"state/sources/{name}")
        if member is None or not os.path.isfile(member.path) or member.path.is_symlink():
            continue
        wanted = pinned(name, pin, beside)
        if wanted is None or _total(member.path, wanted[0]) != wanted[1]:
            found.not_taken.append(f"{name}: not what its sum says; it is downloaded when it is needed")
        elif not (paths.sources / name).exists():
            os.replace(member.path, paths.sources / name)
            found.sources.append(name)


def beside(paths: Paths, offer: Offer, found: Found) -> None:
    """Put in place what makepkg and prepare() left in $srcdir beside the tree, as far as it is what receipts tell."""
    results = offer.receipts["extract"]["results"]
    base, home = offer.pkgbase, paths.state / "srcdir"
    came = scratch(paths) / "all" / "state" / "srcdir" / base
    identity = os.readlink(came / startdir.CURRENT) if (came / startdir.CURRENT).is_symlink() else ""
    theirs = scratch(paths) / "all" / "state" / "pristine" / f"{identity}.json"
    record = paths.state / "pristine" / f"{identity}.json"
    if not (len(identity) == 64 and identity.isalnum() and (came / identity).is_dir()):
        found.not_taken.append(f"what lies beside {offer.place.rpartition('/')[2]}: it did not come")
        return
    if theirs.is_symlink() or read_record(theirs) != dict(results):
        found.not_taken.append(
            "what lies beside the tree: of other sources than the receipt tells; it is unpacked anew"
        )
        return
    for entry in came.iterdir():
        if entry.name not in (startdir.CURRENT, startdir.PREPARED, identity):
            startdir.remove_tree(entry)
    home.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):  # while it is there, what lies in home counts as checked
        record.unlink()
        sync_directory(record.parent)
    startdir.remove_tree(home / base)
    os.replace(came, home / base)
    told = startdir.contents(paths, base, results["sources"])
    ours = {
        n for n in told if os.path.islink(p := home / base / identity / n) and os.readlink(p).startswith("startdir/")
    }
    wrong = sorted(n for n in {*told, *results["beside"]} - ours if told.get(n) != results["beside"].get(n))
    if wrong:
        startdir.remove_tree(home / base)
        found.not_taken.append(
            f"what lies beside the tree: {wrong[0]} is not what the receipt tells; it is unpacked anew"
        )
        return
    write_json(record, results)
    told = digests(entries(home / base / startdir.PREPARED), paths.sources, {})
    if told.items() - offer.receipts.get("patch", offer.receipts["extract"])["results"]["beside"].items():
        startdir.remove_tree(home / base / startdir.PREPARED)
        found.not_taken.append("what prepare() made beside the tree: not what the receipt tells; prepare() runs here")


def objects(paths: Paths, kept: Mapping[str, Any], found: Found) -> None:
    """Make what kbuild made there our kept copy, by its kept.json."""
    startdir.remove_tree(paths.kept)
    paths.kept.mkdir(parents=True)
    os.replace(scratch(paths) / "files", paths.kept / "files")
    write_json(paths.kept / "kept.json", kept)
    found.objects = len(kept["files"])


def packages(paths: Paths, offer: Offer, here: Mapping[str, Member], found: Found) -> None:
    """Put the packages in place, the manifest last."""
    paths.artifacts.mkdir(parents=True, exist_ok=True)
    for name, member in here.items():
        shutil.move(member.path, paths.artifacts / name)  # the project may be on another disk
    _sync(paths.artifacts)
    write_json(paths.artifacts / "manifest.json", offer.manifest)
    found.packages = list(offer.packages)


def inputs(paths: Paths, offer: Offer, came: Mapping[str, Member]) -> bool:
    """Copies of inputs, by which `doit plan` tells lines; whether the .config came as the receipt tells."""
    for name in offer.inputs:
        member = came.get(f"project/build/inputs/{name}")
        if member and member.content == name:
            (paths.build / "inputs").mkdir(parents=True, exist_ok=True)
            shutil.move(member.path, paths.build / "inputs" / name)
    config = came.get("project/build/config")
    if config is None or config.path.is_symlink() or config.content != offer.config:
        return False
    shutil.move(config.path, paths.build / "config")
    return True


def receipts(paths: Paths, offer: Offer, stages: Sequence[str]) -> None:
    """All else is on the disk: from now on it counts."""
    _sync(paths.state)
    _sync(paths.build)
    for stage in stages:
        write_json(paths.receipt(stage), offer.receipts[stage])
    _mark(paths).unlink(missing_ok=True)


def _sync(directory: Path) -> None:
    """Everything on the file system of a directory, by coreutils' sync: thousands of files are quicker so."""
    if directory.is_dir():
        shell.run(["sync", "-f", directory], timeout=1800)


def _total(path: Path, algorithm: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
