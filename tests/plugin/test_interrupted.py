"""A roll-out or a rollback that a signal ends, on fake nodes: what is said at its end, and what is not."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.plugin.conftest import Workbench
from tests.plugin.test_rollout_runs import packaged, ready

__all__ = ["packaged", "ready"]


def until(bench: Workbench, state: str, after: str = "") -> None:
    """Wait for a record in n7's journal, behind one that has `after`; for "hangs": for what FAKE_HANGS names."""
    journal, hangs = bench.root / "build/rollout/n7.jsonl", bench.root / "build/hangs"
    deadline = time.monotonic() + 30
    while not (hangs.exists() if state == "hangs" else f'"{state}"' in _behind(journal, after)):
        assert time.monotonic() < deadline, f"n7 was never {state}"
        time.sleep(0.02)


def _behind(journal: Path, after: str) -> str:
    text = journal.read_text() if journal.exists() else ""
    return text.partition(after)[2] if after else text


def interrupted(
    bench: Workbench, state: str, *args: str, number: int = signal.SIGINT, after: str = "", **env: str
) -> str:
    """What a run says that is ended while n7 is there; with real pauses, it stays for seconds."""
    run = bench.start(*args, FAKE_REAL_SLEEP="100", **env)
    until(bench, state, after)
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


AGAIN = "; unless doit rollout verifies it, it goes back to its old kernel by itself, 25 min 20 s after that boot\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_names_what_was_asked_and_what_becomes_of_the_node(ready: Workbench, number: int) -> None:
    out = interrupted(ready, "REBOOTING", "rollout", "only=n7,n3", number=number)
    by = "Ctrl-C" if number == signal.SIGINT else f"signal {number}"
    assert f"  ended by {by}; what was done on the nodes is kept: run doit rollout only=n7,n3 again\n" in out
    assert f"  n7: was asked to reboot into the new kernel{AGAIN}" in out
    assert "n3: " not in out


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("ARMED", "its next boot, whoever asks for it, tries the new kernel once"),
        ("VERIFIED", "runs the new kernel on trial"),
    ],
)
def test_of_a_node_that_is_armed_or_on_trial(ready: Workbench, state: str, words: str) -> None:
    ready.doit("rollout", check=-9, FAKE_KILL_AT=state)
    out = interrupted(ready, "hangs", "verify:n7", FAKE_HANGS="n2=observe")
    assert "kept: run doit verify:n7 again\n" in out
    assert f"  n7: {words}{AGAIN}" in out


@pytest.mark.parametrize("word", ["", "to=previous"])
def test_a_rollback_is_told_and_gone_on_with(ready: Workbench, word: str) -> None:
    ready.doit("rollout" if word else "reboot:n7")
    out = interrupted(ready, "boot_id", "rollback:n7", *word.split(), after="ROLLING_BACK")
    again = f"doit rollback:n7 {word}".strip()
    assert f"  ended by Ctrl-C; what was done on the nodes is kept: run {again} again\n" in out
    assert "by itself" not in out
    status = ready.doit("status")
    assert " rolling back " in status and f"to its {'previous' if word else 'known-good'} 6.1.190-cluster; as" in status
    assert f": {again} goes on with it; then doit rollout\n" in ready.doit("plan")
    out = ready.doit("rollout", check=1)
    assert "FAILED deploy:n7    n7 is being rolled back since" in out and f"hint: {again} goes on with it" in out
    out = ready.doit(*again.split()[1:])
    assert "6.1.190-cluster" in out and "is not tried again there" in out
    assert " rolled back " in ready.doit("status")


def test_a_build_names_the_stage_that_was_asked(bench: Workbench) -> None:
    for asked, words in (((), "doit"), (("compile",), "doit compile")):
        run = bench.start(*asked, FAKE_SLEEP="patch=60")
        bench.wait_for("patch")
        bench.trace()
        run.send_signal(signal.SIGTERM)
        out, _ = run.communicate(timeout=20)
        assert f"  ended by signal 15; finished stages are kept: run {words} again\n" in out


@pytest.mark.parametrize("verb", ["observe", "install", "bootfiles", "arm"])
def test_what_we_cut_short_is_no_lost_node(ready: Workbench, verb: str) -> None:
    run = ready.start("rollout", FAKE_HANGS=f"n7={verb}")
    until(ready, "hangs")
    run.send_signal(signal.SIGINT)
    time.sleep(0.7)
    run.send_signal(signal.SIGINT)
    out, _ = run.communicate(timeout=30)
    assert run.returncode == 130, out
    journals = "".join(path.read_text() for path in ready.root.glob("build/rollout/*.jsonl"))
    told = out + journals + (ready.root / "build/last-run.json").read_text() + ready.doit("status")
    assert "lost" not in told and "switched on" not in told and "HELD" not in journals
    ready.doit("rollout")
