"""The same as tests/bench/simulate.py without a lab: workers are distccds on loopback addresses, each in a cgroup with
a share of a core. No ssh, no build mode: what is compared is the model and what calibrate measures. Needs root."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
import types
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from kbuild_tasks.core import predict
from kbuild_tasks.core.model import Node
from kbuild_tasks.effects.files import write_json
from kbuild_tasks.lab.cgroups import Tree
from kbuild_tasks.plugin.simulate import as_plain, gather
from tests.bench import heavy
from tests.bench.simulate import COUNTS, SHARE, compare
from tests.makepkg_world import new_world
from tests.stages.compile_world import Daemon, Small, daemons
from tests.stages.test_calibrate_real import GCC, calibrated, with_compiler

FLAGS = "-O2 -fno-strict-aliasing"


class Local:
    """A project of compile_world with heavy objects; `daemons` are its workers."""

    def __init__(self, small: Small, workers: list[Daemon]) -> None:
        self.small, self.workers = small, workers
        small.prepared(**self._named(len(workers)))
        for path in (small.tree / "fs").glob("*.c"):
            path.unlink()
        for name, text in heavy.files().items():
            if name.endswith(".c"):
                (small.tree / name).write_text(text)
        (small.tree / "include/linux").mkdir()
        (small.tree / "include/linux/many.h").write_text(heavy.header())
        makefile = small.tree / "Makefile"
        makefile.write_text(makefile.read_text().replace("-O1", FLAGS).replace("include/common.h", ""))
        small._own()

    def _named(self, count: int) -> dict[str, tuple[str, int]]:
        return {f"n{number}": daemon.where for number, daemon in enumerate(self.workers[:count], 2)}

    def use(self, count: int) -> None:
        self.small.prepared(**self._named(count))
        self.small.nodes["n1"] = Node("n1", "127.0.0.1", connection="local", slots=0)
        for name in list(self.small.nodes)[1:]:
            self.small.nodes[name] = Node(name, "127.0.0.1")
        with_compiler(self.small)

    def build(self) -> float:
        for path in [*self.small.tree.glob("fs/*.o"), self.small.tree / "vmlinux"]:
            path.unlink(missing_ok=True)
        outcome, _ = self.small.compile()
        assert len(outcome.run["objects"]) == heavy.COUNT and not outcome.run["fallbacks"], outcome
        write_json(self.small.paths.build / "last-done.json", {"tasks": {"compile": dict(outcome.run)}})
        print(f"    {outcome.message}; {outcome.run['seconds']} s; {' '.join(outcome.lines)}", flush=True)
        return float(outcome.run["seconds"])

    def predict(self, count: int) -> dict[str, Any]:
        told = gather(types.SimpleNamespace(cluster=self.small.cluster, paths=self.small.paths))
        value = as_plain(told, [predict.curve(told, [count])])
        print("    " + "; ".join(value["inputs"]), json.dumps(value["curves"][0]["points"][0]), flush=True)
        point: dict[str, Any] = value["curves"][0]["points"][0]
        return point


def measure(root: Path) -> dict[str, Any]:
    """As tests/bench/simulate.py."""
    assert os.geteuid() == 0 and GCC, "shares of a core are given by root"
    tree = Tree(f"kbuild-bench-{secrets.token_hex(4)}")
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="kbuild-bench-"))
        directory.chmod(0o777)
        stack.callback(shutil.rmtree, directory)
        stack.callback(tree.end)
        started = stack.enter_context(daemons(directory, *(f"127.0.0.{n + 2}" for n in range(max(COUNTS)))))
        for number, daemon in enumerate(started, 2):
            tree.make(f"n{number}")
            tree.set_share(f"n{number}", float(SHARE))
            _move(tree, f"n{number}", daemon.process.pid)
        for world in new_world():
            local = Local(Small(world.home), started)
            local.use(max(COUNTS))
            local.build()
            told = calibrated(local.small, few=False)
            print("\n".join(f"    {line}" for line in told.lines), flush=True)
            local.build()
            return compare(local)
    raise AssertionError("no world")


def _move(tree: Tree, member: str, pid: int) -> None:
    """A daemon and the children that it has started for jobs to come."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for hierarchy in tree.hierarchies:
        for one in (str(pid), *children):
            (hierarchy.mount / tree.name / member / "cgroup.procs").write_text(one)
