"""A task's seconds are its own work: what passes until it is its turn is counted nowhere."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator
from typing import Any

import pytest
from doit.reporter import ZeroReporter

from kbuild_tasks.core.model import Outcome
from kbuild_tasks.plugin import action, record
from kbuild_tasks.plugin.action import StageAction


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock says."""
    now = [100.0]
    clock = types.SimpleNamespace(monotonic=lambda: now[0], time=lambda: now[0])
    monkeypatch.setattr(action, "time", clock)
    monkeypatch.setattr(record, "time", clock)
    return now


def test_waiting_for_its_turn_is_not_counted(at: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def turn() -> Iterator[None]:
        at[0] += 50  # other nodes go first
        yield

    def work() -> Outcome:
        at[0] += 7
        return Outcome("came back")

    waits = StageAction(work, "rollback:n2", turn=turn())
    recorder = record.around(ZeroReporter, None)(None, {})
    monkeypatch.setattr(recorder, "save", lambda **_: None)
    task: Any = types.SimpleNamespace(name="rollback:n2", actions=[waits], values=waits.values)
    recorder.execute_task(task)
    assert waits.execute() is True
    task.values = waits.values
    recorder.add_success(task)
    assert recorder.tasks["rollback:n2"]["seconds"] == 7
    assert recorder.times["rollback:n2"] == [150, 157], "nor is it drawn"
