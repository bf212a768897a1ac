"""A run that is being stopped: children end, and only the clean-up starts new ones."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kbuild_tasks.core.errors import CommandFailed, Interrupted, KbuildError
from kbuild_tasks.core.model import Node
from kbuild_tasks.effects import node as remote
from kbuild_tasks.effects import node_stream, shell, ssh


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


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_we_cut_short_is_no_lost_node(
    stream: bool, stopped: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ssh that is told to end gives 255, as where a connection broke."""
    monkeypatch.setattr(remote, "new_word", lambda: "word")
    begun = tmp_path / "begun"
    # what it is asked is read first: it is sent when the child is known, so that no stop comes before that
    script = f"trap 'exit 255' TERM; cat >/dev/null; echo; echo '@@word start'; : >'{begun}'"
    script += "; while :; do sleep 0.05; done"
    monkeypatch.setattr(remote, "argv_of", lambda *_, **__: ["sh", "-c", script])
    monkeypatch.setattr(ssh, "shared", lambda *_: contextlib.nullcontext())
    cluster: Any = None
    node = Node("n7", "10.0.0.10")
    with ThreadPoolExecutor(1) as stage:
        if stream:
            asked: Any = stage.submit(node_stream.receive, cluster, node, "", {}, lambda answer: answer.read())
        else:
            asked = stage.submit(remote.ask, cluster, node, "")
        while not begun.exists():
            assert not asked.done()
        shell.stop_all()
        with pytest.raises(Interrupted, match="the work on n7 was interrupted"):
            asked.result(10)


def test_a_signal_in_the_moment_of_a_start_leaves_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Signalled(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            started.append(self)
            signal.raise_signal(signal.SIGUSR1)

    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", Signalled)
    before = signal.signal(signal.SIGUSR1, lambda *_: shell.postpone(stop) or stop())
    try:
        with pytest.raises(KeyboardInterrupt):
            shell.run(["sleep", "60"])
        assert started[-1].poll() is not None
        assert not shell._children
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


def runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_what_a_program_leaves_in_the_background_is_ended(tmp_path: Path) -> None:
    """Else its output would stay open for as long as that job works."""
    lines: list[str] = []
    script = "sleep 600 & echo $!; exit 7"
    began = time.monotonic()
    assert shell.run_lines(["sh", "-c", script], lines.append, log=tmp_path / "log") == 7
    assert time.monotonic() - began < 30
    for _ in range(1000):  # it was told to end, and does so when the kernel gives it a processor
        if not runs(lines[0]):
            break
        time.sleep(0.01)
    assert not runs(lines[0])
