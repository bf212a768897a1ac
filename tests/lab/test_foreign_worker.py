"""A small kernel of the real source, compiled with the help of a worker of another architecture: its gcc is another
machine's, and it has the coordinator's as a cross compiler."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.lab.project import WORKDIR, WORKERS, Project

pytestmark = [pytest.mark.lab, pytest.mark.real, pytest.mark.whole]


@pytest.fixture
def foreign(lab) -> Iterator[None]:
    """kubenode3's own gcc makes arm64, and x86_64-linux-gnu-gcc is a cross compiler there."""
    gcc = lab.exec("kubenode3", ["readlink", "/usr/bin/gcc"]).out.strip()
    lab.exec("kubenode3", ["ln", "-sfn", "aarch64-linux-gnu-gcc", "/usr/bin/gcc"], "root")
    yield
    lab.exec("kubenode3", ["ln", "-sfn", gcc, "/usr/bin/gcc"], "root")


def test_a_worker_of_another_architecture_helps_with_its_cross_compiler(lab, foreign) -> None:
    project = Project.small(lab, "foreign", "x86_64", "CONFIG_MODULES=y\nCONFIG_PRINTK=y\nCONFIG_64BIT=y\n")
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
