"""What kconfig made of a merged configuration, remembered: an edit of a .c file makes no other .config and no other
kernel release, and asking costs two seconds (141 questions to the compiler).

Remembered under the merged text, the toolchain, the packages of this machine (Kconfig asks for pahole, rustc and
others) and the source. Of another source it counts where no file differs that kconfig can have read
(core/kconfig_reads.py), and the .config in the tree is still what it made.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from kbuild_tasks.core import kconfig_reads
from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.files import read_record, sha256_text, write_json
from kbuild_tasks.effects.tree import Trees

# Another time: something was installed.
PACKAGES = ("/var/lib/dpkg/status", "/var/lib/pacman/local", "/usr/local/bin", "/usr/local/sbin")


class Configured:
    """place, tree: where the source lies below builddir, and its id ("": nothing is known); key: what else decides."""

    def __init__(self, paths: Paths, place: str, tree: str, **key: Any) -> None:
        self._top, self._tree = paths.builddir / place, tree
        self._file = paths.state / "configured.json"
        self._trees = Trees(paths.repository)
        key["merged"] = sha256_text(key["merged"])
        self._key = {**key, "place": place, "packages": [_time(path) for path in PACKAGES]}

    def known(self) -> tuple[str, str] | None:
        """(.config, release) that kconfig would make; None where it has to be asked."""
        record = read_record(self._file)
        if record.get("key") != self._key or not isinstance(record.get("release"), str):
            return None
        try:
            text = (self._top / ".config").read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            return None
        if sha256_text(text) != record.get("config") or not self._same(record.get("tree")):
            return None
        return text, record["release"]

    def _same(self, before: object) -> bool:
        if not isinstance(before, str) or not before or not self._trees.has(before):
            return False
        try:
            changed = self._trees.changed(before, self._tree)
        except KbuildError:  # the former tree is not whole any more, which hurts nobody else
            return False
        return all(kconfig_reads.unread(path) for _, path in changed)

    def remember(self, text: str, release: str) -> None:
        """What the tree has now. Forgotten where a command of its Kconfigs may read more than scripts."""
        try:
            listed = kconfig_reads.listed((self._top / "include/config/auto.conf.cmd").read_text("utf-8"))
            words = kconfig_reads.named((self._top / name).read_text("utf-8", "replace") for name in listed)
        except OSError:
            listed, words = [], set()
        if not self._tree or not listed or any(os.path.lexists(self._top / word) for word in words):
            self._file.unlink(missing_ok=True)
            return
        record = {"key": self._key, "tree": self._tree, "config": sha256_text(text), "release": release}
        with contextlib.suppress(OSError):  # it is asked again next time
            write_json(self._file, record, durable=False)


def _time(path: str) -> int:
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return 0
