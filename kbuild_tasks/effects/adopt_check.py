"""What came from another coordinator, looked at where it came to, before anything here gives way to it.

What kbuild made is a build that has ended if kernel, modules and .config have the sums that the receipt tells. A copy
that has lost files can still be gone on with: make makes those anew.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kbuild_tasks.core.adoption import Offer
from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.effects import built, places
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.unpack import Member


@dataclass
class Found:
    """What was taken, for the line that tells of it, and what was not, a line each."""

    sources: list[str] = field(default_factory=list)
    packages: list[str] = field(default_factory=list)
    objects: int = 0
    not_taken: list[str] = field(default_factory=list)


def objects(
    paths: Paths, offer: Offer, files: Path, came: Mapping[str, Member], sources: Iterable[str], found: Found
) -> dict[str, Any] | None:
    """The kept.json of what came to `files`, told as a build that has ended if it is the receipt's; None: it cannot be
    gone on with. sources: all paths of the patched tree."""
    listed = {name: member.entry for name, member in came.items()}
    lost = 0
    if offer.objects == "kept":  # a copy that was damaged there does not come back from here either
        known = offer.kept["files"]
        listed = {name: entry for name, entry in listed.items() if entry[2:] == known[name][2:]}
        lost = len(known) - len(listed)
        directories = list(offer.kept.get("directories", ()))
    else:
        directories = [d[len(str(files)) + 1 :] for d, below, names in os.walk(files) if not below and not names]
    if bad := clash(listed, directories, sources):
        found.not_taken.append(f"what kbuild made: {bad} of it is in the place of a source")
        return None
    ahead = max((member.mtime for member in came.values()), default=0) - time.time_ns()
    if ahead > 0:
        seconds = -(-ahead // 10**9)
        found.not_taken.append(
            f"what kbuild made: the clock there was ahead by {seconds} s, and make would not see an edit"
        )
        return None
    tree, results = offer.trees[-1], offer.receipts["compile"]["results"]
    if lost:
        which = f"{lost} file{'' if lost == 1 else 's'} of the last build"
        found.not_taken.append(f"{which}, not whole there: make makes anew what it needs")
    elif _results(offer, files) != dict(results):
        found.not_taken.append("what kbuild made: its kernel is not the one that the receipt tells of")
        return None
    record = None if lost else places.built(paths, tree, results)
    return {"place": offer.place, "tree": tree, "built": record, "files": listed, "directories": sorted(directories)}


def _results(offer: Offer, files: Path) -> dict[str, Any] | None:
    """As compile's receipt has them; None where `files` has no kernel, or one that is none."""
    with contextlib.suppress(OSError, KbuildError, ValueError, OverflowError, struct.error):
        return {"tree": offer.place, **built.results(files)}
    return None


def packages(offer: Offer, came: Mapping[str, Member], found: Found) -> dict[str, Member]:
    """Packages and signatures by name, or {}: they are not all there, or not what the receipt tells."""
    if not offer.manifest:
        return {}
    here = {}
    for name in (*offer.packages, *offer.signatures):
        member, total = came.get(f"project/artifacts/{name}"), offer.packages.get(name)
        if member is None or member.path.is_symlink() or (total and member.content != total):
            found.not_taken.append(f"{name}: it is not there, or not what the receipt tells")
            return {}
        here[name] = member
    return here


def clash(files: Iterable[str], directories: Iterable[str], sources: Iterable[str]) -> str:
    """The first that cannot lie in a tree of `sources` beside them: it is one, or below one, or has some below it."""
    known = frozenset(sources)
    above = {parent for name in known for parent in _above(name)}
    for name in files:
        if name in above or not known.isdisjoint((name, *_above(name))):
            return name
    return next((name for name in directories if not known.isdisjoint((name, *_above(name)))), "")


def _above(name: str) -> Iterator[str]:
    while name := name.rpartition("/")[0]:
        yield name
