"""Projects around the PKGBUILDs of tests/pkgbuilds, and what their sources name: the real kernel, or a part of it.

file:///usr/src/ in a PKGBUILD is made a directory of the test's; else it is used as it lies there. A patch that source=
names with .gz, .xz or .zst lies there in plain text, and is packed when it is copied.
"""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.effects.files import write_json
from kbuild_tasks.plugin.plan import Step, plan
from kbuild_tasks.plugin.tasks import Pipeline
from tests.makepkg_world import NOBODY, as_builder

PKGBUILDS = Path(__file__).parent / "pkgbuilds"
TOP = "linux-source-6.1"
# What Kconfig and a prepare() need of Linux: 40 MB instead of 1.3 GB.
PART = ["Makefile", "Kbuild", "CREDITS", "MAINTAINERS", "COPYING", "README", "usr", "scripts", "arch/x86"]

CLUSTER = """\
version: 1
kernel:
  pkgbuild: kernel/PKGBUILD
  arch: {arch}
  config: allnoconfig
  fragments: [any.config]
build:
  coordinator: n1
  workdir: {{path: {home}/work, tmpfs: off}}
nodes:
  n1: {{address: 127.0.0.1, connection: local, slots: 2}}
"""
FRAGMENT = """\
CONFIG_64BIT=y
CONFIG_CC_OPTIMIZE_FOR_SIZE=y
CONFIG_KERNEL_GZIP=y
CONFIG_PRINTK=y
CONFIG_MODULES=y
CONFIG_CRC7=m
"""


@dataclass
class AnyProject:
    """A project at home/project whose kernel/ is a copy of one of the PKGBUILDs."""

    home: Path

    @property
    def kernel(self) -> Path:
        return self.home / "project" / "kernel"

    @property
    def pkgbuild(self) -> Path:
        return self.kernel / "PKGBUILD"

    def use(self, name: str, arch: str = "x86_64", nodes: int = 1, **replaced: str) -> AnyProject:
        """Make PKGBUILD and the files beside it those of `name`; @KEY@ in it is replaced by what is given for KEY."""
        shutil.rmtree(self.kernel, ignore_errors=True)
        shutil.copytree(PKGBUILDS / name, self.kernel)
        text = self.pkgbuild.read_text().replace("file:///usr/src/", f"file://{self.home}/usr/")
        for key, value in replaced.items():
            text = text.replace(f"@{key}@", value)
        self.pkgbuild.write_text(text)
        for path in sorted(self.kernel.glob("*.patch")):
            pack(path, text)
        more = "".join(f"  n{n}: {{address: 10.0.0.{n}}}\n" for n in range(2, nodes + 1))
        (self.home / "project/cluster.yaml").write_text(CLUSTER.format(home=self.home, arch=arch) + more)
        (self.home / "project/any.config").write_text(FRAGMENT)
        facts = {"cores": 2, "memory": 8 << 30, "available": 4 << 30}
        write_json(
            self.home / "project/build/facts/n1.json",
            {"node": "n1", "state": "ready", "why": "", "facts": facts, "mode": {}},
        )
        return self.own()

    def own(self) -> AnyProject:
        if os.geteuid() == 0:
            subprocess.run(["chown", "-hR", f"{NOBODY}:{NOBODY}", self.home / "project"], check=True)
            os.chown(self.home, NOBODY, NOBODY)
        return self

    def pipeline(self) -> Pipeline:
        return Pipeline(self.home / "project/cluster.yaml")

    def plan(self) -> dict[str, Step]:
        return {step.task: step for step in plan(self.pipeline())}

    def why(self, stage: str) -> list[str]:
        return as_builder(self.home, lambda: self.pipeline().why(stage))

    def run(self, *stages: str) -> Any:
        """Run stages one after the other, each only if it is stale, as doit does; the last one's (Outcome, results).
        Of a stage that was fresh the outcome is None."""
        return as_builder(self.home, self._run, stages)

    def _run(self, stages: tuple[str, ...]) -> Any:
        outcome = None
        for stage in stages:
            pipeline = self.pipeline()
            outcome = pipeline._run(stage) if pipeline.why(stage) else None
        receipt = pipeline.receipts.read(stage)
        assert receipt
        return outcome, receipt["results"]

    def refusal(self, *stages: str) -> KbuildError:
        try:
            self.run(*stages)
        except KbuildError as error:
            return error
        raise AssertionError(f"{stages} ended without an error")

    def srcdir_of(self, pkgbase: str) -> Path:
        return self.home / "work/makepkg" / pkgbase / "src"


def pack(path: Path, text: str) -> None:
    """Compress a patch where the PKGBUILD names it compressed."""
    data = path.read_bytes()
    for suffix, packed in ((".gz", lambda: gzip.compress(data, mtime=0)), (".xz", lambda: lzma.compress(data))):
        if path.name + suffix in text:
            path.with_name(path.name + suffix).write_bytes(packed())
            path.unlink()
    if path.name + ".zst" in text:
        subprocess.run(["zstd", "-q", "--rm", path], check=True)


def part_of_linux(source: Path, target: Path) -> None:
    """target/linux-source-6.1.tar.xz (no xz in it: makepkg looks at the content) with what PART names."""
    names = [str(path.relative_to(source)) for path in source.rglob("*Kconfig*")]
    inside = tuple(f"{name}/" for name in PART)
    listed = "\0".join([*PART, *(name for name in names if not name.startswith(inside))])
    command = ["tar", "-cf", target / f"{TOP}.tar.xz", "-C", source, f"--transform=s,^,{TOP}/,rSh", "--null", "-T", "-"]
    subprocess.run(command, input=listed.encode(), check=True)
