"""What is taken back before a reboot that may not be: nothing stays armed, and no error hides another one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbuild_tasks.core.errors import NodeRefused, NodeUnreachable
from kbuild_tasks.core.model import Window
from kbuild_tasks.effects import helper, journal
from kbuild_tasks.effects.rollout import journal_file
from tests.fake_nodes import World
from tests.stages.test_rollout_stages import act, refused, states


def losing(monkeypatch: pytest.MonkeyPatch, *verbs: str, times: int = 1) -> list[str]:
    """The answers to these verbs are lost: what was asked for is done all the same."""
    ask, lost = helper.ask, []

    def lossy(cluster: Any, node: Any, verb: str, *more: Any, **named: Any) -> Any:
        answer = ask(cluster, node, verb, *more, **named)
        if verb in verbs and lost.count(verb) < times:
            lost.append(verb)
            raise NodeUnreachable(f"{node.name} was lost at {verb}")
        return answer

    monkeypatch.setattr(helper, "ask", lossy)
    return lost


def test_a_lost_answer_to_arm_leaves_nothing_armed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    losing(monkeypatch, "arm")
    assert "was lost at arm" in refused(world, "deploy", "reboot").message
    assert world.nodes["n7"].armed == "" and world.nodes["n7"].trial is None
    assert states(world)[-1] == "HELD"
    world.nodes["n7"].power_cut()
    world.time += 100
    assert world.nodes["n7"].boots == ["old"], "a power cut boots no trial that nobody waits for"
    act(world, "reboot", "verify")
    assert states(world)[-1] == "UNCORDONED"


def test_a_loader_that_armed_something_else_is_disarmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    world.nodes["n7"].lies["arm"] = lambda answer: answer | {"default": world.build.entry}
    assert "did not arm the trial" in refused(world, "deploy", "reboot").message
    assert world.nodes["n7"].armed == "" and world.nodes["n7"].log[-1] == "disarm"


def test_what_cannot_be_taken_back_hides_no_error_and_is_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch, window=Window(60, 180))
    node = world.nodes["n7"]
    act(world, "deploy")
    start = world.start

    def late(answer: dict[str, Any]) -> dict[str, Any]:
        world.start = start.replace(hour=12)  # the window closes between arming and reboot
        return answer

    node.lies["arm"] = late
    losing(monkeypatch, "disarm")
    error = refused(world, "reboot")
    assert isinstance(error, NodeRefused) and "n7 is not rebooted now" in error.message
    assert "then goes on where it stopped" in (error.hint or "")
    assert error.evidence[-1] == "and it is not as it was before: n7 was lost at disarm"
    record = journal.read(journal_file(world.paths, "n7"))[-1]
    assert record.state == "HELD" and record.note == error.message
    node.lies.clear()
    world.start = start
    act(world, "reboot", "verify")
    assert states(world)[-1] == "UNCORDONED" and node.boots == [world.build.entry]


def test_another_operator_took_it_and_that_is_what_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be taken back on a node that is somebody else's."""
    world = World(tmp_path, monkeypatch)
    node = world.nodes["n7"]
    act(world, "deploy")
    node.holder, node.fence = {"who": "eve@n9:/srv/p", "since": 0}, 7
    error = refused(world, "reboot")
    assert "n7 is in the roll-out of eve@n9:/srv/p" in error.message and "doit takeover" in (error.hint or "")
    assert states(world)[-1] == "HELD" and not node.armed


def test_a_lost_answer_to_arm_on_a_k3s_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch, kubeconfig="off")
    nodes = {name: replace(node, k3s="agent") for name, node in world.cluster.nodes.items()}
    world.cluster = replace(world.cluster, nodes=nodes)
    losing(monkeypatch, "arm")
    assert "was lost at arm" in refused(world, "deploy", "reboot").message
    assert world.nodes["n7"].armed == "" and world.nodes["n7"].log[-2:] == ["disarm", "k3s"], "started again"


@pytest.mark.parametrize("what", ["kernel_errors", "failed_units", "taint"])
def test_a_node_that_cannot_tell_how_it_is_is_not_rebooted(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch)
    node = world.nodes["n7"]
    node.health[what], told = None, node.health[what]
    error = refused(world, "deploy", "reboot")
    assert f"cannot tell its {what.replace('_', ' ')}: nothing to compare its new kernel with" in error.message
    assert node.asked == 0 and node.armed == "" and not node.deny
    assert states(world)[-1] == "HELD"
    node.health[what] = told
    act(world, "reboot", "verify")
    assert states(world)[-1] == "UNCORDONED"
