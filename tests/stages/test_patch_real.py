"""The whole stage: with the real makepkg for prepare() on a small kernel, and the example series on the real source."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kbuild_tasks.core.errors import CommandFailed, ConfigError
from kbuild_tasks.effects.project import Project
from kbuild_tasks.effects.tree import OLD_TIME, Trees
from kbuild_tasks.stages import extract, patch
from kbuild_tasks.stages.patch import apply, read_series
from tests.makepkg_world import NOBODY, PKGBUILD, TREE, World, new_world

pytestmark = pytest.mark.real
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def world() -> Iterator[World]:
    for world in new_world():
        world.kernel["patches"] = "patches"
        add(world, "0001-init.patch", "--- a/init.c\n+++ b/init.c\n@@ -1 +1 @@\n-" + TREE["init.c"] + "+int x;\n")
        yield world


def add(world: World, name: str, text: str) -> None:
    path = world.home / "project" / "patches" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    os.chown(path.parent, NOBODY, NOBODY)
    os.chown(path, NOBODY, NOBODY)


def run(world: World):
    extracted = world.run(extract.run, world.context("extract")).results
    return world.run(patch.run, world.context("patch", extract=extracted))


def build_tree(world: World) -> Path:
    return world.paths.builddir / "linux-small/src/linux-6.1.1"


def test_the_series_and_prepare_become_the_build_tree(world):
    outcome = run(world)
    assert outcome.message == "1 applied; prepare() changed 1 file"
    assert sorted(outcome.results["beside"]) == ["config", "linux-6.1.1.tar"]
    assert {**outcome.results, "tree": "id", "beside": "told"} == {
        "tree": "id",
        "place": "linux-small/src/linux-6.1.1",
        "series": ["0001-init.patch"],
        "touched": {"init.c": ["0001-init.patch"]},
        "beside": "told",
        "prepared": [],
        "releases": {},
    }
    files = {path.name: path.read_text() for path in build_tree(world).iterdir()}
    assert files == {**TREE, "init.c": "int x;\n", "localversion.10-pkgrel": "-1\n"}
    assert world.run(Trees(world.paths.repository).files, outcome.results["tree"]) == sorted(files)


def test_again_with_another_patch_keeps_objects_and_times(world):
    first = run(world)
    tree = build_tree(world)
    (tree / "init.o").write_text("object")
    before = {path.name: path.stat().st_mtime_ns for path in tree.iterdir()}
    add(world, "0002-add.patch", "--- /dev/null\n+++ b/add.c\n@@ -0,0 +1 @@\n+int a;\n")
    second = run(world)
    assert second.message == "2 applied; prepare() changed 1 file"
    after = {path.name: path.stat().st_mtime_ns for path in tree.iterdir()}
    assert after.keys() - before.keys() == {"add.c"}
    assert {name for name in before if before[name] != after[name]} == set()
    (world.home / "project/patches/0002-add.patch").unlink()
    assert run(world).results["tree"] == first.results["tree"]
    assert not (tree / "add.c").exists()
    assert (tree / "init.o").read_text() == "object"


def test_what_prepare_made_goes_with_it_and_its_config_is_not_taken(world):
    world.write(PKGBUILD.replace("> localversion.10-pkgrel", "> gone.c; cp ../config .config; touch vmlinux"))
    run(world)
    assert sorted(os.listdir(build_tree(world))) == sorted([*TREE, "gone.c"])
    world.write(PKGBUILD)
    run(world)
    assert sorted(os.listdir(build_tree(world))) == sorted([*TREE, "localversion.10-pkgrel"])


def test_without_prepare_and_without_patches(world):
    world.write(re.sub(r"prepare\(\) \{.*?\n\}\n", "", PKGBUILD, flags=re.S))
    (world.home / "project/patches/0001-init.patch").unlink()
    outcome = run(world)
    assert outcome.message == "no patches: the source as it is"
    assert sorted(os.listdir(build_tree(world))) == sorted(TREE)


@pytest.mark.parametrize("failure", ["patch", "prepare"])
def test_a_failure_leaves_the_build_tree_as_it_was(world, failure):
    run(world)
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in build_tree(world).iterdir()}
    add(world, "0002-add.patch", "--- /dev/null\n+++ b/add.c\n@@ -0,0 +1 @@\n+int a;\n")
    if failure == "patch":
        add(world, "0003-bad.patch", "--- a/mod.c\n+++ b/mod.c\n@@ -1 +1 @@\n-int other;\n+int y;\n")
        with pytest.raises(ConfigError) as failed:
            run(world)
        assert failed.value.message == "0003-bad.patch does not apply (3 of 3)"
        assert "  found:    int mod;" in failed.value.evidence
    else:
        world.write(PKGBUILD.replace('echo "-$pkgrel"', 'touch half; echo "no such luck" >&2; false "-$pkgrel"'))
        with pytest.raises(CommandFailed, match=r"^prepare\(\) of the PKGBUILD failed with status") as failed:
            run(world)
        assert "no such luck" in failed.value.evidence
    after = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in build_tree(world).iterdir()}
    assert after == before


def test_patches_that_nobody_lists_are_warned_of(world):
    add(world, "0002-add.patch", "--- /dev/null\n+++ b/add.c\n@@ -0,0 +1 @@\n+int a;\n")
    add(world, "series", "0002-add.patch\n")
    outcome = run(world)
    assert outcome.results["series"] == ["0002-add.patch"]
    assert outcome.warnings == ("0001-init.patch is not applied: patches/series does not list it",)


def test_inputs_are_the_series_in_order_and_what_prepare_names(world):
    add(world, "0002-add.patch", "x")
    add(world, "series", "0002-add.patch\n0001-init.patch\n")
    world.write(PKGBUILD.replace('echo "-$pkgrel"', 'cat ../config; echo "-$pkgrel"'))
    inputs = world.run(lambda: patch.inputs(Project(world.cluster)))
    assert inputs.files == (
        "patches/series",
        "patches/0002-add.patch",
        "patches/0001-init.patch",
        "kernel/config",
    )
    assert inputs.receipts == ("extract",)
    values = []
    for text in (
        PKGBUILD,
        PKGBUILD.replace("A small kernel", "Another").replace("make all", "make all; true"),
        PKGBUILD.replace('echo "-$pkgrel"', 'echo "-x$pkgrel"'),
    ):
        world.write(text)
        values.append(world.run(lambda: patch.inputs(Project(world.cluster))).values)
    assert values[0] == values[1] != values[2]


def test_a_tmpfs_that_was_lost_is_filled_again(world):
    first = run(world)
    shutil.rmtree(world.paths.workdir)
    assert list(patch.lost(world.paths, first.results))
    second = run(world)
    assert second.results == first.results
    assert (build_tree(world) / "init.c").read_text() == "int x;\n"
    assert {path.stat().st_mtime for path in build_tree(world).iterdir()} == {OLD_TIME}


@pytest.fixture(scope="module")
def real(linux_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Trees, str, Path]]:
    place = tmp_path_factory.mktemp("real")
    trees = Trees(place / "repo.git")
    yield trees, trees.import_directory(linux_source), place
    shutil.rmtree(place)


def test_the_example_series_on_the_real_source(real):
    trees, base, place = real
    assert len(trees.files(base)) > 70_000
    listed = (ROOT / "patches/series").read_text().splitlines()
    names = [f"patches/{line}" for line in listed if line and not line.startswith("#")]
    patches = read_series(ROOT, names)
    tree = apply(trees, base, patches)
    assert {path for _, path in trees.changed(base, tree)} == {path for p in patches for path in p.paths}

    build = place / "build"
    trees.move(build, base)
    assert (build / "Makefile").stat().st_mtime == OLD_TIME
    (build / ".config").write_text("CONFIG_A=y\n")
    (build / "kernel" / "fork.o").write_text("object")
    started = time.monotonic()
    written = trees.move(build, tree)
    seconds = time.monotonic() - started
    assert set(written) == {path for status, path in trees.changed(base, tree) if status != "D"}
    assert seconds < 15  # measured: 0.9 s
    assert (build / ".config").exists()

    (build / "localversion.10").write_text("-1")
    (build / "include/generated").mkdir()
    (build / "include/generated/autoconf.h").write_text("")
    assert trees.snapshot(build, tree).paths == ("localversion.10",)
    assert trees.move(build, base) == sorted(path for _, path in trees.changed(tree, base) if trees.read(base, path))
