"""Slots, packing, who stays out: values worked out by hand. A unit is 0.5 s of compiling, 0.05 s to send."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbuild_tasks.core import calibration, hosts
from kbuild_tasks.core.calibration import Measured
from kbuild_tasks.core.model import Build, Cluster, Kernel, Node, Ssh, Workdir

GIB = 1 << 30
GCC = {"version": "12.2.0", "machine": "x86_64-linux-gnu", "binutils": "2.40"}
OWN = Measured("k1", 0.0, "sum", 1_000_000, alone=0.5, rate=4.0, jobs=2, cpp=0.05, compile=0.5, objects=1000)


def worker(name: str, rate: float, alone: float, bandwidth: float = 1e8) -> Measured:
    return Measured(name, 0.0, "sum", 1_000_000, alone=alone, rate=rate, jobs=8, bandwidth=bandwidth)


def record(measured: Measured, cores: int = 2, **more: Any) -> dict[str, Any]:
    """As the stage writes it."""
    told: dict[str, Any] = {"version": 1, "node": measured.node, "at": measured.at, "compiler": GCC, "cores": cores}
    told |= {"unit": {"object": "a.o", "sha256": measured.unit, "bytes": measured.bytes}, "jobs": measured.jobs}
    told |= {key: getattr(measured, key) for key in ("alone", "rate", "trip", "bandwidth", "cpp", "compile", "objects")}
    return told | more


def test_a_record_is_read_as_it_was_written() -> None:
    sample = [{"object": "a.o", "cpp": 0.04, "compile": 0.4, "bytes": 5}]
    assert calibration.read(record(OWN, sample=sample)) == replace(OWN, sample=((0.04, 0.4, 5),))


@pytest.mark.parametrize(
    "damage",
    [
        {"version": 2},
        {"alone": 0},
        {"rate": -1.0},
        {"jobs": 0},
        {"alone": "x"},
        {"alone": float("inf")},
        {"rate": float("nan")},
        {"unit": None},
        {"sample": [{}]},
        {"sample": 3},
    ],
)
def test_a_damaged_record_is_none(damage: dict[str, Any]) -> None:
    assert calibration.read(record(OWN, **damage)) is None
    assert calibration.unfit(record(OWN, **damage), {"cores": 2, "compiler": GCC}) == "damaged"


def test_what_does_not_fit_any_more_is_said() -> None:
    now = {"cores": 2, "compiler": GCC}
    assert calibration.unfit(record(OWN), now) == ""
    other = {"cores": 2, "compiler": GCC | {"version": "13.1.0"}}
    assert calibration.unfit(record(OWN), other) == "of another compiler (12.2.0, now 13.1.0)"
    assert calibration.unfit(record(OWN), {"cores": 4, "compiler": GCC}) == "of 2 cores, now there are 4"


@pytest.mark.parametrize(
    ("rate", "alone", "slots"),
    [
        (2.0, 0.5, 2),  # one core: 2 * 0.55 = 1.1 jobs are under way
        (4.0, 0.5, 3),  # two cores: 2.2
        (8.0, 0.5, 5),  # four: 4.4
        (1.0, 1.0, 1),  # one slow core, 1.05: preprocessing is nothing beside it
        (1.0, 2.0, 3),  # two slow ones: 2.05 is told as 2, so is this 2.05 - 0.05
        (0.5, 2.0, 1),  # a quarter of a core: 1.025
        (2.0, 3.0, 7),  # a link that takes 2.5 s for the text: 6.1, most of them on their way
    ],
)
def test_slots_are_what_is_under_way(rate: float, alone: float, slots: int) -> None:
    told = calibration.wanted(OWN, worker("k2", rate, alone))
    assert told == (2 if (rate, alone) == (1.0, 2.0) else slots)


def test_no_more_slots_than_fit_and_that_is_said() -> None:
    told = calibration.shares(OWN, {"k2": worker("k2", 8.0, 0.5)}, {"k2": 2})
    assert told.slots == {"k2": 2}
    assert told.notes == (
        "k2 lends 2 of the 5 slots that its measured throughput (8.00 objects/s) asks for: no more fit",
    )


def test_slots_of_cluster_yaml_are_taken_as_they_are() -> None:
    slow = {"k2": worker("k2", 8.0, 0.5), "k3": worker("k3", 0.01, 100.0)}
    told = calibration.shares(OWN, slow, {"k2": 2, "k3": 4}, told=("k2", "k3"))
    assert told.slots == {"k2": 2, "k3": 4} and not told.out and not told.notes


@pytest.mark.parametrize(("bandwidth", "plain"), [(12e6, False), (117e6, False), (290e6, False), (1.17e9, True)])
def test_text_is_packed_where_the_link_is_slower_than_packing(bandwidth: float, plain: bool) -> None:
    told = calibration.shares(OWN, {"k2": worker("k2", 4.0, 0.5, bandwidth)}, {"k2": 8})
    assert ("k2" in told.plain) is plain


@pytest.mark.parametrize(
    ("rates", "local"),
    [
        ([4.0], 1),  # 2 cores - 4 * (0.05 + 0.17 * 0.5) = 1.46
        ([8.0], 1),  # 0.92
        ([8.0, 8.0], 0),  # -0.16
    ],
)
def test_the_coordinator_compiles_with_what_is_left(rates: list[float], local: int) -> None:
    nodes = {f"w{n}": worker(f"w{n}", rate, 0.5) for n, rate in enumerate(rates)}
    assert calibration.shares(OWN, nodes, dict.fromkeys(nodes, 9)).local == local


def test_a_node_that_lengthens_the_build_is_left_out_with_the_figure() -> None:
    """1000 objects, at 8 + 1.57 here a second and 0.6 s late 105.7; the board adds 0.05 of them and is 40 s late."""
    nodes = {"k2": worker("k2", 8.0, 0.5), "board": worker("board", 0.05, 20.0)}
    told = calibration.shares(OWN, nodes, {"k2": 9, "board": 2})
    assert told.slots == {"k2": 5}
    assert set(told.out) == {"board"}
    assert told.out["board"].endswith("s without (an object takes 20.0 s there)")
    with_it, without = (
        calibration.seconds(OWN, nodes, 1000),
        calibration.seconds(OWN, {"k2": nodes["k2"]}, 1000),
    )
    assert f"about {with_it:.0f} s with it, {without:.0f} s without" in told.out["board"]
    many = replace(OWN, objects=100_000)  # of so many, the objects that it makes are worth the wait at the end
    assert not calibration.shares(many, nodes, {"k2": 9, "board": 2}).out


def test_a_slow_worker_is_better_than_a_coordinator_that_is_to_compile_nothing() -> None:
    board = {"board": worker("board", 0.05, 20.0)}
    assert set(calibration.shares(OWN, board, {"board": 2}).out) == {"board"}, "alone it is quicker"
    assert calibration.shares(OWN, board, {"board": 2}, local=0).slots == {"board": 1}


def test_seconds_by_hand() -> None:
    here = 0.5 * 1.17
    assert calibration.seconds(OWN, {}, 1000) == pytest.approx(1000 * here / 2.0 + 2 * 0.5)
    one = {"k2": worker("k2", 4.0, 0.5)}
    rate = 4.0 + (2.0 - 4.0 * 0.135) / here
    assert calibration.seconds(OWN, one, 1000) == pytest.approx(1000 / rate + 2 * 0.5 * 3 / 1.96)
    full = {f"k{n}": worker(f"k{n}", 8.0, 0.5) for n in range(3)}  # 24 * 0.135 = 3.24 cores: the coordinator is full
    assert calibration.seconds(OWN, full, 1000) == pytest.approx(1000 * 0.135 / 2.0 + 2 * 0.5 * 5 / 3.92)


def cluster(*workers: Node, local: int | None = None) -> Cluster:
    nodes = (Node("k1", "127.0.0.1", connection="local", slots=local), *workers)
    build = Build("k1", Workdir("/w"))
    return Cluster(
        Path("/p"), "cluster.yaml", Kernel("PKGBUILD", "x86_64", "config"), build, Ssh(), {n.name: n for n in nodes}
    )


def ready(cores: int = 2, jobs: int = 9, available: int = 8 * GIB, **compiler: str) -> dict[str, Any]:
    facts = {"cores": cores, "memory": 2 * available, "available": available, "compiler": GCC | compiler}
    return {"state": "ready", "why": "", "facts": facts, "mode": {"jobs": jobs}}


def planned(records: dict[str, Any], **facts: Any) -> hosts.HostPlan:
    nodes = [Node(name, f"10.0.0.{number}") for number, name in enumerate(facts, 2) if name != "k1"]
    return hosts.plan(cluster(*nodes), {"k1": ready(), **facts}, records)


def test_hosts_follow_and_the_quickest_for_one_job_is_first() -> None:
    records = {
        "k1": record(OWN),
        "k2": record(worker("k2", 4.0, 1.0)),
        "k3": record(worker("k3", 2.0, 0.5, bandwidth=2e9)),
    }
    told = planned(records, k2=ready(), k3=ready())
    # k2: 4 * 1.05 = 4.2; k3: 2 * 0.55 = 1.1; here 2 - 6 * 0.135 = 1.19
    assert told.hosts.split(" ")[2:] == ["10.0.0.3:3632/2", "10.0.0.2:3632/5,lzo", "localhost/1"]
    assert told.jobs == 8 and told.slots == {"k3": 2, "k2": 5, "k1": 1}


def test_memory_and_distccds_own_limit_stay_the_cap() -> None:
    records = {"k1": record(OWN), "k2": record(worker("k2", 8.0, 0.5))}
    assert planned(records, k2=ready(jobs=3)).slots["k2"] == 3
    assert planned(records, k2=ready(available=500 << 20)).slots["k2"] == 2


def test_a_node_that_was_not_measured_keeps_its_slots_beside_one_that_was() -> None:
    told = planned({"k1": record(OWN), "k2": record(worker("k2", 8.0, 0.5))}, k2=ready(), k3=ready(4))
    assert told.slots == {"k2": 5, "k3": 5}, "2 cores - 0.27 * 6 leave none here"


@pytest.mark.parametrize(
    ("records", "says"),
    [
        ({"k2": record(worker("k2", 8.0, 0.5))}, "k1 is not calibrated: calibrations of the others are not used"),
        (
            {"k1": record(OWN), "k2": record(replace(worker("k2", 8.0, 0.5), unit="other"))},
            "the calibration of k2 is of another file than k1's: it is not used (doit calibrate)",
        ),
        (
            {"k1": record(OWN), "k2": record(worker("k2", 8.0, 0.5), cores=8)},
            "the calibration of k2 is of 8 cores, now there are 2: it is not used (doit calibrate)",
        ),
        ({"k1": {"damaged": True}}, "the calibration of k1 is damaged: it is not used (doit calibrate)"),
    ],
)
def test_a_calibration_that_does_not_count_changes_nothing_and_is_said(records: dict[str, Any], says: str) -> None:
    told, plain = planned(records, k2=ready()), planned({}, k2=ready())
    assert (told.hosts, told.jobs) == (plain.hosts, plain.jobs)
    assert any(says in line for line in told.reasons), told.reasons
    assert len(told.unfit) == 1 and says in told.unfit[0]


def test_a_calibration_of_a_node_that_is_gone_or_left_out_is_not_spoken_of() -> None:
    records = {"k1": record(OWN), "k2": record(worker("k2", 8.0, 0.5)), "k9": record(worker("k9", 8.0, 0.5))}
    told = planned(records, k2={"state": "left-out", "why": "it is off"})
    assert told.hosts == "" and told.left_out == (("k2", "it is off"),)
