"""doit calibrate with the true kbuild: before anything was built, and between builds. The bytes are those of a build
that knows nothing of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.exact.bench import Bench, new_bench, objects
from tests.exact.edits import START

pytestmark = [pytest.mark.real, pytest.mark.whole]


@pytest.fixture
def bench(linux_source: Path) -> Iterator[Bench]:
    yield from new_bench(linux_source)


def test_what_calibrate_makes_in_a_configured_tree_is_what_the_build_would_make(bench: Bench) -> None:
    bench.write(START)
    bench.doit("configure")
    said = bench.doit("calibrate")
    assert "timed with init/main.o" in said
    made = (bench.tree / "init/main.o").read_bytes()
    record = json.loads((bench.project / "build/calibration/n1.json").read_text())
    assert record["unit"]["object"] == "init/main.o" and record["compile"] > 0 and record["unit"]["bytes"] > 0
    bench.doit()
    compiled = bench.last_run()["tasks"]["compile"]["objects"]
    assert "init/main.o" not in compiled and "kernel/core.o" in compiled
    assert (bench.tree / "init/main.o").read_bytes() == made
    assert bench.made() == bench.clean(START)


def test_between_builds_it_touches_nothing(bench: Bench) -> None:
    bench.write(START)
    bench.doit()
    before, made = objects(bench.tree), bench.made()
    assert "1 node timed with" in bench.doit("calibrate")
    assert objects(bench.tree) == before
    bench.doit()
    assert set(bench.states().values()) == {"fresh"}
    assert bench.made() == made
