"""A small kernel of the real source on the lab, every object of the workers made here once more: no false alarm."""

from __future__ import annotations

import pytest

from tests.lab.project import WORKERS, Project

pytestmark = [pytest.mark.lab, pytest.mark.real, pytest.mark.whole]
CONFIG = "CONFIG_MODULES=y\nCONFIG_PRINTK=y\nCONFIG_64BIT=y\n"
DEBUG = "CONFIG_DEBUG_KERNEL=y\nCONFIG_DEBUG_INFO_DWARF5=y\n"


@pytest.mark.parametrize("config", [CONFIG, CONFIG + DEBUG], ids=["plain", "debug"])
def test_no_false_alarm_over_a_real_kernel(lab, config: str) -> None:
    project = Project.small(lab, "trust", "x86_64", config)
    project.edit("cluster.yaml", "build:\n", "build:\n  check_share: 100%\n")
    project.doit("compile")
    told = project.compiled()
    assert told["checked"] == {worker: told["per_node"][worker] for worker in WORKERS}
    assert sum(told["checked"].values()) > 200 and not (project.root / "build/quarantine").exists()
    assert ("CONFIG_DEBUG_INFO=y" in config_of(project)) == (DEBUG in config)
    project.doit("release")


def config_of(project: Project) -> str:
    return project.node(f"cat /home/builder/buildtest/makepkg/{project.results('compile')['tree']}/.config")
