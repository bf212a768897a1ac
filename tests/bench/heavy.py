"""A small kernel with objects that cost what a kernel's cost: for measuring how nodes share them.

Linux 6.1's own kbuild over sources of ours (tests/exact/small_kernel.py), and COUNT generated files of which a compiler
has some tenths of a second, with a header that a preprocessor has to go through.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from kbuild_tasks.core.simulate import sizes
from tests.exact import small_kernel

COUNT = int(os.environ.get("KBUILD_BENCH_OBJECTS", "150"))
FUNCTIONS = 45  # in a typical file: 0.3 CPU s with gcc 12
MACROS = 20_000
TARBALL = Path("/usr/src/linux-source-6.1.tar.xz")
TOP = "linux-6.1-small"


def header() -> str:
    """A megabyte of macros and declarations, as kernel headers are mostly."""
    macros = "".join(f"#define MANY_{n}(x) (((x) + {n}u) ^ ((x) << {n % 29}))\n" for n in range(MACROS))
    declared = "".join(f"extern int many_{n}(int);\n" for n in range(2000))
    return f"#ifndef MANY_H\n#define MANY_H\n{macros}{declared}#endif\n"


def source(number: int, size: float) -> str:
    """A file that takes `size` times as long as a typical one."""
    body = "".join(
        f"int f{number}_{n}(int *a, int x)\n{{\n\tint s = MANY_{n}(x);\n\tfor (int j = 0; j < x; j++)\n"
        f"\t\tif (a[j] > s) s += a[j] * {n + 3}; else if (a[j] & 3) s ^= MANY_{n + 7}(a[j]) >> {n % 5}; "
        f"else a[j] = s / (x | 1);\n\treturn s;\n}}\n"
        for n in range(max(2, round(FUNCTIONS * size)))
    )
    return f"#include <linux/many.h>\n{body}"


def files() -> dict[str, str]:
    """Path -> text of what is added to the small kernel."""
    found = {f"fs/o{n}.c": source(n, size) for n, size in enumerate(sizes(COUNT, 0.58))}
    names = " ".join(f"o{n}.o" for n in range(COUNT))
    return found | {
        "include/linux/many.h": header(),
        "fs/Makefile": small_kernel.FILES["fs/Makefile"] + f"obj-y += {names}\n",
    }


def pack(archive: Path, scratch: Path) -> str:
    """The source as a tar file; its sha256. scratch: an empty directory for what is taken of the real source."""
    wanted = [f"linux-source-6.1/{pattern}" for pattern in small_kernel.TAKEN]
    argv = ["tar", "xf", TARBALL, "-C", scratch, "--strip-components=1", "--wildcards", *wanted]
    subprocess.run(argv, check=True)
    return small_kernel.pack(archive, TOP, small_kernel.source(scratch, **files()))
