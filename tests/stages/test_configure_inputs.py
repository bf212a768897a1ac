"""What configure declares: the files and values whose content makes another .config."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

from kbuild_tasks.core.model import Kernel, Waiver
from kbuild_tasks.stages.configure import inputs


def test_inputs() -> None:
    kernel = Kernel(
        "PKGBUILD",
        "x86_64",
        "kernel/config",
        ("a.config", "b.config"),
        require=("X",),
        waivers=(Waiver("Y", "2027-01-31", "z"),),
    )
    project = SimpleNamespace(cluster=SimpleNamespace(kernel=kernel), compiler={"gcc": "12"})
    declared = inputs(project)
    assert declared.files == ("kernel/config", "a.config", "b.config")
    assert declared.receipts == ("patch",)
    assert declared.values["waivers"] == [["Y", "2027-01-31", "z"]]
    named = SimpleNamespace(cluster=SimpleNamespace(kernel=replace(kernel, config="bcm2711_defconfig")), compiler={})
    assert inputs(named).files == ("a.config", "b.config")
    assert inputs(named).values["config"] == "bcm2711_defconfig"
