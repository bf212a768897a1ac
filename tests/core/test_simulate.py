"""The simulation against what can be worked out by hand, and what must hold whatever the figures."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from kbuild_tasks.core.simulate import Coordinator, Work, Worker, simulate, sizes

FREE = Coordinator(capacity=1000, cpp=0.0, noted=0.0, compile=1.0)
EVEN = Work(120, 1e6, spread=0.0)


def test_sizes_have_the_mean_and_the_spread() -> None:
    found = sizes(2000, 0.58)
    assert sum(found) / len(found) == pytest.approx(1.0)
    ordered = sorted(found)
    assert ordered[1000] == pytest.approx(math.exp(-(0.58**2) / 2), rel=0.02)  # the median of a lognormal of mean 1
    assert found == sizes(2000, 0.58) and found != ordered


@pytest.mark.parametrize(
    ("slots", "rate", "seconds", "expected"),
    [
        (1, 1.0, 1.0, 120.0),  # one core, one job after the other
        (4, 4.0, 1.0, 30.0),  # four cores
        (4, 1.0, 1.0, 120.0),  # four slots on one core: no quicker
        (2, 4.0, 1.0, 60.0),  # two of four cores get work
        (4, 2.0, 0.25, 60.0),  # half a rate is a share of it, however quick one job is
    ],
)
def test_one_node_by_hand(slots: int, rate: float, seconds: float, expected: float) -> None:
    told = simulate(FREE, [Worker("a", slots, rate, seconds)], EVEN)
    assert told.seconds == pytest.approx(expected)
    assert told.made == {"a": 120}


def test_two_nodes_share_by_their_speed() -> None:
    told = simulate(FREE, [Worker("a", 3, 3.0, 1.0), Worker("b", 1, 1.0, 1.0)], EVEN)
    assert told.seconds == pytest.approx(30.0)
    assert told.made == {"a": 90, "b": 30}


def test_the_coordinator_is_the_ceiling() -> None:
    own = Coordinator(capacity=2, cpp=0.06, noted=0.04, compile=1.0)
    told = simulate(own, [Worker("a", 100, 1000.0, 0.1)], replace(EVEN, objects=1000))
    assert told.seconds == pytest.approx(1000 * 0.1 / 2, rel=0.05)
    assert told.bound == "coordinator" and told.cpu > 0.95


def test_the_link_is_the_ceiling() -> None:
    own = replace(FREE, link=1e7)
    told = simulate(own, [Worker("a", 100, 1000.0, 0.1)], replace(EVEN, objects=1000))
    assert told.seconds == pytest.approx(1000 * 1e6 / 1e7, rel=0.05)
    assert told.bound == "network"


def test_a_node_behind_a_slow_link_gets_its_text_no_sooner() -> None:
    own = replace(FREE, link=1e8)
    told = simulate(own, [Worker("a", 1, 1.0, 1.0, link=1e6)], EVEN)
    assert told.seconds == pytest.approx(120 * (1.0 + 1.0))


def test_text_that_is_not_packed_takes_longer() -> None:
    own = replace(FREE, link=1e6)
    packed, plain = (simulate(own, [Worker("a", 9, 90.0, 0.1, packed)], EVEN).seconds for packed in (True, False))
    assert plain / packed == pytest.approx(1 / 0.37, rel=0.05)


def test_the_coordinator_alone() -> None:
    own = Coordinator(capacity=2, cpp=0.1, noted=0.5, compile=1.5, slots=2)
    assert simulate(own, [], EVEN).seconds == pytest.approx(120 * 2.0 / 2)
    share = replace(own, capacity=0.5, single=0.5, slots=1)
    assert simulate(share, [], EVEN).seconds == pytest.approx(120 * 2.0 / 0.5)


def test_a_coordinator_that_compiles_itself_is_full_as_a_worker_is() -> None:
    own = Coordinator(capacity=2, cpp=0.01, noted=0.01, compile=1.0, slots=2)
    told = simulate(own, [Worker("a", 2, 2.0, 1.0)], replace(EVEN, objects=400))
    assert told.cpu > 0.9 and told.here > 0.85 and told.bound == "workers"


def test_head_and_tail_are_added_and_may_be_most_of_it() -> None:
    work = replace(EVEN, head=100.0, tail=50.0)
    told = simulate(FREE, [Worker("a", 4, 4.0, 1.0)], work)
    assert (told.seconds, told.compiling, told.bound) == (pytest.approx(180.0), pytest.approx(30.0), "serial")


def test_many_objects_go_on_at_the_pace_of_the_middle() -> None:
    nodes = [Worker("a", 5, 4.0, 1.0)]
    some = simulate(FREE, nodes, Work(2000, 1e6)).seconds
    assert simulate(FREE, nodes, Work(20_000, 1e6)).seconds == pytest.approx(10 * some, rel=0.02)


@pytest.mark.parametrize("spread", [0.0, 0.58])
def test_more_or_faster_nodes_never_take_much_longer_and_nothing_beats_the_closed_form(spread: float) -> None:
    own = Coordinator(capacity=4, cpp=0.05, noted=0.06, compile=0.4, link=1.2e8)
    work = Work(1500, 1.4e6, spread=spread)
    before = math.inf
    for count in (1, 2, 4, 8, 16, 32):
        told = simulate(own, [Worker(f"n{n}", 3, 5.0, 0.4) for n in range(count)], work)
        bound = max(1500 * 0.11 / 4, 1500 / (5.0 * count), 1500 * 1.4e6 / 1.2e8)
        assert told.seconds >= 0.999 * bound
        assert told.seconds <= 1.05 * before
        assert sum(told.made.values()) == 1500
        before = told.seconds


def test_a_slow_node_is_late_at_the_end() -> None:
    quick = [Worker("a", 4, 4.0, 1.0)]
    slow = Worker("b", 1, 0.02, 50.0)
    assert simulate(FREE, [*quick, slow], EVEN).seconds > simulate(FREE, quick, EVEN).seconds


def test_fewer_jobs_than_slots_leave_slots_idle() -> None:
    assert simulate(FREE, [Worker("a", 4, 4.0, 1.0)], EVEN, jobs=1).seconds == pytest.approx(120.0)


def test_nobody_has_a_slot() -> None:
    with pytest.raises(ValueError, match="slot"):
        simulate(FREE, [], EVEN)
