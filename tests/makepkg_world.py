"""A small project with a real PKGBUILD and a small true kernel tree, and a user who is not root to build it.

makepkg refuses root. Where the tests run as root, a function is run in a forked child that has become `nobody`; its
value or its exception comes back.
"""

from __future__ import annotations

import io
import os
import pickle
import shutil
import sys
import tarfile
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from kbuild_tasks.core.model import Build, Cluster, Kernel, Node, Ssh, Workdir
from kbuild_tasks.effects.context import Context, Paths

NOBODY = 65534

MAKEFILE = """\
RELEASE := 6.1.1$(shell cat localversion* 2>/dev/null)
all: kernel.img mod.ko
kernel.img: init.c .config
	cat init.c .config > $@
mod.ko: mod.c
	cp $< $@
.config:
	touch $@
kernelrelease:
	@echo $(RELEASE)
modules_install: mod.ko
	install -D -m644 mod.ko $(INSTALL_MOD_PATH)/lib/modules/$(RELEASE)/mod.ko
"""

TREE = {
    "Makefile": MAKEFILE,
    "Kconfig": "config A\n\tbool\n",
    "Kbuild": "obj-y := init.o\n",
    "init.c": "int main(void) { return 0; }\n",
    "mod.c": "int mod;\n",
}

PKGBUILD = """\
pkgbase=linux-small
pkgname=(linux-small linux-small-headers)
pkgver=6.1.1
pkgrel=1
pkgdesc="A small kernel"
arch=(x86_64 aarch64)
source=("file://@TARBALL@" config)
sha256sums=('@SUM@' SKIP)
prepare() {
  cd linux-6.1.1
  echo "-$pkgrel" > localversion.10-pkgrel
}
build() {
  cd linux-6.1.1
  make all
}
package_linux-small() {
  cd linux-6.1.1
  make INSTALL_MOD_PATH="$pkgdir/usr" modules_install
  install -Dm644 kernel.img "$pkgdir/usr/lib/modules/$(make -s kernelrelease)/vmlinuz"
}
package_linux-small-headers() {
  cd linux-6.1.1
  install -Dm644 Kconfig "$pkgdir/usr/lib/modules/$(make -s kernelrelease)/build/Kconfig"
}
"""


@dataclass
class World:
    """A project at `home`/project, owned by the user who builds."""

    home: Path
    kernel: dict[str, Any] = field(default_factory=dict)
    build: dict[str, Any] = field(default_factory=dict)

    @property
    def pkgbuild(self) -> Path:
        return self.home / "project" / "kernel" / "PKGBUILD"

    @property
    def cluster(self) -> Cluster:
        kernel = Kernel("kernel/PKGBUILD", "x86_64", "kernel/config", **self.kernel)
        build = Build("n1", Workdir(str(self.home / "work")), **self.build)
        return Cluster(self.home / "project", "cluster.yaml", kernel, build, Ssh(), {"n1": Node("n1", "127.0.0.1")})

    @property
    def paths(self) -> Paths:
        return Paths.of(self.cluster)

    def context(self, task: str, **receipts: Any) -> Context:
        return Context(self.cluster, self.paths, task, receipts={k: {"results": v} for k, v in receipts.items()})

    def tarball(self, name: str = "linux-6.1.1", files: dict[str, str] | None = None) -> str:
        """Write <home>/<name>.tar and return its sha256."""
        path = self.home / f"{name}.tar"
        with tarfile.open(path, "w") as archive:
            for file, text in (TREE if files is None else files).items():
                info = tarfile.TarInfo(f"{name}/{file}")
                info.size = len(text)
                archive.addfile(info, io.BytesIO(text.encode()))
        os.chmod(path, 0o644)
        return sha256(path.read_bytes()).hexdigest()

    def write(self, text: str = PKGBUILD) -> None:
        """Write the PKGBUILD; @TARBALL@ and @SUM@ stand for the small kernel's archive and its true checksum."""
        path = self.home / "linux-6.1.1.tar"
        total = sha256(path.read_bytes()).hexdigest() if path.exists() else self.tarball()
        text = text.replace("@TARBALL@", str(path)).replace("@SUM@", total)
        self.pkgbuild.parent.mkdir(parents=True, exist_ok=True)
        self.pkgbuild.write_text(text)
        (self.pkgbuild.parent / "config").write_text("CONFIG_A=y\n")
        if os.geteuid() == 0:
            os.chown(self.home, NOBODY, NOBODY)
            for directory, names, files in os.walk(self.home):
                for name in names + files:
                    os.chown(os.path.join(directory, name), NOBODY, NOBODY, follow_symlinks=False)

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """function(*args) as the user who builds."""
        return as_builder(self.home, function, *args)


def new_world() -> Iterator[World]:
    home = Path(tempfile.mkdtemp(prefix="kbuild-world."))
    os.chmod(home, 0o755)
    world = World(home)
    world.write()
    try:
        yield world
    finally:
        for directory, _, _ in os.walk(home):
            os.chmod(directory, 0o755)
        shutil.rmtree(home)


def as_builder(home: Path, function: Callable[..., Any], *args: Any) -> Any:
    if os.geteuid() != 0:
        return function(*args)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(read)
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os.environ["HOME"] = str(home)
            os.chdir(home)
            try:
                answer = (True, function(*args))
            except Exception as error:
                error.add_note(traceback.format_exc())
                answer = (False, error)
            with os.fdopen(write, "wb") as pipe:
                pickle.dump(answer, pipe)
            code = 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    good, value = pickle.loads(data)
    if not good:
        raise value
    return value
