"""Who made each object: what goes when a node is not trusted any more, in the tree and in the kept copies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kbuild_tasks.core.model import Node
from kbuild_tasks.effects import makers
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.files import read_json, write_json

PLACE = "linux/src/linux-6.1"
NODES = {name: Node(name, f"10.0.0.{name[1]}") for name in ("n1", "n2", "n3")}
KERNEL = "cmd_x := gcc -D__KERNEL__ -c -o x x.c\n\nsource_x := x.c\n"
HOST = "cmd_x := gcc -c -o x x.c\n\nsource_x := x.c\n"
MADE = {"a.o": ("n2", "plan"), "fs/b.o": ("n3", "plan"), "c.o": ("n1", "fallback"), "d.o": ("n2", "cached")}


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths(tmp_path / "project", tmp_path / "work", tmp_path / "work.state")
    for name in (*MADE, "killed.o"):
        write(made.builddir / PLACE, name, KERNEL)
    write(made.builddir / PLACE, "scripts/host.o", HOST)
    write(made.builddir / PLACE, "without.o", None)
    makers.save(made, PLACE, MADE, NODES)
    return made


def write(top: Path, name: str, record: str | None) -> None:
    path = top / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(name)
    if record:
        path.with_name(f".{path.name}.cmd").write_text(record)


def there(top: Path) -> set[str]:
    return {str(path.relative_to(top)) for path in top.rglob("*.o")}


def test_what_it_made_goes_and_what_has_no_maker(paths: Paths) -> None:
    tree = paths.builddir / PLACE
    write_json(tree.parent.parent / ".linux-6.1.built", {})
    assert makers.drop(paths, "n2", "10.0.0.2") == ["a.o", "d.o", "killed.o"]
    assert there(tree) == {"fs/b.o", "c.o", "scripts/host.o", "without.o"}
    assert not (tree / ".a.o.cmd").exists() and (tree / "fs/.b.o.cmd").exists()
    assert not (tree.parent.parent / ".linux-6.1.built").exists(), "it is not what a build has left any more"
    assert makers.drop(paths, "n2", "10.0.0.2") == []


def test_an_object_that_was_written_since_has_no_maker(paths: Paths) -> None:
    os.utime(paths.builddir / PLACE / "fs/b.o", ns=(1, 1))
    assert "fs/b.o" in makers.drop(paths, "n2", "10.0.0.2")


def test_the_next_compilation_adds_to_what_is_known(paths: Paths) -> None:
    makers.save(paths, PLACE, {"killed.o": ("n3", "plan"), "gone.o": ("n3", "plan")}, NODES)
    makers.save(paths, PLACE, {}, NODES)
    assert makers.drop(paths, "n2", "10.0.0.2") == ["a.o", "d.o"]


def test_a_place_that_is_gone_is_forgotten(paths: Paths) -> None:
    (paths.builddir / "other").mkdir()
    write(paths.builddir / "other", "x.o", KERNEL)
    makers.save(paths, "other", {"x.o": ("n2", "plan")}, NODES)
    (paths.builddir / "other" / "x.o").unlink()
    for path in (paths.builddir / "other").iterdir():
        path.unlink()
    (paths.builddir / "other").rmdir()
    makers.save(paths, PLACE, {"a.o": ("n2", "plan")}, NODES)
    assert list(read_json(paths.makers)) == [PLACE]


def test_the_kept_copies_too(paths: Paths) -> None:
    """They would come back with a lost tmpfs, at the times that they had."""
    tree, kept = paths.builddir / PLACE, paths.kept / "files"
    for name in MADE:
        write(kept, name, KERNEL)
        time = (tree / name).stat().st_mtime_ns
        os.utime(kept / name, ns=(time, time))
    write_json(paths.kept / "kept.json", {"place": PLACE})
    (tree / "a.o").unlink()  # made anew by another in a build that has failed, say
    assert makers.drop(paths, "n2", "10.0.0.2") == ["a.o", "d.o", "killed.o"]
    assert there(kept) == {"fs/b.o", "c.o"}


@pytest.mark.parametrize(
    "damage", ["{", "[]", '{"linux/src/linux-6.1": 3}', '{"linux/src/linux-6.1": {"c.o": ["n1"]}}']
)
def test_a_damaged_record_doubts_all(paths: Paths, damage: str) -> None:
    paths.makers.write_text(damage)
    (paths.builddir / PLACE / "Makefile").touch()
    for name in ("Kconfig", "Kbuild"):
        (paths.builddir / PLACE / name).touch()
    assert makers.drop(paths, "n2", "10.0.0.2") == sorted([*MADE, "killed.o"])
