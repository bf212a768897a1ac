"""The edits of a kernel that a user makes, one of each kind, as (name, state before, state after)."""

from __future__ import annotations

from dataclasses import replace

from tests.exact.bench import State, diff
from tests.exact.small_kernel import FILES


def edit(path: str, old: str, new: str, name: str = "an edit", text: str | None = None) -> str:
    """A patch that replaces `old` by `new` in a file (as FILES or `text` has it)."""
    before = FILES[path] if text is None else text
    assert old in before
    return diff([(path, before, before.replace(old, new))], name)


CORE = edit("kernel/core.c", "return x +", "return 1 + x +")
CORE_AGAIN = edit("kernel/core.c", "return x +", "return 2 + x +")
VETH = edit("drivers/net/veth.c", "{ 0,", "{ 1,")
HEADER = edit("fs/xattr.h", "XATTR 3", "XATTR 5")
MORE = diff(
    [
        ("kernel/more.c", "", "int more;\n"),
        ("kernel/Makefile", FILES["kernel/Makefile"], FILES["kernel/Makefile"] + "obj-y += more.o\n"),
    ]
)
DIRECTORY = diff(
    [
        ("drivers/new/Kconfig", "", "config NEW\n\ttristate\n\tdefault m\n"),
        ("drivers/new/Makefile", "", "obj-$(CONFIG_NEW) += new.o\n"),
        ("drivers/new/new.c", "", '#include <linux/module.h>\nint new;\nMODULE_LICENSE("GPL");\n'),
        ("drivers/Kconfig", FILES["drivers/Kconfig"], FILES["drivers/Kconfig"] + 'source "drivers/new/Kconfig"\n'),
        ("drivers/Makefile", FILES["drivers/Makefile"], FILES["drivers/Makefile"] + "obj-$(CONFIG_NEW) += new/\n"),
    ]
)
DELETED = diff(
    [
        ("fs/xattr.c", FILES["fs/xattr.c"], ""),
        ("fs/Makefile", FILES["fs/Makefile"], "obj-y := inode.o\n"),
    ]
)
RENAMED = (
    "diff --git a/drivers/block/ram.c b/drivers/block/disk.c\nsimilarity index 100%\n"
    "rename from drivers/block/ram.c\nrename to drivers/block/disk.c\n"
    + edit("drivers/block/Makefile", "ram.o", "disk.o")
)
PROGRAM = diff(
    [
        ("scripts/tools/Makefile", "", "hostprogs-always-y += tool\n"),
        ("scripts/tools/tool.c", "", "int main(void) { return 0; }\n"),
        ("Kbuild", FILES["Kbuild"], FILES["Kbuild"] + "subdir-y += scripts/tools\n"),
    ]
)
GENERATED = diff(
    [
        (
            "Kbuild",
            FILES["Kbuild"],
            FILES["Kbuild"].replace(
                "PHONY += prepare\nprepare: $(offsets-file)\n",
                "filechk_more = echo '$(pound)define MORE 1'\ninclude/generated/more.h: FORCE\n\t$(call filechk,more)\n"
                "PHONY += prepare\nprepare: $(offsets-file) include/generated/more.h\n",
            ),
        )
    ]
)


def mode(path: str) -> str:
    return f"diff --git a/{path} b/{path}\nold mode 100644\nnew mode 100755\n"


# Each can be there or not, in any order, with any of the others: no two touch the same lines.
PATCHES: dict[str, tuple[str, ...]] = {
    "core": (CORE, CORE_AGAIN, CORE.replace("an edit", "the same edit")),
    "veth": (VETH, edit("drivers/net/veth.c", "{ 0,", "{ 2,")),
    "header": (HEADER, edit("fs/xattr.h", "XATTR 3", "XATTR 6")),
    "more": (MORE,),
    "traps": (edit("arch/x86/kernel/traps.c", "KERNEL;", "KERNEL + 1;"),),
    "offsets": (edit("include/linux/sched.h", "int state; ", "int state; int more; "),),
    "directory": (DIRECTORY,),
    "deleted": (DELETED,),
    "renamed": (RENAMED,),
    "kconfig": (edit("Kconfig", "config TRACE\n", "config TRACE\n\tdefault y\n"),),
    "makefile": (edit("arch/x86/kernel/Makefile", "extra-y", "ccflags-y := -DMORE\nextra-y"),),
    "linker-script": (edit("arch/x86/kernel/vmlinux.lds.S", "81000000", "82000000"),),
    "mode-of-a-source": (mode("kernel/sched.c"),),
    "mode-of-a-header": (mode("include/linux/module.h"),),
    "host-program": (PROGRAM,),
    "generated-header": (GENERATED,),
}
FRAGMENTS: dict[str, tuple[str, ...]] = {
    "depth": ("CONFIG_DEPTH=9\n", "CONFIG_DEPTH=10\n"),
    "trace": ("CONFIG_TRACE=y\n",),
    "ram": ("CONFIG_RAMDISK=m\n", "# CONFIG_RAMDISK is not set\n"),
    "pair": ("CONFIG_PAIR=y\n", "# CONFIG_PAIR is not set\n"),
    "veth": ("# CONFIG_VETH is not set\n",),
    "kallsyms": ("CONFIG_KALLSYMS=y\n",),
    "release": ('CONFIG_LOCALVERSION="-x"\n',),
}
PKGBUILDS: dict[str, tuple[str, str]] = {
    "pkgrel": ("pkgrel=1", "pkgrel=2"),
    "pkgdesc": ("A small", "The small"),
    "package function": ('modules" .config System.map', 'modules" System.map'),
    "prepare()": ("  echo", "  sed -i 's/KERNEL 1/KERNEL 3/' include/linux/kernel.h; echo"),
    "prepare() that adds a file": ("-$pkgrel", "-$pkgrel.$(echo x >localversion.20; echo y)"),
    "build()": ("make bzImage modules", "make KCFLAGS=-DMORE bzImage modules"),
}
START = State(
    patches=tuple((name, PATCHES[name][0]) for name in ("core", "veth", "header", "more")),
    fragments=(("depth", "CONFIG_DEPTH=9\n"),),
)
EDITS: dict[str, State] = {
    "a patch of what is built in": START.patched("core", CORE_AGAIN),
    "a patch of a module": START.patched("veth", PATCHES["veth"][1]),
    "a patch of a header": START.patched("header", PATCHES["header"][1]),
    "only words of a patch": START.patched("core", PATCHES["core"][2]),
    "the first patch dropped": START.patched("core", None),
    "a middle patch dropped": START.patched("header", None),
    "the last patch dropped": START.patched("more", None),
    "all patches dropped": replace(START, patches=()),
    "two patches in another order": replace(START, patches=(START.patches[1], START.patches[0], *START.patches[2:])),
    "a patch more, in the middle": START.patched("traps", PATCHES["traps"][0], at=1),
    **{f"a patch more: {name}": START.patched(name, PATCHES[name][0]) for name in list(PATCHES)[4:]},
    "a fragment edited": START.with_fragment("depth", FRAGMENTS["depth"][1]),
    "a fragment dropped": START.with_fragment("depth", None),
    **{
        f"a fragment more: {t.strip()}": START.with_fragment(n, t)
        for n, ts in FRAGMENTS.items()
        for t in ts
        if n != "depth"
    },
    "a directory, now off": START.with_fragment("block", "# CONFIG_BLOCK is not set\n"),
    **{name: START.with_pkgbuild(*words) for name, words in PKGBUILDS.items()},
    "a new version of the source": replace(START, version=2),
}
