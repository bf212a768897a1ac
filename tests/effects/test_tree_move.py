"""Moving a work tree: from every state to exactly the target, with new times for what differs and for nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.effects.tree import OLD_TIME, Trees
from kbuild_tasks.effects.tree_git import Git
from kbuild_tasks.effects.tree_state import WorkTree
from tests.fake_tree import FILES, as_found, new_place, read_tree, times, write_tree

place = pytest.fixture(new_place)

NEW = {
    **{k: v for k, v in FILES.items() if k not in ("fs/ext4/xattr.h", "arch/arm/boot/dts/a.dts")},
    "kernel/fork.c": b"int spoon;\nint forked;\n",
    "drivers/new/dir/a.c": b"int a;\n",
    "drivers/new/b.c": b"int b;\n",
    "fs/ext4/inode.c/is_now": b"a directory\n",
}
del NEW["fs/ext4/inode.c"]
PRODUCTS = {
    ".config": b"CONFIG_A=y\n",
    "kernel/fork.o": b"\x7fELF",
    "kernel/.fork.o.cmd": b"cmd\n",
    "include/generated/autoconf.h": b"#define CONFIG_A 1\n",
    "fs/built-in.a": b"!<arch>\n",
}


class Lab:
    def __init__(self, place: Path) -> None:
        self.place = place
        self.trees = Trees(place / "repo.git")
        self.old = self.trees.import_directory(write_tree(place / "old"))
        self.new = self.trees.import_directory(write_tree(place / "new", NEW))
        self.build = place / "work" / "build"

    @property
    def work(self) -> WorkTree:
        return WorkTree.of(Git(self.trees.repository), self.build)

    def move(self, tree: str) -> list[str]:
        return self.trees.move(self.build, tree)

    def check(self, files: dict[str, bytes], products: dict[str, bytes] | None = None) -> None:
        expected = {**as_found(files), **as_found(products or {})}
        assert read_tree(self.build) == expected


@pytest.fixture
def lab(place: Path) -> Lab:
    return Lab(place)


def add_products(top: Path) -> None:
    for path, content in PRODUCTS.items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_bytes(content)


def test_a_tree_from_under_a_mount_is_told_by_what_lies_beside_it(lab):
    """On disk it was at `old`; a tmpfs was mounted over it, moved to `new`, and taken away: our record says `new`."""
    lab.move(lab.old)
    lab.build.rename(lab.place / "under")
    lab.move(lab.new)
    shutil.rmtree(lab.build)
    (lab.place / "under").rename(lab.build)
    lab.trees.move(lab.build, lab.new, left=(lab.old,))
    lab.check(NEW)


def test_a_missing_tree_is_made_with_one_old_time(lab):
    lab.move(lab.old)
    lab.check(FILES)
    assert set(times(lab.build).values()) == {OLD_TIME * 10**9}
    shutil.rmtree(lab.build)
    lab.build.mkdir()
    assert len(lab.move(lab.new)) == len(NEW)
    lab.check(NEW)
    assert set(times(lab.build).values()) == {OLD_TIME * 10**9}
    assert lab.move(lab.new) == []


def test_only_what_differs_is_written_and_what_was_built_stays(lab):
    lab.move(lab.old)
    add_products(lab.build)
    before = times(lab.build)
    started = time.time_ns()
    written = lab.move(lab.new)
    assert sorted(written) == ["drivers/new/b.c", "drivers/new/dir/a.c", "fs/ext4/inode.c/is_now", "kernel/fork.c"]
    lab.check(NEW, PRODUCTS)
    after = times(lab.build)
    assert {path for path in after if before.get(path) != after[path]} == set(written)
    assert all(started - 10**8 <= after[path] <= time.time_ns() for path in written)
    back = lab.move(lab.old)
    assert sorted(back) == ["arch/arm/boot/dts/a.dts", "fs/ext4/inode.c", "fs/ext4/xattr.h", "kernel/fork.c"]
    lab.check(FILES, PRODUCTS)
    assert not (lab.build / "drivers").exists()


def test_a_mode_alone_gives_no_file_a_new_time(lab):
    (lab.place / "old" / "kernel/fork.c").chmod(0o755)
    (lab.place / "old" / "Kconfig").chmod(0o755)
    (lab.place / "old" / "Kconfig").write_bytes(b"other\n")
    executable = lab.trees.import_directory(lab.place / "old")
    lab.move(lab.old)
    before = times(lab.build)
    assert sorted(lab.move(executable)) == ["Kconfig", "kernel/fork.c"]
    assert os.access(lab.build / "kernel/fork.c", os.X_OK)
    assert (lab.build / "Kconfig").read_bytes() == b"other\n"
    after = times(lab.build)
    assert [path for path in after if after[path] != before[path]] == ["Kconfig"]
    assert lab.move(executable) == []
    lab.move(lab.old)
    lab.check(FILES)
    assert lab.move(lab.old) == []


def test_the_directory_of_a_dropped_driver_goes_with_its_objects(lab):
    lab.move(lab.new)
    (lab.build / "drivers/new/dir/a.o").write_bytes(b"\x7fELF")
    (lab.build / "drivers/new/modules.order").write_bytes(b"")
    lab.move(lab.old)
    lab.check(FILES)


def test_of_a_directory_that_kbuild_makes_only_the_file_of_the_dropped_patch_goes(lab):
    added = {"include/generated/x.h": b"1\n", "include/generated/deep/er/y.h": b"2\n", "drivers/own/z.c": b"3\n"}
    patched = lab.trees.import_directory(write_tree(lab.place / "patched", {**FILES, **added}))
    lab.move(patched)
    add_products(lab.build)
    (lab.build / "drivers/own/z.o").write_bytes(b"\x7fELF")
    assert lab.move(lab.old) == []
    lab.check(FILES, PRODUCTS)
    assert not (lab.build / "include/generated/deep").exists()
    assert not (lab.build / "drivers/own").exists()


def test_the_same_tree_again_writes_nothing(lab):
    lab.move(lab.old)
    before = times(lab.build)
    assert lab.move(lab.old) == []
    assert times(lab.build) == before


def test_what_somebody_edited_touched_or_deleted_is_restored_and_no_more(lab):
    lab.move(lab.old)
    time.sleep(1.1)  # git knows a file's ctime by the second
    os.utime(lab.build / "Kbuild")
    (lab.build / "Makefile").write_bytes(b"edited\n")
    (lab.build / "kernel/Kconfig").unlink()
    (lab.build / "scripts/check.sh").chmod(0o644)
    shutil.rmtree(lab.build / "include/uapi")
    link = lab.build / "scripts/dtc/include-prefixes/arm"
    link.unlink()
    link.write_text("../../../arch/arm/boot/dts")
    size = (lab.build / "fs/ext4/xattr.h").stat().st_size
    (lab.build / "fs/ext4/xattr.h").write_bytes(b"x" * size)
    os.utime(lab.build / "fs/ext4/xattr.h", (OLD_TIME, OLD_TIME))  # the same size and time as before
    before = times(lab.build)
    written = lab.move(lab.old)
    lab.check(FILES)
    assert sorted(written) == [
        "Makefile",
        "fs/ext4/xattr.h",
        "include/uapi/linux/netfilter/xt_MARK.h",
        "include/uapi/linux/netfilter/xt_mark.h",
        "kernel/Kconfig",
        "scripts/check.sh",
        "scripts/dtc/include-prefixes/arm",
    ]
    assert times(lab.build)["Kbuild"] == before["Kbuild"]


def test_a_link_out_of_the_tree_is_not_followed(lab):
    outside = write_tree(lab.place / "outside", {"fork.c": b"precious\n", "Kconfig": b"p\n", "sched/fair.c": b"p\n"})
    drivers = write_tree(lab.place / "drivers", {"b.c": b"precious\n", "dir/a.c": b"precious\n"})
    lab.move(lab.new)
    shutil.rmtree(lab.build / "kernel")
    (lab.build / "kernel").symlink_to(outside)
    shutil.rmtree(lab.build / "drivers/new")
    (lab.build / "drivers/new").symlink_to(drivers)
    lab.move(lab.old)
    lab.check(FILES)
    assert read_tree(outside) == as_found({"fork.c": b"precious\n", "Kconfig": b"p\n", "sched/fair.c": b"p\n"})
    assert read_tree(drivers) == as_found({"b.c": b"precious\n", "dir/a.c": b"precious\n"})


def test_a_link_to_an_equal_copy_is_no_directory_of_ours(lab):
    lab.move(lab.old)
    shutil.copytree(lab.build / "kernel", lab.place / "copy")
    shutil.rmtree(lab.build / "kernel")
    (lab.build / "kernel").symlink_to(lab.place / "copy")
    lab.move(lab.old)
    assert not (lab.build / "kernel").is_symlink()
    lab.check(FILES)


def test_things_in_the_way_give_way(lab):
    lab.move(lab.old)
    (lab.build / "drivers").write_text("a file where a directory has to be")
    (lab.build / "fs/ext4/inode.o").write_text("product")
    (lab.build / "Makefile").unlink()
    (lab.build / "Makefile").mkdir()
    (lab.build / "Makefile" / "x").write_text("x")
    lab.move(lab.new)
    lab.check(NEW, {"fs/ext4/inode.o": b"product"})


@pytest.mark.parametrize("record", ["index", "state.json", "both", "damaged index", "damaged state"])
def test_a_lost_or_damaged_record_costs_time_and_nothing_else(lab, record):
    lab.move(lab.new)
    add_products(lab.build)
    work = lab.work
    if record in ("index", "both"):
        work.index.unlink()
    if record in ("state.json", "both"):
        (work.record / "state.json").unlink()
    if record == "damaged index":
        work.index.write_bytes(work.index.read_bytes()[:100])
    if record == "damaged state":
        (work.record / "state.json").write_text('{"mode": "known", "seen"')
    before = times(lab.build)
    lab.move(lab.old)
    lab.check(FILES, PRODUCTS)
    after = times(lab.build)
    same = {path for path in FILES if NEW.get(path) == FILES[path]}
    assert {path for path in same if before[path] != after[path]} == set()


def test_a_tree_that_was_never_ours(lab):
    write_tree(lab.build, {**NEW, "kernel/stray.c": b"x\n", "stray/deep/x.c": b"x\n", "localversion": b"-x\n"})
    add_products(lab.build)
    lab.move(lab.old)
    lab.check(FILES, PRODUCTS)


def test_clean_takes_everything_that_is_not_source(lab):
    lab.move(lab.old)
    add_products(lab.build)
    (lab.build / "patches").symlink_to(lab.place)
    lab.trees.move(lab.build, lab.new, clean=True)
    lab.check(NEW)
    assert (lab.place / "old" / "Makefile").exists()


def test_what_lies_in_the_place_of_the_tree(lab):
    lab.build.parent.mkdir()
    lab.build.write_text("notes")
    with pytest.raises(KbuildError, match="is in the way of the build tree: it is not a directory"):
        lab.move(lab.old)
    lab.build.unlink()
    (lab.place / "home").mkdir()
    lab.build.symlink_to(lab.place / "home")
    with pytest.raises(KbuildError, match="is in the way of the build tree"):
        lab.move(lab.old)
    assert list((lab.place / "home").iterdir()) == []


def test_a_clock_behind_what_was_built_is_refused(lab):
    lab.move(lab.old)
    (lab.build / "vmlinux").write_bytes(b"\x7fELF")
    ahead = time.time() + 3600
    os.utime(lab.build / "vmlinux", (ahead, ahead))
    with pytest.raises(KbuildError, match=r"the clock of this machine is 3\d+ s behind .*vmlinux"):
        lab.move(lab.new)
    lab.check(FILES, {"vmlinux": b"\x7fELF"})


def test_an_unknown_target_changes_nothing(lab):
    lab.move(lab.old)
    with pytest.raises(KbuildError, match="is damaged"):
        lab.move("1" * 40)
    lab.check(FILES)


def test_a_name_that_the_file_system_cannot_hold_is_told_and_is_no_dead_end(lab):
    name = "kernel/" + "x" * 300
    text = f"diff --git a/{name} b/{name}\nnew file mode 100644\n--- /dev/null\n+++ b/{name}\n@@ -0,0 +1 @@\n+a\n"
    long = lab.trees.apply(lab.old, [("long.patch", text.encode())])
    deep = lab.trees.apply(lab.old, [("deep.patch", text.replace("x" * 300, "y" * 300 + "/z").encode())])
    for tree in (long, deep, long):
        with pytest.raises(KbuildError, match=r"cannot hold|checkout-index ended"):
            lab.move(tree)
        lab.move(lab.old)
        lab.check(FILES)


def test_a_file_that_git_cannot_look_at_is_told(lab, monkeypatch):
    lab.move(lab.old)
    said = "kernel/fork.c: File name too long\n"

    def blind(git, *arguments, call=Git.__call__, **options):
        done = call(git, *arguments, **options)
        return replace(done, err=said) if arguments[0] == "diff-files" else done

    monkeypatch.setattr(Git, "__call__", blind)
    with pytest.raises(KbuildError, match="cannot hold 1 of the tree's files"):
        lab.move(lab.new)


def test_two_at_once_do_not_mix(lab, monkeypatch):
    lab.move(lab.old)
    monkeypatch.setattr("kbuild_tasks.effects.tree_state.LOCK_SECONDS", 0.2)
    with lab.work.locked(), pytest.raises(KbuildError, match="is being changed by another process"):
        lab.move(lab.new)
    lab.check(FILES)
    lab.move(lab.new)
    lab.check(NEW)


def test_a_full_disk_is_told_and_room_mends_it(lab):
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    small = lab.place / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", small], check=False).returncode:
        pytest.skip("no mount here")
    try:
        big = {**FILES, "big.c": b"x" * 300_000}
        tree = lab.trees.import_directory(write_tree(lab.place / "big", big))
        lab.trees.move(small / "build", lab.old)
        with pytest.raises(KbuildError) as told:
            lab.trees.move(small / "build", tree)
        assert told.value.message.startswith("no space left for")
        subprocess.run(["mount", "-o", "remount,size=4m", small], check=True)
        lab.trees.move(small / "build", tree)
        assert read_tree(small / "build") == as_found(big)
    finally:
        subprocess.run(["umount", small], check=True)
