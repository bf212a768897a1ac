"""Who may be down, and when: also for a reboot that is asked for once more, and for a run of some nodes alone."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kbuild_tasks.core.model import Window
from kbuild_tasks.core.rollout import order
from kbuild_tasks.effects import helper
from kbuild_tasks.effects.rollout import Run
from kbuild_tasks.stages import reboot, rollback
from tests.fake_nodes import Killed, World
from tests.stages.test_rollout_stages import act, refused, states


def alone(world: World, name: str) -> Run:
    """A run with only=NAME."""
    run = world.run()
    run.order = order(world.cluster, (name,))
    return run


def killed_before_it_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """REBOOTING is written, the node was not asked."""
    ask = helper.ask

    def dies(cluster: Any, node: Any, verb: str, *more: Any, **named: Any) -> Any:
        if verb == "reboot":
            raise Killed
        return ask(cluster, node, verb, *more, **named)

    act(world, "deploy")
    with monkeypatch.context() as patch:
        patch.setattr(helper, "ask", dies)
        with pytest.raises(Killed):
            act(world, "reboot")
    assert states(world)[-1] == "REBOOTING" and world.nodes["n7"].goes is None


def test_a_node_that_did_not_go_down_is_not_asked_again_outside_of_the_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch, window=Window(60, 300))
    node = world.nodes["n7"]
    node.faults = {"stuck"}
    assert "did not go down" in refused(world, "deploy", "reboot").message
    node.faults, node.goes = set(), None
    world.start += timedelta(hours=12)
    assert "is not rebooted now: the window opens" in refused(world, "reboot").message
    assert node.goes is None and not node.boots, "it was not asked"
    assert not node.armed and node.trial is None, "nor does it boot the trial by itself, at noon"
    assert states(world)[-2:] == ["BOOTFILES_OK", "HELD"]
    world.start += timedelta(hours=12)
    act(world, "reboot", "verify")
    assert node.boots == [world.build.entry] and states(world)[-1] == "UNCORDONED"


def test_a_reboot_that_is_asked_for_once_more_waits_for_nodes_that_are_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch)
    killed_before_it_asked(world, monkeypatch)
    world.nodes["n3"].unplugged = True
    assert refused(world, "reboot").message == "n7 is not rebooted while n3 is down"
    assert not world.nodes["n7"].boots and not world.nodes["n7"].armed
    world.nodes["n3"].unplugged = False
    act(world, "reboot", "verify")
    assert world.nodes["n7"].boots == [world.build.entry] and world.max_down == 1


@pytest.mark.parametrize("number", range(12))
def test_taken_back_and_killed_in_it(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that was told to disarm, and whose reboot was asked for by the run before, boots its old kernel: that
    is held against no build."""
    world = World(tmp_path, monkeypatch)
    killed_before_it_asked(world, monkeypatch)
    world.nodes["n3"].unplugged = True
    world.points, world.kill_at = 0, number + 1
    with pytest.raises(Killed):
        act(world, "reboot")
    world.kill_at = None
    was_armed = bool(world.nodes["n7"].armed)
    world.nodes["n7"].power_cut()
    world.nodes["n3"].unplugged = False
    world.time += 100
    act(world, "reboot", "verify")
    assert not world.nodes["n7"].deny and states(world)[-1] == "UNCORDONED"
    assert world.nodes["n7"].boots == ([world.build.entry] if was_armed else ["old", world.build.entry])


def test_only_one_node_looks_at_all_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    world.nodes["n7"].unplugged = True
    act(world, "deploy", name="n3")
    with pytest.raises(Exception, match="n3 is not rebooted while n7 is down"):
        reboot.run(world.context(alone(world, "n3"), "reboot", "n3"))
    assert world.nodes["n3"].boots == [] and not world.nodes["n3"].armed


def test_a_rollback_of_one_node_looks_at_all_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    act(world, "deploy", "reboot", name="n3")
    world.nodes["n7"].unplugged = True
    with pytest.raises(Exception, match="n3 is not rebooted while n7 is down"):
        rollback.run(world.context(alone(world, "n3"), "rollback", "n3"))
    assert world.nodes["n3"].boots == [world.build.entry]
