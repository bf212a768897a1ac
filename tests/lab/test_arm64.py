"""A small arm64 kernel with its dtbs, of the real source: compiled on x86_64 nodes by their cross compiler, packaged.

What is in it is the least: this is about names, environments and packages, not about a board.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.lab.project import WORKDIR, WORKERS, Project

pytestmark = [pytest.mark.lab, pytest.mark.real, pytest.mark.whole]

CONFIG = """\
CONFIG_MODULES=y
CONFIG_ARCH_BCM=y
CONFIG_ARCH_BCM2835=y
CONFIG_MMU=y
CONFIG_PRINTK=y
CONFIG_TTY=y
CONFIG_SERIAL_AMBA_PL011=y
CONFIG_CRC7=m
CONFIG_IKCONFIG=y
CONFIG_IKCONFIG_PROC=y
CONFIG_LOCALVERSION_AUTO=n
"""


@pytest.fixture(scope="module")
def project(lab) -> Iterator[Project]:
    made = Project.small(lab, "arm64", "aarch64", CONFIG)
    made.doit()
    made.first_run = made.last_run()
    yield made
    made.doit("release", status=None)


def test_it_is_an_arm64_kernel_and_has_its_dtbs(project: Project) -> None:
    manifest = json.loads((project.root / "artifacts/manifest.json").read_text())
    package = manifest["packages"][0]["file"]
    assert package.endswith("-aarch64.pkg.tar.zst")
    names = project.node(f"bsdtar -tf {project.root}/artifacts/{package}").split()
    assert [name for name in names if re.search(r"/dtb/broadcom/bcm2837-rpi-cm3-io3\.dtb$", name)]
    assert [name for name in names if name.endswith("/kernel/lib/crc7.ko")]
    tree = f"{WORKDIR}/makepkg/{project.results('compile')['tree']}"
    assert "ARM aarch64" in project.node(f"file {tree}/vmlinux")
    image = next(name for name in names if name.endswith("/vmlinuz"))
    assert "ARM64 boot executable" in project.node(f"bsdtar -xOf {project.root}/artifacts/{package} {image} | file -")
    assert "aarch64-linux-gnu-gcc" in project.node(f"cat {tree}/lib/.ctype.o.cmd")


def test_most_of_it_was_compiled_by_the_workers(project: Project) -> None:
    told = project.first_run["tasks"]["compile"]
    assert sum(told["per_node"].get(worker, 0) for worker in WORKERS) >= 0.6 * len(told["objects"])
    assert not told["fallbacks"]
    facts = json.loads((project.root / "build/facts/kubenode2.json").read_text())["facts"]
    assert facts["compiler"]["machine"] == "aarch64-linux-gnu"


def test_a_second_run_has_nothing_to_do_and_another_machines_gcc_is_not_taken(project: Project) -> None:
    project.doit()
    assert set(project.states().values()) == {"fresh"}
    project.edit("cluster.yaml", "arch: aarch64", "arch: armv7h")
    out = project.doit("configure", status=None)
    assert "no compiler here makes kernels for armv7h" in out
    assert "install arm-linux-gnueabihf-gcc (Debian: gcc-arm-linux-gnueabihf)" in out
    assert "Traceback" not in out
