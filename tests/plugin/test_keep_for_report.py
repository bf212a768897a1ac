"""What a run keeps for the report, and that it does not grow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.files import write_json
from kbuild_tasks.plugin import keep


def test_long_lists_are_counted() -> None:
    fallbacks = [{"object": f"o{n}"} for n in range(900)]
    told = keep.short({"state": "done", "objects": ["a", "b"], "untold": [], "fallbacks": fallbacks, "message": "x"})
    assert (told["objects"], told["untold"], told["message"]) == (2, 0, "x")
    assert (len(told["fallbacks"]), told["fallbacks_count"]) == (keep.FALLBACKS, 900)


def test_each_task_keeps_the_last_thing_that_it_did(tmp_path: Path) -> None:
    paths = Paths(tmp_path, tmp_path / "work", tmp_path / "state")
    done = {"state": "done", "message": "7 applied"}
    keep.keep(paths, {"patch": done, "extract": {"state": "fresh"}}, {"patch": [5.0, 6.0]}, 4.0)
    keep.keep(paths, {"patch": {"state": "fresh"}, "compile": {"state": "failed"}}, {"compile": [9.0, 9.5]}, 8.0)
    tasks = json.loads((tmp_path / "build/last-done.json").read_text())["tasks"]
    by = tasks["patch"]["by"]
    assert "@" in by and str(tmp_path) not in by
    assert tasks == {
        "patch": {**done, "at": 5.0, "run": 4.0, "by": by},
        "compile": {"state": "failed", "at": 9.0, "run": 8.0, "by": by},
    }


def test_a_task_that_is_no_more_is_forgotten(tmp_path: Path) -> None:
    paths = Paths(tmp_path, tmp_path / "work", tmp_path / "state")
    done = {"state": "done"}
    keep.keep(paths, {"sync:k3": done, "patch": done}, {"sync:k3": [1.0, 2.0], "patch": [1.0, 2.0]}, 0.0)
    keep.keep(paths, {"patch": done}, {"patch": [3.0, 4.0]}, 3.0, {"patch", "sync:k2"})
    assert list(json.loads((tmp_path / "build/last-done.json").read_text())["tasks"]) == ["patch"]


def test_a_damaged_record_begins_anew_and_one_that_cannot_be_written_fails_no_run(tmp_path: Path) -> None:
    paths = Paths(tmp_path, tmp_path / "work", tmp_path / "state")
    file = tmp_path / "build/last-done.json"
    file.parent.mkdir()
    file.write_text("[")
    keep.keep(paths, {"patch": {"state": "done"}}, {"patch": [1.0, 2.0]}, 0.0)
    assert "patch" in json.loads(file.read_text())["tasks"]
    file.unlink()
    file.mkdir()
    told = keep.keep(paths, {"patch": {"state": "done"}}, {"patch": [1.0, 2.0]}, 0.0)
    assert len(told) == 1 and "build/last-done.json was not written" in told[0]


@pytest.mark.parametrize("event", [{"ph": "C", "name": "x"}, {"ph": "M", "pid": 1, "name": "x"}])
def test_a_trace_of_another_shape_fails_no_run(tmp_path: Path, event: dict[str, object]) -> None:
    paths = Paths(tmp_path, tmp_path / "work", tmp_path / "state")
    about = {"began": 10.0, "seconds": 1.0, "nodes": [], "slots": {}}
    write_json(paths.build / "trace.json", {"otherData": about, "traceEvents": [event]})
    told = keep.keep(paths, {"patch": {"state": "done"}}, {"patch": [1.0, 2.0]}, 0.0)
    assert len(told) == 1 and "the stages are not in build/trace.json" in told[0]
    assert "patch" in json.loads((tmp_path / "build/last-done.json").read_text())["tasks"]
