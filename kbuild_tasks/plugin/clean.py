"""`doit clean`: what a stage made goes, and its receipt with it. Downloads stay: they are verified when used."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kbuild_tasks.core.manifest import named
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.files import read_json


def made_by(paths: Paths, task: str) -> list[Path]:
    """Files and directories of ours that `doit clean` removes for a task; never one of the user's."""
    made = {
        "extract": [paths.repository, paths.startdir, paths.state / "pristine"],
        "patch": [paths.builddir, paths.kept, paths.state / "prepare"],
        "configure": [paths.build / "config"],
        "package": _published(paths.artifacts),
    }
    return [paths.receipt(task), *made.get(task, [])]


def _published(artifacts: Path) -> list[Path]:
    """What stage package left there: what the manifest names, and the manifest itself, last, for a clean that was
    interrupted to be repeated. The directory is the user's as well."""
    manifest = artifacts / "manifest.json"
    files = [artifacts / name for name in named(read_json(manifest))]
    return [*(path for path in files if path.is_symlink() or not path.is_dir()), manifest]


def clean(paths: Paths, task: str, dryrun: bool) -> None:
    """Raises OSError where something cannot be removed."""
    for path in made_by(paths, task):
        if not path.exists() and not path.is_symlink():
            continue
        print(f"{task} - {'would remove' if dryrun else 'removing'} {path}")
        if dryrun:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, onerror=_open_up)
        else:
            path.unlink()


def _open_up(remove: Callable[[str], Any], path: str, error: Any) -> None:
    """makepkg leaves $pkgdir without the right to read when it is interrupted (mode 0111). Raises OSError."""
    directory = path if os.path.isdir(path) else os.path.dirname(path)
    if os.stat(directory).st_mode & 0o700 == 0o700:
        raise error[1]
    os.chmod(directory, 0o700)
    if os.path.isdir(path):
        shutil.rmtree(path, onerror=_open_up)
    else:
        remove(path)
