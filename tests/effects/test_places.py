"""What is written beside a build tree: whose source lies there, and whether a build of it has ended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbuild_tasks.effects import places
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.stages import compile as stage

PLACE, ONE, TWO = "linux/src/linux-6.1", "1" * 40, "2" * 40
RESULTS = {"tree": PLACE, "vmlinux_sha256": "a" * 64}


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths(tmp_path / "project", tmp_path / "work", tmp_path / "work.state")
    (made.builddir / PLACE).mkdir(parents=True)
    (made.builddir / PLACE / "vmlinux").touch()
    return made


def moved(paths: Paths, tree: str, written: bool = True) -> tuple[str, ...]:
    left = places.begin_move(paths, PLACE, tree)
    places.end_move(paths, PLACE, tree, written=written)
    return left


def compiled(paths: Paths, tree: str, results: dict[str, Any] = RESULTS) -> None:
    places.begin_build(paths, PLACE)
    places.end_build(paths, PLACE, places.built(paths, tree, results))


def test_a_build_that_has_ended_is_told(paths: Paths) -> None:
    assert "nothing tells that a build has ended" in places.not_built(paths, PLACE, RESULTS)
    assert moved(paths, ONE) == ()
    compiled(paths, ONE)
    assert list(stage.lost(paths, RESULTS)) == []
    assert moved(paths, ONE, written=False) == (ONE,)
    assert list(stage.lost(paths, RESULTS)) == [], "not a byte of the source was written"
    places.begin_build(paths, PLACE)
    assert list(stage.lost(paths, RESULTS)), "a build that was killed"


def test_another_source_was_there_in_between(paths: Paths) -> None:
    moved(paths, ONE)
    compiled(paths, ONE)
    moved(paths, TWO)
    assert places.other_source(paths, PLACE, ONE).endswith("holds another source")
    moved(paths, ONE)
    assert places.other_source(paths, PLACE, ONE) == ""
    assert list(stage.lost(paths, RESULTS)), "its objects may be of the other one"


def test_another_project_in_the_same_workdir(paths: Paths) -> None:
    other = replace(paths, root=paths.root.with_name("other"))
    moved(paths, ONE)
    compiled(paths, ONE)
    moved(other, ONE)
    compiled(other, ONE, {**RESULTS, "vmlinux_sha256": "b" * 64})
    assert f"was last used by the project in {other.root}" in places.other_source(paths, PLACE, ONE)
    assert list(stage.lost(paths, RESULTS)) == [f"{paths.builddir / PLACE} was compiled by the project in {other.root}"]


def test_a_mark_belongs_to_one_tree(paths: Paths) -> None:
    """A build of 6.1.190 that was killed is none of 6.1.188's."""
    one = places.mark(paths, PLACE, "compiling")
    one.touch()
    two = places.mark(paths, "linux/src/linux-6.2", "compiling")
    assert one != two and not two.exists()
    assert one.parent == paths.builddir / "linux", "not in $srcdir, which functions of a PKGBUILD copy from"
    places.forget(paths, PLACE)
    assert not one.exists()


def test_the_one_mark_of_an_older_version_is_heeded(paths: Paths) -> None:
    (paths.builddir / ".compiling").touch()
    assert places.mark(paths, PLACE, "compiling").exists()
    assert not (paths.builddir / ".compiling").exists()


def test_trees_that_are_needed_no_more(paths: Paths) -> None:
    other = replace(paths, root=paths.root.with_name("other"))
    other.root.mkdir(parents=True)
    for place, owner in {
        PLACE: paths, "linux/src/linux-6.0": paths, "linux/src/linux-5.0": other, "own/src/linux-6.0": paths,
        "their/src/linux-6.0": other,
    }.items():  # fmt: skip
        for name in places.KERNEL_FILES:
            (paths.builddir / place / name).parent.mkdir(parents=True, exist_ok=True)
            (paths.builddir / place / name).touch()
        places.end_move(owner, place, ONE, written=True)
    places.remove_others(paths, "linux", "linux-6.1")
    left = sorted(str(tree.relative_to(paths.builddir)) for tree in paths.builddir.glob("*/src/*"))
    assert left == ["linux/src/linux-5.0", PLACE, "their/src/linux-6.0"]
