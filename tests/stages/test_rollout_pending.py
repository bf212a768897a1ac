"""What is easily forgotten: a reboot that is still to come, a node that nothing was done to, a disk that is full in the
middle, a reboot in the middle of a check."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from kbuild_tasks.core.errors import KbuildError, NodeRefused
from kbuild_tasks.effects import clock, helper, journal
from kbuild_tasks.effects.rollout import seen_file
from tests.fake_nodes import World
from tests.stages.test_rollout_down import killed_before_it_asked
from tests.stages.test_rollout_stages import FakeKubernetes, act, k3s, refused, states

__all__ = ["k3s"]


def test_a_rollback_waits_for_a_reboot_that_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It said that all is well, the node went down a moment later, and the next one with it."""
    world = World(tmp_path, monkeypatch)
    node = world.nodes["n7"]
    killed_before_it_asked(world, monkeypatch)
    node.goes = world.time + 60  # it was asked, and is slow to go
    told = act(world, "rollback").message
    assert told.startswith("came back on its known-good 6.1.190-cluster after"), told
    assert node.goes is None and node.boots == ["old"] and states(world)[-1] == "ROLLED_BACK"
    assert act(world, "rollback").message == "runs its known-good 6.1.190-cluster"
    assert node.boots == ["old"], "and not once more"


def test_no_rollback_while_another_node_may_go_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    act(world, "deploy", "reboot", name="n3")
    killed_before_it_asked(world, monkeypatch)
    error = refused(world, "rollback", name="n3")
    assert "n3 is not rebooted while n7 may go down at any moment" in error.message
    assert error.hint == "doit rollback:n7 first" and world.nodes["n3"].boots == [world.build.entry]
    act(world, "rollback")
    act(world, "rollback", name="n3")
    assert world.max_down == 1 and world.nodes["n3"].boots[-1] == "old"


def test_a_node_that_nothing_was_done_to_stops_no_rollback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`doit rollback` goes from node to node, and each waits for the one before."""
    world = World(tmp_path, monkeypatch)
    assert act(world, "rollback").message == "nothing was rolled out there: nothing to go back to"
    assert world.nodes["n7"].log == [], "nothing is written there"
    world.nodes["n7"].lies["observe"] = lambda answer: answer | {"damaged": ["known-good"]}
    assert "has no known-good kernel on record" in refused(world, "rollback").message


def full(monkeypatch: pytest.MonkeyPatch, state: str) -> list[str]:
    """The disk is full from the moment at which this state is to be written."""
    append, failed = journal.Journal.append, []

    def fails(file: Any, build: str, now: str, *more: Any) -> Any:
        if now == state or failed:
            failed.append(now)
            raise OSError(errno.ENOSPC, "No space left on device", str(file.path))
        return append(file, build, now, *more)

    monkeypatch.setattr(journal.Journal, "append", fails)
    return failed


@pytest.mark.parametrize("state", ["DRAINED", "ARMED", "REBOOTING"])
def test_a_full_disk_leaves_no_node_emptied_or_armed(k3s: World, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    act(k3s, "deploy")
    node = k3s.nodes["n7"]
    with monkeypatch.context() as patch:
        failed = full(patch, state)
        with pytest.raises(KbuildError, match="No space left on device"):
            act(k3s, "reboot")
        assert failed[0] == state
    assert FakeKubernetes.said[-1] == "uncordon False" and node.armed == "" and not node.boots
    act(k3s, "reboot", "verify")
    assert node.boots == [k3s.build.entry] and states(k3s)[-1] == "UNCORDONED"


def test_a_reboot_in_the_middle_of_a_check_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    node = world.nodes["n7"]
    act(world, "deploy", "reboot")
    ask = helper.ask

    def cut(cluster: Any, where: Any, verb: str, *more: Any, **named: Any) -> Any:
        if verb == "probe" and len(node.boots) == 1:
            node.power_cut()
            world.time += 100
        return ask(cluster, where, verb, *more, **named)

    monkeypatch.setattr(helper, "ask", cut)
    error = refused(world, "verify")
    assert "on 6.1.190-cluster: it went down again before it was verified" in error.message, error.message
    assert states(world)[-1] == "FELL_BACK"


def test_the_dead_man_gives_commands_their_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten commands of a minute each, twice, are more than the quarter of an hour that a trial has to be verified in."""
    given: list[int] = []
    for commands in ((), ("true",) * 10):
        (tmp_path / str(len(commands))).mkdir()
        world = World(tmp_path / str(len(commands)), monkeypatch, verify_commands=commands)
        ask = helper.ask

        def watch(
            cluster: Any, where: Any, verb: str, values: Any = None, *more: Any, ask: Any = ask, **named: Any
        ) -> Any:
            if verb == "arm":
                given.append(values["timeout"])
            return ask(cluster, where, verb, values, *more, **named)

        monkeypatch.setattr(helper, "ask", watch)
        act(world, "deploy", "reboot")
    assert given[1] - given[0] == 2 * 10 * 60


@pytest.mark.parametrize("what", [{"loader": "x"}, {"fence": "abc"}, {"boot_id": None}, {"known_good": "abc"}])
def test_what_was_kept_of_a_node_and_is_damaged_was_never_asked(
    what: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import types

    from kbuild_tasks.plugin import rollout_plan, rollout_status

    world = World(tmp_path, monkeypatch)
    act(world, "deploy")
    file = seen_file(world.paths, "n7")
    kept = json.loads(file.read_text())
    file.write_text(json.dumps(kept | {"observe": kept["observe"] | what}))
    project = types.SimpleNamespace(cluster=world.cluster, paths=world.paths)
    pipeline: Any = types.SimpleNamespace(project=project, rollout=types.SimpleNamespace(order=(("n7",),), only=()))
    assert rollout_status.status(pipeline)["n7"]["running"] is None
    assert "never asked" in rollout_plan.plan(pipeline)[0].why[0]


@pytest.mark.parametrize(
    "text", ["[1]", '"x"', "true", "null", '{"fence": "x"}', '{"fence": 1e999}', '{"fence": -1}', ""]
)
def test_a_damaged_number_of_ours_is_told(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    file = world.paths.build / "rollout/state.json"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert refused(world, "deploy").message == "build/rollout/state.json is damaged"
    assert not world.nodes["n7"].log and isinstance(refused(world, "deploy"), KbuildError)
    file.unlink()
    act(world, "deploy")


def test_a_journal_that_is_a_fifo_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    world = World(tmp_path, monkeypatch)
    folder = world.paths.build / "rollout"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "n7.jsonl")
    with pytest.raises(OSError, match="is no regular file"):
        act(world, "deploy")
    os.mkfifo(folder / "state.json")
    assert refused(world, "deploy", name="n2").message == "build/rollout/state.json is damaged"
    assert not isinstance(refused(world, "deploy", name="n2"), NodeRefused)


@pytest.mark.parametrize("hours", [1, -1])
def test_a_step_of_our_own_clock_is_not_held_against_a_kernel(
    hours: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch)
    act(world, "deploy", "reboot")
    theirs = world.epoch
    monkeypatch.setattr(clock, "now", lambda: theirs() + hours * 3600)
    act(world, "verify")
    assert states(world)[-1] == "UNCORDONED"


def test_a_step_of_a_nodes_clock_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    act(world, "deploy", "reboot")
    world.nodes["n7"].lies["observe"] = lambda answer: answer | {"time": answer["time"] + 3600}
    assert "1 of 15 checks failed: clock" in refused(world, "verify").message
