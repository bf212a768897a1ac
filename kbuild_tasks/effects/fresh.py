"""A fresh place to build in, at the path of the old one: what was built there is neither seen nor touched.

Objects and .BUILDINFO hold the path of the tree, so another directory makes other bytes. A process in a mount
namespace of its own (and a user namespace, in which it stays who it is: user_namespaces(7)) sees empty directories of
ours where workdir and its state are; for everybody else nothing changes, and it all goes with the process. makepkg,
fakeroot and git work there as ever; sudo does not, and nothing needs it.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.core.pkgbuild import Pkgbuild
from kbuild_tasks.effects import shell
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.files import sha256_file, sha256_text, write_atomic
from kbuild_tasks.effects.receipts import kept

_NEWNS, _NEWUSER = 0x00020000, 0x10000000  # sched.h
_BIND, _REC, _PRIVATE = 0x1000, 0x4000, 0x40000  # sys/mount.h


def enter(binds: Sequence[tuple[str, str]]) -> None:
    """Put directories in the place of others, for this process (of one thread) and its children.

    binds  (directory, where it is to be seen), in this order; both exist
    Raises KbuildError where the system lets no ordinary user do that.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.geteuid(), os.getegid()

    def done(status: int, what: str) -> None:
        if status:
            raise KbuildError(
                f"no fresh place could be made: {what}: {os.strerror(ctypes.get_errno())}",
                "ordinary users need namespaces: sysctl kernel.unprivileged_userns_clone=1 (Debian), "
                "kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu), user.max_user_namespaces",
            )

    done(libc.unshare(_NEWUSER | _NEWNS), "unshare")
    try:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            Path(f"/proc/self/{name}").write_text(text)
    except OSError as error:
        ctypes.set_errno(error.errno or 0)
        done(1, "uid_map")
    done(libc.mount(b"none", b"/", None, _REC | _PRIVATE, None), "mount")
    for source, target in binds:
        done(libc.mount(os.fsencode(source), os.fsencode(target), None, _BIND | _REC, None), f"mount {target}")


def gather(paths: Paths, project: Path, files: Mapping[str, str], commit: str | None) -> list[str]:
    """Bring files (path -> sha256) to the directory `project`, each as it was: from here, from build/inputs, from the
    commit. Returns those that are not to be had in that state, a line each."""
    missing = []
    for path, total in sorted(files.items()):
        data = _found(paths, path, total, commit)
        if data is None:
            where = f"nor in {commit[:12]}" if commit else "nor in build/inputs"
            here = "is not the one that went in" if (paths.root / path).is_file() else "is not there"
            missing.append(f"{path}: {here}, {where} (sha256 {total[:12]}...)")
            continue
        mode = 0o755 if os.access(paths.root / path, os.X_OK) else 0o644
        write_atomic(project / path, data, mode, durable=False)
    return missing


def _found(paths: Paths, path: str, total: str, commit: str | None) -> bytes | None:
    if sha256_file(paths.root / path) == total:
        return (paths.root / path).read_bytes()
    try:
        return kept(paths, total)
    except OSError:
        pass
    data = of_commit(paths, commit, path)
    return data if data is not None and sha256_text(data) == total else None


def of_commit(paths: Paths, commit: str | None, path: str) -> bytes | None:
    """A file of the project as a commit has it; None where git does not know."""
    if not commit:
        return None
    command = 'git -C "$1" show "$2:./$3" >"$4"'
    scratch = paths.build / "reproduce" / ".file"
    scratch.parent.mkdir(parents=True, exist_ok=True)
    try:
        done = shell.run(["sh", "-c", command, "sh", paths.root, commit, path, scratch], check=False, timeout=60)
        return scratch.read_bytes() if done.code == 0 else None
    finally:
        scratch.unlink(missing_ok=True)


def missing_sources(pkgbuild: Pkgbuild, directory: Path, sources: Path) -> list[tuple[str, str]]:
    """(name, where it was looked for) of sources that are on this machine alone, and are not there any more. What
    comes from elsewhere is asked for when it is needed; what is there is held against its sum by makepkg."""
    found = []
    for source in pkgbuild.sources:
        if source.protocol == "local" and not (directory / source.name).is_file():
            found.append((source.name, "it does not lie beside the PKGBUILD"))
        if source.protocol == "file" and not (sources / source.name).is_file():
            place = source.url.removeprefix("file://")
            if not os.path.exists(place):
                found.append((source.name, f"neither {place} nor {sources / source.name} is there"))
    return found
