"""What a build left in its tree, by content; and what kbuild leaves there of options that are off again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from kbuild_tasks.core import elf
from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.effects.files import sha256_file, sha256_text


def results(tree: Path) -> dict[str, Any]:
    """What the compiled tree is, by content."""
    release = tree / "include/config/kernel.release"
    image = tree / "vmlinux"
    if not release.is_file() or not image.is_file():
        missing = release if not release.is_file() else image
        raise KbuildError(f"build() ended without an error and made no {missing}", "build() must run make in the tree")
    with open(image, "rb") as file:
        build_id = elf.build_id(file)
    return {
        "kernelrelease": release.read_text().strip(),
        "vmlinux_sha256": sha256_file(image),
        "modules_sha256": _modules(tree),
        "config_sha256": sha256_file(tree / ".config"),
        **({"build_id": build_id} if build_id else {}),
        **({"uname_version": version} if (version := _uname_version(tree)) else {}),
    }


def _uname_version(tree: Path) -> str | None:
    """What the kernel will say to `uname -v`; since 6.1 in utsversion.h, before in compile.h."""
    for name in ("utsversion.h", "compile.h"):
        file = tree / "include/generated" / name
        found = re.search(r'^#define UTS_VERSION "(.*)"$', file.read_text(), re.MULTILINE) if file.is_file() else None
        if found:
            return found[1]
    return None


def _modules(tree: Path) -> str:
    """One digest over every module that was built: an edit of a module leaves vmlinux as it was."""
    order = tree / "modules.order"  # Documentation/kbuild/kbuild.rst: "records the order in which modules appear"
    names = order.read_text().split() if order.is_file() else []
    modules = [name.removesuffix(".o") + ".ko" if name.endswith(".o") else name for name in names]
    return sha256_text(repr([(name, sha256_file(tree / name)) for name in sorted(modules)]))


def drop_markers(tree: Path) -> None:
    """Remove include/config/<SYMBOL> of options that are off again: headers packages carry that directory.

    kbuild touches such a file when an option changes, also when it goes away, so that what depends on it is made anew
    (scripts/kconfig/confdata.c, conf_touch_deps); a clean build has none for options that are off. Once make has
    ended nothing waits for them, and a missing one is no reason to build (they are named by $(wildcard)).
    """
    auto = tree / "include/config/auto.conf"
    if not auto.is_file():
        return
    on = {line.partition("=")[0].removeprefix("CONFIG_") for line in auto.read_text().splitlines() if "=" in line}
    for entry in auto.parent.iterdir():
        if entry.name not in on and "." not in entry.name and entry.stat().st_size == 0:
            entry.unlink()
