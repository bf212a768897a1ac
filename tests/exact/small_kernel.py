"""A kernel of two dozen files that the true kbuild builds in seconds: Linux 6.1's own Makefile, scripts/, kconfig,
fixdep and modpost, over an architecture, a Kconfig and sources of ours.

What a rebuild depends on is kbuild's: recorded commands, fixdep's dependencies on options, generated headers, thin
archives, modpost, modules of one and of two objects, an image that is compiled against addresses in vmlinux. So what
is exact here is so by the same rules as there.
"""

from __future__ import annotations

import io
import tarfile
from hashlib import sha256
from pathlib import Path

# Taken from the real source as they are. The rest of scripts/ is for other languages, packages and checks.
TAKEN = (
    "Makefile",
    "init/build-version",
    "include/linux/kconfig.h",
    "include/linux/compiler-version.h",
    "include/linux/kbuild.h",
    "include/linux/mod_devicetable.h",
    "include/linux/license.h",
    "include/linux/uuid.h",
    "include/uapi/linux/uuid.h",
    "scripts/Kbuild.include",
    "scripts/Kconfig.include",
    "scripts/Makefile",
    "scripts/Makefile.*",
    "scripts/basic/*",
    "scripts/kconfig/*",
    "scripts/mod/*",
    "scripts/*.sh",
    "scripts/kallsyms.c",
    "scripts/mksysmap",
    "scripts/mkcompile_h",
    "scripts/module.lds.S",
    "scripts/remove-stale-files",
    "scripts/setlocalversion",
    "scripts/subarch.include",
    "scripts/check-local-export",
    "scripts/head-object-list.txt",
    "scripts/.gitignore",
)

KCONFIG = """\
mainmenu "A small kernel"
source "scripts/Kconfig.include"
config CC_VERSION_TEXT
	string
	default "$(CC_VERSION_TEXT)"
config MODULES
	bool "Modules"
	modules
	default y
config MODULE_UNLOAD
	def_bool y
config FRAME_WARN
	int
	default 2048
config LOCALVERSION
	string "Local version"
config KALLSYMS
	bool "Names of symbols in the kernel: a host program more"
config BLOCK
	bool "Block devices"
	default y
config TRACE
	bool "Tracing: many files look at it"
config DEPTH
	int "Depth of queues"
	default 8
source "drivers/Kconfig"
"""

FILES = {
    "Kconfig": KCONFIG,
    "Kbuild": """\
bounds-file := include/generated/bounds.h
targets := kernel/bounds.s
$(bounds-file): kernel/bounds.s FORCE
	$(call filechk,offsets,__LINUX_BOUNDS_H__)
offsets-file := include/generated/asm-offsets.h
targets += arch/$(SRCARCH)/kernel/asm-offsets.s
arch/$(SRCARCH)/kernel/asm-offsets.s: $(bounds-file)
$(offsets-file): arch/$(SRCARCH)/kernel/asm-offsets.s FORCE
	$(call filechk,offsets,__ASM_OFFSETS_H__)
PHONY += prepare
prepare: $(offsets-file)
	@:
obj-y += init/ arch/$(SRCARCH)/ kernel/
obj-y += $(ARCH_CORE)
obj-$(CONFIG_BLOCK) += fs/
obj-y += $(ARCH_LIB)
obj-y += drivers/
""",
    ".gitignore": "# Debian packaging\n.*\n*.o\n/*\n!/debian/\n",
    "arch/.gitignore": "i386\nx86_64\n",
    "arch/x86/Makefile": """\
KBUILD_CFLAGS += -O1 -ffreestanding -fno-pic -mno-red-zone -fcf-protection=none -fno-asynchronous-unwind-tables
KBUILD_CFLAGS += -fno-stack-protector -mcmodel=kernel
KBUILD_CFLAGS_MODULE += -mcmodel=kernel
KBUILD_LDFLAGS += -m elf_x86_64
LDFLAGS_vmlinux := -z max-page-size=0x200000
KBUILD_IMAGE := arch/x86/boot/bzImage
head-y :=
all: bzImage
PHONY += bzImage
bzImage: vmlinux
	$(Q)$(MAKE) $(build)=arch/x86/boot $(KBUILD_IMAGE)
""",
    "arch/x86/Kbuild": "obj-y += kernel/\n",
    "arch/x86/boot/Makefile": """\
targets := bzImage zoffset.h setup.o vmlinux.bin
$(obj)/zoffset.h: vmlinux FORCE
	$(call if_changed,zoffset)
quiet_cmd_zoffset = ZOFFSET $@
      cmd_zoffset = $(NM) $< | sed -n 's/^\\([0-9a-f]*\\) T \\(start_kernel\\)$$/\\#define ZO_\\2 0x\\1/p' > $@
$(obj)/setup.o: $(obj)/zoffset.h
OBJCOPYFLAGS_vmlinux.bin := -O binary -R .note -R .comment -S
$(obj)/vmlinux.bin: vmlinux FORCE
	$(call if_changed,objcopy)
quiet_cmd_image = BUILD   $@
      cmd_image = cat $(obj)/setup.o $(obj)/vmlinux.bin > $@
$(obj)/bzImage: $(obj)/setup.o $(obj)/vmlinux.bin FORCE
	$(call if_changed,image)
""",
    "arch/x86/boot/setup.c": '#include "zoffset.h"\nunsigned long entry(void) { return ZO_start_kernel; }\n',
    "arch/x86/boot/.gitignore": "bzImage\nsetup.bin\nvmlinux.bin\nzoffset.h\n",
    "arch/x86/kernel/Makefile": "extra-y += vmlinux.lds\nobj-y += head_64.o traps.o\n",
    "arch/x86/kernel/.gitignore": "vmlinux.lds\n",
    "arch/x86/kernel/head_64.S": """\
#include <generated/asm-offsets.h>
	.text
	.globl startup_64
startup_64:
	mov $TASK_PRIORITY, %eax
	call start_kernel
	.section .note.GNU-stack,"",@progbits
""",
    "arch/x86/kernel/traps.c": "#include <linux/kernel.h>\nint traps(void) { return KERNEL; }\n",
    "arch/x86/kernel/asm-offsets.c": """\
#include <linux/kbuild.h>
#include <linux/sched.h>
int main(void);
int main(void) { OFFSET(TASK_PRIORITY, task, priority); return 0; }
""",
    "arch/x86/kernel/vmlinux.lds.S": """\
#include <linux/kernel.h>
ENTRY(startup_64)
SECTIONS
{
	. = 0xffffffff81000000;
	.text : { _text = .; _stext = .; *(.text .text.*) _etext = .; _sinittext = .; _einittext = .; }
	.rodata : { *(.rodata .rodata.*) }
	__ksymtab : { *(SORT(___ksymtab+*)) }
	__ksymtab_strings : { *(__ksymtab_strings) }
	.notes : { *(.note.*) }
	.data : { *(.data .data.*) }
	.bss : { *(.bss .bss.*) *(COMMON) }
	_end = .;
	/DISCARD/ : { *(.modinfo) *(.discard.*) *(.comment) }
}
""",
    "arch/x86/include/asm/bitsperlong.h": "#define BITS_PER_LONG 64\n",
    "arch/x86/include/asm/module.h": "#define MODULE_ARCH_INIT 0\n",
    "arch/x86/include/asm/module.lds.h": "",
    "include/asm-generic/Kbuild": "",
    "include/uapi/asm-generic/Kbuild": "mandatory-y += types.h\n",
    "include/uapi/asm-generic/types.h": "#define BITS_PER_LONG 64\n",
    "include/linux/compiler_types.h": """\
#define __visible __attribute__((externally_visible))
#define __section(x) __attribute__((section(x)))
#define __used __attribute__((used))
#define __must_check
""",
    "include/linux/compiler.h": "#include <linux/compiler_types.h>\n",
    "include/linux/types.h": """\
#ifndef TYPES_H
#define TYPES_H
#include <asm/types.h>
typedef unsigned char __u8; typedef unsigned short __u16; typedef unsigned int __u32; typedef unsigned long long __u64;
typedef __u8 u8; typedef __u16 u16; typedef __u32 u32; typedef __u64 u64;
typedef signed int __s32; typedef signed short __s16; typedef signed char __s8;
typedef __u16 __le16; typedef __u32 __le32; typedef __u16 __be16; typedef __u32 __be32;
typedef unsigned long size_t; typedef _Bool bool;
#define NULL ((void *)0)
#define offsetof(type, member) __builtin_offsetof(type, member)
#endif
""",
    "include/linux/stddef.h": "#include <linux/types.h>\n",
    "include/linux/string.h": "#include <linux/types.h>\nint memcmp(const void *a, const void *b, size_t n);\n"
    "void *memcpy(void *a, const void *b, size_t n);\n",
    "include/linux/export-internal.h": "#include <linux/types.h>\n",
    "include/linux/build-salt.h": "#define BUILD_SALT\n",
    "include/linux/elfnote-lto.h": "#define BUILD_LTO_INFO\n",
    "include/linux/vermagic.h": "#include <generated/utsrelease.h>\n"
    '#define VERMAGIC_STRING UTS_RELEASE " mod_unload"\n',
    "include/linux/module.h": """\
#ifndef MODULE_H
#define MODULE_H
#include <linux/types.h>
#include <asm/module.h>
struct module { const char *name; int (*init)(void); void (*exit)(void); int arch; };
extern struct module __this_module;
int init_module(void);
void cleanup_module(void);
#define MODULE_NAME_2(a, b) a##b
#define MODULE_NAME_1(a, b) MODULE_NAME_2(a, b)
#define MODULE_INFO(tag, text) static const char MODULE_NAME_1(__info_##tag, __LINE__)[] \\
	__used __section(".modinfo") = KBUILD_MODPREFIX #tag "=" text
#ifdef MODULE
#define KBUILD_MODPREFIX
#define MODULE_FILE
#else
#define MODULE_FILE MODULE_INFO(file, KBUILD_MODFILE);
#define KBUILD_MODPREFIX KBUILD_MODNAME "."
#endif
#define MODULE_LICENSE(text) MODULE_FILE MODULE_INFO(license, text)
#define EXPORT_SYMBOL(name) static const void *const __ksymtab_##name __used __section("___ksymtab+" #name) = &name
#endif
""",
    "include/linux/kernel.h": "#ifndef KERNEL_H\n#define KERNEL_H\n#define KERNEL 1\n#endif\n",
    "include/linux/sched.h": """\
#ifndef SCHED_H
#define SCHED_H
#include <linux/types.h>
struct task { int state; int priority; };
int wake(struct task *task);
#endif
""",
    "init/Makefile": """\
obj-y := main.o version.o
build-version = $(or $(KBUILD_BUILD_VERSION), 1)
build-timestamp = $(or $(KBUILD_BUILD_TIMESTAMP), now)
filechk_uts_version = echo '$(pound)'define UTS_VERSION \\""$(pound)$(build-version) $(build-timestamp)"\\"
$(obj)/utsversion-tmp.h: FORCE
	$(call filechk,uts_version)
$(obj)/version.o: $(obj)/utsversion-tmp.h
CFLAGS_version.o := -include $(obj)/utsversion-tmp.h
include/generated/utsversion.h: FORCE
	$(call filechk,uts_version)
$(obj)/version-timestamp.o: include/generated/utsversion.h
CFLAGS_version-timestamp.o := -include include/generated/utsversion.h
""",
    "init/.gitignore": "/utsversion-tmp.h\n",
    "init/main.c": """\
#include <linux/kernel.h>
#include <linux/sched.h>
extern const char banner[];
int start_kernel(void);
int start_kernel(void) { struct task one = { KERNEL, 2 }; return wake(&one) + banner[0]; }
""",
    "init/version.c": '#include <generated/utsrelease.h>\nconst char name[] = "Linux " UTS_RELEASE " " UTS_VERSION;\n',
    "init/version-timestamp.c": """\
#include <generated/compile.h>
#include <generated/utsrelease.h>
const char banner[] = "Linux " UTS_RELEASE " (" LINUX_COMPILE_BY "@" LINUX_COMPILE_HOST ") " UTS_VERSION;
""",
    "kernel/Makefile": "obj-y := core.o sched.o\nobj-$(CONFIG_TRACE) += trace/\n",
    "kernel/bounds.c": "#include <linux/kbuild.h>\nint main(void);\n"
    "int main(void) { DEFINE(NR_PAGES, 4); return 0; }\n",
    "kernel/core.c": """\
#include <linux/kernel.h>
#include <linux/module.h>
#include <generated/bounds.h>
int core(int x);
int core(int x) { return x + NR_PAGES * CONFIG_DEPTH; }
EXPORT_SYMBOL(core);
""",
    "kernel/sched.c": """\
#include <linux/module.h>
#include <linux/sched.h>
int wake(struct task *task)
{
	task->state = 1;
#ifdef CONFIG_TRACE
	task->state++;
#endif
	return task->priority;
}
EXPORT_SYMBOL(wake);
""",
    "kernel/trace/Makefile": "obj-y := ring.o\n",
    "kernel/trace/ring.c": "#include <linux/sched.h>\nint ring;\n",
    "lib/Makefile": "lib-y := string.o\n",
    "lib/string.c": "#include <linux/string.h>\n"
    "int memcmp(const void *a, const void *b, size_t n) { return a == b ? 0 : (int)n; }\n",
    "fs/Makefile": "obj-y := inode.o xattr.o\n",
    "fs/xattr.h": "#define XATTR 3\n",
    "fs/inode.c": '#include <linux/kernel.h>\n#include "xattr.h"\nint inode = XATTR;\n',
    "fs/xattr.c": '#include "xattr.h"\nint xattr(void);\nint xattr(void)\n{\n\treturn XATTR;\n}\n',
    "drivers/Kconfig": """\
config VETH
	tristate "A pair of cards"
	default m
config RAMDISK
	tristate "A disk in memory"
	depends on BLOCK
config PAIR
	tristate "Two objects, one module"
""",
    "drivers/Makefile": "obj-$(CONFIG_VETH) += net/\nobj-$(CONFIG_RAMDISK) += block/\nobj-$(CONFIG_PAIR) += pair/\n",
    "drivers/block/Makefile": "obj-$(CONFIG_RAMDISK) += ram.o\n",
    "drivers/block/ram.c": """\
#include <linux/module.h>
#include <linux/kernel.h>
int core(int x);
int ram(void);
int ram(void) { return core(KERNEL); }
MODULE_LICENSE("GPL");
""",
    "drivers/net/Makefile": "obj-$(CONFIG_VETH) += veth.o\n",
    "drivers/net/veth.c": """\
#include <linux/module.h>
#include <linux/sched.h>
int init_module(void)
{
	struct task t = { 0, CONFIG_DEPTH };
	return wake(&t);
}
MODULE_LICENSE("GPL");
""",
    "drivers/pair/Makefile": "obj-$(CONFIG_PAIR) += pair.o\npair-y := left.o right.o\n",
    "drivers/pair/left.c": '#include <linux/module.h>\n#include "pair.h"\nint left(void) { return right(); }\n'
    'MODULE_LICENSE("GPL");\n',
    "drivers/pair/right.c": '#include "pair.h"\n'
    "#ifdef CONFIG_TRACE\nint traced;\n#endif\nint right(void) { return 2; }\n",
    "drivers/pair/pair.h": "int left(void);\nint right(void);\n",
    "scripts/dtc/Makefile": "",
    "Documentation/one.txt": "one\n",
    "tools/run.sh": "#!/bin/sh\n",
}


def source(linux: Path, **changed: str) -> dict[str, tuple[int, bytes]]:
    """Path -> (mode, content). linux: a real 6.1 tree; changed: content of files of ours, in place of FILES'."""
    found: dict[str, tuple[int, bytes]] = {}
    for pattern in TAKEN:
        for path in sorted(linux.glob(pattern)):
            if path.is_file():
                mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
                found[str(path.relative_to(linux))] = (mode, path.read_bytes())
    for name, text in {**FILES, **changed}.items():
        found[name] = (0o644, text.encode())
    return found


def pack(archive: Path, top: str, files: dict[str, tuple[int, bytes]]) -> str:
    """Write a tar file and return its sha256."""
    with tarfile.open(archive, "w") as tar:
        for name, (mode, content) in files.items():
            info = tarfile.TarInfo(f"{top}/{name}")
            info.size, info.mode = len(content), mode
            tar.addfile(info, io.BytesIO(content))
    archive.chmod(0o644)
    return sha256(archive.read_bytes()).hexdigest()
