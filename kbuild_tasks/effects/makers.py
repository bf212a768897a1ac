"""Who made each object that lies in a tree: what has to go when a node turns out to return wrong ones.

    <state>/makers.json    {place: {object: [node, address, mtime_ns]}}, written at the end of each compilation

On disk, as objects come back from the kept copies (effects/keep.py), with the times that they had. An entry counts for
the object that was written at that very time and for no other, so what a killed build, an older version of ours or
another coordinator has left has no maker. Nothing but a quarantine reads it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from kbuild_tasks.core.model import Node
from kbuild_tasks.core.spans import CACHED
from kbuild_tasks.core.trust import CACHE, Maker, is_doubted, is_kernel_c
from kbuild_tasks.effects import keep, places
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.files import read_record, write_json


def save(paths: Paths, place: str, made: Mapping[str, tuple[str, str]], nodes: Mapping[str, Node]) -> None:
    """Add what a compilation has made at `place`: object -> (node, kind of core/spans.py). Raises OSError."""
    if not made:
        return
    told = {
        name: makers
        for name, makers in read_record(paths.makers).items()
        if isinstance(makers, dict) and (name == place or (paths.builddir / name).is_dir() or keep.is_kept(paths, name))
    }
    ours = told.setdefault(place, {})
    for name, (node, kind) in made.items():
        try:
            mtime = (paths.builddir / place / name).stat().st_mtime_ns
        except OSError:
            ours.pop(name, None)  # a failed recipe's, which make has removed
            continue
        address = nodes[node].address if node in nodes else ""
        ours[name] = [CACHE, "", mtime] if kind == CACHED else [node, address, mtime]
    write_json(paths.makers, told, durable=False)


def drop(paths: Paths, node: str, address: str) -> list[str]:
    """Remove each object that this node has made, or that nobody is known to have made, from every tree in the workdir
    and from the kept copies, so that kbuild makes it anew; returns their names, sorted. Raises OSError."""
    dropped: set[str] = set()
    told = read_record(paths.makers)
    kept = read_record(paths.kept / "kept.json").get("place")
    for place in {*told, *places.trees(paths)} | ({kept} if isinstance(kept, str) else set()):
        makers = _makers(told.get(place))
        tops = [paths.builddir / place] + ([paths.kept / "files"] if place == kept else [])
        found = {name for top in tops for name in _drop(top, makers, node, address)}
        if found:
            places.begin_build(paths, place)
        dropped |= found
    return sorted(dropped)


def count(top: Path) -> int:
    """Objects of kernel C in a tree. Raises OSError."""
    return sum(_is_kernel_c(Path(top, name).parent / f".{os.path.basename(name)}.cmd") for name in _objects(top))


def _drop(top: Path, makers: Mapping[str, Maker], node: str, address: str) -> Iterator[str]:
    for name in {*makers, *_objects(top)}:
        path = top / name
        record = path.with_name(f".{path.name}.cmd")
        try:
            mtime = path.lstat().st_mtime_ns
        except OSError:
            continue
        if name not in makers and not _is_kernel_c(record):
            continue
        if is_doubted(makers.get(name), mtime, node, address):
            path.unlink()
            record.unlink(missing_ok=True)
            yield name


def _objects(top: Path) -> Iterator[str]:
    for directory, _, names in os.walk(top):
        for name in names:
            if name.endswith(".o"):
                yield os.path.relpath(os.path.join(directory, name), top)


def _is_kernel_c(record: Path) -> bool:
    with contextlib.suppress(OSError):
        return is_kernel_c(record.read_text("utf-8", "replace"))
    return False  # kbuild makes anew what has no record


def _makers(value: object) -> dict[str, Maker]:
    """Entries of one place; one that is damaged is none."""
    entries = value.items() if isinstance(value, dict) else ()
    return {
        name: Maker(*entry)
        for name, entry in entries
        if isinstance(entry, list) and [type(part) for part in entry] == [str, str, int]
    }
