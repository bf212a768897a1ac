"""Moving a build tree from whatever state it is in to a tree id, so that make compiles what differs and no more.

make compares times. So a file whose content is right keeps its time, and a file whose content changes gets the time
of now, by being written; files of dropped patches go, with their directories; what kbuild made stays.

One way for every start, known or not, whole or half moved by a run that was killed:
  1. the target is added to our record of trees that may have left files here (on disk before anything is touched);
  2. our index takes the target's entries, keeping what it knows of files that are the same in both;
  3. git compares: by time and inode where the index knows a file, by content where it does not or where they differ.
     A file that somebody edited or touched, one cut short by a kill, one already moved: all are seen for what they are;
  4. files of recorded trees that the target does not have are removed;
  5. what differs is written (of a mode alone, only the mode, without a new time); git looks again; only then the
     record says: here lies the target, nothing else.
A kill at any point leaves a record that makes the next move look at everything that could be wrong.

A tree that is made from nothing (first run, or a tmpfs lost with a reboot) gets one fixed old time for all its files:
older than any object that is ever compiled from it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.effects.tree_git import DamagedIndex, Git, as_input, names
from kbuild_tasks.effects.tree_ignore import generated, is_real_directory, untracked
from kbuild_tasks.effects.tree_index import set_times
from kbuild_tasks.effects.tree_state import FRESH, UNKNOWN, State, WorkTree

_PLAIN, _EXECUTABLE = "100644", "100755"  # modes of a file, in git's words
OLD_TIME = 1_000_000_000  # 2001-09-09: after 1980, which zip and FAT need, and before any kernel built here
# Written at the end of a build: none of them may be newer than now, or changed sources would look older than objects.
PRODUCTS = (".config", "vmlinux", "vmlinux.o", "modules.order", "Module.symvers", "include/config/auto.conf")


def move(git: Git, worktree: Path, target: str, clean: bool = False, left: Sequence[str] = ()) -> list[str]:
    """Bring `worktree` to `target` exactly, but for files that no source tree has. Returns the paths written.

    clean  those go too
    left   trees that lie there by what is told beside it: our record is of the path, and a tmpfs may have been mounted
           over the tree, or taken from it, since
    Only files whose content or mode differs are written. Raises KbuildError: a damaged repository, a full disk, a
    clock that is behind what was built, something in the way, a file system that cannot hold the tree.
    """
    work = WorkTree.of(git, worktree)
    with work.locked():
        try:
            return _move(work, target, clean, left)
        except DamagedIndex:
            work.index.unlink(missing_ok=True)
            return _move(work, target, clean, left)


def _move(work: WorkTree, target: str, clean: bool, left: Sequence[str]) -> list[str]:
    state = _start(work, left)
    git = work.git
    work.going_to(target, state)
    if work.index.exists():
        git("read-tree", "-m", "-i", target)
    else:
        git("read-tree", target)
    differing = _differing(git)
    _remove(work.path, _leftovers(work, state, target), git, target)
    if written := _without_modes(work, differing):
        git("checkout-index", "-f", "-u", "-q", "-z", "--stdin", stdin=as_input(written))
    if state.mode == FRESH and not set_times(work.index, work.path, OLD_TIME):
        raise DamagedIndex(f"the index {work.index} is of a kind that git was not asked for")
    if clean:
        git("clean", "-ffdxq")
    still = list(_differing(git)) if differing else []
    if still:
        raise KbuildError(
            f"{work.path} does not hold what was written to it: {still[0]}"
            + (f" and {len(still) - 1} more" if len(still) > 1 else ""),
            "the file system must tell upper from lower case and keep modes; and nobody else may write there",
            evidence=still[:10],
        )
    work.came_to(target)
    return list(differing)


def _start(work: WorkTree, left: Sequence[str]) -> State:
    """What lies there now."""
    top = work.path
    if top.is_symlink() or (top.exists() and not top.is_dir()):
        raise KbuildError(f"{top} is in the way of the build tree: it is not a directory", f"rm {top}")
    top.mkdir(parents=True, exist_ok=True)
    with os.scandir(top) as entries:
        empty = next(entries, None) is None
    if empty:
        return State(FRESH)
    _check_clock(top)
    state = work.state()
    state = State(state.mode, tuple(dict.fromkeys((*state.seen, *left))))
    if any(not _has(work.git, tree) for tree in state.seen):
        return State(UNKNOWN, tuple(tree for tree in state.seen if _has(work.git, tree)))
    return state


def _has(git: Git, tree: str) -> bool:
    return git("cat-file", "-e", f"{tree}^{{tree}}", ok=(0, 1, 128)).code == 0


def _check_clock(top: Path) -> None:
    now = time.time()
    for name in PRODUCTS:
        with contextlib.suppress(OSError):
            ahead = os.lstat(top / name).st_mtime - now
            if ahead > 1:
                raise KbuildError(
                    f"the clock of this machine is {ahead:.0f} s behind {top / name}: "
                    "make would take a changed source for older than its object",
                    "set the clock (timedatectl set-ntp true), then doit",
                )


def _differing(git: Git) -> dict[str, list[str]]:
    """Paths of the index whose file is missing, has other content, another mode or type; what git tells of each:
    mode wanted, mode found, object wanted (git-diff-files(1), RAW OUTPUT FORMAT)."""
    git("update-index", "-q", "--refresh", ok=(0, 1))
    done = git("diff-files", "-z", "--raw")
    unseen = [line for line in done.err.splitlines() if line and not line.startswith("warning: ")]
    if unseen:  # git leaves such a file out of what it prints, and ends with 0
        raise KbuildError(f"{git.worktree} cannot hold {len(unseen)} of the tree's files", evidence=unseen)
    raw = names(done.out)
    return {path: told[1:].split(" ")[:3] for told, path in zip(raw[::2], raw[1::2], strict=True)}


def _without_modes(work: WorkTree, differing: Mapping[str, Sequence[str]]) -> list[str]:
    """Those of `differing` that must be written. A file that differs in its mode alone gets the mode and keeps its
    time: kbuild compiles nothing for chmod."""
    modes: dict[str, tuple[str, bool]] = {}
    for path, (wanted, found, blob) in differing.items():
        if {wanted, found} == {_PLAIN, _EXECUTABLE} and "\n" not in path:
            modes[path] = (blob, wanted == _EXECUTABLE)
    if not modes:
        return list(differing)
    lines = b"".join(os.fsencode(path) + b"\n" for path in modes)
    here = work.git("hash-object", "--no-filters", "--stdin-paths", stdin=lines).out.decode().split()
    done = set()
    for (path, (blob, executable)), found in zip(modes.items(), here, strict=True):
        if found == blob:
            mode = (work.path / path).stat().st_mode & 0o7777
            (work.path / path).chmod(mode | (mode & 0o444) >> 2 if executable else mode & ~0o111)
            done.add(path)
    return [path for path in differing if path not in done]


def _leftovers(work: WorkTree, state: State, target: str) -> list[str]:
    """Files that lie there, or may, and that the target does not have."""
    left: set[str] = set()
    for tree in state.seen:
        if tree != target:
            out = work.git("diff-tree", "-r", "-z", "--no-renames", "--name-only", "--diff-filter=D", tree, target).out
            left.update(names(out))
    if state.mode == UNKNOWN:
        others = untracked(work.git)
        left.update(set(others) - generated(work.git, target, others))
    return sorted(left)


def _remove(top: Path, paths: Sequence[str], git: Git, target: str) -> None:
    """Remove files, and the directories that the target does not have, with what was compiled in them. Of a directory
    that kbuild makes itself (a patch may have added a file in include/generated) the rest stays."""
    if not paths:
        return
    real: dict[str, bool] = {}
    for path in paths:
        if is_real_directory(top, os.path.dirname(path), real):
            try:
                (top / path).unlink()
            except (FileNotFoundError, IsADirectoryError):
                pass
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:  # then there never was such a file
                    raise
    wanted = set(names(git("ls-tree", "-r", "-d", "-z", "--name-only", "--full-tree", target).out))
    gone = [path for path in sorted(_parents(paths) - wanted) if is_real_directory(top, path, {})]
    inside = generated(git, target, [f"{path}/x" for path in gone])
    for directory in gone:
        if f"{directory}/x" not in inside and is_real_directory(top, directory, {}):
            shutil.rmtree(top / directory)
    for directory in reversed(gone):
        if f"{directory}/x" in inside:
            with contextlib.suppress(OSError):  # not empty, or gone with the one above it
                (top / directory).rmdir()


def _parents(paths: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for path in paths:
        parent = os.path.dirname(path)
        while parent and parent not in found:
            found.add(parent)
            parent = os.path.dirname(parent)
    return found
