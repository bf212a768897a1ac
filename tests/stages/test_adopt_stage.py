"""adopt of another coordinator that is a few files: what gives way here, to what, and what an end in between leaves."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kbuild_tasks.core.errors import CommandFailed, KbuildError
from kbuild_tasks.core.model import Outcome
from kbuild_tasks.effects import adopt as asking
from kbuild_tasks.effects import adopt_check, adopted, built, project
from kbuild_tasks.effects.cluster_file import load_cluster
from kbuild_tasks.effects.context import Context, Paths
from kbuild_tasks.effects.files import read_json, write_json
from kbuild_tasks.effects.tree import Trees
from kbuild_tasks.effects.unpack import Member
from kbuild_tasks.stages import adopt
from tests.plugin.conftest import CLUSTER

STAGES = ("extract", "patch", "configure", "compile", "package")
COMPILER = {"text": "gcc 12", "binutils": "as 2.40"}
PLACE, PACKAGE, IDENTITY = "linux/src/linux-6.1", "linux.pkg.tar.zst", "d" * 64
SOURCE = {"Makefile": b"all:\n", "Kconfig": b"", "Kbuild": b"", "core.c": b"int x;\n"}
MADE = {
    "vmlinux": b"kernel",
    ".config": b"CONFIG_X=y\n",
    "include/config/kernel.release": b"6.1\n",
    "core.o": b"object",
}


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Other:
    """The other coordinator. Tests change what it has; `fails`: its tree cannot be read."""

    def __init__(self, here: Paths, tree: str, results: Mapping[str, Any]) -> None:
        self.here, self.node, self.fails = here, SimpleNamespace(name="n2"), 0
        self.mtime, self.made_files = 10**18, dict(MADE)
        total = sha(f"{sha(b'package')}  {PACKAGE}\n".encode())
        pristine = {"tree": tree, "pkgbase": "linux", "srctree": "linux-6.1", "pkgver": "6.1", "sources": {}}
        self.results: dict[str, Any] = {
            "extract": {**pristine, "beside": {}},
            "patch": {"tree": tree, "place": PLACE, "beside": {}, "prepared": []},
            "configure": {"place": PLACE, "config_sha256": sha(MADE[".config"])},
            "compile": {"tree": PLACE, **results},
            "package": {"packages": {PACKAGE: sha(b"package")}, "packages_sha256": total},
        }
        self.lying = {
            f"project/artifacts/{PACKAGE}": b"package",
            f"state/pristine/{IDENTITY}.json": json.dumps(self.results["extract"]).encode(),
            f"state/srcdir/linux/{IDENTITY}/.keep": b"",
        }

    @property
    def receipts(self) -> dict[str, Any]:
        def inputs(stage: str) -> dict[str, Any]:
            return {
                "files": {},
                "order": [],
                "values": {"compiler": COMPILER} if stage == "compile" else {},
                "receipts": {},
            }

        return {s: {"stage": s, "inputs": inputs(s), "results": self.results[s]} for s in STAGES if s in self.results}

    def look(self) -> dict[str, Any]:
        def b64(value: Any) -> str:
            return base64.b64encode(json.dumps(value).encode()).decode()

        record = {"root": "/srv/k", "tree": self.results["patch"]["tree"], "results": self.results.get("compile")}
        entry = {"name": base64.b64encode(b"linux/.linux-6.1.built").decode(), "text": b64(record)}
        packages = [{"file": PACKAGE, "sha256": sha(b"package")}]
        total = self.results.get("package", {}).get("packages_sha256")
        told = {stage: b64(receipt) for stage, receipt in self.receipts.items()}
        return {**told, "manifest": b64({"packages": packages, "packages_sha256": total}), "built": [entry], "bytes": 0}

    def files(self, wanted: Mapping[str, str], top: Path, room: int) -> dict[str, Member]:
        came = self._write(self.lying, top)
        os.symlink(IDENTITY, top / "state/srcdir/linux/current")
        (top / f"state/srcdir/linux/{IDENTITY}/.keep").unlink()
        return came

    def made(self, place: str, sources: Any, top: Path, room: int) -> dict[str, Member]:
        if self.fails:
            raise CommandFailed("n2 ended the script", evidence=["tar: core.o: Cannot open"], code=self.fails)
        return self._write(self.made_files, top)

    def _write(self, files: Mapping[str, bytes], top: Path) -> dict[str, Member]:
        came = {}
        for name, data in files.items():
            path = top / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            came[name] = Member(path, self.mtime, stat.S_IFREG | 0o644, len(data), sha(data))
        return came


class Bench:
    def __init__(self, top: Path) -> None:
        root = top / "project"
        (root / "kernel").mkdir(parents=True)
        (root / "kernel/PKGBUILD").write_text("pkgbase=linux\n")
        (root / "kernel/config").write_text("")
        (root / "patches").mkdir()
        (root / "cluster.yaml").write_text(CLUSTER.replace("/home/builder/buildtmp", str(top / "work")))
        self.cluster = load_cluster(root / "cluster.yaml")
        self.paths = Paths.of(self.cluster)
        self.paths.state.mkdir()
        self.paths.workdir.mkdir()
        for name, data in MADE.items():
            (top / "made" / name).parent.mkdir(parents=True, exist_ok=True)
            (top / "made" / name).write_bytes(data)
        source = top / "source"
        source.mkdir()
        for name, data in SOURCE.items():
            (source / name).write_bytes(data)
        tree = Trees(self.paths.repository)
        self.other = Other(self.paths, tree.import_directory(source), built.results(top / "made"))

    def adopt(self, replace: bool = False) -> Outcome:
        context = Context(self.cluster, self.paths, "adopt", self.cluster.nodes["n2"])
        return adopt.run(context, adopt.Wanted("/srv/k", str(self.paths.workdir), STAGES, replace))

    def build(self) -> dict[str, bytes]:
        """What this project has made itself, other than the other one; every byte of it."""
        for stage in STAGES:
            write_json(self.paths.receipt(stage), {"ours": stage})
        self.paths.artifacts.mkdir()
        (self.paths.artifacts / "ours.pkg.tar.zst").write_bytes(b"ours")
        write_json(self.paths.artifacts / "manifest.json", {"packages": [{"file": "ours.pkg.tar.zst"}]})
        (self.paths.kept / "files").mkdir(parents=True)
        write_json(self.paths.kept / "kept.json", {"place": PLACE, "files": {}})
        tree = self.paths.builddir / PLACE
        tree.mkdir(parents=True)
        for name, data in SOURCE.items():
            (tree / name).write_bytes(data)
        return self.lies()

    def lies(self) -> dict[str, bytes]:
        tops = (self.paths.build / "receipts", self.paths.artifacts, self.paths.kept, self.paths.builddir)
        return {str(p): p.read_bytes() for top in tops for p in sorted(top.rglob("*")) if p.is_file()}

    def stages(self) -> list[str]:
        return [s for s in STAGES if read_json(self.paths.receipt(s)) == self.other.receipts.get(s, "")]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(tmp_path)
    monkeypatch.setattr(asking, "Other", lambda *args: made.other)
    monkeypatch.setattr(adopted, "_sync", lambda directory: None)  # of a whole disk: seconds
    monkeypatch.setattr(project, "Project", lambda cluster: SimpleNamespace(compiler=COMPILER))
    return made


def test_all_of_it(bench: Bench) -> None:
    outcome = bench.adopt()
    assert outcome.warnings == () and bench.stages() == list(STAGES)
    assert (bench.paths.artifacts / PACKAGE).read_bytes() == b"package"
    assert read_json(bench.paths.kept / "kept.json")["built"]["results"] == bench.other.results["compile"]
    assert sorted(read_json(bench.paths.kept / "kept.json")["files"]) == sorted(MADE)
    left = {path.name for path in bench.paths.state.iterdir()}
    assert not left & {"adopting", "adopt.placing"}


def test_what_is_here_gives_way_only_when_it_is_said(bench: Bench) -> None:
    before = bench.build()
    with pytest.raises(KbuildError, match="has built here already"):
        bench.adopt()
    assert bench.lies() == before
    assert bench.adopt(replace=True).warnings == () and bench.stages() == list(STAGES)
    assert sorted(os.listdir(bench.paths.artifacts)) == [PACKAGE, "manifest.json"]
    assert not (bench.paths.builddir / PLACE).exists()


def test_a_tree_that_could_not_all_be_read_is_not_a_build_that_has_ended(bench: Bench) -> None:
    bench.other.fails = 2
    (warning,) = bench.adopt().warnings
    assert warning == "not taken: what kbuild made: not all of it could be read there (tar: core.o: Cannot open)"
    assert not bench.paths.kept.exists() and bench.stages() == list(STAGES)


def test_a_sender_that_a_run_there_has_ended_is_no_such_tree(bench: Bench) -> None:
    bench.other.fails = 143
    with pytest.raises(KbuildError) as failed:
        bench.adopt()
    assert "doit adopt again" in str(failed.value.hint) and bench.lies() == {}
    assert not (bench.paths.state / "adopting").exists()


def test_objects_of_ours_stay_where_none_of_theirs_are_taken(bench: Bench) -> None:
    before = bench.build()
    bench.other.made_files["vmlinux"] = b"another"
    (warning,) = bench.adopt(replace=True).warnings
    assert "its kernel is not the one that the receipt tells of" in warning
    ours = [name for name in before if name.startswith(str(bench.paths.workdir))]
    assert len(ours) == len(SOURCE) + 1 and {name: bench.lies().get(name) for name in ours} == {
        name: before[name] for name in ours
    }
    assert bench.stages() == list(STAGES)


def test_packages_of_ours_stay_where_theirs_are_damaged(bench: Bench) -> None:
    bench.build()
    bench.other.lying[f"project/artifacts/{PACKAGE}"] = b"pack\0\0\0"
    (warning,) = bench.adopt(replace=True).warnings
    assert PACKAGE in warning and bench.stages() == list(STAGES[:4])
    assert sorted(os.listdir(bench.paths.artifacts)) == ["manifest.json", "ours.pkg.tar.zst"]
    assert read_json(bench.paths.receipt("package")) == {"ours": "package"}


def test_less_there_than_here_replaces_nothing(bench: Bench) -> None:
    before = bench.build()
    del bench.other.results["package"]
    with pytest.raises(KbuildError, match="n2 has less than this project has built here: its package has not ended"):
        bench.adopt(replace=True)
    assert bench.lies() == before


def test_no_pkgbuild_replaces_nothing(bench: Bench) -> None:
    before = bench.build()
    (bench.paths.root / "kernel/PKGBUILD").unlink()
    with pytest.raises(OSError, match="PKGBUILD"):
        bench.adopt(replace=True)
    assert bench.lies() == before and not (bench.paths.state / "adopting").exists()


STEPS = ("remove", "sources", "beside", "inputs", "objects", "packages", "receipts")


@pytest.mark.parametrize("ours", [False, True], ids=["new", "replace"])
@pytest.mark.parametrize("step", STEPS)
def test_an_end_while_things_are_put_in_place_is_gone_on_from(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, step: str, ours: bool
) -> None:
    if ours:
        bench.build()
    elif step == "remove":
        return
    whole = getattr(adopted, step)

    def ended(*args: Any, **options: Any) -> None:
        whole(*args, **options) if step != "receipts" else write_json(
            bench.paths.receipt("extract"), bench.other.receipts["extract"]
        )
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(adopted, step, ended)
        with pytest.raises(KeyboardInterrupt):
            bench.adopt(replace=ours)
    assert not (bench.paths.state / "adopting").exists()
    bench.adopt()
    assert bench.stages() == list(STAGES) and not (bench.paths.state / "adopt.placing").exists()
    assert sorted(os.listdir(bench.paths.artifacts)) == [PACKAGE, "manifest.json"]


def test_what_was_built_after_such_an_end_is_not_replaced(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(adopted, "receipts", ended)
        with pytest.raises(KeyboardInterrupt):
            bench.adopt()
    write_json(bench.paths.receipt("extract"), {"ours": "extract"})
    with pytest.raises(KbuildError, match="has built here already"):
        bench.adopt()


def test_no_room_for_packages_on_the_disk_of_the_project(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real, root = os.stat, bench.paths.root
    monkeypatch.setattr(
        adopt.os, "stat", lambda path, **o: SimpleNamespace(st_dev=-1) if path == root else real(path, **o)
    )
    free = adopt.shutil.disk_usage(root)
    monkeypatch.setattr(adopt.shutil, "disk_usage", lambda path: SimpleNamespace(free=3) if path == root else free)
    with pytest.raises(KbuildError, match="has no room for the packages"):
        bench.adopt()
    assert bench.lies() == {}


def test_objects_of_a_clock_that_was_ahead_stay(bench: Bench) -> None:
    bench.other.mtime = time.time_ns() + 90 * 10**9
    (warning,) = bench.adopt().warnings
    assert "the clock there was ahead by" in warning and not bench.paths.kept.exists()


def test_an_object_in_the_place_of_a_source_stays(bench: Bench) -> None:
    bench.other.made_files["core.c/x.o"] = b""
    (warning,) = bench.adopt().warnings
    assert "core.c/x.o of it is in the place of a source" in warning and not bench.paths.kept.exists()


def test_what_lies_beside_is_of_the_sources_that_the_receipt_tells(bench: Bench) -> None:
    bench.other.lying[f"state/pristine/{IDENTITY}.json"] = b"{}"
    (warning,) = bench.adopt().warnings
    assert "it is unpacked anew" in warning
    assert not (bench.paths.state / "pristine").exists() and not (bench.paths.state / "srcdir").exists()


def test_what_cannot_lie_beside_the_sources() -> None:
    sources = ["Makefile", "kernel/core.c", "arch/link"]
    assert adopt_check.clash(["kernel/core.o", "vmlinux", "include/config/x"], ["kernel/new", "kernel"], sources) == ""
    for name in ("Makefile", "kernel/core.c", "arch/link/x.o", "Makefile/a/b", "kernel"):
        assert adopt_check.clash(["a.o", name], [], sources) == name
    assert adopt_check.clash([], ["a", "arch/link/x"], sources) == "arch/link/x"
