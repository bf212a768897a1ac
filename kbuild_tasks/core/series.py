"""Which patches make the series, and in which order.

With a series file quilt(1) rules: one patch a line, in order; blank lines, whole-line comments and comments after
white space are skipped; an option after the name is a strip level. Ours is always 1, so -p1 may stand there and
nothing else may: a patch that needs another level is better fixed than applied to what it happens to hit.
Without one, *.patch and *.diff, also compressed, in name order, compared byte by byte as in the C locale: the order
must not depend on who runs doit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from kbuild_tasks.core.errors import ConfigError

SUFFIXES = (".patch", ".diff")
PACKED = tuple(s + p for s in SUFFIXES for p in (".gz", ".bz2", ".xz", ".zst", ".lzma"))  # effects/packed.py
_COMMENT = r"(^|[ \t])#.*"
_UNPRINTABLE = r"[\x00-\x1f\x7f\ud800-\udfff]"


def order_series(names: Iterable[str], series_text: str | None, where: str = "patches/series") -> tuple[str, ...]:
    """The patches to apply, in order, relative to the directory of patches.

    names        what lies in that directory (a patch in a sub-directory may be given by its path, or by the first
                 part of it)
    series_text  text of the series file; None: there is none
    where        the series file as messages name it
    Raises ConfigError with the line: a patch that is not there, is listed twice, leaves the directory, or asks for
    another strip level.
    """
    there = sorted(names, key=_c_locale)
    if series_text is None:
        chosen = tuple(n for n in there if n.endswith(SUFFIXES + PACKED) and not _is_hidden(n))
        for name in chosen:
            if _unprintable(name):
                raise ConfigError(
                    f"patch {name!a}: this file name cannot be shown or recorded", "rename it, in plain letters"
                )
        return chosen
    first_line: dict[str, int] = {}
    for number, name in _entries(series_text, where):
        _check(name, there, f"{where}:{number}")
        if name in first_line:
            raise ConfigError(
                f"{where}:{number}: {name} is listed twice; line {first_line[name]} has it too", "take one line out"
            )
        first_line[name] = number
    return tuple(first_line)


def unlisted(names: Iterable[str], series: Sequence[str], where: str = "patches/series") -> tuple[str, ...]:
    """Warnings: patches that lie there and are not applied. `series` is what order_series returned."""
    listed = set(series)
    warnings = []
    for name in sorted(names, key=_c_locale):
        if _is_hidden(name) or name in listed:
            continue
        if name.endswith(SUFFIXES + PACKED):
            warnings.append(f"{name} is not applied: {where} does not list it")
    return tuple(warnings)


def _entries(text: str, where: str) -> Iterable[tuple[int, str]]:
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        words = (re.sub(_COMMENT, "", raw) if "#" in raw else raw).split()
        if not words:
            continue
        name, *options = words
        if options not in ([], ["-p1"], ["-p", "1"]):
            raise ConfigError(
                f"{where}:{number}: {name} has the option {' '.join(options)}; only -p1 is known",
                "make the patch again with one directory before each path (git diff does) and leave the option out",
            )
        yield number, name


def _check(name: str, there: Sequence[str], where: str) -> None:
    parts = name.split("/")
    if name.startswith("/") or ".." in parts:
        raise ConfigError(f"{where}: {name} leaves the directory of patches", "copy the patch into it")
    if _unprintable(name):
        raise ConfigError(
            f"{where}: {name!a}: this file name cannot be shown or recorded", "rename it, in plain letters"
        )
    if name not in there and not (len(parts) > 1 and parts[0] in there):
        import difflib

        near = difflib.get_close_matches(name, [n for n in there if n.endswith(SUFFIXES + PACKED)] or there, 1, 0.5)
        raise ConfigError(
            f"{where}: there is no patch {name}" + (f", did you mean {near[0]}?" if near else ""),
            f"correct line {where.rpartition(':')[2]} of {where.rpartition(':')[0]}",
        )


def _unprintable(name: str) -> bool:
    return not name.isprintable() and re.search(_UNPRINTABLE, name) is not None


def _is_hidden(name: str) -> bool:
    """Hidden files and what editors leave: .x.patch.swp, #x.patch#, x.patch~."""
    last = name.rpartition("/")[2]
    return last.startswith((".", "#")) or last.endswith(("~", "#"))


def _c_locale(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
