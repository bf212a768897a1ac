"""What a prepare() did is taken in, and what kbuild made is not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.effects.tree import Trees
from tests.fake_tree import FILES, as_found, new_place, read_tree, write_tree

place = pytest.fixture(new_place)

TAKEN = {
    "localversion.10-pkgrel": b"-1\n",
    "version": b"6.1.1-1\n",
    ".scmversion": b"",
    "drivers/extra/Kconfig": b"config EXTRA\n",
    "drivers/extra/.gitignore": b"/made\n",
    "firmware/blob.bin": b"\0\1",
    "certs/signing_key.pem": b"key\n",
    "include/linux/generated_by_hand.h": b"#define X\n",
    "tab\there and ä": b"x\n",
}
GENERATED = {
    ".config": b"CONFIG_A=y\n",
    ".config.old": b"\n",
    ".missing-syscalls.d": b"\n",
    "include/config/auto.conf": b"\n",
    "include/generated/autoconf.h": b"\n",
    "arch/arm/include/generated/asm/x.h": b"\n",
    "scripts/kconfig/conf": b"\x7fELF",
    "scripts/kconfig/conf.o": b"\x7fELF",
    "scripts/kconfig/.conf.o.cmd": b"\n",
    "scripts/kconfig/mconf-cfg": b"\n",
    "scripts/kconfig/parser.tab.c": b"\n",
    "scripts/kconfig/lexer.lex.c": b"\n",
    "kernel/modules.order": b"\n",
    "Module.symvers": b"\n",
    "vmlinux": b"\x7fELF",
    "System.map": b"\n",
    "kernel/fork.c.orig": b"\n",
    "kernel/fork.c.rej": b"\n",
}


@pytest.fixture
def trees(place: Path) -> Trees:
    return Trees(place / "repo.git")


@pytest.fixture
def base(trees: Trees, place: Path) -> str:
    base = trees.import_directory(write_tree(place / "linux"))
    trees.move(place / "work", base)
    return base


def test_changed_deleted_and_added_files_are_taken_and_kbuilds_are_not(trees, base, place):
    work = place / "work"
    write_tree(work, {**TAKEN, **GENERATED, "kernel/fork.c": b"int spoon;\n"})
    (work / "fs/ext4/xattr.h").unlink()
    (work / "kernel/Makefile").chmod(0o755)
    before = read_tree(work)
    found = trees.snapshot(work, base)
    assert set(found.paths) == {*TAKEN, "kernel/fork.c", "fs/ext4/xattr.h", "kernel/Makefile"}
    assert read_tree(work) == before
    trees.move(place / "build", found.tree)
    expected = as_found({**FILES, **TAKEN, "kernel/fork.c": b"int spoon;\n"})
    del expected["fs/ext4/xattr.h"]
    expected["kernel/Makefile"] = ("100755", FILES["kernel/Makefile"])
    assert read_tree(place / "build") == expected


def test_nothing_done_is_the_same_tree(trees, base, place):
    (place / "work" / "Makefile").touch()
    write_tree(place / "work", GENERATED)
    found = trees.snapshot(place / "work", base)
    assert (found.tree, found.paths) == (base, ())


def test_more_that_is_not_to_be_taken(trees, base, place):
    write_tree(place / "work", {"version": b"1\n", "kernel/version": b"1\n", "tmp/x": b"1\n"})
    assert trees.snapshot(place / "work", base, exclude=["/version", "tmp/"]).paths == ("kernel/version",)


def test_files_and_directories_that_change_places(trees, base, place):
    work = place / "work"
    (work / "kernel/fork.c").unlink()
    write_tree(work, {"kernel/fork.c/a.c": b"a\n"})
    (work / "fs/ext4/inode.c").unlink()
    (work / "fs/ext4/xattr.h").unlink()
    (work / "fs/ext4").rmdir()
    (work / "fs/ext4").symlink_to("../kernel")
    found = trees.snapshot(work, base)
    trees.move(place / "build", found.tree)
    assert read_tree(place / "build") == read_tree(work)


def test_a_repository_that_prepare_made_inside_is_refused(trees, base, place):
    inner = place / "work" / "drivers" / "vendor"
    inner.mkdir(parents=True)
    (inner / "x.c").write_text("x\n")
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "x"]):
        subprocess.run(["git", *command], cwd=inner, check=True)
    with pytest.raises(KbuildError, match=r"drivers/vendor is a git repository inside of the source"):
        trees.snapshot(place / "work", base)


def test_what_was_taken_in_goes_when_it_is_not_made_any_more(trees, base, place):
    work = place / "work"
    write_tree(work, {"localversion": b"-1\n", "drivers/x/x.c": b"\n"})
    first = trees.snapshot(work, base)
    trees.move(place / "build", first.tree)
    trees.move(work, base, clean=True)
    assert read_tree(work) == as_found()
    second = trees.snapshot(work, base)
    assert second.tree == base
    trees.move(place / "build", second.tree)
    assert read_tree(place / "build") == as_found()
