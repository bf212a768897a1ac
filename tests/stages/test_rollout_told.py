"""What is told of nodes from their journals alone: how a roll-out that stopped has left them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbuild_tasks.core.rollout import halted
from kbuild_tasks.plugin import rollout_status
from tests.fake_nodes import World
from tests.stages.test_rollout_stages import act, refused


def test_a_halt_tells_of_nodes_that_stopped_earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each it was said that nothing was left to do there."""
    world = World(tmp_path, monkeypatch, "n7 n2 n3 n4 n5")
    act(world, "deploy", "reboot", "verify", name="n7")
    world.nodes["n2"].faults = {"stuck"}
    refused(world, "deploy", "reboot", name="n2")
    world.nodes["n3"].faults = {"panic"}
    monkeypatch.setattr("kbuild_tasks.effects.rollout.Run.leaving", lambda run, nodes: [])
    refused(world, "deploy", "reboot", name="n3")
    act(world, "deploy", "reboot", name="n4")
    told = rollout_status.states(world.paths, ["n7", "n2", "n3", "n4"], world.build.build)
    assert halted(told) == "roll-out halted; on trial: n4; held: n2; fell back: n3"
    before = world.build.build
    world.package(b"another one")
    act(world, "deploy", name="n3")
    told = rollout_status.states(world.paths, ["n3"], before)
    assert halted(told) == "roll-out halted; held: n3", "it failed there, and another one is tried"
