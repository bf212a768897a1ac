"""A dozen edits on the real Linux 6.1, one after the other: what is compiled is what plain make compiles after each in
a tree edited by hand, and the bytes are those of a clean build. An hour or two on two cores: script/test --whole.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import TARBALL
from tests.exact.bench import Bench, State, diff, new_bench
from tests.exact.edits import edit, mode

pytestmark = [pytest.mark.real, pytest.mark.whole]
TOP = "linux-source-6.1"
WANTED = """\
CONFIG_64BIT=y
CONFIG_MODULES=y
CONFIG_MODULE_UNLOAD=y
CONFIG_PRINTK=y
CONFIG_PROC_FS=y
CONFIG_CRC8=m
CONFIG_CRC_ITU_T=m
"""


class RealBench(Bench):
    """The hand's tree is a copy of the whole source; of it, only files that some patch touched are looked at."""

    def prepare_sources(self, linux: Path) -> None:
        self.linux = linux
        self.touched: set[str] = set()
        self.archives = [TARBALL]
        self.sums = [subprocess.run(["sha256sum", TARBALL], check=True, capture_output=True, text=True).stdout[:64]]
        subprocess.run(["cp", "-a", linux, self.hand], check=True)
        self.own(self.hand)
        self._make("-s", "allnoconfig")
        self.base = (self.hand / ".config").read_text() + WANTED

    def sources_by_hand(self, state: State) -> dict[str, tuple[int, bytes]]:
        for _, text in state.patches:
            self.touched |= set(re.findall(r"^(?:diff --git a/|rename to )(\S+)", text, re.M))
        scratch = self.home / "hand" / "scratch"
        for name in self.touched:
            (scratch / TOP / name).parent.mkdir(parents=True, exist_ok=True)
            if (self.linux / name).exists():
                shutil.copy(self.linux / name, scratch / TOP / name)
        found = self.apply_by_hand(state, scratch)
        for name in self.touched - found.keys():
            (self.hand / name).unlink(missing_ok=True)
        return found


@pytest.fixture(scope="module")
def bench(linux_source: Path) -> Iterator[RealBench]:
    yield from new_bench(linux_source, kind=RealBench, tops=(TOP,))


def edits(linux: Path) -> list[tuple[str, State]]:
    def change(path: str, old: str, new: str) -> str:
        return edit(path, old, new, text=(linux / path).read_text())

    def text(path: str) -> str:
        return (linux / path).read_text()

    fork = change("kernel/fork.c", "/* tunable limit on nr_threads */", "/* a limit on nr_threads */")
    header = change("include/linux/fs_struct.h", "int users;", "int users; /* of it */")
    module = change("lib/crc8.c", "while (nbytes-- > 0)", "while (nbytes-- != 0)")
    added = diff(
        [
            ("lib/small.c", "", '#include <linux/module.h>\nint small;\nMODULE_LICENSE("GPL");\n'),
            ("lib/Kconfig", text("lib/Kconfig"), f"config SMALL\n\ttristate\n\tdefault m\n\n{text('lib/Kconfig')}"),
            ("lib/Makefile", text("lib/Makefile"), text("lib/Makefile") + "obj-$(CONFIG_SMALL) += small.o\n"),
        ]
    )
    renamed = (
        "diff --git a/kernel/range.c b/kernel/ranges.c\nsimilarity index 100%\nrename from kernel/range.c\n"
        "rename to kernel/ranges.c\n" + change("kernel/Makefile", "range.o", "ranges.o")
    )
    start = State(
        patches=(("fork", fork), ("header", header), ("module", module)), fragments=(("one", "CONFIG_CRC7=m\n"),)
    )
    return [
        ("start", start),
        ("built in", one := start.patched("fork", fork.replace("a limit", "one limit"))),
        ("header", two := one.patched("header", header.replace("of it", "of this"))),
        ("module", three := two.patched("module", None)),
        ("added", four := three.patched("added", added, at=1)),
        ("renamed", five := four.patched("renamed", renamed)),
        ("mode", six := five.patched("mode", mode("kernel/sys.c"))),
        ("order", seven := replace(six, patches=tuple(reversed(six.patches)))),
        ("a fragment more", eight := seven.with_fragment("two", "CONFIG_CRC8=y\nCONFIG_KALLSYMS=y\n")),
        ("a fragment dropped", nine := eight.with_fragment("one", None)),
        ("pkgrel", ten := nine.with_pkgbuild("pkgrel=1", "pkgrel=2")),
        ("package function", ten.with_pkgbuild('modules" .config System.map', 'modules" System.map')),
        ("all undone", start),
    ]


def test_a_dozen_edits(bench: RealBench, linux_source: Path) -> None:
    for name, state in edits(linux_source):
        print(name, flush=True)
        bench.exact(state)
