"""What kbuild made once and makes no more: a host program whose option is off again, a generated header of a patch that
was dropped. kbuild leaves such files where they are until `make clean`, and a headers package that copies scripts/ and
include/ would carry them: a clean build has none.

Which they are, make itself says: `make -np modules_prepare` runs nothing and prints every target that the preparing
part of a build has. Those of them that exist and are no source are remembered; of what was remembered, a file that is
no target any more is removed, with its record. A file that was never seen as a target is never touched, so what other
parts of a build make is safe, and so is everything if make cannot tell.

Asked again only after .config or a makefile changed (Linux 6.1: about two CPU seconds).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from kbuild_tasks.core.arch import KERNEL_ARCH
from kbuild_tasks.core.errors import CommandFailed
from kbuild_tasks.effects import makepkg, shell
from kbuild_tasks.effects.compiler import toolchain
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.files import read_record, sha256_file, write_json
from kbuild_tasks.effects.tree import Trees

DEADLINE = 300.0
# Where packages of headers and scripts/ take files from, and what lies there of other parts of a build stays unseen.
PLACES = re.compile(r"(?:scripts|tools|include/generated|arch/[^/]+/include/generated)/")
_TARGET = re.compile(r"^([A-Za-z0-9_.+,@~/-]+):(?!=)", re.MULTILINE)
_MAKEFILE = re.compile(r"(?:^|/)(?:Makefile|Kbuild|Kconfig)[^/]*$|^scripts/|^tools/|/include/.*/Kbuild$")


def drop_stale(paths: Paths, place: str, tree: str, arch: str) -> list[str]:
    """Remove from <builddir>/<place>, built of the source `tree`, what is made no more; returns the names, sorted.

    arch  x86_64 | aarch64 | armv7h
    """
    top = paths.builddir / place
    record = paths.state / "prepared.json"
    known = read_record(record)
    trees = Trees(paths.repository)
    config = sha256_file(top / ".config")
    if (
        known.get("place") == place
        and known.get("config") == config
        and _same_makefiles(trees, known.get("tree"), tree)
    ):
        return []
    try:
        targets = _targets(top, arch, toolchain(arch, paths).environment)
    except CommandFailed:
        return []
    sources = frozenset(trees.files(tree))
    before = known.get("made") if known.get("place") == place else None
    stale = sorted(
        name
        for name in (before if isinstance(before, list) else [])
        if isinstance(name, str) and PLACES.match(name) and name not in targets and name not in sources
    )
    removed = [name for name in stale if _remove(top, name)]
    made = sorted(name for name in targets if PLACES.match(name) and name not in sources and (top / name).is_file())
    made = [name for name in made if not name.endswith(".cmd")]  # each goes with its target
    write_json(record, {"place": place, "tree": tree, "config": config, "made": made}, durable=False)
    return removed


def _same_makefiles(trees: Trees, old: object, new: str) -> bool:
    if old == new:
        return True
    if not isinstance(old, str) or not trees.has(old):
        return False
    return not any(_MAKEFILE.search(path) for _, path in trees.changed(old, new))


def _targets(top: Path, arch: str, env: Mapping[str, str]) -> frozenset[str]:
    """Every file that `make modules_prepare` would look at, relative to the tree."""
    argv = ["make", "-s", "-n", "-p", f"ARCH={KERNEL_ARCH[arch]}", "modules_prepare"]
    out = shell.run(argv, cwd=top, env=makepkg.environment(env), timeout=DEADLINE).out
    return frozenset(_relative(top, _TARGET.findall(out)))


def _relative(top: Path, names: Iterable[str]) -> Iterable[str]:
    start = f"{os.path.realpath(top)}/"
    for name in names:
        yield os.path.normpath(name.removeprefix(start))


def _remove(top: Path, name: str) -> bool:
    path = top / name
    gone = False
    for file in (path, path.with_name(f".{path.name}.cmd")):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            file.unlink()
            gone = True
    return gone
