"""makepkg's startdir and $srcdir, both ours: copies of what lies beside the user's PKGBUILD, which is never written.

startdir holds the PKGBUILD and the regular files beside it. Both places are below workdir, which may be a tmpfs and
empty after a reboot while every receipt is still true; so whoever runs makepkg calls sync() and restore() first, and
they cost a comparison where nothing is missing.

$srcdir holds the kernel's tree, which belongs to effects/tree.py, and whatever else makepkg put there (links to
sources, other archives). The latter is kept on disk, in
<state>/srcdir/<pkgbase>/<identity of the sources>, and restored from there; what prepare() made or changed beside the
tree is kept in <state>/srcdir/<pkgbase>/prepared and takes the place of what was unpacked, for build() and package().
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from kbuild_tasks.effects.beside import digests, entries
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.files import write_atomic

CURRENT = "current"  # a link to the identity that $srcdir is to have
PREPARED = "prepared"  # what prepare() left of it
LOCAL = "startdir/"  # a kept link to a file of startdir, wherever that is: stage patch has one of its own


def sync(paths: Paths, pkgbuild: Path, pkgver: str | None = None) -> None:
    """Bring paths.startdir to the content of the PKGBUILD's directory: each file whole or not at all, unchanged files
    untouched, stale ones removed. Sub-directories and names that begin with a dot are not copied (makepkg looks for
    local sources in startdir itself).

    pkgver  the version that the PKGBUILD's pkgver() gave when the sources were unpacked; it is written into the copy
            the way makepkg does (update_pkgver() in makepkg: the lines that begin with pkgver= and pkgrel=)
    """
    wanted = {
        entry.name: Path(entry)
        for entry in os.scandir(pkgbuild.parent)
        if entry.is_file() and not entry.name.startswith(".")
    }
    wanted.pop(pkgbuild.name, None)
    paths.startdir.mkdir(parents=True, exist_ok=True)
    text = pkgbuild.read_bytes()
    if pkgver is not None:
        text = _set_version(text, pkgver.encode())
    _write_changed(paths.startdir / "PKGBUILD", text, 0o644)
    for name, source in wanted.items():
        if name != "PKGBUILD":
            _write_changed(paths.startdir / name, source.read_bytes(), source.stat().st_mode & 0o777)
    for entry in os.scandir(paths.startdir):
        if entry.name not in wanted and entry.name != "PKGBUILD" and not entry.name.startswith("."):
            _remove(Path(entry))


def srcdir(paths: Paths, pkgbase: str) -> Path:
    """$srcdir of the build: the kernel's tree is <srcdir>/<srctree>."""
    return paths.builddir / pkgbase / "src"


def use(paths: Paths, pkgbase: str, identity: str) -> bool:
    """Make $srcdir that of the sources `identity`; False where keep() was never given them."""
    kept = _kept(paths, pkgbase)
    if not (kept / identity).is_dir():
        return False
    for name in {*_names(kept / CURRENT), *_names(kept / identity)}:
        _remove(srcdir(paths, pkgbase) / name)
    scratch = kept / f".{CURRENT}"
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(identity)
    os.replace(scratch, kept / CURRENT)
    restore(paths)
    return True


def keep(paths: Paths, pkgbase: str, unpacked: Path, srctree: str, identity: str) -> None:
    """Keep what makepkg put into the directory `unpacked` beside the kernel's tree, and make $srcdir that."""
    kept = _kept(paths, pkgbase)
    fresh = kept / f".{identity}.new"
    _remove(fresh)
    fresh.mkdir(parents=True)
    for name in os.listdir(unpacked):
        if name == srctree:
            continue
        if (unpacked / name).is_symlink() and Path(os.readlink(unpacked / name)).parent == paths.startdir:
            os.symlink(LOCAL + name, fresh / name)
        else:
            shutil.move(unpacked / name, fresh / name)
    for name in _names(kept / CURRENT):
        _remove(srcdir(paths, pkgbase) / name)
    _remove(kept / identity)
    os.rename(fresh, kept / identity)
    use(paths, pkgbase, identity)


def current(paths: Paths, pkgbase: str) -> str:
    """The sources that $srcdir was last made of, as use() names them; "" where there are none."""
    try:
        return os.readlink(_kept(paths, pkgbase) / CURRENT)
    except OSError:
        return ""


def contents(paths: Paths, pkgbase: str, pinned: Mapping[str, str]) -> dict[str, str]:
    """What keep() kept, by content (effects/beside.py)."""
    found = entries(_kept(paths, pkgbase) / CURRENT)
    for name, path in found.items():
        if path.is_symlink() and os.readlink(path).startswith(LOCAL):
            found[name] = paths.startdir / name
    return digests(found, paths.sources, pinned)


def keep_prepared(paths: Paths, pkgbase: str, left: Path, names: Sequence[str]) -> None:
    """Keep the entries `names` of the $srcdir `left`, in which prepare() ran, and bring them to $srcdir. What is there
    with the same content stays as it is: build() may have made objects in it."""
    kept = _kept(paths, pkgbase)
    fresh = kept / f".{PREPARED}.new"
    _remove(fresh)
    fresh.mkdir(parents=True)
    for name in names:
        if (left / name).is_dir() and not (left / name).is_symlink():
            shutil.copytree(left / name, fresh / name, symlinks=True)
        else:  # a link to a file of startdir through which prepare() wrote: the file, which goes with that startdir
            shutil.copy2(left / name, fresh / name, follow_symlinks=(left / name).is_file())
    before, after = (digests(entries(place), paths.sources, {}) for place in (kept / PREPARED, fresh))
    for name in {*before, *after}:
        if before.get(name) != after.get(name):
            _remove(srcdir(paths, pkgbase) / name)
    _remove(kept / PREPARED)
    os.rename(fresh, kept / PREPARED)
    restore(paths)


def prepared_missing(paths: Paths, pkgbase: str, names: Sequence[str]) -> str:
    """The first of `names` that keep_prepared() kept and that is not there, "" where all are."""
    return next((name for name in names if not os.path.lexists(_kept(paths, pkgbase) / PREPARED / name)), "")


def restore(paths: Paths, prepared: bool = True) -> None:
    """Bring back to $srcdir what keep() kept and is not there; prepared: as prepare() left it."""
    bases = paths.state / "srcdir"
    for base in _names(bases):
        target = srcdir(paths, base)
        target.mkdir(parents=True, exist_ok=True)
        changed = bases / base / PREPARED
        made = _names(changed) if prepared else []
        for name in sorted({*_names(bases / base / CURRENT), *made}):
            entry = (changed if name in made else bases / base / CURRENT) / name
            place = target / name
            if os.path.lexists(place):
                continue
            if entry.is_symlink() and os.readlink(entry).startswith(LOCAL):
                os.symlink(paths.startdir / name, place)
            elif entry.is_dir() and not entry.is_symlink():
                scratch = target / f".{name}.new"
                _remove(scratch)
                shutil.copytree(entry, scratch, symlinks=True)
                os.rename(scratch, place)
            else:
                shutil.copy2(entry, place, follow_symlinks=False)


def _kept(paths: Paths, pkgbase: str) -> Path:
    return paths.state / "srcdir" / pkgbase


def _names(directory: Path) -> list[str]:
    """Names in a directory, none where there is no such directory."""
    return sorted(os.listdir(directory)) if directory.is_dir() else []


def remove_tree(path: Path) -> None:
    """Remove a directory that makepkg made, whatever its modes ($pkgdir is a-srw while it is built)."""
    if path.is_dir() and not path.is_symlink():
        with contextlib.suppress(OSError):
            os.chmod(path, 0o700)
        for directory, names, _ in os.walk(path):  # looks into those below only afterwards
            for below in (os.path.join(directory, name) for name in names):
                with contextlib.suppress(OSError):
                    if not os.path.islink(below):
                        os.chmod(below, 0o700)
    _remove(path)


def _set_version(text: bytes, pkgver: bytes) -> bytes:
    lines = text.split(b"\n")
    for number, line in enumerate(lines):
        if line.startswith(b"pkgver=") and line.split(b" ")[0] != b"pkgver=" + pkgver:
            lines[number] = b" ".join([b"pkgver=" + pkgver, *line.split(b" ")[1:]])
            lines = [b"pkgrel=1" if other.startswith(b"pkgrel=") else other for other in lines]
    return b"\n".join(lines)


def _write_changed(path: Path, data: bytes, mode: int) -> None:
    with contextlib.suppress(OSError):
        if not path.is_symlink() and path.read_bytes() == data and path.stat().st_mode & 0o777 == mode:
            return
    if path.is_dir() and not path.is_symlink():
        _remove(path)
    write_atomic(path, data, mode, durable=False)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
