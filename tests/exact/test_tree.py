"""Moving, keeping, mending and tidying a build tree under the true kbuild, without doit and makepkg around them: what
make compiles after each, and whether the bytes are those of a clean tree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kbuild_tasks.effects import keep, makepkg, places
from kbuild_tasks.effects.built import drop_markers
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.leftovers import Mark, mend
from kbuild_tasks.effects.stale import drop_stale
from kbuild_tasks.effects.tree import Trees
from tests.exact import small_kernel
from tests.exact.bench import BASE

pytestmark = pytest.mark.real
PLACE = "linux/src/linux-6.1"
CORE = ("kernel/core.c", "return x", "return 5 + x")


class Kernel:
    """A build tree of the small kernel below `home`, and its sources, to be edited."""

    def __init__(self, home: Path, linux: Path) -> None:
        self.paths = Paths(home / "project", home / "work", home / "work.state")
        self.trees, self.linux = Trees(self.paths.repository), linux
        self.top = self.paths.builddir / PLACE
        self.tree = ""
        self.dropped: list[str] = []

    def move(self, *edits: tuple[str, str, str], modes: tuple[str, ...] = (), **files: str) -> None:
        """Bring the tree to the sources with some edits; files: name -> more text at its end."""
        texts = dict(small_kernel.FILES)
        for path, old, new in edits:
            assert old in texts[path]
            texts[path] = texts[path].replace(old, new)
        for path, text in files.items():
            texts[path] = texts.get(path, "") + text
        source = self.paths.root / "source"
        shutil.rmtree(source, ignore_errors=True)
        for name, (mode, content) in small_kernel.source(self.linux, **texts).items():
            path = source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o755 if name in modes else mode)
        self.tree = self.trees.import_directory(source)
        keep.restore(self.paths, PLACE)
        self.trees.move(self.top, self.tree)

    def make(self, options: str = "") -> list[str]:
        """The .config and make, and what stage compile does after it; objects of C, programs of the host among them."""
        config = BASE + options
        asked = self.top.parent / "asked"
        if not asked.exists() or asked.read_text() != config or not (self.top / ".config").exists():
            (self.top / ".config").write_text(config)
            self._make("-s", "olddefconfig")
            asked.write_text(config)
        out = self._make("bzImage", "modules")
        drop_markers(self.top)
        self.dropped = drop_stale(self.paths, PLACE, self.tree, "x86_64")
        assert keep.save(self.paths, PLACE, self.tree, 1 << 30) is None
        return sorted(re.findall(r"^  (?:CC|HOSTCC)(?: \[M\])?\s+(\S+)$", out, re.M))

    def _make(self, *words: str) -> str:
        env = makepkg.environment({"MAKEFLAGS": "-j2"})
        done = subprocess.run(["make", *words], cwd=self.top, env=env, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def packaged(self) -> dict[str, bytes]:
        """Everything that packages take from the tree."""
        names = ["vmlinux", "arch/x86/boot/bzImage", "System.map", "Module.symvers", ".config"]
        names += (self.top / "modules.order").read_text().split()
        for place in ("scripts", "include", "arch/x86/include"):
            for path in (self.top / place).rglob("*"):
                if path.is_file() and path.suffix != ".o":
                    names.append(str(path.relative_to(self.top)))
        return {name: (self.top / name).read_bytes() for name in names}

    def lose(self) -> None:
        shutil.rmtree(self.paths.workdir)

    def forget(self) -> None:
        shutil.rmtree(self.paths.kept)
        (self.paths.state / "prepared.json").unlink()


@pytest.fixture(scope="module")
def built(linux_source: Path) -> Iterator[Kernel]:
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("there is no tmpfs for all")
    home = Path(tempfile.mkdtemp(prefix="kbuild-exact.", dir="/dev/shm"))
    kernel = Kernel(home, linux_source)
    kernel.move()
    assert len(kernel.make()) > 20
    kernel.first = kernel.packaged()  # type: ignore[attr-defined]
    yield kernel
    shutil.rmtree(home)


@pytest.fixture
def kernel(built: Kernel) -> Iterator[Kernel]:
    """As it was first: the test before it undid what it did, to the same bytes."""
    yield built
    built.move()
    built.make()
    assert differing(built.packaged(), built.first) == []  # type: ignore[attr-defined]


def differing(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def test_a_lost_tree_comes_back_and_an_edit_compiles_one_object(kernel: Kernel) -> None:
    kernel.lose()
    kernel.move(CORE)
    assert kernel.make() == ["arch/x86/boot/setup.o", "kernel/core.o"]
    edited = kernel.packaged()
    kernel.lose()
    kernel.move(CORE)
    assert kernel.make() == []
    assert differing(kernel.packaged(), edited) == []


def test_a_lost_tree_of_which_copies_are_damaged(kernel: Kernel) -> None:
    os.truncate(kernel.paths.kept / "files/kernel/sched.o", 64)
    (kernel.paths.kept / "files/scripts/mod/modpost").unlink()
    kernel.lose()
    kernel.move()
    assert set(kernel.make()) <= {"kernel/sched.o", "arch/x86/boot/setup.o"}


def test_a_mode_alone_compiles_nothing(kernel: Kernel) -> None:
    kernel.move(modes=("kernel/sched.c", "include/linux/kernel.h"))
    assert os.access(kernel.top / "kernel/sched.c", os.X_OK)
    assert kernel.make() == []


def test_a_host_program_whose_option_is_off_again_goes(kernel: Kernel) -> None:
    assert "scripts/kallsyms" in kernel.make("CONFIG_KALLSYMS=y\n")
    kernel.make()
    assert kernel.dropped == ["scripts/kallsyms"]
    assert kernel.make() == []


def test_a_generated_header_of_a_dropped_patch_goes(kernel: Kernel) -> None:
    more = "filechk_more = echo '$(pound)define MORE 1'\ninclude/generated/more.h: FORCE\n\t$(call filechk,more)\n"
    kernel.move(Kbuild=f"{more}prepare: include/generated/more.h\n")
    kernel.make()
    assert (kernel.top / "include/generated/more.h").exists()
    kernel.move()
    kernel.make()
    assert kernel.dropped == ["include/generated/more.h"]


@pytest.mark.parametrize("name", ["scripts/kconfig/conf.o", "scripts/basic/fixdep", "kernel/core.o", "fs/built-in.a"])
def test_half_a_file_of_a_killed_build_is_made_again(kernel: Kernel, name: str) -> None:
    """As a kill in the middle of a rebuild leaves it: the record is the old one, the file newer than its source."""
    mark = Mark(places.mark(kernel.paths, PLACE, "compiling"), kernel.top)
    mark.set()
    began = time.time() - 60
    os.utime(mark.path, (began, began))
    os.truncate(kernel.top / name, 40)
    os.utime(kernel.top / name, (began + 1, began + 1))
    path = kernel.top / name
    os.utime(path.with_name(f".{path.name}.cmd"), (began - 1, began - 1))
    assert name in mend(kernel.top, mark)
    mark.clear()
    kernel.make("CONFIG_TRACE=y\n")
