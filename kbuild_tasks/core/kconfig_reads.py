"""Which files of a source tree its kconfig can have read, so that an edit of others need not ask it again.

kconfig reads Kconfig files, and what their $(shell,...), $(success,...) and $(failure,...) run
(Documentation/kbuild/kconfig-macro-language.rst). In Linux those commands ask compilers, and are scripts of scripts/
and tools. So C, assembly, device trees and documentation elsewhere are not read, unless a command names such a file or
a directory that holds some: a tree where one does is asked each time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_UNREAD = re.compile(r"\.(?:c|h|S|dts|dtsi|rst|txt)$")
_READ = re.compile(r"(?:^|/)(?:Kconfig|scripts|tools|localversion|Makefile|Kbuild)[^/]*(?:/|$)")
_COMMAND = re.compile(r"\$\((?:shell|success|failure|if-success),")
_SPOKEN = re.compile(r"\b(?:echo|printf) '[^']*'")
_WORDS = re.compile(r"[\s\"'()|;<>&=,`{}]+")
_LISTED = re.compile(r"^deps_config := \\\n((?:.*\\\n)*)", re.M)


def unread(path: str) -> bool:
    """Whether kconfig reads nothing of a file (relative to the tree) whose Kconfigs name no such file."""
    return bool(_UNREAD.search(path)) and not _READ.search(path)


def listed(auto_conf_cmd: str) -> list[str]:
    """The Kconfig files that were read, of include/config/auto.conf.cmd (scripts/kconfig/confdata.c)."""
    found = _LISTED.search(auto_conf_cmd)
    return [word for word in found[1].replace("\\\n", " ").split() if not word.startswith("$")] if found else []


def named(texts: Iterable[str]) -> set[str]:
    """Words of the commands in these Kconfig files that may be paths in the tree, but for those of scripts/."""
    words: set[str] = set()
    for text in texts:
        for line in text.replace("\\\n", " ").splitlines():
            if _COMMAND.search(line):
                plain = (
                    _SPOKEN.sub("", line)
                    .replace("$(srctree)/", "./")
                    .replace("$(abs_srctree)/", "./")
                    .replace("$(srctree)", ".")
                )
                words |= {word.removeprefix("-I").removeprefix("./") for word in _WORDS.split(plain)}
    return {word for word in words if word and word[0] not in "-/$" and not word.startswith("scripts/")}
