"""The report of a true build, and of the one after it: what it tells is what was done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kbuild_tasks.core import trace
from tests.exact.bench import Bench, new_bench
from tests.exact.edits import EDITS, START

pytestmark = [pytest.mark.real, pytest.mark.whole]


@pytest.fixture(scope="module")
def bench(linux_source: Path) -> Iterator[Bench]:
    yield from new_bench(linux_source)


def told(bench: Bench) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((bench.project / "build/trace.json").read_text())
    return value


def test_two_builds_and_their_report(bench: Bench) -> None:
    bench.write(START)
    bench.doit()
    first, compiled = told(bench), bench.last_run()["tasks"]["compile"]
    line = trace.read(first)
    assert line is not None
    assert sorted(span.object for span in line.spans) == compiled["objects"]
    stages = {event["name"]: event["dur"] / 1e6 for event in first["traceEvents"] if event.get("cat") == "stage"}
    assert {"extract", "patch", "configure", "compile", "package"} <= set(stages)
    for name, task in bench.last_run()["tasks"].items():
        if task["state"] == "done" and name in stages:
            assert stages[name] == pytest.approx(task["seconds"], abs=0.5)
    assert line.seconds <= stages["compile"] + 0.1
    assert next(name for name, *_ in line.phases) in ("prepare", "compile")

    bench.doit()
    assert told(bench) == first, "a run that compiles nothing leaves the last trace"

    bench.write(EDITS["a patch of what is built in"])
    bench.doit()
    assert bench.doit("report").endswith("build/report.html\n")
    page = (bench.project / "build/report.html").read_text()
    for words in ("Against the last build", "linux-small-headers", "changed", "Your files", "slots busy"):
        assert words in page
