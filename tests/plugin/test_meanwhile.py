"""What happens to the project, and beside the run, while it goes on."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from kbuild_tasks.core.fingerprint import CHANGED, MISSING, settled
from kbuild_tasks.effects import lock, shell
from kbuild_tasks.plugin.record import Recorder


def stages(tasks: list[str]) -> list[str]:
    return [task for task in tasks if ":" not in task]


def test_an_input_that_changes_and_changes_back(bench) -> None:
    """Nobody knows which of the two the stage has read."""
    bench.doit("extract")
    bench.trace()
    run = bench.start(FAKE_SLEEP="patch=1.5")
    bench.wait_for("patch")
    bench.edit("patches/b.patch", "+2", "+3")
    bench.edit("patches/b.patch", "+3", "+2")
    run.communicate(timeout=30)
    assert "b.patch added" in bench.doit("plan")
    bench.trace()
    bench.doit()
    assert stages(bench.trace()) == ["patch"], "to the same result"
    assert json.loads(bench.doit("plan", "--json"))["fresh"]


def test_a_stage_records_what_it_found_when_it_began(bench) -> None:
    """Not what lay there when doit was started: that may be hours ago."""
    run = bench.start(FAKE_SLEEP="extract=1.5")
    bench.wait_for("extract")
    bench.edit("patches/b.patch", "+2", "+3")
    run.communicate(timeout=30)
    assert "fresh  patch" in bench.doit("plan")
    bench.edit("patches/b.patch", "+3", "+2")
    assert "run    patch        b.patch changed" in bench.doit("plan")


def test_settled() -> None:
    before = {"files": {"a": "1", "b": "2"}, "order": ["a", "b"], "values": {"x": 1, "y": 2}, "receipts": {"p": "r"}}
    times = {"a": (1,), "b": (2,)}
    first = {**before, "times": times}
    assert settled(first, first) == before
    assert settled(first, {**first, "times": {"a": (9,), "b": (2,)}})["files"] == {"a": MISSING, "b": "2"}
    assert settled(first, {**first, "files": {"a": "1"}})["files"] == {"a": "1", "b": MISSING}
    assert settled(first, {**first, "values": {"x": 1, "y": 3}})["values"] == {"x": 1, "y": CHANGED}
    assert settled(first, {**first, "order": ["b", "a"]})["files"] == {"a": MISSING, "b": MISSING}


def recorder(build: Path) -> tuple[Recorder, list[bool]]:
    left: list[bool] = []
    nodes = SimpleNamespace(leave=lambda everywhere: left.append(everywhere) or [])
    paths = SimpleNamespace(build=build)
    made = type("R", (Recorder,), {"chosen": staticmethod(lambda out, options: SimpleNamespace())})(None, {})
    made.pipeline = SimpleNamespace(nodes=nodes, project=SimpleNamespace(paths=paths))
    made.acted = True
    return made, left


def test_a_run_that_was_refused_releases_no_node_of_the_one_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "stop_all", lambda: None)  # it would be for all of this process
    made, left = recorder(tmp_path)
    made.close(KeyboardInterrupt())
    assert left == []
    lock.acquire(tmp_path / ".lock")
    made, left = recorder(tmp_path)
    made.close(KeyboardInterrupt())
    lock.release(tmp_path / ".lock")
    assert left == [True]


def test_nodes_are_released_whatever_clock_and_disk_say(bench) -> None:
    """By what this run did, not by the time in a file."""
    bench.doit("prepare:n1", FAKE_AT="1")
    assert bench.trace() == ["prepare:n1", "release:n1"]
    bench.doit("prepare:n2", FAKE_FAIL="prepare:n2", check=1)
    assert bench.trace() == ["prepare:n2", "release:n2"], "it may have heard us, though its facts were not written"
