"""A project of what sync left: the verified set, to a new directory, or nothing."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from kbuild_tasks.core import fileset
from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.core.origin import ORIGIN
from kbuild_tasks.effects import synced

FILES = {"cluster.yaml": "version: 1\n", "kernel/PKGBUILD": "pkgbase=x\n", "patches/a b'$(x).patch": "one\n"}


def origin(coordinator: str) -> str:
    return json.dumps({"coordinator": coordinator, "project": "/srv/k", "workdir": "/w", "left_out": ["kernel/big"]})


def a_set(sets: Path, current: bool = True, **files: str) -> Path:
    wanted = FILES | {ORIGIN: origin("n1")} | files
    name = fileset.identity({path: hashlib.sha256(text.encode()).hexdigest() for path, text in wanted.items()})
    for path, text in wanted.items():
        (sets / name / path).parent.mkdir(parents=True, exist_ok=True)
        (sets / name / path).write_text(text)
    if current:
        (sets / "current").unlink(missing_ok=True)
        (sets / "current").symlink_to(name)
    return sets / name


def test_the_whole_set(tmp_path: Path) -> None:
    made = a_set(tmp_path / "sets")
    name, count, whose = synced.make_project(tmp_path / "new/kernel", None, tmp_path / "sets")
    assert (name, count) == (made.name, 4)
    assert whose and (whose.coordinator, whose.left_out) == ("n1", ("kernel/big",))
    for path, text in FILES.items():
        assert (tmp_path / "new/kernel" / path).read_text() == text
    assert "Pipeline" in (tmp_path / "new/kernel/dodo.py").read_text()
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["kernel"]


def test_a_dodo_of_the_users_stays(tmp_path: Path) -> None:
    a_set(tmp_path / "sets", **{"dodo.py": "mine\n"})
    synced.make_project(tmp_path / "new", None, tmp_path / "sets")
    assert (tmp_path / "new/dodo.py").read_text() == "mine\n"


def test_the_usual_dodo_is_that_of_the_docs() -> None:
    docs = (Path(__file__).parents[2] / "docs/own-project.md").read_text()
    assert synced.DODO in docs


def test_a_set_that_was_changed(tmp_path: Path) -> None:
    before = a_set(tmp_path / "sets", current=False)
    made = a_set(tmp_path / "sets", **{"kernel/config": "CONFIG_X=y\n"})
    (made / "kernel/config").write_text("CONFIG_X=m\n")
    with pytest.raises(KbuildError, match="is not what its name says") as told:
        synced.make_project(tmp_path / "new", None, tmp_path / "sets")
    assert f"doit recover --set={before.name} DIRECTORY" in str(told.value.hint)
    assert not (tmp_path / "new").exists()
    assert synced.make_project(tmp_path / "new", before.name, tmp_path / "sets")[0] == before.name


@pytest.mark.parametrize("wanted", ["../../etc", "current", "", "f" * 64])
def test_a_set_that_is_none(tmp_path: Path, wanted: str) -> None:
    a_set(tmp_path / "sets")
    if not wanted:
        (tmp_path / "sets/current").unlink()
        (tmp_path / "sets").rename(tmp_path / "away")
    with pytest.raises(KbuildError, match=r"there is no set|sync has left nothing"):
        synced.make_project(tmp_path / "new", wanted or None, tmp_path / "sets")


def test_a_directory_that_is_not_empty(tmp_path: Path) -> None:
    a_set(tmp_path / "sets")
    (tmp_path / "new").mkdir()
    (tmp_path / "new/file").write_text("mine\n")
    with pytest.raises(KbuildError, match="is not empty"):
        synced.make_project(tmp_path / "new", None, tmp_path / "sets")
    with pytest.raises(KbuildError, match="is not a directory"):
        synced.make_project(tmp_path / "new/file", None, tmp_path / "sets")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["file"]


def test_whose_sets_lie_here(tmp_path: Path) -> None:
    sets, root = tmp_path / "sets", tmp_path / "root"
    assert synced.other(root, "n2", sets) is None
    a_set(sets)
    found = synced.other(root, "n2", sets)
    assert found and found.coordinator == "n1"
    assert synced.other(root, "n1", sets) is None
    a_set(sets, **{ORIGIN: origin("n2")})  # the new one has synced: the set before tells of the old one
    found = synced.other(root, "n2", sets)
    assert found and found.coordinator == "n1"
    a_set(sets, **{ORIGIN: "broken"})
    (root / "build").mkdir(parents=True)
    (root / ORIGIN).write_text(origin("n7"))  # in a project that was made of a set
    found = synced.other(root, "n2", sets)
    assert found and found.coordinator == "n7"
