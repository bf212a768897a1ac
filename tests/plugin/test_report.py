"""`doit report`: a page at any time, from nothing, from a build, from damaged files; and what a run keeps for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.plugin.conftest import Workbench


def report(bench: Workbench) -> str:
    assert bench.doit("report") == "build/report.html\n"
    return (bench.root / "build/report.html").read_text()


def test_nothing_built_yet(bench: Workbench) -> None:
    text = report(bench)
    assert "nothing built yet" in text and "Nothing was compiled yet" in text
    assert bench.trace() == [], "it runs no stage"


def test_a_build_and_a_run_with_nothing_to_do(bench: Workbench) -> None:
    bench.doit()
    first = report(bench)
    assert "package did it" in first and "mind this" in first
    bench.doit()
    last = json.loads((bench.root / "build/last-run.json").read_text())
    assert last["tasks"]["package"] == {"state": "fresh"}
    again = report(bench)
    assert "package did it" in again, "what was done is told from build/last-done.json"
    done = json.loads((bench.root / "build/last-done.json").read_text())
    assert done["tasks"]["compile"]["objects"] == 0
    assert {"at", "run", "seconds", "message", "why"} <= set(done["tasks"]["compile"])


def test_a_failure_comes_first(bench: Workbench) -> None:
    bench.doit(check=1, FAKE_FAIL="compile")
    text = report(bench)
    assert text.index("compile failed") < text.index('id="stages"')
    for words in (
        "compile was told to fail",
        "line one",
        "unset FAKE_FAIL",
        "build/logs/x.log",
        "held by that: package",
    ):
        assert words in text


@pytest.mark.parametrize("damage", ["", "{", "[]", "3", '{"tasks": 3, "inputs": [], "results": 3}', "\x00\xff"])
def test_damaged_files_are_said_and_end_nothing(bench: Workbench, damage: str) -> None:
    bench.doit()
    build = bench.root / "build"
    for name in ("last-run.json", "last-done.json", "trace.json", "published/now.json", "published/before.json"):
        (build / name).parent.mkdir(exist_ok=True)
        (build / name).write_text(damage)
    for path in (*build.glob("receipts/*.json"), *build.glob("facts/*.json"), build / "config"):
        path.write_text(damage)
    (bench.root / "artifacts").mkdir(exist_ok=True)
    (bench.root / "artifacts/manifest.json").write_text(damage)
    text = report(bench)
    assert "Traceback" not in text
    if not damage.startswith("{"):
        assert "build/last-run.json" in text, "a damaged file is named"


def test_it_takes_no_words(bench: Workbench) -> None:
    assert "doit report takes no 'now'" in bench.doit("report", "now", check=3)


def test_a_page_that_cannot_be_written_is_one_sentence(bench: Workbench) -> None:
    page: Path = bench.root / "build/report.html"
    page.mkdir(parents=True)
    assert bench.doit("report", check=1) == "build/report.html cannot be written: Is a directory\n"
