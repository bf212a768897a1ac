"""Whether makepkg has checked this very PKGBUILD before: its lint_pkgbuild() starts 400 programs, 2.5 CPU seconds.

makepkg checks each time that it starts, and once more when it starts itself again under fakeroot; a run of ours starts
it for prepare(), for build() and for the packages. What the check says depends on the text of the PKGBUILD, the files
beside it (install=, changelog=), CARCH and the rest of makepkg's configuration, and makepkg itself. So a check that
passed is remembered under all of these, and left out where none of them has changed; one that failed is never
remembered. Our configuration file does it, which makepkg sources: a makepkg whose function has another name checks.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.files import read_record, write_json

WORD = "KBUILD_TASKS_CHECKED"  # in makepkg's environment; the configuration file takes it out again
CONFIG = f"""\
if [[ ${{{WORD}-}} ]] || (( ${{INFAKEROOT:-0}} )); then
	lint_pkgbuild() {{ :; }}
fi
unset {WORD}
"""
LIBRARY = Path("/usr/share/makepkg")
PROGRAM = Path("/usr/bin/makepkg")


class Check:
    """The check of what lies in paths.startdir. script: what makepkg reads: PKGBUILD or a build script of ours."""

    def __init__(self, paths: Paths, script: str, arch: str) -> None:
        from kbuild_tasks.effects.pkgbuild import identity

        self._file = paths.build / "cache" / "checked.json"
        self._script = script
        files = read_record(paths.build / "cache" / "pkgbuild.json").get("files", ())
        self._key: dict[str, Any] = {**identity(paths.startdir / "PKGBUILD", arch, files), "makepkg": _makepkg()}

    def passed(self) -> bool:
        """Whether it was made before, with nothing changed since."""
        return bool(self._key["makepkg"]) and read_record(self._file).get(self._script) == self._key

    def remember(self) -> None:
        """makepkg came to its end, so it passed."""
        with contextlib.suppress(OSError):  # it is made again next time
            write_json(self._file, {**read_record(self._file), self._script: self._key}, durable=False)


def _makepkg() -> list[list[int]]:
    """The program and its checks, by size and time; empty where it lies elsewhere: nothing is remembered then."""
    try:
        with os.scandir(LIBRARY / "lint_pkgbuild") as entries:
            there = [PROGRAM, LIBRARY / "lint_pkgbuild.sh", *sorted(Path(entry) for entry in entries)]
        return [[status.st_size, status.st_mtime_ns] for status in map(os.stat, there)]
    except OSError:
        return []
