"""`doit clean`: what a stage made goes, and its receipt with it. Downloads stay: they are verified when used."""

from __future__ import annotations

import shutil
from pathlib import Path

from kbuild_tasks.effects.context import Paths


def made_by(paths: Paths, task: str) -> list[Path]:
    """Files and directories of ours that `doit clean` removes for a task; never one of the user's."""
    made = {
        "extract": [paths.repository, paths.startdir],
        "patch": [paths.builddir],
        "configure": [paths.build / "config"],
        "package": sorted(paths.artifacts.iterdir()) if paths.artifacts.is_dir() else [],
    }
    return [paths.receipt(task), *made.get(task, [])]


def clean(paths: Paths, task: str, dryrun: bool) -> None:
    """Raises OSError where something cannot be removed."""
    for path in made_by(paths, task):
        if not path.exists() and not path.is_symlink():
            continue
        print(f"{task} - {'would remove' if dryrun else 'removing'} {path}")
        if dryrun:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
