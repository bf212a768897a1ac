"""What configure declares: the files and values whose content makes another .config, and when that one is lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from kbuild_tasks.core.model import Build, Kernel, Waiver, Workdir
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.files import sha256_text
from kbuild_tasks.stages.configure import inputs, lost


def test_inputs() -> None:
    kernel = Kernel(
        "PKGBUILD",
        "x86_64",
        "kernel/config",
        ("a.config", "b.config"),
        require=("X",),
        waivers=(Waiver("Y", "2027-01-31", "z"),),
    )
    build = Build("n1", Workdir("/w"))
    project = SimpleNamespace(cluster=SimpleNamespace(kernel=kernel, build=build), compiler={"gcc": "12"})
    declared = inputs(project)
    assert declared.files == ("kernel/config", "a.config", "b.config")
    assert declared.receipts == ("patch",)
    assert declared.values["waivers"] == [["Y", "2027-01-31", "z"]]
    assert "reproducible" not in declared.values
    project.cluster.build = replace(build, reproducible=True)
    assert inputs(project).values["reproducible"] is True, "it decides what is refused"
    kernel = replace(kernel, config="bcm2711_defconfig")
    named = SimpleNamespace(cluster=SimpleNamespace(kernel=kernel, build=build), compiler={})
    assert inputs(named).files == ("a.config", "b.config")
    assert inputs(named).values["config"] == "bcm2711_defconfig"


def test_a_tree_without_the_proven_config_is_lost(tmp_path: Path) -> None:
    paths = Paths(tmp_path, tmp_path / "work", tmp_path / "work.state")
    results = {"place": "linux/src/linux-6.1", "config_sha256": sha256_text("CONFIG_A=y\n")}
    config = paths.builddir / "linux/src/linux-6.1/.config"
    assert list(lost(paths, results)) == [f"{config} is not there"]
    config.parent.mkdir(parents=True)
    config.write_text("CONFIG_A=n\n")
    assert list(lost(paths, results)) == [f"{config} is not the one that was proven"]
    config.write_text("CONFIG_A=y\n")
    assert list(lost(paths, results)) == []
