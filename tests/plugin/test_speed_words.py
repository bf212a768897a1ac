"""`doit calibrate` and `doit simulate` as typed: build mode is entered and left, nothing is rebuilt, what is said."""

from __future__ import annotations

import json

import pytest

from kbuild_tasks.core import trace
from kbuild_tasks.core.spans import Span
from tests.plugin.conftest import Workbench
from tests.plugin.test_runs import HANGS


def test_calibrate_runs_in_build_mode_on_all_nodes_and_leaves_it(bench: Workbench) -> None:
    out = bench.doit("calibrate")
    ran = bench.trace()
    assert set(ran) == {"prepare:n1", "prepare:n2", "calibrate", "release:n1", "release:n2"}
    assert max(map(ran.index, ("prepare:n1", "prepare:n2"))) < ran.index("calibrate") < ran.index("release:n2")
    assert "  done   calibrate    2 nodes timed\n         node  alone\n         n1    0.5 s\n" in out
    assert "warning" not in out


def test_calibrate_that_fails_leaves_build_mode_too(bench: Workbench) -> None:
    assert "calibrate was told to fail" in bench.doit("calibrate", check=1, FAKE_FAIL="calibrate")
    assert {"release:n1", "release:n2"} <= set(bench.trace())


def test_a_calibration_makes_nothing_stale(bench: Workbench) -> None:
    bench.doit()
    bench.trace()
    bench.doit("calibrate")
    assert json.loads(bench.doit("plan", "--json"))["fresh"] is True
    bench.trace()
    bench.doit()
    assert bench.trace() == []
    again = bench.doit("calibrate")
    assert "done   calibrate" in again, "it is never fresh"


def test_calibrate_reads_no_pkgbuild(bench: Workbench) -> None:
    (bench.root / "dodo.py").write_text((bench.root / "dodo.py").read_text() + HANGS)
    bench.doit("calibrate", FAKE_PKGBUILD="1")
    assert not (bench.root / "asked").exists()


def test_simulate_says_what_is_assumed_and_runs_nothing(bench: Workbench) -> None:
    out = bench.doit("simulate")
    assert out.startswith("  nodes are not calibrated")
    assert "assumed: there is no trace of a whole build" in out
    assert out.endswith("  build/simulate.svg\n")
    assert (bench.root / "build/simulate.svg").read_text().startswith("<svg ")
    assert bench.trace() == []


def test_simulate_of_two_kinds_as_json(bench: Workbench) -> None:
    told = json.loads(bench.doit("simulate", "--json", "--nodes", "1,4", "--kind", "4,0.3,12", "--kind", "8,1.2"))
    assert [curve["nodes"] for curve in told["curves"]] == ["4 cores, 0.3 x, 12 MB/s", "8 cores, 1.2 x, 117 MB/s"]
    for curve in told["curves"]:
        assert [point["nodes"] for point in curve["points"]] == [1, 4]
        assert curve["points"][1]["seconds"] < curve["points"][0]["seconds"] < curve["alone"]
        assert {point["bound"] for point in curve["points"]} <= {"coordinator", "network", "workers", "serial", "make"}
        assert curve["advice"]
    assert told["work"]["objects"] == 2704


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--nodes", "0"), "--nodes 0: numbers from 1 to 512 are wanted\nhint: --nodes 1..64, or --nodes 1,2,3\n"),
        (("--kind", "fast"), "--kind fast: cores, and their speed and MB/s of the link, are wanted\n"),
    ],
)
def test_simulate_of_what_is_none(bench: Workbench, words: tuple[str, ...], says: str) -> None:
    assert says in bench.doit("simulate", *words, check=1)
    assert "takes no 'x'" in bench.doit("simulate", "x", check=3)


@pytest.mark.parametrize("damage", ["{", "[]", '{"tasks": []}', '{"tasks": {"compile": 3}}'])
def test_simulate_passes_over_what_is_damaged(bench: Workbench, damage: str) -> None:
    bench.doit()
    for name in ("last-done.json", "trace.json", "whole-build.json", "calibration/n1.json", "facts/n2.json"):
        path = bench.root / "build" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(damage)
    assert "  build/simulate.svg\n" in bench.doit("simulate", "--nodes", "1..4")


def test_simulate_goes_on_telling_from_the_last_whole_build_after_an_edit(built: Workbench) -> None:
    def line(objects: int) -> trace.Timeline:
        spans = tuple(Span(f"fs/{n}.o", "n2", 3.0, 5.0) for n in range(objects))
        return trace.Timeline(1796058900.0, 9.0, spans, (("compile", 3.0, 6.0),), nodes=("n2", "n1"))

    whole = trace.build(line(500))
    whole["otherData"] |= {"config": "0" * 64, "cpu_seconds": 99.0}
    (built.root / "build/whole-build.json").write_text(json.dumps(whole))
    (built.root / "build/trace.json").write_text(json.dumps(trace.build(line(3))))
    out = built.doit("simulate", "--nodes", "1")
    assert "\n  500 objects, 3.0 s before and 3.0 s after them: of the last whole build, of 20" in out
    assert "that build was of another .config" in out
    assert json.loads(built.doit("simulate", "--json", "--nodes", "1"))["work"]["objects"] == 500
