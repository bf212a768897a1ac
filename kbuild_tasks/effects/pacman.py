"""What pacman can do about a PKGBUILD's dependencies on this machine.

On Arch they are resolved: `makepkg -s` installs what is missing, by sudo. A machine of another distribution may have
pacman (it makes and installs packages) and yet no repository: there pacman knows of no package at all, and would call
bc missing beside /usr/bin/bc. Then they are not checked, and the caller is given a sentence that says so.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from kbuild_tasks.core.errors import CommandFailed
from kbuild_tasks.core.pkgbuild import Pkgbuild
from kbuild_tasks.effects import shell


def dependency_options(pkgbuild: Pkgbuild) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(options for makepkg, warnings). Raises CommandFailed when pacman cannot read its database."""
    wanted = (*pkgbuild.depends, *pkgbuild.makedepends)
    names = ", ".join(wanted)
    if not shutil.which("pacman"):
        return ("--nodeps",), ((f"pacman is not installed: {names} were not checked",) if wanted else ())
    if not wanted:
        return ("--syncdeps", "--noconfirm"), ()
    repositories = shell.run(["pacman-conf", "--repo-list"], check=False, timeout=30).out.split()
    done = shell.run(["pacman", "-T", "--", *wanted], check=False, timeout=60)
    if repositories:
        if done.code not in (0, 127):  # pacman(8) -T: 127 and the names that are not satisfied
            raise CommandFailed(
                "pacman cannot read its database", "sudo pacman -Sy", evidence=done.err.splitlines(), code=done.code
            )
        return ("--syncdeps", "--noconfirm", "--noprogressbar"), ()
    if done.code == 0:
        return ("--syncdeps", "--noconfirm"), ()
    missing = ", ".join(done.out.split()) or names
    return ("--nodeps",), (
        f"pacman has no repository on this machine and knows nothing of {missing}: not checked "
        "(a [repository] in /etc/pacman.conf would let it)",
    )


def explain(lines: Sequence[str]) -> tuple[str, str] | None:
    """The sentence for dependencies that makepkg -s could not get, None where that is not what happened."""
    if not any("Could not resolve all dependencies" in line for line in lines):
        return None
    missing: list[str] = []
    for number, line in enumerate(lines):
        if line.startswith("==> Missing dependencies:"):
            for name in lines[number + 1 :]:
                if not name.startswith("  -> "):
                    break
                missing.append(name.removeprefix("  -> "))
    names = " ".join(dict.fromkeys(missing))
    if any(line.startswith("sudo: ") for line in lines):
        return f"the PKGBUILD needs {names}, and sudo asks for a password", f"sudo pacman -S --asdeps {names}"
    return f"the PKGBUILD needs {names}, and pacman could not install it", f"sudo pacman -Sy --asdeps {names}"
