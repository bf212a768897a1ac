"""compile with the real makepkg, make, gcc and distccd: who compiled what, and what happens when a worker does not."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kbuild_tasks.core.errors import CommandFailed, KbuildError
from kbuild_tasks.effects import places
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.leftovers import Mark
from kbuild_tasks.stages import compile as stage
from tests.stages.compile_world import COUNT, Daemon, Mute, Small, daemons, free_port

pytestmark = pytest.mark.real
PLACE = "linux-small/src/linux"


@pytest.fixture
def worker(temporary: Path) -> Iterator[Daemon]:
    with daemons(temporary, "127.0.0.2") as (one,):
        yield one


def objects() -> list[str]:
    return sorted(f"fs/o{n}.o" for n in range(COUNT))


def test_objects_are_shared_and_the_workers_own_logs_agree(small: Small, temporary: Path) -> None:
    with daemons(temporary, "127.0.0.2", "127.0.0.3") as (two, three):
        outcome, events = small.prepared(n2=two.where, n3=three.where).compile()
        per_node = outcome.run["per_node"]
        assert outcome.run["objects"] == objects()
        assert sum(per_node.values()) == COUNT
        assert (per_node["n2"], per_node["n3"]) == (two.count(), three.count())
        assert min(per_node["n2"], per_node["n3"]) > 0
        assert (outcome.run["fallbacks"], outcome.run["untold"], outcome.warnings) == ([], [], ())
        assert outcome.message == (
            f"24 objects, {per_node['n2']} on n2, {per_node['n3']} on n3, {per_node.get('n1', 0)} local"
        )
        assert outcome.results["kernelrelease"] == "6.1.1-small"
        assert events[-1] == {"ended": True}
        assert {event["phase"] for event in events[:-1]} >= {"compile"}
        distributed = outcome.results["vmlinux_sha256"]

        again, _ = small.compile()
        assert again.message == "nothing to compile"
        assert dict(again.results) == dict(outcome.results)

        # the same bytes when nobody helps, and nothing that make compares has changed
        for name in ("n2", "n3"):
            small.leave_out(name, "it is off")
        alone, _ = small.compile()
        assert alone.message == "nothing to compile"
        for path in small.tree.glob("fs/*.o"):
            path.unlink()
        alone, _ = small.compile()
        assert alone.message == "24 objects, all on n1: no worker took part"
        assert alone.warnings == ("n2 compiled nothing: it is off", "n3 compiled nothing: it is off")
        assert alone.results["vmlinux_sha256"] == distributed
    assert not (small.paths.workdir / "tmp").exists()
    assert not (small.paths.state / "distcc" / "log").exists()


def test_an_edit_compiles_one_object(small: Small, worker: Daemon) -> None:
    small.prepared(n2=worker.where).compile()
    path = small.tree / "fs/o3.c"
    path.write_text(path.read_text() + "int more;\n")
    outcome, _ = small.compile()
    assert outcome.run["objects"] == ["fs/o3.o"]
    assert outcome.message in ("1 object, 1 on n2, 0 local", "1 object, 0 local", "1 object, 1 local")


def test_a_build_that_counts_processors_uses_the_jobs_of_the_plan(small: Small, worker: Daemon) -> None:
    small.prepared(n2=worker.where)
    text = small.pkgbuild.read_text().replace("make all", 'echo "told $(nproc)"; make -j$(nproc) all')
    small.pkgbuild.write_text(text)
    outcome, _ = small.compile()
    assert outcome.run["jobs"] > (os.cpu_count() or 1)
    assert f"told {outcome.run['jobs']}" in small.paths.log("compile").read_text().splitlines()
    assert outcome.run["per_node"]["n2"] > 0


def test_a_worker_that_refuses_costs_no_object(small: Small, worker: Daemon) -> None:
    dead = ("127.0.0.9", free_port("127.0.0.9"))
    outcome, _ = small.prepared(n2=worker.where, n9=dead).compile()
    assert outcome.run["objects"] == objects()
    assert outcome.run["fallbacks"] == []
    assert outcome.run["lost_attempts"]["n9"] >= 1
    # told by its failed jobs, or, where it was asked for a connection before they all were, as one that is gone
    told = [line for line in outcome.warnings if line.startswith("n9 ")]
    assert told and all("done elsewhere" in line for line in told)


def test_all_workers_gone_fails_by_the_threshold_with_good_objects(small: Small) -> None:
    small.prepared(n9=("127.0.0.9", free_port("127.0.0.9")))
    with pytest.raises(KbuildError) as raised:
        small.compile()
    assert "objects that workers should have compiled were compiled on the coordinator" in raised.value.message
    assert "build.fail_local_share is 50%" in raised.value.message
    assert "n9 refused the connection" in "\n".join(raised.value.evidence)
    again, _ = small.compile()
    assert again.message == "nothing to compile"


def test_all_workers_gone_may_be_allowed(small: Small) -> None:
    small.build["fail_local_share"] = 1.0
    outcome, _ = small.prepared(n9=("127.0.0.9", free_port("127.0.0.9"))).compile()
    assert outcome.run["per_node"] == {"n1": COUNT}
    assert len(outcome.run["fallbacks"]) >= 10
    assert any(entry["reason"] == "n9 refused the connection" for entry in outcome.run["fallbacks"])
    assert any("fell back to n1" in line for line in outcome.warnings)


def test_a_worker_that_takes_jobs_and_never_answers_costs_seconds(small: Small, worker: Daemon) -> None:
    mute = Mute("127.0.0.8")
    try:
        started = time.monotonic()
        outcome, _ = small.prepared(n2=worker.where, n8=mute.where).compile(silent=3.0)
        seconds = time.monotonic() - started
    finally:
        mute.stop()
    assert outcome.run["objects"] == objects()
    assert outcome.run["untold"] == []
    assert outcome.run["lost_attempts"]["n8"] >= 1
    assert any(line.startswith("n8 sent nothing for 3 s") for line in outcome.warnings)
    assert seconds < 60  # DISTCC_IO_TIMEOUT alone would be 90


def test_a_worker_that_dies_in_mid_job(small: Small, worker: Daemon) -> None:
    dying = Mute("127.0.0.7", closes=True)
    try:
        outcome, _ = small.prepared(n2=worker.where, n7=dying.where).compile()
    finally:
        dying.stop()
    assert outcome.run["objects"] == objects()
    assert outcome.run["lost_attempts"]["n7"] >= 1
    reasons = {entry["reason"] for entry in outcome.run["fallbacks"]}
    assert reasons <= {"n7 closed the connection without an answer"}


def test_an_error_names_line_and_patch_first(small: Small, worker: Daemon) -> None:
    small.prepared(n2=worker.where)
    path = small.tree / "fs/o5.c"
    path.write_text(path.read_text() + "int broken(void) { return undeclared_thing; }\n")
    line = path.read_text().count("\n")
    with pytest.raises(CommandFailed) as raised:
        small.compile(touched={"fs/o5.c": ["patches/0003-thing.patch"]})
    assert raised.value.message.startswith(f"fs/o5.c:{line}: ")
    assert "undeclared_thing" in raised.value.message
    assert raised.value.message.endswith("(0003-thing.patch touched it)")
    assert raised.value.log == "build/logs/compile.log"
    assert not places.mark(small.paths, PLACE, "compiling").exists()  # make ended by itself


def test_half_made_objects_of_a_killed_build_are_made_again(small: Small, worker: Daemon) -> None:
    first, _ = small.prepared(n2=worker.where).compile()
    mark = Mark(places.mark(small.paths, PLACE, "compiling"), small.tree)
    small.run(mark.set)
    began = time.time() - 60
    os.utime(mark.path, (began, began))
    for path in small.tree.rglob("*"):
        made = path.suffix in (".o", ".cmd")
        os.utime(path, (began + 30, began + 30) if made else (began - 60, began - 60))
    victim = small.tree / "fs/o7.o"
    victim.write_bytes(victim.read_bytes()[:100])  # newer than its source: make would believe it
    second, _ = small.compile()
    assert second.run["mended"] == ["fs/o7.o"]
    assert second.run["objects"] == ["fs/o7.o"]
    assert second.results["vmlinux_sha256"] == first.results["vmlinux_sha256"]


def test_a_killed_build_of_another_version_is_mended_after_this_one_has_ended(small: Small) -> None:
    """6.1.190 was killed, the PKGBUILD went back to 6.1.188 and forth again: half an object of 190 is still one."""
    small.prepared()
    whole = small.pkgbuild.read_text()
    killed = """printf '\\177ELF half' >fs/late.o; sh -c 'kill -9 $$'"""
    small.pkgbuild.write_text(whole.replace("make all", killed))
    with pytest.raises(CommandFailed):
        small.compile()
    small.srctree = "linux-6.1.188"
    small.prepared().compile()
    small.srctree = "linux"
    small.pkgbuild.write_text(whole)
    outcome, _ = small.compile()
    assert outcome.run["mended"] == ["fs/late.o"]


def test_the_mark_of_an_older_version_counts_for_the_tree_that_is_built_first(small: Small) -> None:
    small.prepared()
    old = small.paths.builddir / ".compiling"
    half = small.tree / "fs/late.o"
    small.run(Mark(old, small.tree).set)
    time.sleep(0.02)
    small.run(half.write_bytes, b"\x7fELF half")
    outcome, _ = small.compile()
    assert outcome.run["mended"] == ["fs/late.o"]
    assert not old.exists()


def test_what_was_compiled_is_there_until_a_build_begins_or_the_source_changes(small: Small) -> None:
    outcome, _ = small.prepared().compile()
    paths, tree = small.paths, small.source  # type: ignore[attr-defined]
    lost = ["nothing tells that a build has ended in", "was compiled from another source"]
    assert [why for why in stage.lost(paths, outcome.results) if lost[1] in why], "patch has not said what lies there"
    small.run(patched, paths, tree)
    again, _ = small.compile()
    assert list(stage.lost(paths, again.results)) == []
    small.run(patched, paths, tree)
    assert list(stage.lost(paths, again.results)) == [], "the same source, and nothing was written"
    assert len(list(stage.lost(replace(paths, root=paths.root / "other"), again.results))) == 1
    assert len(list(stage.lost(paths, {**again.results, "vmlinux_sha256": "another"}))) == 1
    small.pkgbuild.write_text(small.pkgbuild.read_text().replace("make all", "false"))
    with pytest.raises(CommandFailed):
        small.compile()
    assert [why for why in stage.lost(paths, again.results) if lost[0] in why]


@pytest.mark.parametrize("how", ["another source and back", "a file was written", "another project and back"])
def test_a_source_that_went_and_came_back_is_compiled_before_it_is_packaged(small: Small, how: str) -> None:
    small.prepared().compile()
    paths, tree = small.paths, small.source  # type: ignore[attr-defined]
    small.run(patched, paths, tree)
    outcome, _ = small.compile()
    if how == "another source and back":
        small.run(patched, paths, "0" * 40)
    elif how == "another project and back":
        small.run(patched, replace(paths, root=paths.root / "other"), tree)
    small.run(patched, paths, tree, how == "a file was written")
    assert len(list(stage.lost(paths, outcome.results))) == 1


def patched(paths: Paths, tree: str, written: bool = False) -> None:
    places.begin_move(paths, PLACE, tree)
    places.end_move(paths, PLACE, tree, written=written)


def test_a_config_that_configure_did_not_make_is_not_compiled(small: Small) -> None:
    small.prepared()
    small.config_sha256 = "0" * 64  # type: ignore[attr-defined]
    with pytest.raises(KbuildError, match="is not the one that configure made"):
        small.compile()


def test_a_build_that_changes_config_is_refused(small: Small) -> None:
    small.prepared()
    small.pkgbuild.write_text(small.pkgbuild.read_text().replace("make all", "make all; echo CONFIG_B=y >>.config"))
    with pytest.raises(KbuildError, match=r"changed \.config"):
        small.compile()


def test_a_build_that_makes_no_kernel_is_refused(small: Small) -> None:
    small.prepared()
    small.pkgbuild.write_text(small.pkgbuild.read_text().replace("make all", ":"))
    with pytest.raises(KbuildError, match="ended without an error and made no"):
        small.compile()
