"""The stage's own part on a fake kernel: reading the series, telling a failure, what is left as it was."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from kbuild_tasks.core.errors import ConfigError
from kbuild_tasks.effects import places
from kbuild_tasks.effects.tree import Trees
from kbuild_tasks.stages.patch import apply, lost, read_series, touched
from tests.fake_tree import new_place, write_tree
from tests.makepkg_world import World

place = pytest.fixture(new_place)

FAIR = "--- a/kernel/sched/fair.c\n+++ b/kernel/sched/fair.c\n"
GOOD = FAIR + "@@ -4,3 +4,3 @@\n int fair_4;\n-int fair_5;\n+int five;\n int fair_6;\n"
BAD = GOOD.replace("five", "fünf").replace("fair_5", "five") + (
    "@@ -20,3 +20,3 @@\n int fair_20;\n-int fair_21a;\n+int one;\n int fair_22;\n"
)
ADD = "--- /dev/null\n+++ b/drivers/misc/label.c\n@@ -0,0 +1 @@\n+int label;\n"


@pytest.fixture
def trees(place: Path) -> Trees:
    return Trees(place / "repo.git")


@pytest.fixture
def base(trees: Trees, place: Path) -> str:
    return trees.import_directory(write_tree(place / "linux"))


def series(place: Path, **patches: str):
    files = []
    for name, text in patches.items():
        files.append(f"patches/{name.replace('_', '-')}.patch")
        (place / files[-1]).parent.mkdir(exist_ok=True)
        (place / files[-1]).write_text(text)
    return read_series(place, files)


def test_a_series_is_applied_in_its_order(trees, base, place):
    tree = apply(trees, base, series(place, a=GOOD, b=GOOD.replace("five", "V").replace("fair_5", "five"), c=ADD))
    assert b"int V;\n" in trees.read(tree, "kernel/sched/fair.c")
    assert trees.read(tree, "drivers/misc/label.c") == b"int label;\n"
    assert apply(trees, base, ()) == base


def test_a_failure_in_the_terminal_voice(trees, base, place):
    with pytest.raises(ConfigError) as failed:
        apply(trees, base, series(place, p_0001_good=GOOD, p_0002_sched=BAD, p_0003_add=ADD))
    docs = Path(__file__).parent.parent.parent / "docs" / "patches.md"
    assert failed.value.render() in docs.read_text()
    assert failed.value.render().splitlines() == [
        "p-0002-sched.patch does not apply (2 of 3)",
        "  kernel/sched/fair.c:20: hunk 2 of 2: context differs at line 21",
        "    expected: int fair_21a;",
        "    found:    int fair_21;",
        "    p-0001-good.patch changes this file before it",
        "hint: fix patches/p-0002-sched.patch and run doit again; nothing was changed",
    ]


def test_a_failure_in_the_second_mail_of_one_file_names_what_the_first_left(trees, base, place):
    with pytest.raises(ConfigError) as failed:
        apply(trees, base, series(place, mails=GOOD + "\n-- \n2.39\n\n" + GOOD.replace("five", "V")))
    assert failed.value.message == "mails.patch does not apply (1 of 1)"
    assert list(failed.value.evidence) == [
        "kernel/sched/fair.c:4: hunk 1 of 1: context differs at line 5",
        "  expected: int fair_5;",
        "  found:    int five;",
    ]


def test_all_are_parsed_before_any_is_applied(place):
    with pytest.raises(ConfigError, match=r"^patches/b.patch:3: hunk 1 says 3 old and 3 new lines"):
        series(place, a=GOOD, b=GOOD[:-20])
    with pytest.raises(ConfigError, match=r"^there is no patch patches/none.patch$"):
        read_series(place, ["patches/a.patch", "patches/none.patch"])
    with pytest.raises(ConfigError, match=r"^there is no patch patches$"):
        read_series(place, ["patches"])


def test_which_patches_touch_a_file(place):
    rename = "diff --git a/kernel/fork.c b/kernel/spoon.c\nrename from kernel/fork.c\nrename to kernel/spoon.c\n"
    assert touched(series(place, a=GOOD, b=rename, c=BAD + ADD)) == {
        "kernel/sched/fair.c": ["a.patch", "c.patch"],
        "kernel/fork.c": ["b.patch"],
        "kernel/spoon.c": ["b.patch"],
        "drivers/misc/label.c": ["c.patch"],
    }


def test_a_build_tree_that_went_with_a_tmpfs_is_lost(place):
    paths = World(place).paths
    where = "linux/src/linux-6.1"
    write_tree(place / "source", {"Makefile": b""})
    tree = Trees(paths.repository).import_directory(place / "source")
    results = {"place": where, "prepared": [], "tree": tree}
    assert list(lost(paths, results)) == [f"the build tree {paths.builddir}/{where} is not there"]
    write_tree(paths.builddir / where, {"Makefile": b""})
    assert list(lost(paths, results)) == [f"nothing tells which source lies in {paths.builddir}/{where}"]
    places.end_move(paths, where, tree, written=True)
    assert list(lost(paths, results)) == []
    other = replace(paths, root=place / "other")
    assert list(lost(other, results)) == [f"{paths.builddir}/{where} was last used by the project in {paths.root}"]
    places.end_move(paths, where, "0" * 40, written=True)
    assert list(lost(paths, results)) == [f"{paths.builddir}/{where} holds another source"]
    places.end_move(paths, where, tree, written=False)
    shutil.rmtree(paths.repository / "objects" / tree[:2])
    assert list(lost(paths, results)) == [f"{paths.repository} does not hold the patched source any more"]
