"""move() on random sequences of trees, with a random event before each: the work tree equals a fresh checkout byte for
byte, and only files that differ got a new time."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kbuild_tasks.effects.tree import Trees
from kbuild_tasks.effects.tree_git import Git
from kbuild_tasks.effects.tree_state import WorkTree
from tests.fake_tree import new_place, read_tree, times, write_tree

pytestmark = pytest.mark.real

place = pytest.fixture(new_place, scope="module")

PARTS = ["a", "b", "c.c", "d d", "é"]
PATHS = st.lists(st.sampled_from(PARTS), min_size=1, max_size=3).map("/".join)
CONTENTS = st.sampled_from([b"", b"x\n", b"y\n", b"crlf\r\n", b"\0\xff", b"z" * 5000])
EVENTS = st.sampled_from(["none", "edit", "touch", "delete", "no index", "crash", "no state", "lost", "products"])


def tidy(files: dict[str, bytes]) -> dict[str, bytes]:
    """Without paths that would need a file to be a directory."""
    return {p: c for p, c in files.items() if not any(o.startswith(p + "/") for o in files)}


TREES = st.dictionaries(PATHS, CONTENTS, min_size=1, max_size=8).map(tidy)


# Shrinking runs git thousands of times: to shrink a failure, take the phases out.
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
@given(st.lists(st.tuples(TREES, EVENTS, st.integers(0, 99)), min_size=2, max_size=4))
def test_any_sequence_of_trees(place, steps):
    home = Path(tempfile.mkdtemp(dir=place))
    trees, build = Trees(home / "repo.git"), home / "build"
    work = WorkTree.of(Git(home / "repo.git"), build)
    products: dict[str, bytes] = {}
    for number, (files, event, pick) in enumerate(steps):
        target = trees.import_directory(write_tree(home / f"tree{number}", files))
        if number:
            products = happen(event, pick, build, work, target, products)
        before, old_times = read_tree(build) if build.exists() else {}, times(build) if build.exists() else {}
        trees.move(build, target)
        expected = read_tree(home / f"tree{number}")
        now = read_tree(build)
        extra = {path: value for path, value in now.items() if path not in expected}
        assert {path: value for path, value in now.items() if path in expected} == expected
        assert extra.items() <= {path: ("100644", content) for path, content in products.items()}.items()
        for path, content in products.items():
            parent = os.path.dirname(path)
            if not parent or any(p.startswith(parent + "/") for p in expected):
                clash = path in expected or any(p.startswith(path + "/") for p in expected)
                assert clash or now.get(path) == ("100644", content)
        products = {path: content for path, content in products.items() if path in extra}
        new_times = times(build)
        if before:
            same = {path for path in expected if before.get(path) == expected[path]}
            assert {path for path in same if new_times[path] != old_times[path]} == set()
            assert all(new_times[path] > old_times[path] for path in expected if path in before and path not in same)
    shutil.rmtree(home)


def happen(event, pick, build, work, target, products):
    sources = sorted(p for p, (kind, _) in read_tree(build).items() if kind != "dir" and p not in products)
    path = build / sources[pick % len(sources)] if sources else None
    if event == "edit" and path:
        path.write_bytes(b"edited %d" % pick)
    elif event == "touch" and path:
        os.utime(path)
    elif event == "delete" and path:
        path.unlink()
    elif event == "no index":
        work.index.unlink()
    elif event == "no state":
        # without a record, files that are no products of kbuild go; those that are stay
        (work.record / "state.json").unlink()
    elif event == "crash":
        # as after a kill: on the way to the target, half of its files written, one of them cut short, a lock left
        work.going_to(target, work.state())
        for name in work.git("ls-tree", "-r", "-z", "--name-only", target).out.decode().split("\0")[: pick % 5]:
            aim = build / name
            if name and not aim.exists() and all(not p.is_file() for p in aim.parents if p != build):
                aim.parent.mkdir(parents=True, exist_ok=True)
                aim.write_bytes(b"cut sho")
        work.index.with_name("index.lock").write_bytes(b"DIRC")
    elif event == "lost":
        shutil.rmtree(build)
        return {}
    elif event == "products":
        made = {"x.o": b"obj", ".config": b"CONFIG"}
        made |= {f"{os.path.dirname(p)}/.x.o.cmd": b"cmd" for p in sources[:2] if "/" in p}
        for name, content in made.items():
            (build / name).write_bytes(content)
        return products | made
    return products
