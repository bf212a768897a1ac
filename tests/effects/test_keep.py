"""What was built on a tmpfs comes back as it was: bytes, times, modes; nothing that is not whole comes back."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kbuild_tasks.effects import keep, places
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.tree import OLD_TIME, Trees
from tests.fake_tree import FILES, as_found, new_place, read_tree, times, write_tree

pytestmark = pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="there is no tmpfs for all")
place = pytest.fixture(new_place)
MUCH = 1 << 30
PLACE = "linux/src/linux-6.1"
MADE = {
    ".config": b"CONFIG_A=y\n",
    "kernel/fork.o": b"\x7fELF" + bytes(5000),
    "kernel/.fork.o.cmd": b"cmd\n",
    "include/generated/autoconf.h": b"#define CONFIG_A 1\n",
    "scripts/kconfig/conf": b"program",
    "empty.o": b"",
}


@dataclass
class Built:
    """A build tree on a tmpfs, with products whose times differ by nanoseconds."""

    paths: Paths
    trees: Trees
    tree: str

    @property
    def top(self) -> Path:
        return self.paths.builddir / PLACE

    def make(self, **changed: bytes) -> None:
        for number, (name, content) in enumerate({**MADE, **changed}.items()):
            path = self.top / name
            if not path.exists() or path.read_bytes() != content:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                os.utime(path, ns=(0, 1_700_000_000_123_456_789 + number + sum(content)))
        (self.top / "scripts/kconfig/conf").chmod(0o755)
        link = self.top / "source"
        if not link.is_symlink():
            link.symlink_to("gone")

    def save(self, limit: int = MUCH) -> str | None:
        return keep.save(self.paths, PLACE, self.tree, limit)

    def lose(self) -> None:
        shutil.rmtree(self.paths.workdir)

    def restore(self) -> str | None:
        return keep.restore(self.paths, PLACE)


@pytest.fixture
def built(place: Path) -> Iterator[Built]:
    paths = Paths(place / "project", place / "work", place / "work.state")
    trees = Trees(paths.repository)
    made = Built(paths, trees, trees.import_directory(write_tree(place / "source")))
    trees.move(made.top, made.tree)
    made.make()
    yield made


def test_everything_comes_back_with_its_time_and_sources_are_old(built: Built) -> None:
    files, stamps = read_tree(built.top), times(built.top)
    assert built.save() is None
    built.lose()
    assert built.restore() == f"{len(MADE) + 1} files of the last build brought back"
    assert read_tree(built.top) == files
    assert times(built.top) == stamps
    assert {times(built.top)[name] for name in FILES} == {OLD_TIME * 10**9}
    assert built.trees.move(built.top, built.tree) == []


def test_the_next_move_gives_new_times_to_what_was_edited_alone(built: Built) -> None:
    built.save()
    built.lose()
    built.restore()
    before = times(built.top)
    files = {**FILES, "kernel/fork.c": b"int spoon;\n"}
    edited = built.trees.import_directory(write_tree(built.paths.root / "other", files))
    assert built.trees.move(built.top, edited) == ["kernel/fork.c"]
    after = times(built.top)
    assert [name for name in after if after[name] != before.get(name)] == ["kernel/fork.c"]


def test_an_empty_directory_of_makes_comes_back(built: Built) -> None:
    """kbuild makes one for objects that were not asked for, and a headers package carries it."""
    (built.top / "scripts/kconfig/lxdialog").mkdir(parents=True)
    built.save()
    built.lose()
    built.restore()
    assert (built.top / "scripts/kconfig/lxdialog").is_dir()


def test_a_tree_that_is_there_is_left_alone(built: Built) -> None:
    built.save()
    (built.top / "kernel/fork.o").write_bytes(b"newer")
    assert built.restore() is None
    assert (built.top / "kernel/fork.o").read_bytes() == b"newer"
    assert built.restore() is None


def test_only_what_differs_is_copied_again_and_what_is_gone_goes(built: Built) -> None:
    built.save()
    copies = {name: (built.paths.kept / "files" / name).stat().st_ino for name in MADE}
    (built.top / "empty.o").unlink()
    built.make(**{"kernel/fork.o": b"\x7fELF other"})
    (built.top / "empty.o").unlink()
    built.save()
    kept = built.paths.kept / "files"
    assert [n for n in MADE if (kept / n).exists() and (kept / n).stat().st_ino != copies[n]] == ["kernel/fork.o"]
    assert not (kept / "empty.o").exists()
    files = read_tree(built.top)
    built.lose()
    built.restore()
    assert read_tree(built.top) == files


def test_what_is_more_than_the_bound_is_not_kept_and_told(built: Built) -> None:
    assert built.save() is None
    told = built.save(limit=4000)
    assert told is not None and "more than build.keep" in told
    assert not built.paths.kept.exists()
    built.lose()
    assert built.restore() is None


def test_off_removes_what_was_kept(built: Built) -> None:
    built.save()
    assert built.save(limit=0) is None
    assert not built.paths.kept.exists()


def test_on_a_disk_nothing_is_kept(built: Built, tmp_path: Path) -> None:
    if keep.on_tmpfs(tmp_path):
        pytest.skip(f"{tmp_path} is on a tmpfs")
    built.save()
    shutil.move(built.paths.workdir, tmp_path / "work")
    paths = Paths(built.paths.root, tmp_path / "work", built.paths.state)
    assert keep.save(paths, PLACE, built.tree, MUCH) is None
    assert not paths.kept.exists()


def test_another_place_brings_nothing_back(built: Built) -> None:
    built.save()
    built.lose()
    assert keep.restore(built.paths, "linux/src/linux-6.2") is None
    assert not keep.is_kept(built.paths, "linux/src/linux-6.2")
    assert keep.is_kept(built.paths, PLACE)


@pytest.mark.parametrize("damage", ["cut short", "other content", "missing", "a newer build, killed before its list"])
def test_what_is_not_whole_is_left_out(built: Built, damage: str) -> None:
    built.save()
    listed = (built.paths.kept / "kept.json").read_bytes()
    copy = built.paths.kept / "files/kernel/fork.o"
    if damage == "cut short":
        os.truncate(copy, 10)
    elif damage == "other content":
        copy.write_bytes(b"\x7fELF" + bytes(4999) + b"x")
    elif damage == "missing":
        copy.unlink()
    else:
        built.make(**{"kernel/fork.o": b"\x7fELF" + bytes(4999) + b"y"})
        built.save()
        (built.paths.kept / "kept.json").write_bytes(listed)
    built.lose()
    assert built.restore() == f"{len(MADE)} files of the last build brought back, 1 were not whole"
    expected = {**as_found(FILES), **as_found(MADE), "source": ("link", b"gone")}
    del expected["kernel/fork.o"]
    expected["scripts/kconfig/conf"] = ("100755", MADE["scripts/kconfig/conf"])
    assert read_tree(built.top) == expected


@pytest.mark.parametrize("text", ["", "[]", '{"place": 3}', '{"place": "linux/src/linux-6.1", "tree": "0"}'])
def test_a_list_that_is_damaged_brings_nothing_back(built: Built, text: str) -> None:
    built.save()
    (built.paths.kept / "kept.json").write_text(text)
    built.lose()
    assert built.restore() is None


def test_bringing_back_that_was_killed_is_done_over(built: Built) -> None:
    files = read_tree(built.top)
    built.save()
    built.lose()
    built.restore()
    (built.top / "kernel/fork.o").write_bytes(b"half")
    (built.paths.builddir / ".restoring").touch()
    assert built.restore() is not None
    assert read_tree(built.top) == files
    assert not (built.paths.builddir / ".restoring").exists()


def test_the_list_says_what_there_is(built: Built) -> None:
    built.save()
    told = json.loads((built.paths.kept / "kept.json").read_text())
    assert (told["place"], told["tree"]) == (PLACE, built.tree)
    assert told["files"].keys() == {*MADE, "source"}


def test_only_what_came_back_whole_counts_as_a_build_that_has_ended(built: Built) -> None:
    """A power cut may have cut a copy short: make has to run before anything is packaged."""
    results = {"tree": PLACE, "vmlinux_sha256": "a" * 64}
    built.make()
    keep.save(built.paths, PLACE, built.tree, MUCH, places.built(built.paths, built.tree, results))
    built.lose()
    built.restore()
    places.end_move(built.paths, PLACE, built.tree, written=False)
    assert places.not_built(built.paths, PLACE, results) == ""
    built.lose()
    (built.paths.kept / "files/kernel/fork.o").write_bytes(b"short")
    assert "1 were not whole" in (built.restore() or "")
    places.end_move(built.paths, PLACE, built.tree, written=False)
    assert "nothing tells that a build has ended" in places.not_built(built.paths, PLACE, results)
