"""Doing nothing: `doit` with all fresh, beside `import doit` in the same interpreter and a no-op make of the same tree.

Runs in the coordinator, as builder, in the project directory: python -m tests.bench.noop PROJECT. Rounds are
interleaved, so that a busy moment of the machine meets all of them; the median of each is compared.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from kbuild_tasks.effects import makepkg
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.files import read_json
from kbuild_tasks.effects.project import Project

ROUNDS = 21
MAKES = 3


def seconds(argv: list[str], cwd: Path, env: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(argv, cwd=cwd, env=env, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main(project: Path) -> dict[str, object]:
    """Medians in seconds and ratios. Raises CalledProcessError where doit fails, SystemExit where all is not fresh."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    doit = [sys.executable, "-m", "doit"]
    plan = json.loads(subprocess.run([*doit, "plan", "--json"], cwd=project, env=env, capture_output=True).stdout)
    if not plan["fresh"]:
        raise SystemExit(f"{project} is not built: run doit there first")
    cases = {
        "python": [sys.executable, "-c", "pass"],
        "import doit": [sys.executable, "-c", "import doit"],
        "doit": doit,
    }
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, argv in cases.items():
            times[name].append(seconds(argv, project, env))
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratios = {"doit / import doit": medians["doit"] / medians["import doit"]}
    tree = _tree(project)
    if tree:
        front = Paths.of(_project(project).cluster).state / "front"
        # as compile calls it: with other variables it would not be a no-op
        kernel = makepkg.environment({"PATH": f"{front}:{makepkg.SYSTEM_PATH}"})
        make = ["make", "-j2", "bzImage", "modules"]
        medians["make"] = statistics.median(seconds(make, tree, kernel) for _ in range(MAKES))
        ratios["doit / make"] = medians["doit"] / medians["make"]
    return {"seconds": medians, "ratios": ratios, "goals": {"doit / import doit": 1.6, "doit / make": 0.5}}


def _project(project: Path) -> Project:
    return Project.load(project / "cluster.yaml")


def _tree(project: Path) -> Path | None:
    """The built tree, where it is still there (a tmpfs is gone after a release)."""
    paths = _project(project).paths
    receipt = read_json(paths.receipt("compile"))
    tree = paths.builddir / receipt["results"]["tree"] if receipt else None
    return tree if tree and (tree / "vmlinux").is_file() else None


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]).resolve()), indent=1))
