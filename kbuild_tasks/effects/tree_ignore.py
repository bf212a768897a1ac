"""What in a built tree is source, and what did kbuild make? The kernel says so itself: its .gitignore files.

Those in sub-directories are taken from the tree as they are. The one at the top is not: distributions change it
(Debian's ends in "/*"), so its rules are kept here, after Linux 6.1; without those that name no product of kbuild
(archives, patches, editors' and indexers' files), for a file of that kind which a prepare() adds is meant.
git decides (git-check-ignore), on a directory that holds nothing but .gitignore files.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.effects.tree_git import Git, as_input, names

ROOT_RULES = """\
.*
!.clang-format
!.cocciconfig
!.get_maintainer.ignore
!.gitattributes
!.gitignore
!.kunitconfig
!.mailmap
!.rustfmt.toml
!/.scmversion
*.a
*.asn1.[ch]
*.c.[012]*.*
*.dt.yaml
*.dtb
*.dtbo
*.dtb.S
*.dwo
*.elf
*.gcno
*.i
*.ko
*.lex.c
*.ll
*.lst
*.mod
*.mod.c
*.o
*.o.*
*.rmeta
*.rsi
*.s
*.so
*.so.dbg
*.su
*.symtypes
*.symversions
*.tab.[ch]
*.usyms
Module.symvers
modules.order
__pycache__/
/linux
/modules-only.symvers
/vmlinux
/vmlinux.*
!/vmlinux.lds*
/vmlinux-gdb.py
/vmlinuz
/System.map
/Module.markers
/modules.builtin
/modules.builtin.modinfo
/modules.nsdeps
/tar-install/
/include/config/
/include/generated/
/include/ksym/
/arch/*/include/generated/
/defconfig
/compile_commands.json
/rust-project.json
# patch(1) and editors
*.orig
*.rej
*~
"""


def generated(git: Git, tree: str, paths: Sequence[str], more_rules: Sequence[str] = ()) -> set[str]:
    """Those of `paths` (files that `tree` does not have) which kbuild made.

    more_rules  further lines as in a .gitignore at the top of the tree
    """
    if not paths:
        return set()
    shadow = git.scratch("ignore")
    try:
        (shadow / ".gitignore").write_text(ROOT_RULES + "".join(rule + "\n" for rule in more_rules))
        for path, rules in _nested(git, tree).items():
            target = shadow / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(rules)
        asked = Git(git.repository, index=shadow / ".git-index", worktree=shadow)
        done = asked("check-ignore", "--no-index", "-z", "--stdin", stdin=as_input(paths), ok=(0, 1))
        return set(names(done.out))
    finally:
        shutil.rmtree(shadow, ignore_errors=True)


def _nested(git: Git, tree: str) -> dict[str, bytes]:
    """The .gitignore files of a tree, without the one at its top: path -> content."""
    objects = {}
    for entry in git("ls-tree", "-r", "-z", "--full-tree", tree).out.split(b"\0"):
        if entry.endswith(b"/.gitignore"):
            info, _, where = entry.partition(b"\t")
            mode, _, blob = info.split(b" ")
            if mode != b"120000":
                objects[os.fsdecode(where)] = blob
    if not objects:
        return {}
    answer = git("cat-file", "--batch", stdin=b"".join(name + b"\n" for name in objects.values())).out
    found: dict[str, bytes] = {}
    at = 0
    for path, name in objects.items():  # cat-file --batch: "<name> blob <size>\n<content>\n" for each
        end = answer.find(b"\n", at)
        head = answer[at:end].split(b" ")
        if head[:2] != [name, b"blob"]:
            raise git.damaged([answer[at:end].decode("utf-8", "backslashreplace")])
        at = end + 1 + int(head[2])
        found[path] = answer[end + 1 : at]
        at += 1
    return found


def untracked(git: Git) -> list[str]:
    """Files in git's work tree that its index does not have, ignored or not."""
    return names(git("ls-files", "--others", "-z").out)


def refuse_repositories(top: Path, inner: Sequence[str]) -> None:
    """git takes a directory with a .git in it for a commit of something else, and leaves its files out."""
    if inner:
        path = top / inner[0]
        raise KbuildError(
            f"{path} is a git repository inside of the source",
            f"remove its .git where it is made (rm -rf {shlex.quote(str(path / '.git'))})",
        )


def is_real_directory(top: Path, relative: str, known: dict[str, bool]) -> bool:
    """Whether all of top/relative are directories and none a symbolic link, which could lead out of the tree."""
    if relative in ("", "."):
        return True
    if relative not in known:
        parent = os.path.dirname(relative)
        path = top / relative
        try:
            known[relative] = is_real_directory(top, parent, known) and path.is_dir() and not path.is_symlink()
        except OSError:  # a name that is too long for the file system
            known[relative] = False
    return known[relative]
