"""What kbuild made, kept on disk while the build tree lies on a tmpfs: a reboot takes the tree, not the work in it.

    <state>/kept/files/...     copies of all files of the build tree that its source does not have
    <state>/kept/kept.json     {"place", "tree", "built" (effects/places.py), "files": {path: [mtime_ns, mode, size,
                               sha256 or where a link points]},
                               "directories": those that are empty: make made them, and packages carry them}

Written at the end of each build that make has ended well, and only what differs from what is there: of a tree with
1,300 objects some 250 MB the first time, then what an edit compiled and the kernel. Brought back where the build tree
is not there and a stage needs it: the source as it was then, all of one old time, and beside it each file with the
time that it had. So make sees the tree that it left, at the same path, and the next move gives new times to what was
edited since, and to nothing else.

Nothing is believed that is not whole. A file comes back only if it has the sum it had: one that a kill or a lost power
cut short, or that belongs to a build of which the list was never written, is left out, and make makes it anew. So the
copies need no sync. Bringing back is marked, and done over where the mark is found.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kbuild_tasks.effects import places
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.files import read_record, write_json
from kbuild_tasks.effects.tree import Trees

RESERVE = 1 << 30  # bytes of the disk that are left to others
_PIECE = 1 << 20
Entry = tuple[int, int, int]  # mtime in ns, mode, size


def on_tmpfs(path: Path) -> bool:
    """Whether a directory is lost with the next reboot."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():  # proc_pid_mountinfo(5)
        fields, _, rest = line.partition(" - ")
        if fields.split(" ")[2] == wanted:
            return rest.split(" ")[0] in ("tmpfs", "ramfs")
    return False


def save(paths: Paths, place: str, tree: str, limit: int, built: Mapping[str, Any] | None = None) -> str | None:
    """Keep what was built in <builddir>/<place> of the source `tree`; limit: bytes, 0: nothing is kept. built: what
    is told there of a build that has ended (effects/places.py).

    Returns why nothing is kept where that is no choice of the user's. What was kept before is removed then: it would
    come back with each loss, and cost more each time than it saves.
    """
    top = paths.builddir / place
    if not limit or not on_tmpfs(top):
        _forget(paths)
        return None
    try:
        return _save(paths, place, tree, limit, built)
    except OSError as error:
        with contextlib.suppress(OSError):
            _forget(paths)
        return f"what was built could not be kept ({error.strerror}): a lost tmpfs will cost a whole build"


def _save(paths: Paths, place: str, tree: str, limit: int, built: Mapping[str, Any] | None) -> str | None:
    top = paths.builddir / place
    directories: list[str] = []
    made = dict(_made(top, frozenset(Trees(paths.repository).files(tree)), directories))
    total = sum(size for _, _, size in made.values())
    known = _listed(paths)
    free = shutil.disk_usage(paths.state).free + sum(int(entry[2]) for entry in known.values())
    if total > limit or total > free - RESERVE:
        _forget(paths)
        size = f"{total / (1 << 30):.1f} GiB"
        if total > limit:
            return f"what was built takes {size}, more than build.keep: a lost tmpfs will cost a whole build"
        return f"what was built takes {size}, and {paths.state} has no room: a lost tmpfs will cost a whole build"
    listed = {}
    for name, entry in made.items():
        old, copy = known.get(name), paths.kept / "files" / name
        if old and tuple(old[:3]) == entry and _size(copy) == entry[2]:
            listed[name] = old
        else:
            listed[name] = [*entry, _copy(top / name, copy, entry[0])]
    for name, _ in _made(paths.kept / "files", frozenset(), []):
        if name not in made:
            (paths.kept / "files" / name).unlink()
    record = {"place": place, "tree": tree, "built": built, "files": listed, "directories": sorted(directories)}
    write_json(paths.kept / "kept.json", record, durable=False)
    return None


def restore(paths: Paths, place: str) -> str | None:
    """Bring back a build tree that is not there; one line of what was brought, None where nothing was to be done.

    Only where all of it came back is it told there that a build has ended: else make has to run before it is packaged.
    """
    top, mark = paths.builddir / place, places.mark(paths, place, "restoring")
    if mark.exists():
        shutil.rmtree(top, ignore_errors=True)
    elif top.exists() and any(top.iterdir()):
        return None
    places.forget_contents(paths, place)
    kept = read_record(paths.kept / "kept.json")
    trees = Trees(paths.repository)
    if kept.get("place") != place or not trees.has(str(kept.get("tree"))):
        mark.unlink(missing_ok=True)
        return None
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    trees.move(top, kept["tree"])
    files = _listed(paths)
    count = 0
    for name, (mtime, _, size, content) in files.items():
        source, target = paths.kept / "files" / name, top / name
        if _size(source) == size:
            if _copy(source, target, int(mtime)) == content:
                count += 1
            else:
                target.unlink()
    for name in kept.get("directories", ()):
        (top / name).mkdir(parents=True, exist_ok=True)
    if count == len(kept["files"]) and isinstance(kept.get("built"), dict):
        places.end_build(paths, place, kept["built"])
    mark.unlink()
    lost = f", {len(files) - count} were not whole" if count < len(files) else ""
    return f"{count} files of the last build brought back{lost}"


def is_kept(paths: Paths, place: str) -> bool:
    """Whether restore() would have something to bring back."""
    return read_record(paths.kept / "kept.json").get("place") == place


def _listed(paths: Paths) -> dict[str, list[int | str]]:
    files = read_record(paths.kept / "kept.json").get("files")
    if not isinstance(files, dict):
        return {}
    return {name: entry for name, entry in files.items() if isinstance(entry, list) and len(entry) == 4}


def _forget(paths: Paths) -> None:
    if paths.kept.exists():
        (paths.kept / "kept.json").unlink(missing_ok=True)
        shutil.rmtree(paths.kept)


def _made(top: Path, sources: frozenset[str], empty: list[str]) -> Iterator[tuple[str, Entry]]:
    """Regular files and links below `top` that are no source; empty directories are added to `empty`."""
    start = len(str(top)) + 1
    for directory, below, names in os.walk(top):
        if not below and not names and len(directory) >= start:
            empty.append(directory[start:])
        for name in names:
            path = os.path.join(directory, name)
            if path[start:] not in sources and (entry := _entry(path)):
                yield path[start:], entry


def _entry(path: str | Path) -> Entry | None:
    try:
        info = os.lstat(path)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(info.st_mode) and not stat.S_ISLNK(info.st_mode):
        return None
    return info.st_mtime_ns, info.st_mode, info.st_size


def _size(path: Path) -> int | None:
    entry = _entry(path)
    return entry[2] if entry else None


def _copy(source: Path, target: Path, mtime: int) -> str:
    """Copy a file or a link with its mode and, last, a time in ns; returns the sha256 of what was copied."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        target.unlink()
    info = os.lstat(source)
    if stat.S_ISLNK(info.st_mode):
        content = os.readlink(source)
        os.symlink(content, target)
    else:
        total = hashlib.sha256()
        with open(source, "rb") as read, open(target, "xb") as write:
            while piece := read.read(_PIECE):
                total.update(piece)
                write.write(piece)
            os.fchmod(write.fileno(), stat.S_IMODE(info.st_mode))
        content = total.hexdigest()
    os.utime(target, ns=(mtime, mtime), follow_symlinks=False)
    return content
