"""kill -9 at any moment of a move or an import: the next one ends exact. With git killed too, and with git left alone,
which then still writes while the next move begins."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kbuild_tasks.effects.tree import OLD_TIME, Trees
from tests.fake_tree import new_place, read_tree, times, write_tree

pytestmark = pytest.mark.real
ROOT = Path(__file__).parent.parent.parent
COUNT = 1500  # files: a move takes about 0.2 s
place = pytest.fixture(new_place)

ACT = """
import sys
from pathlib import Path
from kbuild_tasks.effects import shell, tree
import plumbum
trees = tree.Trees(Path(sys.argv[2]))
print("go", flush=True)
if sys.argv[1] == "move":
    trees.move(Path(sys.argv[3]), sys.argv[4])
else:
    trees.import_directory(Path(sys.argv[3]))
print("done", flush=True)
"""


def files(kind: str) -> dict[str, bytes]:
    return {f"d{n % 40}/{kind if n % 3 == 0 else 'same'}{n}.c": f"{kind} {n % 2}\n".encode() * 40 for n in range(COUNT)}


def killed(delay: float, with_git: bool, *arguments: str | Path) -> bool:
    """Start, wait, kill; True: it had not ended."""
    child = subprocess.Popen(
        [sys.executable, "-c", ACT, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"go\n"
    time.sleep(delay)
    children = Path(f"/proc/{child.pid}/task/{child.pid}/children")
    gits = [int(pid) for pid in children.read_text().split()] if child.poll() is None else []
    child.kill()
    if with_git:
        for pid in gits:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    out, err = child.communicate()
    assert not err or b"Traceback" not in err, err
    return out != b"done\n"


def test_killed_moves(place):
    trees, build = Trees(place / "repo.git"), place / "build"
    wanted, ids = {}, []
    for kind in ("a", "b", "c"):
        ids.append(trees.import_directory(write_tree(place / kind, files(kind))))
        wanted[ids[-1]] = read_tree(place / kind)
    chance = random.Random(6)
    interrupted = 0
    for turn in range(8):
        if turn % 3 == 0:
            shutil.rmtree(build, ignore_errors=True)
        for _ in range(chance.choice([1, 1, 2])):
            interrupted += killed(
                chance.uniform(0.0, 0.25), chance.random() < 0.7, "move", trees.repository, build, chance.choice(ids)
            )
        target = chance.choice(ids)
        trees.move(build, target)
        assert read_tree(build) == wanted[target]
    assert interrupted >= 4  # or nothing was tested
    assert trees.move(build, target) == []


def test_a_first_checkout_that_was_killed_has_the_one_old_time_in_the_end(place):
    trees, build = Trees(place / "repo.git"), place / "build"
    tree = trees.import_directory(write_tree(place / "a", files("a")))
    for delay in (0.02, 0.06, 0.1, 0.15):
        killed(delay, True, "move", trees.repository, build, tree)
    trees.move(build, tree)
    assert read_tree(build) == read_tree(place / "a")
    assert set(times(build).values()) == {OLD_TIME * 10**9}


def test_killed_imports(place):
    source = write_tree(place / "a", files("a"))
    expected = Trees(place / "reference.git").import_directory(source)
    trees = Trees(place / "repo.git")
    interrupted = sum(
        killed(delay, git, "import", trees.repository, source)
        for delay, git in ((0.0, True), (0.01, True), (0.03, False), (0.05, True), (0.08, True), (0.1, False))
    )
    assert interrupted >= 3
    assert trees.import_directory(source) == expected
    trees.move(place / "build", expected)
    assert read_tree(place / "build") == read_tree(source)
