"""What is removed after a build that was killed, and what is kept: files as kbuild leaves them, with times set."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from kbuild_tasks.core.errors import CommandFailed, ConfigError
from kbuild_tasks.effects import shell
from kbuild_tasks.effects.leftovers import REST, REST_POWER, Mark, _boot_id, marked, mend, tells_of_kill

S = 1_000_000.0  # when the killed build began
FIXDEP = (
    "cmd_{o} := gcc -c -o {o} a.c\n\nsource_{o} := a.c\n\ndeps_{o} := \\\n  a.h \\\n\n"
    "{o}: $(deps_{o})\n\n$(deps_{o}):\n"
)
SAVED = "cmd_{o} := rm -f {o}; ar cDPrST {o} a.o\n"


@pytest.fixture(scope="session")
def object_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    top = tmp_path_factory.mktemp("object")
    (top / "a.c").write_text("int a;\n")
    subprocess.run(["gcc", "-c", "-o", "a.o", "a.c"], cwd=top, check=True)
    return (top / "a.o").read_bytes()


class Tree:
    def __init__(self, top: Path, raw: bytes) -> None:
        self.top, self.raw = top / "tree", raw
        (self.top / "fs").mkdir(parents=True)
        self.mark = Mark(top / ".compiling", self.top)

    def target(
        self, name: str, made: float, recorded: float | None, raw: bytes | None = None, record: str = FIXDEP
    ) -> None:
        path = self.top / name
        path.write_bytes(self.raw if raw is None else raw)
        os.utime(path, (made, made))
        if recorded is not None:
            beside = path.with_name(f".{path.name}.cmd")
            beside.write_text(record.replace("{o}", name))
            os.utime(beside, (recorded, recorded))

    def killed(self, power: bool = False) -> list[str]:
        self.mark.set()
        if power:
            told = json.loads(self.mark.path.read_text())
            self.mark.path.write_text(json.dumps({**told, "boot_id": "another"}))
        os.utime(self.mark.path, (S, S))
        return mend(self.top, self.mark)


@pytest.fixture
def tree(tmp_path: Path, object_bytes: bytes) -> Tree:
    return Tree(tmp_path, object_bytes)


LAST = S + 600  # the newest target: what was going on then is what was killed


def test_nothing_after_a_build_that_ended_by_itself(tree: Tree) -> None:
    tree.target("fs/a.o", LAST, None, b"")
    assert mend(tree.top, tree.mark) == []
    tree.mark.set()
    tree.mark.clear()
    assert mend(tree.top, tree.mark) == []
    assert (tree.top / "fs/a.o").exists()


def test_what_was_being_written_goes_with_its_record(tree: Tree) -> None:
    tree.target("fs/new.o", LAST, None, b"")  # the compiler had just opened it
    tree.target("fs/again.o", LAST, S - 500, b"")  # the record of the build before, with the same command line
    tree.target("fs/done.o", S + 100, S + 101)
    tree.target("fs/old.o", S - 500, S - 499)
    assert tree.killed() == ["fs/again.o", "fs/new.o"]
    assert sorted(p.name for p in (tree.top / "fs").iterdir()) == [".done.o.cmd", ".old.o.cmd", "done.o", "old.o"]


def test_an_object_that_is_cut_short_goes_however_old(tree: Tree) -> None:
    tree.target("fs/cut.o", S + 10, S + 11, tree.raw[:-8])
    tree.target("fs/empty.o", S + 10, S + 11, b"")
    tree.target("fs/last.o", LAST, LAST)
    assert tree.killed() == ["fs/cut.o", "fs/empty.o", "fs/last.o"]


def test_a_record_that_is_cut_short_forgets_dependencies(tree: Tree) -> None:
    tree.target("fs/a.o", S + 10, S + 11, record=FIXDEP[: FIXDEP.index("a.h")])
    tree.target("fs/b.o", S + 10, S + 11, record=FIXDEP[: FIXDEP.index("\n$(deps")])
    tree.target("fs/c.o", S + 10, S + 11)
    tree.target("fs/last.o", LAST, LAST)
    assert tree.killed() == ["fs/a.o", "fs/b.o", "fs/last.o"]


def test_the_last_seconds_go_as_a_recipe_may_have_had_steps_left(tree: Tree) -> None:
    tree.target("fs/last.o", LAST, LAST)
    tree.target("fs/inside.o", LAST - REST + 1, LAST - REST + 1)
    tree.target("fs/outside.o", LAST - REST - 1, LAST - REST - 1)
    assert tree.killed() == ["fs/inside.o", "fs/last.o"]


def test_an_archive_whose_record_is_of_the_build_before(tree: Tree) -> None:
    tree.target("fs/built-in.a", S + 300, S - 500, b"!<thin>\n", SAVED)
    tree.target("fs/lib.a", S + 300, S + 300, b"!<thin>\n", SAVED)
    tree.target("fs/x.mod", S + 300, S + 300, b"", SAVED)  # rightly empty
    tree.target("fs/last.o", LAST, LAST)
    assert tree.killed() == ["fs/built-in.a", "fs/last.o"]


def test_lost_power_reaches_further_back(tree: Tree) -> None:
    tree.target("fs/last.o", LAST, LAST)
    tree.target("fs/a.o", LAST - REST_POWER + 1, LAST - REST_POWER + 1)
    tree.target("fs/b.o", LAST - REST_POWER - 1, LAST - REST_POWER - 1)
    assert tree.killed(power=True) == ["fs/a.o", "fs/last.o"]


def test_a_build_that_was_killed_before_it_made_anything(tree: Tree) -> None:
    tree.target("fs/old.o", S - 500, S - 499, b"")
    assert tree.killed() == []


def test_objects_of_clang_with_lto_are_no_elf_and_stay(tree: Tree) -> None:
    tree.target("fs/bitcode.o", S + 10, S + 11, b"BC\xc0\xde" + b"x" * 100)
    tree.target("fs/last.o", LAST, LAST)
    assert tree.killed() == ["fs/last.o"]


def test_a_tree_that_is_gone(tmp_path: Path) -> None:
    mark = Mark(tmp_path / "mark", tmp_path / "nowhere")
    mark.set()
    assert mend(tmp_path / "nowhere", mark) == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("/x/startdir/PKGBUILD: line 12:  4242 Killed                  make bzImage modules", True),
        ("make[2]: *** [scripts/Makefile.build:250: kernel/fork.o] Error 137", True),
        ("make[1]: *** [scripts/Makefile.build:500: kernel] Killed", True),
        ("gcc: fatal error: Killed signal terminated program cc1", True),
        ("make[2]: *** [scripts/Makefile.build:250: kernel/fork.o] Error 1", False),
        ("fs/a.c:3: error: 'Killer' undeclared", False),
        ("make: *** [Makefile:2013: .] Error 2", False),
    ],
)
def test_output_that_tells_of_a_kill(line: str, told: bool) -> None:
    assert tells_of_kill(["  CC      init/main.o", line]) is told


@pytest.mark.parametrize(
    ("error", "stays"),
    [
        (None, False),
        (ConfigError("a line is wrong"), False),
        (CommandFailed("make failed", code=2, evidence=["make: *** [Makefile:1: x] Error 2"]), False),
        (CommandFailed("make failed", code=2, evidence=["make: *** [Makefile:1: x] Error 137"]), True),
        (CommandFailed("make did not end", code=-1, timed_out=True), True),
        (KeyboardInterrupt(), True),
    ],
)
def test_the_mark_stays_unless_make_ended_by_itself(tmp_path: Path, error: BaseException | None, stays: bool) -> None:
    mark = Mark(tmp_path / ".compiling", tmp_path)
    try:
        with marked(mark):
            assert mark.path.exists()
            if error:
                raise error
    except BaseException as raised:
        assert raised is error
    assert mark.path.exists() is stays


def test_temporary_files_of_a_killed_recipe_go_and_others_stay(tree: Tree) -> None:
    young = ["fs/.a.o.d", ".utsrelease.h.tmp", "fs/auto.conf.cmd.tmp"]
    for name in (*young, "fs/.older.d", "fs/kept.tmp", "fs/.config", "fs/x.d"):
        (tree.top / name).write_text("x")
    os.utime(tree.top / "fs/.older.d", (S - 1, S - 1))
    tree.killed()
    assert sorted(p.name for p in tree.top.rglob("*") if p.is_file()) == [".config", ".older.d", "kept.tmp", "x.d"]


def test_what_was_made_is_on_the_disk_before_the_mark_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file system may remember the mark's end, and not the end of an object that was written a minute before."""
    mark, run, seen = Mark(tmp_path / ".compiling", tmp_path), shell.run, []

    def watched(argv: list[str | Path], **more: float) -> shell.Done:
        seen.append((argv, mark.path.exists()))
        return run(argv, **more)

    monkeypatch.setattr(shell, "run", watched)
    mark.set()
    mark.clear()
    mark.clear()
    assert seen == [(["sync", "-f", tmp_path], True)] and not mark.path.exists()
    mark.set()
    monkeypatch.setattr(shell, "run", lambda argv, **more: run(["sh", "-c", "echo EIO; exit 1"]))
    with pytest.raises(CommandFailed):
        mark.clear()
    assert mark.path.exists()


@pytest.mark.parametrize(
    ("text", "power", "stays"),
    [
        ("deps_config := \\\n\tKconfig \\\n\n$(deps_config): ;\n", False, True),
        ("deps_config := \\\n\tKconfig \\\n\n$(deps_config): ;\n", True, False),
        ("deps_config := \\\n\tKcon", False, False),
        ("", False, False),
    ],
)
def test_kconfigs_record_is_made_anew_where_it_may_be_a_part(tree: Tree, text: str, power: bool, stays: bool) -> None:
    """A part of it ends make at its first line; a part of auto.conf beside it would leave options out in silence."""
    record = tree.top / "include/config/auto.conf.cmd"
    record.parent.mkdir(parents=True)
    record.write_text(text)
    tree.mark.path.write_text(json.dumps({"boot_id": "another" if power else _boot_id()}))
    mend(tree.top, tree.mark)
    assert record.exists() is stays
