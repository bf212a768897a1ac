"""What `doit simulate` predicts beside what a build then takes, with 1, 2 and 3 nodes that have a share of a core each.

In the lab: the coordinator has one core, compiles nothing, and each worker has SHARE of one, so that the machine's two
cores carry all of them. The nodes are calibrated once; before each build it is asked how long it will take, from the
calibration and the trace of the build before. The objects are deleted between builds, kbuild's own programs are not.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from kbuild_tasks.lab.lab import Lab
from tests.bench import heavy
from tests.exact.bench import BASE, PKGBUILD

COUNTS = (1, 2, 3)
SHARE = os.environ.get("KBUILD_BENCH_SHARE", "0.3")  # less where the machine does other things meanwhile
GOAL = 0.15
COORDINATOR, WORKDIR = "kubenode1", "/home/builder/buildsimulate"
CLUSTER = """\
version: 1
kernel: {{pkgbuild: kernel/PKGBUILD, arch: x86_64, config: kernel/config}}
build: {{coordinator: kubenode1, workdir: {{path: {workdir}, tmpfs: off}}}}
ssh: {{user: ansible, identity: ~/.ssh/id_ed25519, known_hosts: ~/.ssh/known_hosts}}
nodes:
  kubenode1: {{address: 10.77.0.11, connection: local, slots: 0, rollout: false}}
"""


class Project:
    """A project of its own in the lab's coordinator."""

    def __init__(self, root: Path) -> None:
        self.root, self.path = root, root / "build" / "bench-simulate"
        self.lab = Lab(root)
        self.lab.up(max(COUNTS) + 1)
        for number in range(1, max(COUNTS) + 2):
            self.lab.cpu(f"kubenode{number}", "1" if number == 1 else SHARE)
        self.shell(f"rm -rf {self.path} {WORKDIR} {WORKDIR}.state; mkdir -p {self.path}/kernel {self.path}/source")
        with tempfile.TemporaryDirectory() as scratch:
            archive = self.path / "source" / "small.tar"
            total = heavy.pack(archive, Path(scratch))
        text = PKGBUILD.replace("@VERSION@", "1").replace("@TARBALL@", str(archive)).replace("@SUM@", total)
        (self.path / "kernel/PKGBUILD").write_text(text.replace("@TOP@", heavy.TOP))
        (self.path / "kernel/config").write_text(BASE)
        shutil.copy(root / "dodo.py", self.path)

    def use(self, count: int) -> None:
        """So many workers; the others are on hold."""
        nodes = "".join(
            f"  kubenode{n}: {{address: 10.77.0.{10 + n}, rollout: false, hold: {str(n > count + 1).lower()}}}\n"
            for n in range(2, max(COUNTS) + 2)
        )
        (self.path / "cluster.yaml").write_text(CLUSTER.format(workdir=WORKDIR) + nodes)
        self.shell(f"chown -R builder: {self.path}", "root")

    def shell(self, script: str, user: str = "builder") -> str:
        return self.lab.exec(COORDINATOR, ["sh", "-c", script], user, timeout=1800).out

    def doit(self, *words: str) -> str:
        return self.shell(f"cd {self.path} && exec {self.root}/.venv/bin/doit {' '.join(words)} 2>&1")

    def build(self) -> float:
        """Compile all objects anew; seconds of the stage."""
        receipt = self.path / "build/receipts/compile.json"
        if receipt.exists():
            tree = f"{WORKDIR}/makepkg/{json.loads(receipt.read_text())['results']['tree']}"
            where = f"{tree} -path {tree}/scripts -prune -o -type f"
            self.shell(f"find {where} '(' -name '*.[oa]' -o -name 'vmlinux*' ')' -exec rm -f {{}} +")
            self.doit("forget", "compile")
        self.doit("compile")
        told = json.loads((self.path / "build/last-run.json").read_text())["tasks"]["compile"]
        assert len(told["objects"]) > heavy.COUNT and not told["fallbacks"], told
        return float(told["seconds"])

    def predict(self, count: int) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.doit("simulate", "--json", "--nodes", str(count)))
        point: dict[str, Any] = value["curves"][0]["points"][0]
        return point


def measure(root: Path) -> dict[str, Any]:
    """{"seconds": {count: {"predicted", "measured", "bound"}}, "ratios", "goals"}."""
    project = Project(root)
    try:
        project.use(max(COUNTS))
        project.build()
        told = project.doit("calibrate")
        project.build()
        return compare(project) | {"calibration": told.splitlines()}
    finally:
        for number in range(1, max(COUNTS) + 2):
            project.lab.cpu(f"kubenode{number}", "max")


def compare(project: Any) -> dict[str, Any]:
    """Each count predicted first, then built; of whatever has use(), predict() and build()."""
    seconds: dict[str, Any] = {}
    for count in COUNTS:
        project.use(count)
        point = project.predict(count)
        seconds[str(count)] = {"predicted": point["seconds"], "bound": point["bound"], "measured": project.build()}
    names = {count: f"predicted / measured, {count} node{'s' if count > 1 else ''}" for count in COUNTS}
    ratios = {name: seconds[str(n)]["predicted"] / seconds[str(n)]["measured"] for n, name in names.items()}
    goal = f"{1 - GOAL:.2f} to {1 + GOAL:.2f}"
    return {"seconds": seconds, "ratios": ratios, "goals": dict.fromkeys(ratios, goal)}
