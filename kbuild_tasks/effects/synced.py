"""What sync left on this machine: verified sets, and by their ORIGIN whose they are.

A set's name is the sha256 of the listing of its files (core/fileset.py), so it is whole or it is not.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from kbuild_tasks.core import fileset
from kbuild_tasks.core import origin as origins
from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.core.model import STATE_DIR
from kbuild_tasks.core.origin import Origin
from kbuild_tasks.effects.files import sha256_file, write_atomic

SETS = Path(STATE_DIR) / "sync"
DODO = '''\
"""One patched kernel for the whole cluster."""

from pathlib import Path

from kbuild_tasks import Pipeline

pipeline = Pipeline(Path(__file__).with_name("cluster.yaml"))
DOIT_CONFIG = pipeline.doit_config()


def task_kernel():
    yield from pipeline.tasks()
'''


def other(root: Path, coordinator: str, sets: Path = SETS) -> Origin | None:
    """The last coordinator but `coordinator` that the project in `root`, or else this machine, was synced by."""
    for place in (root, *_sets(sets)):
        with contextlib.suppress(OSError):
            origin = origins.read_origin((place / origins.ORIGIN).read_bytes())
            if origin and origin.coordinator != coordinator:
                return origin
    return None


def make_project(directory: Path, wanted: str | None = None, sets: Path = SETS) -> tuple[str, int, Origin | None]:
    """A project in `directory` of the set `wanted` (a name; None: the current one) -> (the set's name, number of its
    files, whose it is).

    Whole or not at all. Raises KbuildError: no set, one that is not whole, a directory that is not empty; OSError.
    """
    found = _sets(sets)
    if not found:
        raise KbuildError(
            f"sync has left nothing on this machine: {sets}/current is not there", "see docs/coordinator.md"
        )
    source = sets / wanted if wanted else found[0]
    if source not in found:
        raise KbuildError(f"there is no set {wanted}", f"ls {sets}")
    _check(source, [other for other in found if other != source])
    if directory.is_symlink() or (directory.exists() and not directory.is_dir()):
        raise KbuildError(f"{directory} is not a directory", "name another one")
    if directory.is_dir() and any(directory.iterdir()):
        raise KbuildError(f"{directory} is not empty", "name a directory that is new: nothing is written over")
    directory.parent.mkdir(parents=True, exist_ok=True)
    scratch = directory.with_name(f".{directory.name}.{os.getpid()}.new")
    try:
        shutil.copytree(source, scratch, symlinks=True, copy_function=shutil.copy)
        if not (scratch / "dodo.py").exists():
            write_atomic(scratch / "dodo.py", DODO)
        scratch.chmod(0o755)
        os.replace(scratch, directory)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    with contextlib.suppress(OSError):
        return source.name, len(_sums(source)), origins.read_origin((source / origins.ORIGIN).read_bytes())
    return source.name, len(_sums(source)), None


def _sets(sets: Path) -> list[Path]:
    """The current set first."""
    try:
        current = os.readlink(sets / "current")
        names = sorted(entry.name for entry in os.scandir(sets) if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []
    ours = [name for name in names if len(name) == 64 and not name.startswith(".")]
    return [sets / name for name in sorted(ours, key=lambda name: name != current)]


def _check(source: Path, others: list[Path]) -> None:
    try:
        whole = fileset.identity(_sums(source)) == source.name
    except OSError as error:
        raise KbuildError(f"{error.filename} cannot be read: {error.strerror}", f"ls -lR {source}") from None
    if whole:
        return
    sound = [path.name for path in others if fileset.identity(_sums(path)) == path.name]
    raise KbuildError(
        f"the set {source.name} is not what its name says: a file of it was changed, or is not there",
        f"the one before it is whole: doit recover --set={sound[0]} DIRECTORY" if sound else "take your own repository",
    )


def _sums(top: Path) -> dict[str, str]:
    return {str(path.relative_to(top)): sha256_file(path) or "" for path in _files(top)}


def _files(top: Path) -> Iterator[Path]:
    """Regular files, as sync_list.sh finds them."""
    for directory, _, names in os.walk(top, onerror=_raise):
        for name in names:
            path = Path(directory, name)
            if path.is_file() and not path.is_symlink():
                yield path


def _raise(error: OSError) -> None:
    raise error
