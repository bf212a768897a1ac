"""A project of its own in the lab's coordinator: a copy of the shipped example, compiled once for all tests.

It lies under build/ of this repository, which the coordinator sees at the same path and `builder` may write. Its
workdir differs from the shipped one, so a demo's tree is left alone.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kbuild_tasks.lab.lab import Lab

ROOT = Path(__file__).parent.parent.parent
COORDINATOR, WORKERS = "kubenode1", ("kubenode2", "kubenode3")
STAGES = ("extract", "patch", "configure", "compile", "package")
WORKDIR = "/home/builder/buildtest"
AUDIT = """\
import sys
def no(event, args):
    if event in ("subprocess.Popen", "os.fork", "os.posix_spawn", "os.exec", "os.system", "socket.connect"):
        print("AUDIT", event, args, file=sys.stderr)
        __import__("os")._exit(99)
sys.addaudithook(no)
"""


class Project:
    """doit, as builder, in the coordinator."""

    def __init__(self, lab: Lab, root: Path) -> None:
        self.lab, self.root = lab, root

    @classmethod
    def make(cls, lab: Lab, name: str) -> Project:
        """A fresh copy of the example; what an earlier session left of it, in the node too, is removed."""
        root = ROOT / "build" / "test" / name
        project = cls(lab, root)
        lab.exec(COORDINATOR, ["mkdir", "-p", str(root.parent)], user="builder")
        if root.exists():
            project.node(
                f"cd {root} && [ ! -e dodo.py ] || {ROOT}/.venv/bin/doit release || true; rm -rf {root}", check=False
            )
        project.node(f"rm -rf {WORKDIR} {WORKDIR}.state; mkdir -p {root}")
        for item in ("kernel", "patches", "dodo.py", "cluster.yaml"):
            source = ROOT / item
            if source.is_dir():
                shutil.copytree(source, root / item)
            else:
                shutil.copy(source, root / item)
        project.edit("cluster.yaml", "/home/builder/buildtmp", WORKDIR)
        # The VMs of the example are not up here: what is left out is tried again by each run, and never fresh.
        lines = (root / "cluster.yaml").read_text().splitlines(keepends=True)
        kept = "".join(line for line in lines if "kubenode7" not in line and "kubenode8" not in line)
        (root / "cluster.yaml").write_text(kept)
        project.node(f"chown -R builder: {root}", user="root")
        return project

    @classmethod
    def small(cls, lab: Lab, name: str, arch: str, config: str) -> Project:
        """A project with allnoconfig and `config`, without patches."""
        made = cls.make(lab, name)
        text = (made.root / "cluster.yaml").read_text().replace("arch: x86_64", f"arch: {arch}")
        text = re.sub(r"(?m)^  (fragments|require|patches):.*\n", "", text)
        text = re.sub(r"(?m)^  config: .*", "  config: allnoconfig\n  fragments: [kernel/small.config]", text)
        (made.root / "cluster.yaml").write_text(text)
        (made.root / "kernel/small.config").write_text(config)
        made.node(f"chown -R builder: {made.root}", user="root")
        return made

    def node(self, script: str, node: str = COORDINATOR, user: str | None = None, check: bool = True) -> str:
        """Output of a shell script in a node."""
        done = subprocess.run(self.lab.command(node, ["sh", "-c", script], user=user), text=True, capture_output=True)
        assert not check or done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def doit(self, *args: str, status: int | None = 0, env: str = "") -> str:
        """stdout and stderr of a run to its end."""
        done = subprocess.run(
            self._command(args, env), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=2400
        )
        assert status is None or done.returncode == status, done.stdout
        return done.stdout

    def start(self, *args: str, env: str = "") -> subprocess.Popen[str]:
        return subprocess.Popen(self._command(args, env), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def _command(self, args: tuple[str, ...], env: str) -> list[str]:
        script = f'cd {self.root} && exec env {env} {ROOT}/.venv/bin/doit "$@"'
        return self.lab.command(COORDINATOR, ["sh", "-c", script, "doit", *args])

    def last_run(self) -> dict[str, Any]:
        run: dict[str, Any] = json.loads((self.root / "build/last-run.json").read_text())
        return run

    def states(self) -> dict[str, str]:
        """Stage -> done | fresh | failed | held of the last run."""
        tasks = self.last_run()["tasks"]
        return {name: tasks[name]["state"] for name in STAGES if name in tasks}

    def compiled(self) -> dict[str, Any]:
        """What the last compile did: {"objects", "per_node", "fallbacks", ...}."""
        entry: dict[str, Any] = self.last_run()["tasks"]["compile"]
        return entry

    def results(self, stage: str) -> dict[str, Any]:
        results: dict[str, Any] = json.loads((self.root / f"build/receipts/{stage}.json").read_text())["results"]
        return results

    def edit(self, name: str, old: str, new: str) -> Callable[[], None]:
        """Replace text in a file; returns what puts the file back."""
        path = self.root / name
        before = path.read_bytes()
        assert old.encode() in before, f"{name} has no {old!r}"
        path.write_bytes(before.replace(old.encode(), new.encode(), 1))

        def back() -> None:
            path.write_bytes(before)

        return back

    def kill_doit(self) -> None:
        """kill -9 of doit alone, in its node; what it started lives on."""
        self.node(r"pkill -9 -f '\.venv/bin/[d]oit$|\.venv/bin/[d]oit [^l]'", user="root")

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = 300) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
            time.sleep(0.2)
