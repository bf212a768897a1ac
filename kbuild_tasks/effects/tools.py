"""What packs packages, beside the compiler: another version may pack the same files into other bytes."""

from __future__ import annotations

import re

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.effects import makepkg, shell
from kbuild_tasks.effects.files import sha256_file
from kbuild_tasks.effects.pkgbuild import config_files

CONFIGURATIONS = ("/etc/makepkg.conf", "the user's makepkg.conf")  # as config_files() has them
PROGRAMS = ("makepkg", "bsdtar", "zstd")
_VERSION = re.compile(r"[0-9]+\.[0-9][0-9A-Za-z.]*")


def packing() -> dict[str, str]:
    """Program -> version; and of each makepkg.conf that ours is laid over the sha256."""
    env = makepkg.environment()
    found = {}
    for program in PROGRAMS:
        try:
            said = shell.run([program, "--version"], env=env, timeout=30, check=False).out
        except KbuildError:
            continue  # makepkg itself says what it lacks
        if version := _VERSION.search(said):
            found[program] = version[0]
    for name, path in zip(CONFIGURATIONS, config_files(), strict=True):
        if total := sha256_file(path):
            found[name] = total
    return found
