"""A run that is being stopped: children end, and only the clean-up starts new ones."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from kbuild_tasks.core.errors import CommandFailed, KbuildError
from kbuild_tasks.effects import shell


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "_stopping", threading.Event())


def test_children_end_and_none_follows_but_of_the_clean_up(stopped: None) -> None:
    with ThreadPoolExecutor(1) as stage, ThreadPoolExecutor(1, initializer=shell.permit) as clean_up:
        sleeping = stage.submit(shell.run, ["sleep", "60"])
        while not shell._children:
            assert not sleeping.done()
        shell.stop_all()
        with pytest.raises(CommandFailed, match="was ended by signal 15"):
            sleeping.result(10)
        with pytest.raises(KbuildError, match="was not started: the run is being stopped"):
            stage.submit(shell.run, ["true"]).result(10)
        assert clean_up.submit(shell.run, ["true"]).result(10).code == 0
