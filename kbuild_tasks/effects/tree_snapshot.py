"""Taking in what the PKGBUILD's own prepare() did to a tree: files it changed, deleted or added, and not what kbuild
made meanwhile (.config, include/generated, host programs)."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kbuild_tasks.effects.tree_git import Git, as_input, names
from kbuild_tasks.effects.tree_ignore import generated, refuse_repositories, untracked
from kbuild_tasks.effects.tree_state import WorkTree


@dataclass(frozen=True)
class Snapshot:
    """The tree that was found, and the paths in which it differs from the one it was compared with."""

    tree: str
    paths: tuple[str, ...]


def snapshot(git: Git, worktree: Path, base: str, exclude: Sequence[str] = ()) -> Snapshot:
    """What lies at `worktree`, as a tree, beside `base`. The work tree is not touched, nor is our record of it.

    exclude  further lines as in a .gitignore at the top: what is not to be taken in
    Raises KbuildError for a git repository inside of the tree.
    """
    work = WorkTree.of(git, worktree)
    scratch = git.scratch("snapshot")
    try:
        with work.locked():
            index = scratch / "index"
            if work.index.exists():
                shutil.copy2(work.index, index)
            here = Git(git.repository, index=index, worktree=work.path, durable=True)
            if index.exists():
                here("read-tree", "-m", "-i", base)
            else:
                here("read-tree", base)
            here("update-index", "-q", "--refresh", ok=(0, 1))
            words = names(here("diff-files", "-z", "--name-status").out)
            status = dict(zip(words[1::2], words[::2], strict=True))
            deleted = {path for path, letter in status.items() if letter == "D"}
            others = untracked(here)
            refuse_repositories(work.path, [path for path in others if path.endswith("/")])
            made = generated(git, base, others, exclude)
            added = [path for path in others if path not in made]
            here("update-index", "--force-remove", "-z", "--stdin", stdin=as_input(deleted))
            taken = [path for path in status if path not in deleted] + added
            here("update-index", "--add", "--replace", "-z", "--stdin", stdin=as_input(taken))
            tree = here("write-tree").out.decode().strip()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Snapshot(tree, tuple(sorted([*status, *added])))
