"""What a kill of the coordinator and a power cut of a node leave together: every node comes to an end, by roll-out, by
rollback or by another build; none is stuck, none is left armed, none is left leased."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kbuild_tasks.effects import helper, journal
from tests.fake_nodes import Killed, World
from tests.stages.test_rollout_kill import STAGES, end_state, last, rollout, tmp_path
from tests.stages.test_rollout_stages import act, states

__all__ = ["tmp_path"]  # in memory


def killed_before(world: World, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A roll-out whose coordinator dies when that state would be written: the act before it was done."""
    append = journal.Journal.append

    def dies(file: Any, build: str, name: str, *more: Any) -> Any:
        if name == state:
            raise Killed
        return append(file, build, name, *more)

    with monkeypatch.context() as patch:
        patch.setattr(journal.Journal, "append", dies)
        with pytest.raises(Killed):
            rollout(world)


@pytest.fixture
def committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The default moved, the journal does not know, and the node was rebooted since."""
    world = World(tmp_path, monkeypatch, "n7")
    killed_before(world, "COMMITTED", monkeypatch)
    assert last(world, "n7") == "VERIFIED2" and world.nodes["n7"].default == world.build.entry
    world.nodes["n7"].power_cut()
    world.time += 100
    return world


def test_committed_and_rebooted_before_it_was_written_down(committed: World) -> None:
    told = rollout(committed)
    assert "failed" not in told, told["failed"].render()
    assert states(committed)[-5:] == ["BACK", "VERIFIED", "VERIFIED2", "COMMITTED", "UNCORDONED"]
    assert committed.nodes["n7"].asked == 1 and not committed.nodes["n7"].deny
    assert committed.nodes["n7"].holder is None


def test_committed_and_not_written_down_the_next_build_goes_on(committed: World) -> None:
    committed.package(b"another" * 50)
    told = rollout(committed)
    assert "failed" not in told, told["failed"].render()
    assert committed.nodes["n7"].running["build"] == committed.build.build


def test_committed_and_not_written_down_rollback_ends_it(committed: World) -> None:
    assert "runs its known-good 6.1.192-cluster" in act(committed, "rollback").message
    assert last(committed, "n7") == "UNCORDONED" and not committed.nodes["n7"].deny
    assert act(committed, "deploy").run["state"] == "fresh"


def test_killed_at_every_point_and_then_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it was in the middle of: it ends on the new kernel, or on the old one with a word why, and the next
    build is tried."""
    straight = World(tmp_path / "0", monkeypatch, "n7")
    rollout(straight)
    expected, points = end_state(straight), straight.points
    ends = set()
    for number in range(1, points + 1):
        world = World(tmp_path / str(number), monkeypatch, "n7")
        world.kill_at = number
        with pytest.raises(Killed):
            rollout(world)
        world.kill_at = None
        world.nodes["n7"].settle()
        world.nodes["n7"].power_cut()
        world.time += 100
        told = rollout(world)
        if "failed" in told:  # the cut took the one boot of a trial that was not verified yet
            assert last(world, "n7") == "FELL_BACK", (number, told["failed"].render(), states(world))
        else:
            assert end_state(world) == expected, number
        ends.add(last(world, "n7"))
        world.package(b"another" * 50)
        told = rollout(world)
        assert "failed" not in told, (number, told["failed"].render())
        assert world.nodes["n7"].running["build"] == world.build.build and world.nodes["n7"].holder is None
    assert ends == {"UNCORDONED", "FELL_BACK"}


@pytest.mark.parametrize("state", ["UNCORDONED", "the end"])
def test_a_node_that_is_done_is_free_also_after_a_kill(
    state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch, "n7")
    if state == "UNCORDONED":
        killed_before(world, state, monkeypatch)
    else:  # written, and the lease is not given back yet
        straight = World(tmp_path / "straight", monkeypatch, "n7")
        rollout(straight)
        world = World(tmp_path / "killed", monkeypatch, "n7")
        world.kill_at = straight.points - 4  # the last questions: give it back, and look at it
        with pytest.raises(Killed):
            rollout(world)
        world.kill_at = None
        assert last(world, "n7") == "UNCORDONED"
    assert world.nodes["n7"].holder
    told = rollout(world)
    assert "failed" not in told, told["failed"].render()
    assert world.nodes["n7"].holder is None
    world.points = 0
    rollout(world)
    assert world.points == 2, "one question, and nothing more"


def test_another_operator_who_took_it_meanwhile_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch, "n7")
    killed_before(world, "UNCORDONED", monkeypatch)
    world.nodes["n7"].fence, world.nodes["n7"].holder = 99, {"who": "eve@n9:/srv/p", "since": 0}
    rollout(world)
    assert world.nodes["n7"].fence == 99 and world.nodes["n7"].holder == {"who": "eve@n9:/srv/p", "since": 0}


def test_a_number_that_grows_in_the_run_does_not_cost_other_nodes_their_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The helper gives up the lease of a node for an act with a higher number (node/state.sh, heed_fence)."""
    world = World(tmp_path, monkeypatch)
    world.nodes["n2"].fence = 40
    run, numbers = world.run(), []
    ask = helper.ask

    def watch(cluster: Any, node: Any, verb: str, values: Any = None, *more: Any, **named: Any) -> Any:
        if node.name == "n7" and "fence" in (values or {}):
            numbers.append(values["fence"])
        return ask(cluster, node, verb, values, *more, **named)

    monkeypatch.setattr(helper, "ask", watch)
    for verb, name in (("deploy", "n7"), ("deploy", "n2"), ("reboot", "n7"), ("verify", "n7")):
        STAGES[verb].run(world.context(run, verb, name))
    assert world.nodes["n2"].fence == 41
    assert set(numbers) == {1} and world.nodes["n7"].fence == 1 and world.nodes["n7"].holder is None
