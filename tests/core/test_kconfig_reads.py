"""Which edits need no new question to kconfig."""

from __future__ import annotations

import pytest

from kbuild_tasks.core import kconfig_reads


@pytest.mark.parametrize(
    "path", ["kernel/core.c", "include/linux/fs.h", "arch/x86/entry/entry.S", "Documentation/x.rst", "fs/toolshed/x.c"]
)
def test_is_not_read(path: str) -> None:
    assert kconfig_reads.unread(path) == (path != "fs/toolshed/x.c")  # begins as tools does: asked for once too often


@pytest.mark.parametrize(
    "path",
    [
        "Kconfig", "init/Kconfig.net", "Makefile", "fs/Makefile", "fs/Kbuild", "scripts/cc-version.sh",
        "scripts/basic/fixdep.c",
        "scripts/kconfig/conf.c", "tools/include/x.h", "arch/x86/tools/check.c", "localversion-rt", "localversion.c",
        "kernel/configs/kvm.config", "arch/x86/configs/x86_64_defconfig", "fs/check.sh", "fs/odd", ".config",
        "fs/x.c.orig",
    ],
)  # fmt: skip
def test_may_be_read(path: str) -> None:
    assert not kconfig_reads.unread(path)


def test_the_kconfig_files_that_were_read() -> None:
    text = "deps_config := \\\n\tKconfig \\\n\tscripts/Kconfig.include \\\n\tfs/Kconfig \\\n\nx: $(deps_config)\n"
    assert kconfig_reads.listed(text) == ["Kconfig", "scripts/Kconfig.include", "fs/Kconfig"]
    assert kconfig_reads.listed("") == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("\tdefault $(shell,cat $(srctree)/include/depth.h)", {"cat", "include/depth.h"}),
        ('\tdef_bool $(success,grep -q "x y" fs/inode.c)', {"grep", "fs/inode.c"}),
        ("\tdef_bool $(failure,$(srctree)/arch/x/t.sh $(CC) -I$(srctree)/include)", {"arch/x/t.sh", "include"}),
        ("\tdef_bool $(success,find $(srctree) -name x)", {"find", "."}),
        ("\tdef_bool $(success,echo 'int x[1 - .];' | $(CC) -x c -)", set()),
        ("\tdefault $(shell,$(srctree)/scripts/pahole-version.sh $(PAHOLE))", set()),
        ("\tdepends on $(cc-option,-fx) && FS/inode.c", set()),
        ("\tdef_bool $(success,echo one \\\nfs/inode.c)", {"echo", "one", "fs/inode.c"}),
    ],
)  # fmt: skip
def test_words_of_commands_that_may_be_paths(line: str, words: set[str]) -> None:
    found = kconfig_reads.named([line])
    assert words <= found
    assert {word for word in found - words if "/" in word or "." in word} == set()
