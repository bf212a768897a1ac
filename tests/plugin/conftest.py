"""A project of its own for each test, with fake stages behind the real doit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent

CLUSTER = """\
version: 1
kernel:
  pkgbuild: kernel/PKGBUILD
  arch: x86_64
  config: kernel/config
  patches: patches
  require: [OVERLAY_FS]
build:
  coordinator: n1
  workdir: {path: /home/builder/buildtmp, tmpfs: auto}
nodes:
  n1: {address: 127.0.0.1, connection: local, slots: 2}
  n2: {address: 10.77.0.12}
"""

RUN_DOIT = """\
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from doit.__main__ import main
sys.exit(main())
"""

DODO = """\
import sys
sys.path.insert(0, %r)
import fake_stages
fake_stages.install()
from kbuild_tasks import Pipeline
pipeline = Pipeline("cluster.yaml")
DOIT_CONFIG = pipeline.doit_config()
def task_kernel():
    yield from pipeline.tasks()
"""


@dataclass
class Workbench:
    """A project directory and the doit that runs in it."""

    root: Path

    def doit(self, *args: str, check: int | None = 0, **env: str) -> str:
        """stdout + stderr of one run; its status is checked unless check is None."""
        done = subprocess.run(
            [sys.executable, "-m", "doit", *args],
            cwd=self.root,
            env={**os.environ, **env},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
        )
        assert check is None or done.returncode == check, done.stdout
        return done.stdout

    def start(self, *args: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            # a shell that starts the tests in the background makes them ignore SIGINT; a terminal's doit does not
            [sys.executable, "-c", RUN_DOIT, *args],
            cwd=self.root,
            env={**os.environ, **env},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def trace(self) -> list[str]:
        """What ran since the last call."""
        path = self.root / "build" / "trace"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def wait_for(self, task: str) -> None:
        path = self.root / "build" / "trace"
        deadline = time.monotonic() + 20
        while not (path.exists() and task in path.read_text().splitlines()):
            assert time.monotonic() < deadline, f"{task} never started"
            time.sleep(0.02)

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.root / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


def project(root: Path) -> Workbench:
    for name in ("kernel", "patches"):
        (root / name).mkdir(parents=True)
    (root / "cluster.yaml").write_text(CLUSTER)
    (root / "dodo.py").write_text(DODO % str(HERE))
    (root / "kernel/PKGBUILD").write_text("pkgbase=linux\npkgver=6.1\n")
    (root / "kernel/config").write_text("CONFIG_OVERLAY_FS=y\n")
    (root / "patches/a.patch").write_text("# one\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-1\n+2\n")
    (root / "patches/b.patch").write_text("--- a/y\n+++ b/y\n@@ -1 +1 @@\n-1\n+2\n")
    return Workbench(root)


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    """A project in which nothing was done yet."""
    return project(tmp_path / "my project")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    first = project(tmp_path_factory.mktemp("finished") / "project")
    first.doit()
    first.trace()
    return first


@pytest.fixture
def built(finished: Workbench, tmp_path: Path) -> Workbench:
    """A project in which all was done, copied with what a run leaves: it is fresh wherever it lies."""
    return Workbench(Path(shutil.copytree(finished.root, tmp_path / "my project", symlinks=True)))
