"""Who is rebooted when, with whom; windows; quorum."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kbuild_tasks.core import model, rollout, window
from kbuild_tasks.core.errors import ConfigError
from kbuild_tasks.core.journal import STATES
from kbuild_tasks.core.model import Node, Window


def cluster(nodes: str, canary: str = "", batches: tuple[int, ...] = (1,)) -> model.Cluster:
    """ "c w1 a:agent s:server h:hold r:no": c is the coordinator."""
    made = {}
    for index, word in enumerate(nodes.split(), 1):
        name, _, role = word.partition(":")
        k3s = role if role in ("agent", "server") else None
        made[name] = Node(name, f"10.0.0.{index}", k3s=k3s, hold=role == "hold", rollout=role != "no")
    return model.Cluster(
        Path("/p"),
        "cluster.yaml",
        model.Kernel("kernel/PKGBUILD", "x86_64", "defconfig"),
        model.Build("c", model.Workdir("/w")),
        model.Ssh(),
        made,
        model.Rollout(canary=tuple(canary.split()), batches=batches),
    )


@pytest.mark.parametrize(
    ("nodes", "canary", "batches", "expected"),
    [
        ("c", "", (1,), "c"),
        ("c w1 w2", "", (1,), "w1 | w2 | c"),
        ("c w1 w2 w3", "w3", (1,), "w3 | w1 | w2 | c"),
        ("c w1 w2 w3 w4 w5", "w5", (1, 2), "w5 | w1 | w2 w3 | w4 | c"),
        ("c w1 w2 w3 w4 w5 w6", "", (2, 3), "w1 w2 | w3 w4 w5 | w6 | c"),
        ("c s1:server s2:server s3:server a1:agent a2:agent", "a2", (9,), "a2 | a1 | s1 | s2 | s3 | c"),
        ("c:server s2:server s3:server w1", "", (9,), "w1 | s2 | s3 | c"),
        ("c w1:hold w2:no w3", "", (1,), "w3 | c"),
        ("c:no w1", "", (1,), "w1"),
        ("c w1 w2", "w1 w2", (5,), "w1 | w2 | c"),
        ("c w1 s1:server", "c s1", (5,), "s1 | w1 | c"),
        ("c:no w1:no", "", (1,), ""),
    ],
)
def test_order(nodes: str, canary: str, batches: tuple[int, ...], expected: str) -> None:
    told = rollout.order(cluster(nodes, canary, batches))
    assert " | ".join(" ".join(batch) for batch in told) == expected


def test_every_node_once_servers_alone_coordinator_last() -> None:
    roles = ("", ":agent", ":server", ":hold", ":no")
    for chosen in itertools.product(roles, repeat=4):
        words = [f"w{index}{role}" for index, role in enumerate(chosen)]
        made = cluster(" ".join(["c", *words]), "", (2, 3))
        told = rollout.order(made)
        names = [name for batch in told for name in batch]
        assert sorted(names) == sorted(n.name for n in made.nodes.values() if n.rollout and not n.hold)
        assert told[-1] == ("c",)
        for batch in told:
            assert len(batch) == 1 or all(made.nodes[name].k3s != "server" for name in batch)


def test_only_chooses_and_refuses() -> None:
    made = cluster("c w1 w2:hold w3:no", "w1")
    assert rollout.order(made, ["w1"]) == (("w1",),)
    refused = {"w11": "there is no such node, did you mean w1", "w2": "hold: true", "w3": "rollout: false"}
    for name, says in refused.items():
        with pytest.raises(ConfigError, match=says):
            rollout.order(made, [name])


def test_what_a_halt_leaves() -> None:
    told = rollout.halted({"a": "UNCORDONED", "b": "BOOTFILES_OK", "c": ""})
    assert told == "roll-out halted; not touched: c; installed, not rebooted: b"
    assert rollout.halted({"a": "UNCORDONED"}) == "roll-out halted; no other node was left to do"
    assert rollout.halted({}) == "roll-out halted; no other node was left to do"


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("DRAINED", "drained"),
        ("ARMED", "armed"),
        ("REBOOTING", "rebooting"),
        ("BACK", "on trial"),
        ("VERIFIED2", "on trial"),
        ("HELD", "held"),
        ("FELL_BACK", "fell back"),
        ("ROLLED_BACK", "rolled back"),
        ("DAMAGED", "journal damaged"),
    ],
)
def test_a_halt_tells_of_every_node_that_is_not_done(state: str, words: str) -> None:
    assert rollout.halted({"a": state, "b": "COMMITTED"}) == f"roll-out halted; {words}: a"


def test_a_halt_knows_every_state() -> None:
    told = {state for states in rollout.LEFT.values() for state in states}
    assert set(STATES) - told == {"COMMITTED", "UNCORDONED", "ALLOWED"}, "those that are done, and no state"


MONDAY = datetime(2027, 1, 4, tzinfo=UTC)


@pytest.mark.parametrize(
    ("opens", "at", "expected"),
    [
        (Window(60, 300), "0 01:00", True),
        (Window(60, 300), "0 04:59", True),
        (Window(60, 300), "0 05:00", False),
        (Window(60, 300), "0 00:59", False),
        (Window(60, 300, (1,)), "0 02:00", False),
        (Window(60, 300, (1,)), "1 02:00", True),
        (Window(1380, 270, (0,)), "0 23:30", True),
        (Window(1380, 270, (0,)), "1 04:00", True),
        (Window(1380, 270, (0,)), "0 04:00", False),
        (Window(1380, 270, (6,)), "0 04:00", True),
        (Window(1380, 270, (0,)), "1 23:30", False),
        (None, "3 12:00", True),
    ],
)
def test_window(opens: Window | None, at: str, expected: bool) -> None:
    day, time = at.split()
    hours, minutes = time.split(":")
    moment = MONDAY + timedelta(days=int(day), hours=int(hours), minutes=int(minutes))
    assert window.is_open(opens, moment) is expected
    if opens:
        opening = window.next_opening(opens, moment)
        assert window.is_open(opens, opening) and opening >= moment


def test_the_window_says_when() -> None:
    assert window.tell(Window(60, 300, (1,)), MONDAY + timedelta(hours=14, minutes=2)) == (
        "opens Tue 01:00 UTC; it is Mon 14:02 UTC"
    )
