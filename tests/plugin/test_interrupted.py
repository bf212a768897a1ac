"""A roll-out or a rollback that a signal ends, on fake nodes: what is said at its end, and what is not."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.plugin.conftest import Workbench
from tests.plugin.test_rollout_runs import packaged, ready

__all__ = ["packaged", "ready"]


def until(bench: Workbench, state: str, node: str = "n7") -> None:
    """Wait for a record in the node's journal."""
    file = Path(bench.root, f"build/rollout/{node}.jsonl")
    deadline = time.monotonic() + 30
    while not (file.exists() and f'"state":"{state}"' in file.read_text()):
        assert time.monotonic() < deadline, f"{node} was never {state}"
        time.sleep(0.02)


def interrupted(bench: Workbench, state: str, *args: str, number: int = signal.SIGINT, **env: str) -> str:
    """What a run says that is ended while n7 is there; with real pauses, it stays for seconds."""
    run = bench.start(*args, FAKE_REAL_SLEEP="100", **env)
    until(bench, state)
    run.send_signal(number)
    out, _ = run.communicate(timeout=30)
    assert run.returncode == 128 + number, out
    assert "Traceback" not in out
    return out


def test_a_roll_out_leaves_no_build_mode(ready: Workbench) -> None:
    """It asked every node, and complained of the one that was down as it was told to be."""
    out = interrupted(ready, "REBOOTING", "rollout")
    assert ready.trace() == [], "nobody was asked"
    assert "not released" not in out


def test_a_build_leaves_it_everywhere_but_where_a_reboot_does(ready: Workbench) -> None:
    out = interrupted(ready, "REBOOTING", "prepare", "rollout", FAKE_AWAY="n7 n3")
    assert [task for task in ready.trace() if task.startswith("release")]
    assert "not released: n3 does not answer" in out and "not released: n7" not in out


@pytest.mark.parametrize("verb", ["observe", "install", "bootfiles", "arm"])
def test_what_we_cut_short_is_no_lost_node(ready: Workbench, verb: str) -> None:
    run = ready.start("rollout", FAKE_HANGS=f"n7={verb}")
    deadline = time.monotonic() + 30
    while not (ready.root / "build/hangs").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)
    time.sleep(0.7)
    run.send_signal(signal.SIGINT)
    out, _ = run.communicate(timeout=30)
    assert run.returncode == 130, out
    journals = "".join(path.read_text() for path in ready.root.glob("build/rollout/*.jsonl"))
    told = out + journals + (ready.root / "build/last-run.json").read_text() + ready.doit("status")
    assert "lost" not in told and "switched on" not in told and "HELD" not in journals
    ready.doit("rollout")
