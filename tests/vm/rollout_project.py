"""A project whose nodes are the lab's VMs, with packages to roll out and nothing to compile.

The packages are those that lie in artifacts/ of this repository (script/demo, or doit, makes them), or Debian's kernel
(debian_kernel.py); other builds of the XX"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from typing import Any

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.core.rollout import NOT_FOR_NODES, SHORT
from kbuild_tasks.lab.lab import Lab
from tests.lab.project import ROOT, Project
from tests.vm import debian_kernel
from tests.vm.machines import VMS, as_new, console, root
from tests.vm.variant import make

CANARY, SECOND = VMS
LIMIT = 900  # seconds for one step, on a machine that has other things to do
STATES = ("STAGED", "INSTALLED", "BOOTFILES_OK", "ARMED", "REBOOTING", "BACK", "VERIFIED", "VERIFIED2", "COMMITTED",
          "UNCORDONED")  # fmt: skip
# How a VM makes its initramfs: an emulated processor takes a minute for it, a third of that for packing alone.
QUICK = "printf 'COMPRESSLEVEL=1\\nBUSYBOX=n\\n' > /etc/initramfs-tools/conf.d/quick"


class Rollout(Project):
    """doit rollout, as builder, in the coordinator."""

    @classmethod
    def built(cls, lab: Lab, name: str) -> Rollout:
        """A fresh project with the packages of this repository, and VMs as new. Raises KbuildError: there are none."""
        if not (ROOT / "artifacts/manifest.json").exists() or not (ROOT / "build/receipts/package.json").exists():
            raise KbuildError("there are no packages in artifacts/", "script/demo --build makes them")
        made = cls._empty(lab, name)
        for directory in ("artifacts", "build/receipts", "build/inputs"):
            shutil.copytree(ROOT / directory, made.root / directory)
        made._ready()
        return made

    @classmethod
    def of_debian(cls, lab: Lab, name: str) -> Rollout:
        """The same with Debian's kernel."""
        made = cls._empty(lab, name)
        debian_kernel.package(lab, ROOT / "build/cache/test/debian-kernel", made.root / "artifacts")
        made.node(f"chown -RP builder: {made.root}", user="root")
        made.node(f"cd {ROOT} && .venv/bin/python -m tests.vm.debian_kernel {made.root}")
        for node in VMS:
            root(lab, node, QUICK)
        made._ready()
        return made

    @classmethod
    def _empty(cls, lab: Lab, name: str) -> Rollout:
        as_new(lab, *VMS)
        made = cls.make(lab, name)
        assert isinstance(made, cls)
        shutil.copy(ROOT / "cluster.yaml", made.root)  # with the VMs, and the workdir that belongs to the receipts
        return made

    def _ready(self) -> None:
        """Consoles are recorded, builder may write, the nodes have the helper."""
        (self.root / "build/console").symlink_to(ROOT / "build/console")  # where the lab shows them
        self.node(f"chown -RP builder: {self.root}", user="root")
        self.doit(*(f"sync:{node}" for node in VMS))

    def build(self) -> str:
        manifest = json.loads((self.root / "artifacts/manifest.json").read_text())
        return str(manifest["packages_sha256"])[:SHORT]

    def release(self) -> str:
        return str(json.loads((self.root / "artifacts/manifest.json").read_text())["kernelrelease"])

    def files(self) -> list[str]:
        """Packages that go to a node."""
        packages = json.loads((self.root / "artifacts/manifest.json").read_text())["packages"]
        return [str(package["file"]) for package in packages if not package["pkgname"].endswith(NOT_FOR_NODES)]

    def variant(self, word: str) -> str:
        """Another build of the same kernel in artifacts/; what names it."""
        return make(self.root, f"{word} {time.time()}")

    def journal(self, node: str) -> list[dict[str, Any]]:
        """Records of the present build."""
        path = self.root / f"build/rollout/{node}.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        records = [json.loads(line) for line in lines if line.endswith("}")]
        return [record for record in records if record["build"] == self.build()]

    def passed(self, node: str) -> list[str]:
        """The states that the present build came through there."""
        return [str(record["state"]) for record in self.journal(node)]

    def wait_for(self, node: str, state: str, run: subprocess.Popen[str]) -> bool:
        """Until the journal has that state; False: the run ended without."""
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            if state in self.passed(node):
                return True
            if run.poll() is not None:
                return state in self.passed(node)
            time.sleep(0.02)
        raise AssertionError(f"{node} never came to {state}")

    def kill(self, run: subprocess.Popen[str]) -> None:
        """kill -9 of doit itself, by the pid that its lock names (in the coordinator's own count)."""
        pid = json.loads((self.root / "build/.lock").read_text())["pid"]
        self.lab.exec("kubenode1", ["kill", "-9", str(pid)], user="root")
        run.communicate(timeout=60)

    def end(self, run: subprocess.Popen[str]) -> str:
        """What a run said, when it ended."""
        return run.communicate(timeout=LIMIT)[0]

    def alone(self, node: str) -> None:
        """The other VM is on hold here: it is another project's, and whether it is up is nobody's question."""
        path = self.root / "cluster.yaml"
        text, found = re.subn(rf"(?m)^(  (?!{node}:)(?:{'|'.join(VMS)}): {{)", r"\1hold: true, ", path.read_text())
        assert found == len(VMS) - 1, text
        path.write_text(text)

    def settings(self, **values: str) -> None:
        """Values below `rollout:` in cluster.yaml."""
        path = self.root / "cluster.yaml"
        text = path.read_text()
        for key, value in values.items():
            text, found = re.subn(rf"(?m)^(  (?:  )?{key}:) .*$", rf"\1 {value}", text)
            assert found == 1, f"cluster.yaml has {found} lines {key}:"
        path.write_text(text)


def booted(lab: Lab, node: str) -> list[str]:
    """The release of every kernel that was ever started there, as its console tells."""
    return re.findall(r"Linux version (\S+)", console(lab, node))
