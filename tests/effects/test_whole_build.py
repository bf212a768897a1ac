"""build/whole-build.json: kept of a build that made its tree, and of no edit."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbuild_tasks.core import trace
from kbuild_tasks.core.spans import CACHED, Span
from kbuild_tasks.effects import trace as writer
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.files import read_json

RECORD = "savedcmd_x.o := gcc -D__KERNEL__ -c -o x.o x.c\n\nsource_x.o := x.c\n"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path, tmp_path / "work", tmp_path / "state")


def tree(paths: Paths, objects: int) -> Path:
    """A tree with so many objects of kernel C, and others."""
    top = paths.workdir / f"tree{objects}"
    top.mkdir(parents=True)
    for number in range(objects):
        (top / f"{number}.o").touch()
        (top / f".{number}.o.cmd").write_text(RECORD)
    for number in range(objects // 2):
        (top / f"built-in{number}.o").touch()  # an archive's, a host program's: no record of kernel C
        (top / f".built-in{number}.o.cmd").write_text("savedcmd_x.o := ld -r -o x.o\n")
    return top


def line(objects: int, kind: str = "plan", began: float = 0.0) -> trace.Timeline:
    spans = tuple(Span(f"{number}.o", "k2", 1.0, 2.0, kind) for number in range(objects))
    return trace.Timeline(began, 9.0, spans, nodes=("k2", "k1"), slots={"k2": 2})


def kept(paths: Paths) -> int | None:
    value = read_json(writer.whole(paths))
    found = trace.read(value)
    return None if found is None else len(found.spans)


def test_an_edit_leaves_it_and_another_whole_build_takes_its_place(paths: Paths) -> None:
    large = tree(paths, 300)
    assert writer.keep_whole(paths, line(300), large, 42.0, "a" * 64) is None
    assert kept(paths) == 300
    about = read_json(writer.whole(paths))["otherData"]
    assert (about["objects"], about["cpu_seconds"], about["config"]) == (300, 42.0, "a" * 64)
    for edit in (line(3), line(200), line(0)):
        writer.keep_whole(paths, edit, large, 1.0, "a" * 64)
    assert kept(paths) == 300
    writer.keep_whole(paths, line(280), large, 1.0, "b" * 64)
    assert kept(paths) == 280


@pytest.mark.parametrize("objects", [120, 700])
def test_of_another_configuration_with_fewer_or_more(paths: Paths, objects: int) -> None:
    writer.keep_whole(paths, line(300), tree(paths, 300), 42.0, "a" * 64)
    writer.keep_whole(paths, line(objects), tree(paths, objects), 42.0, "b" * 64)
    assert kept(paths) == objects


def test_what_ccache_gave_was_not_made(paths: Paths) -> None:
    writer.keep_whole(paths, line(300, CACHED), tree(paths, 300), 42.0, "a" * 64)
    assert kept(paths) is None


def test_no_trace_and_no_place_for_it_end_nothing(paths: Paths) -> None:
    assert writer.keep_whole(paths, None, paths.workdir, 1.0, "") is None
    (paths.root / "build").touch()
    told = writer.keep_whole(paths, line(300), tree(paths, 300), 1.0, "")
    assert told and told.startswith("build/whole-build.json was not written")


def test_an_edit_does_not_wait_for_a_look_at_the_tree(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer.makers, "count", lambda top: pytest.fail("all of the tree was read"))
    assert writer.keep_whole(paths, line(writer.LEAST - 1), paths.workdir, 1.0, "") is None
