"""doit calibrate with real distccds on loopback addresses: what it writes, what a build makes of it, what it refuses.

Nothing here asserts how long anything takes: the machine may be busy.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from kbuild_tasks.core import calibration
from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.core.model import Outcome
from kbuild_tasks.effects import calibrate as timing
from kbuild_tasks.effects import places
from kbuild_tasks.effects.context import Context
from kbuild_tasks.effects.files import sha256_file
from kbuild_tasks.stages import calibrate as stage
from tests.stages.compile_world import COUNT, Daemon, Small, daemons, free_port, source

pytestmark = pytest.mark.real
PLACE = "linux-small/src/linux"
GCC = {"version": "12", "machine": "x86_64-linux-gnu", "binutils": "2.40"}


def calibrated(small: Small, configured: bool = True, few: bool = True) -> Outcome:
    """few: everything is done once, for what is measured does not matter."""
    return small.run(_calibrate, small, configured, few)


def _calibrate(small: Small, configured: bool, few: bool) -> Outcome:
    if few:
        timing.SAMPLE, timing.ALONE, timing.ROUNDS, timing.BULK = 4, 1, 1, 1 << 16
    tree = getattr(small, "source", "0" * 40)
    places.end_move(small.paths, PLACE, tree, written=False)
    receipts: dict[str, Any] = {
        "extract": {"pkgbase": "linux-small", "srctree": "linux"},
        "patch": {"tree": tree},
    }
    if configured:
        receipts["configure"] = {"config_sha256": sha256_file(small.tree / ".config")}
    return stage.run(
        Context(small.cluster, small.paths, "calibrate", receipts={n: {"results": r} for n, r in receipts.items()})
    )


def with_compiler(small: Small, **more: Any) -> None:
    """Facts as prepare writes them."""
    for name in small.nodes:
        record = json.loads(small.facts(name).read_text())
        record["facts"] |= {"compiler": GCC} | more
        small.facts(name).write_text(json.dumps(record))


def record(small: Small, node: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(small.paths.calibration(node).read_text())
    return told


def test_every_node_is_timed_and_a_build_believes_it(small: Small, temporary: Path) -> None:
    with daemons(temporary, "127.0.0.2", "127.0.0.3") as (two, three):
        first, _ = small.prepared(n2=two.where, n3=three.where).compile()
        assert first.run["cpu_seconds"] > 0
        assert first.lines == (first.run["bound"]["sentence"],) and first.lines[0].startswith("bounded by ")
        with_compiler(small)
        before = (two.count(), three.count())
        outcome = calibrated(small)
        assert two.count() > before[0] and three.count() > before[1], "by the very distccd"
        for name in ("n1", "n2", "n3"):
            told = record(small, name)
            assert calibration.read(told) is not None
            assert calibration.unfit(told, {"cores": 2, "compiler": GCC}) == ""
            assert told["unit"] == record(small, "n1")["unit"]
        own = record(small, "n1")
        assert own["objects"] == COUNT and len(own["sample"]) == 4
        assert own["compile"] > 0 and own["unit"]["object"].startswith("fs/o")
        assert record(small, "n2")["bandwidth"] > 0
        assert [line.split()[0] for line in outcome.lines[:4]] == ["node", "n1", "n2", "n3"]
        assert outcome.warnings == ()
        built, _ = small.compile()
        assert built.message == "nothing to compile", "a calibration is no input"
        assert not built.lines and "bound" not in built.run
        with_compiler(small, cores=4)
        (small.tree / "fs/o3.c").write_text(source(3) + "int more;\n")
        edited, _ = small.compile()
        assert edited.run["objects"] == ["fs/o3.o"]
        assert len([line for line in edited.warnings if "of 2 cores, now there are 4: it is not used" in line]) == 3
    assert not list(small.paths.workdir.glob("calibrate-*"))


def test_a_worker_that_does_not_answer_is_a_warning_and_keeps_its_old_figures(small: Small, temporary: Path) -> None:
    with daemons(temporary, "127.0.0.2") as (two,):
        small.prepared(n2=two.where, n9=("127.0.0.9", free_port("127.0.0.9"))).compile()
        with_compiler(small)
        outcome = calibrated(small)
    assert not small.paths.calibration("n9").exists()
    assert any(line.startswith("n9 was not timed: n9's distccd gave no answer") for line in outcome.warnings)
    assert small.paths.calibration("n2").exists()


def test_a_tree_that_was_not_built_gets_one_object_which_the_build_then_finds(small: Small) -> None:
    small.prepared()
    name = small.tree / "kernel/fork.c"
    name.parent.mkdir()
    name.write_text(source(99))
    makefile = small.tree / "Makefile"
    makefile.write_text(makefile.read_text().replace("$(wildcard fs/*.c)", "$(wildcard fs/*.c) $(wildcard kernel/*.c)"))
    small._own()
    with_compiler(small)
    outcome = calibrated(small)
    assert "kernel/fork.o" in outcome.message
    assert not places.mark(small.paths, PLACE, "compiling").exists()
    made = (small.tree / "kernel/fork.o").read_bytes()
    built, _ = small.compile()
    assert "kernel/fork.o" not in built.run["objects"] and len(built.run["objects"]) == COUNT
    (small.tree / "kernel/fork.o").unlink()
    again, _ = small.compile()
    assert again.run["objects"] == ["kernel/fork.o"]
    assert (small.tree / "kernel/fork.o").read_bytes() == made, "the same bytes as in a build"


@pytest.mark.parametrize(
    ("what", "says", "hint"),
    [
        ("no tree", "is not there any more", "doit configure"),
        ("another's", "holds another source", "doit configure"),
        ("not configured", "is not configured", "doit configure"),
        ("nothing to make", "has none of kernel/fork", "doit compile"),
    ],
)
def test_without_a_file_of_this_kernel_it_says_so(small: Small, what: str, says: str, hint: str) -> None:
    small.prepared()
    with_compiler(small)
    if what == "no tree":
        os.rename(small.tree, small.tree.with_name("gone"))
        (small.tree.parent / "gone/.config").rename(small.home / "config")
        with pytest.raises(KbuildError, match=says) as raised:
            small.run(_without_tree, small)
    elif what == "another's":
        with pytest.raises(KbuildError, match=says) as raised:
            small.run(_of_another, small)
    else:
        with pytest.raises(KbuildError, match=says) as raised:
            calibrated(small, configured=what != "not configured")
    assert (raised.value.hint or "").startswith(hint)


def _context(small: Small, tree: str) -> Context:
    results = {"extract": {"pkgbase": "linux-small", "srctree": "linux"}, "patch": {"tree": tree}}
    return Context(small.cluster, small.paths, "calibrate", receipts={n: {"results": r} for n, r in results.items()})


def _without_tree(small: Small) -> None:
    stage.run(_context(small, "0" * 40))


def _of_another(small: Small) -> None:
    places.end_move(small.paths, PLACE, "1" * 40, written=False)
    stage.run(_context(small, "0" * 40))


def test_before_anything_was_extracted(small: Small) -> None:
    small.prepared()
    with pytest.raises(KbuildError, match="no tree of this kernel") as raised:
        stage.run(Context(small.cluster, small.paths, "calibrate"))
    assert raised.value.hint == "doit configure, or doit, and doit calibrate again"


def test_a_worker_whose_compiler_fails_is_named(small: Small, temporary: Path) -> None:
    with daemons(temporary, "127.0.0.2") as (two,):
        assert isinstance(two, Daemon)
        there = timing.There("n2", *two.where, "gcc")
        text = timing.Text(
            timing.Unit("a.o", "a.c", ()), timing.distccd.request(["gcc", "-c", "-o", "a.o", "a.c"], b"not C;\n"), 0, 0
        )
        with pytest.raises(timing.NodeRefused, match=r"n2 cannot compile a\.o, which compiles here") as raised:
            there.job(text)
        assert any("error" in line for line in raised.value.evidence)
