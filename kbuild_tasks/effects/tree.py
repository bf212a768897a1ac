"""Source trees as git tree objects (design.md §8): imported once, patched on an index, compared and read by id.

A tree id is the content: equal sources and equal series have equal ids on every machine, so a receipt can hold it
and "did anything change" is a comparison of two words. Patches are applied to an index alone: no file of any tree is
touched before the whole series fits. Moving a build tree from one id to another is in tree_move.py, taking in what
a prepare() changed in tree_snapshot.py.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from kbuild_tasks.core.errors import CommandFailed, ConfigError, KbuildError
from kbuild_tasks.effects.tree_git import Git, Output, apply_tells_damage, names
from kbuild_tasks.effects.tree_ignore import refuse_repositories
from kbuild_tasks.effects.tree_move import OLD_TIME, move
from kbuild_tasks.effects.tree_snapshot import Snapshot, snapshot
from kbuild_tasks.effects.tree_state import WorkTree

__all__ = ["OLD_TIME", "DoesNotApply", "Snapshot", "Trees"]

_GITLINK = b"160000"  # a commit of another repository: git add makes one of a directory that has a .git


class DoesNotApply(ConfigError):
    """One patch of several does not fit.

    position  its index in what apply() was given
    before    tree id with all patches before it applied
    said      what git-apply said, line by line
    reverses  it can be taken out again there: it is applied already
    """

    def __init__(self, name: str, position: int, before: str, said: Sequence[str], reverses: bool) -> None:
        super().__init__(f"{name} does not apply", evidence=said)
        self.name = name
        self.position = position
        self.before = before
        self.said = tuple(said)
        self.reverses = reverses


class Trees:
    """The trees of one repository. Nothing is made on disk before the first import."""

    def __init__(self, repository: Path) -> None:
        self.repository = repository
        self._git = Git(repository)

    def import_directory(self, path: Path) -> str:
        """All files below `path`, also those that its .gitignore names -> tree id. Durable when it returns.

        `path` may be moved afterwards with move(): what it holds is remembered. Times in the future (a coordinator
        without a clock of its own) are set to OLD_TIME: make would take such files for changed at every run.
        """
        self._git.create()
        work = WorkTree.of(self._git, path)
        with work.locked():
            _no_future(path)
            try:
                work.git("add", "--all", "--force", ".")
            except KbuildError:
                work.index.unlink(missing_ok=True)  # whatever is wrong with it: it can be made anew
                work.git("add", "--all", "--force", ".")
            staged = work.git("ls-files", "--stage", "-z").out
            links = [entry.partition(b"\t")[2] for entry in staged.split(b"\0") if entry.startswith(_GITLINK)]
            refuse_repositories(path, [os.fsdecode(link) for link in links])
            tree = work.git("write-tree").out.decode().strip()
            self._git.sync()
            work.came_to(tree)
        return tree

    def has(self, tree: str) -> bool:
        """Whether the tree object is there (not whether all below it is whole)."""
        if not (self.repository / "HEAD").exists():
            return False
        return self._git("cat-file", "-e", f"{tree}^{{tree}}", ok=(0, 1, 128)).code == 0

    def take_in(self, pack: IO[bytes]) -> bool:
        """The objects of a pack, see Git.unpack; durable when it returns. False: it was not whole."""
        self._git.create()
        whole = self._git.unpack(pack)
        self._git.sync()
        return whole

    def whole(self, trees: Sequence[str]) -> bool:
        """Whether all of these trees is there, to the last file. Reads no content: an object's name was made of it."""
        if not all(self.has(tree) for tree in trees):
            return False
        return self._git("rev-list", "--objects", "--quiet", *trees, ok=(0, 1, 128)).code == 0

    def apply(self, base: str, patches: Sequence[tuple[str, bytes]]) -> str:
        """The tree `base` with all patches (name for messages, text for git-apply -p1) applied in order -> tree id.

        A hunk may lie elsewhere than it says (an offset), but all of its context must fit: no fuzz.
        Raises DoesNotApply for the first that does not fit; KbuildError when `base` is unknown or damaged.
        """
        if not self.has(base):
            raise self._git.damaged([f"there is no tree {base}"])
        if not patches:
            return base
        scratch = self._git.scratch("apply")
        try:
            git = Git(self.repository, index=scratch / "index", durable=True)
            files = []
            for number, (_, text) in enumerate(patches):
                files.append(scratch / f"{number:05d}.patch")
                files[-1].write_bytes(text)
            git("read-tree", base)
            if _apply(git, files).code != 0:
                self._find_failing(git, base, files, [name for name, _ in patches])
            tree = git("write-tree").out.decode().strip()
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return tree

    def _find_failing(self, git: Git, base: str, files: Sequence[Path], titles: Sequence[str]) -> None:
        git("read-tree", base)
        for position, file in enumerate(files):
            done = _apply(git, [file])
            if done.code != 0:
                before = git("write-tree").out.decode().strip()
                reverses = _apply(git, [file], "--reverse", "--check").code == 0
                said = [line.removeprefix("error: ") for line in done.err.splitlines() if line.strip()]
                raise DoesNotApply(titles[position], position, before, said, reverses)

    def changed(self, old: str, new: str) -> list[tuple[str, str]]:
        """What differs: (status, path), status A added, D deleted, M content or mode, T another type of file."""
        words = names(self._git("diff-tree", "-r", "-z", "--no-renames", "--name-status", old, new).out)
        return list(zip(words[::2], words[1::2], strict=True))

    def read(self, tree: str, path: str) -> bytes | None:
        """Content of a file in a tree (of a symbolic link: where it points); None where there is none."""
        entry = self._git("ls-tree", "-z", tree, "--", path).out.rstrip(b"\0")
        kind = entry.split(b" ")[1:2]
        if not entry or kind != [b"blob"]:
            return None
        return self._git("cat-file", "blob", entry.partition(b"\t")[0].split(b" ")[2].decode()).out

    def files(self, tree: str) -> list[str]:
        """All paths of a tree, in git's order."""
        return names(self._git("ls-tree", "-r", "-z", "--name-only", "--full-tree", tree).out)

    def move(self, worktree: Path, target: str, clean: bool = False, left: Sequence[str] = ()) -> list[str]:
        """Bring the tree at `worktree` to `target`, see tree_move.move. Returns the paths that were written."""
        if not self.has(target):
            raise self._git.damaged([f"there is no tree {target}"])
        return move(self._git, worktree, target, clean, left)

    def snapshot(self, worktree: Path, base: str, exclude: Sequence[str] = ()) -> Snapshot:
        """What lies at `worktree`, without what kbuild made there, see tree_snapshot.snapshot."""
        return snapshot(self._git, worktree, base, exclude)


def _apply(git: Git, files: Sequence[Path], *options: str) -> Output:
    """git-apply on the index; 1 and 128 are its answers to a patch, everything else of it is raised."""
    done = git("apply", "--cached", "-p1", *options, "--", *files, ok=(0, 1, 128))
    if apply_tells_damage(done):
        raise git.damaged(done.err.splitlines())
    if done.code == 128 and "error: " not in done.err:
        raise CommandFailed("git apply failed", evidence=done.err.splitlines(), code=done.code)
    return done


def _no_future(top: Path) -> None:
    limit = time.time() + 1
    for directory, _, files in os.walk(top):
        for name in files:
            path = os.path.join(directory, name)
            info = os.lstat(path)
            if info.st_mtime > limit and not stat.S_ISDIR(info.st_mode):
                os.utime(path, (OLD_TIME, OLD_TIME), follow_symlinks=False)
