"""What packs packages, beside the compiler: another version may pack the same files into other bytes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.effects import makepkg, shell
from kbuild_tasks.effects.files import sha256_file

PROGRAMS = ("makepkg", "bsdtar", "zstd")
_VERSION = re.compile(r"[0-9]+\.[0-9][0-9A-Za-z.]*")


def packing() -> dict[str, str]:
    """Program -> version; and of each makepkg.conf that ours is laid over, by its path with ~, the sha256."""
    env = makepkg.environment()
    found = {}
    for program in PROGRAMS:
        try:
            said = shell.run([program, "--version"], env=env, timeout=30, check=False).out
        except KbuildError:
            continue  # makepkg itself says what it lacks
        if version := _VERSION.search(said):
            found[program] = version[0]
    for name, path in _configurations(env).items():
        if total := sha256_file(path):
            found[name] = total
    return found


def _configurations(env: Mapping[str, str]) -> dict[str, Path]:
    """In the order of makepkg (and of the head of our own file): the user's one is the first of two."""
    home = Path(env["HOME"])
    own = Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "pacman" / "makepkg.conf"
    if not os.access(own, os.R_OK):
        own = home / ".makepkg.conf"
    return {"/etc/makepkg.conf": Path("/etc/makepkg.conf"), "the user's makepkg.conf": own}
