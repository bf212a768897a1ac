"""Why one patch of a series does not apply, as the terminal tells it: where, what was expected, and what to do.

The cases in which the first differing line is not the answer are told apart first: the patch is in already, the file
is not there (dropped or renamed by an earlier patch, made by a later one, moved by upstream, wrong strip level).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from kbuild_tasks.core.errors import ConfigError
from kbuild_tasks.core.patchfile import FilePatch, Patch
from kbuild_tasks.core.patchfit import first_misfit

SHOWN_FILES = 4
_VERBS = {"rename": "renames", "copy": "copies"}


def refusal(
    series: Sequence[Patch],
    position: int,
    files: Sequence[FilePatch],
    read: Callable[[str], bytes | None],
    paths: Callable[[], Sequence[str]],
    said: Sequence[str],
    reverses: bool,
) -> ConfigError:
    """The error for the patch series[position].

    files     those of its files that were tried together and did not all fit
    read      content of a file of the tree before them; None: no such file
    paths     all paths of that tree
    said      git's own words, for what is not understood here
    reverses  the patch can be taken out of that tree
    """
    patch = series[position]
    name = os.path.basename(patch.name)
    message = f"{name} does not apply ({position + 1} of {len(series)})"
    if reverses:
        return ConfigError(
            f"{message}: it is in the source already",
            f"take {patch.name} out of the series; nothing was changed",
            evidence=_who_applied(series, position),
        )
    evidence: list[str] = []
    for file in files:
        told = _tell(series, position, file, read, paths)
        evidence += told if not evidence else told[:1]
        if len(evidence) >= SHOWN_FILES + 2:
            break
    return ConfigError(message, f"fix {patch.name} and run doit again; nothing was changed", evidence=evidence or said)


def _who_applied(series: Sequence[Patch], position: int) -> list[str]:
    patch = series[position]
    for earlier in series[:position]:
        if [f.text() for f in earlier.files] == [f.text() for f in patch.files]:
            return [f"{os.path.basename(earlier.name)} makes the same change"]
    return [f"{path}: the change is there" for path in patch.paths[:SHOWN_FILES]]


def _tell(
    series: Sequence[Patch],
    position: int,
    file: FilePatch,
    read: Callable[[str], bytes | None],
    paths: Callable[[], Sequence[str]],
) -> list[str]:
    """Nothing where this file fits."""
    if file.old is None or file.kind in ("rename", "copy"):
        new = file.new or ""
        if read(new) is not None and file.certain:
            verb = "makes" if file.old is None else f"{_VERBS.get(file.kind)} {file.old} to"
            maker = _last(series[:position], lambda f: f.new == new and f.kind in ("add", "rename", "copy"))
            return [
                f"{new}: the patch {verb} this file, and it is there already" + (f", from {maker}" if maker else "")
            ]
        if file.old is None:
            return []
    content = read(file.path)
    if content is None:
        return [_missing(series, position, file.path, paths)]
    if file.binary is not None:
        return [f"{file.path}: the binary file is not the one that the patch was made for"]
    misfit = first_misfit(content, file)
    if misfit is None:
        return []
    lines = [
        f"{file.path}:{misfit.start}: hunk {misfit.number} of {misfit.of}: context differs at line {misfit.line}",
        f"  expected: {misfit.expected}",
        f"  found:    {misfit.found}" if misfit.found is not None else "  found:    end of file",
    ]
    if misfit.note:
        lines.append(f"  {misfit.note}")
    editor = _last(series[:position], lambda f: file.path in f.paths)
    if editor:
        lines.append(f"  {editor} changes this file before it")
    return lines


def _missing(series: Sequence[Patch], position: int, path: str, paths: Callable[[], Sequence[str]]) -> str:
    start = f"{path}: there is no such file"
    gone = _last(series[:position], lambda f: f.old == path and f.kind in ("delete", "rename"), say=True)
    if gone:
        return f"{start}: {gone}"
    for number, later in enumerate(series[position + 1 :], start=position + 2):
        if any(f.new == path and f.kind in ("add", "rename", "copy") for f in later.files):
            return f"{start}: {os.path.basename(later.name)}, later in the series ({number}), makes it"
    there = paths()
    deeper = [p for p in there if p.endswith("/" + path)]
    if len(deeper) == 1:
        return f"{start}; {deeper[0]} is there: was the patch made without one directory before its paths (-p0)?"
    base = os.path.basename(path)
    alike = [p for p in there if os.path.basename(p) == base]
    if base not in ("Makefile", "Kconfig") and 0 < len(alike) <= 3:
        return f"{start}; a file of that name is {', '.join(alike)}: did it move?"
    return start


def _last(series: Sequence[Patch], does: Callable[[FilePatch], bool], say: bool = False) -> str:
    """The last patch of `series` with a file that `does`, with `say` in a sentence of what it did to it."""
    for patch in reversed(series):
        for file in patch.files:
            if does(file):
                name = os.path.basename(patch.name)
                to = f"renames it to {file.new}" if file.kind == "rename" else "deletes it"
                return f"{name}, earlier in the series, {to}" if say else name
    return ""
