"""Small kernels of the real source. One is arm64, with its dtbs: compiled on x86_64 nodes by their cross compiler,
and packaged. One is compiled with the help of a worker of another architecture: its gcc is another machine's, and it
has the coordinator's as a cross compiler.

What is in them is the least: this is about names, environments and packages, not about a board.
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


def small(lab, name: str, arch: str, config: str) -> Project:
    """A project with allnoconfig and `config`, without patches."""
    made = Project.make(lab, name)
    text = (made.root / "cluster.yaml").read_text().replace("arch: x86_64", f"arch: {arch}")
    text = re.sub(r"(?m)^  (fragments|require|patches):.*\n", "", text)
    text = re.sub(r"(?m)^  config: .*", "  config: allnoconfig\n  fragments: [kernel/small.config]", text)
    (made.root / "cluster.yaml").write_text(text)
    (made.root / "kernel/small.config").write_text(config)
    made.node(f"chown -R builder: {made.root}", user="root")
    return made


@pytest.fixture(scope="module")
def project(lab) -> Iterator[Project]:
    made = small(lab, "arm64", "aarch64", CONFIG)
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


@pytest.fixture
def foreign(lab) -> Iterator[None]:
    """kubenode3's own gcc makes arm64, and x86_64-linux-gnu-gcc is a cross compiler there."""
    gcc = lab.exec("kubenode3", ["readlink", "/usr/bin/gcc"]).out.strip()
    lab.exec("kubenode3", ["ln", "-sfn", "aarch64-linux-gnu-gcc", "/usr/bin/gcc"], "root")
    yield
    lab.exec("kubenode3", ["ln", "-sfn", gcc, "/usr/bin/gcc"], "root")


def test_a_worker_of_another_architecture_helps_with_its_cross_compiler(lab, foreign) -> None:
    project = small(lab, "foreign", "x86_64", "CONFIG_MODULES=y\nCONFIG_PRINTK=y\nCONFIG_64BIT=y\n")
    project.doit("compile")
    told = project.compiled()
    assert told["per_node"].get("kubenode3", 0) > 20 and told["per_node"].get("kubenode2", 0) > 20, told["per_node"]
    assert not told["fallbacks"]
    modes = [json.loads((project.root / f"build/facts/{name}.json").read_text())["mode"] for name in WORKERS]
    assert [mode["cc"] for mode in modes] == ["gcc", "x86_64-linux-gnu-gcc"]
    tree = f"{WORKDIR}/makepkg/{project.results('compile')['tree']}"
    assert " gcc " in project.node(f"head -n 1 {tree}/lib/.ctype.o.cmd"), "what kbuild records is as ever"
    built = project.results("compile")["vmlinux_sha256"]
    project.node(f"find {tree} -name '*.o' -path '*/lib/*' -delete; rm {tree}/vmlinux")
    text = (project.root / "cluster.yaml").read_text()
    (project.root / "cluster.yaml").write_text(re.sub(r"(10\.77\.0\.1[23]), ", r"\1, slots: 0, ", text))
    project.doit("compile")
    assert set(project.compiled()["per_node"]) == {"kubenode1"}
    assert project.results("compile")["vmlinux_sha256"] == built, "the same bytes, whoever compiled"
    project.doit("release")
