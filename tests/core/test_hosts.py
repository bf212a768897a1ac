"""Hosts, slots and -j: tables with values worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbuild_tasks.core import hosts, lending
from kbuild_tasks.core.errors import ConfigError, KbuildError
from kbuild_tasks.core.model import Build, Cluster, Kernel, Node, Ssh, Workdir

MIB = 1 << 20
GIB = 1 << 30


def cluster(*workers: Node, local: int | None = 2, max_jobs: int | None = None) -> Cluster:
    nodes = (Node("k1", "127.0.0.1", connection="local", slots=local), *workers)
    build = Build("k1", Workdir("/w"), max_jobs=max_jobs)
    return Cluster(
        Path("/p"), "cluster.yaml", Kernel("PKGBUILD", "x86_64", "config"), build, Ssh(), {n.name: n for n in nodes}
    )


def ready(cores: int = 4, available: int = 8 * GIB, **mode: object) -> dict[str, object]:
    facts = {"cores": cores, "memory": 2 * available, "available": available}
    return {"state": "ready", "why": "", "facts": facts, "mode": mode}


@pytest.mark.parametrize(
    ("wanted", "facts", "slots"),
    [
        (None, {"cores": 1, "available": 8 * GIB}, 1),
        (None, {"cores": 2, "available": 8 * GIB}, 2),
        (None, {"cores": 4, "available": 8 * GIB}, 5),
        (None, {"cores": 8, "available": 8 * GIB}, 9),
        (None, {"cores": 64, "available": 64 * GIB}, 74),
        (None, {"cores": 4, "memory": GIB, "available": 700 * MIB}, 3),  # a board with 1 GiB
        (None, {"cores": 4, "memory": GIB}, 3),  # 768 MiB of it are counted on
        (None, {"cores": 4, "available": 150 * MIB}, 0),
        (None, {"cores": 4, "available": 0}, 0),
        (None, {"cores": 4}, 5),
        (8, {"cores": 2, "available": 8 * GIB}, 8),
        (8, {"cores": 2, "available": 1000 * MIB}, 5),
        (0, {"cores": 8, "available": 8 * GIB}, 0),
    ],
)
def test_slots(wanted: int | None, facts: dict[str, int], slots: int) -> None:
    assert lending.slots(Node("n", "10.0.0.1", slots=wanted), facts) == slots


def test_fewer_slots_than_asked_for_have_a_reason() -> None:
    lent = lending.lend(Node("k2", "10.0.0.1", slots=8, memory_per_job=300 * MIB), {"cores": 8, "available": 700 * MIB})
    assert lent.slots == 2
    assert lent.reason == (
        "k2 lends 2 of 8 slots: 700 MiB of memory are available, a job needs 300 MiB (memory_per_job)"
    )
    assert lending.lend(Node("k2", "10.0.0.1", slots=2), {"cores": 8, "available": 700 * MIB}).reason == ""


def test_workers_come_before_the_coordinator_and_all_slots_are_used() -> None:
    told = hosts.plan(
        cluster(Node("k2", "10.0.0.2"), Node("k3", "10.0.0.3")),
        {"k1": ready(2), "k2": ready(4), "k3": ready(8, port=3700)},
    )
    # k3 is stronger, so first; 4 preprocessors for each of 2 cores, and 2 local slots that share their locks
    assert told.hosts == "--localslots=2 --localslots_cpp=10 10.0.0.3:3700/9,lzo 10.0.0.2:3632/5,lzo localhost/2"
    assert told.jobs == 16
    assert told.slots == {"k3": 9, "k2": 5, "k1": 2}
    assert told.nodes == {"10.0.0.3:3700": "k3", "10.0.0.2:3632": "k2"}
    assert told.left_out == ()
    assert told.without(()) == told.hosts
    assert told.without(("k3",)) == "--localslots=2 --localslots_cpp=10 10.0.0.2:3632/5,lzo localhost/2"
    assert told.without(("k2", "k3")) == "--localslots=2 --localslots_cpp=2 localhost/2"


def test_every_job_may_preprocess_when_the_cores_allow() -> None:
    told = hosts.plan(cluster(Node("k2", "10.0.0.2", slots=3), local=1), {"k1": ready(16), "k2": ready(4)})
    assert told.hosts == "--localslots=16 --localslots_cpp=5 10.0.0.2:3632/3,lzo localhost/1"


def test_memory_of_the_coordinator_caps_preprocessors_and_clients() -> None:
    told = hosts.plan(
        cluster(Node("k2", "10.0.0.2", slots=40), local=0), {"k1": ready(4, available=240 * MIB), "k2": ready(64)}
    )
    assert told.jobs == 15  # 240 / 16
    assert "--localslots_cpp=5 " in told.hosts  # 240 / 48
    assert any("coordinator's memory" in reason for reason in told.reasons)


@pytest.mark.parametrize(
    ("cores", "workers", "local"),
    [
        (4, [4], 3),  # 4 - 0.27 * 4 = 2.92
        (4, [4, 4, 4], 1),  # 4 - 3.24 = 0.76
        (2, [8], 0),  # 2 - 2.16
        (8, [2], 7),  # 7.46
        (2, [], 2),
    ],
)
def test_a_coordinator_on_auto_keeps_what_preprocessing_needs(cores: int, workers: list[int], local: int) -> None:
    nodes = [Node(f"w{i}", f"10.0.0.{i + 2}") for i in range(len(workers))]
    facts = {"k1": ready(cores), **{f"w{i}": ready(count) for i, count in enumerate(workers)}}
    told = hosts.plan(cluster(*nodes, local=None), facts)
    assert told.local == local
    assert ("localhost" in told.hosts.split(" ")[-1]) == bool(local and workers)


def test_without_workers_distcc_is_not_used() -> None:
    told = hosts.plan(cluster(Node("k2", "10.0.0.2")), {"k1": ready(), "k2": {"state": "left-out", "why": "it is off"}})
    assert (told.hosts, dict(told.env), told.jobs) == ("", {}, 2)
    assert told.left_out == (("k2", "it is off"),)
    assert told.slots == {"k1": 2}


def test_a_node_on_hold_is_not_spoken_of() -> None:
    told = hosts.plan(cluster(Node("k2", "10.0.0.2", hold=True)), {"k1": ready(), "k2": ready()})
    assert (told.hosts, told.left_out) == ("", ())


def test_a_coordinator_that_lends_nothing_builds_alone_if_it_must() -> None:
    told = hosts.plan(cluster(Node("k2", "10.0.0.2"), local=0), {"k1": ready(), "k2": {}})
    assert told.jobs == 1
    assert any("compiles alone" in reason for reason in told.reasons)


@pytest.mark.parametrize(
    ("node", "record", "why"),
    [
        (Node("k2", "10.0.0.2"), {}, "it was not prepared"),
        (Node("k2", "10.0.0.2"), {"state": "left-out", "why": "another gcc"}, "another gcc"),
        (
            Node("k2", "10.0.0.2"),
            ready(4, available=100 * MIB),
            "k2 lends 0 of 5 slots: 100 MiB of memory are available, a job needs 200 MiB (memory_per_job)",
        ),
        (Node("k2", "10.0.0.2"), ready(4, jobs=0), "it lends no slot"),
    ],
)
def test_who_is_left_out_and_why(node: Node, record: dict[str, object], why: str) -> None:
    told = hosts.plan(cluster(node), {"k1": ready(), "k2": record})
    assert told.left_out == (("k2", why),)
    assert told.hosts == ""


def test_when_all_workers_are_gone_the_coordinator_gives_all_it_can_carry() -> None:
    told = hosts.plan(cluster(Node("k2", "10.0.0.2"), local=None), {"k1": ready(4), "k2": ready(16)})
    assert told.local == 0  # 4 - 0.27 * 16: it preprocesses, no more
    assert told.without(("k2",)) == "--localslots=5 --localslots_cpp=5 localhost/5"
    beside = hosts.plan(
        cluster(Node("k2", "fd00::2"), Node("k3", "fd00::20")), {n: ready() for n in ("k1", "k2", "k3")}
    )
    assert beside.without(("k2",)) == "--localslots=4 --localslots_cpp=14 [fd00::20]:3632/5,lzo localhost/2"


def test_no_more_slots_than_distccd_was_started_with() -> None:
    told = hosts.plan(cluster(Node("k2", "10.0.0.2", slots=6)), {"k1": ready(), "k2": ready(8, jobs=3)})
    assert told.slots["k2"] == 3


def test_max_jobs_caps_make_and_not_the_hosts() -> None:
    told = hosts.plan(cluster(Node("k2", "10.0.0.2", slots=6), max_jobs=4), {"k1": ready(), "k2": ready()})
    assert told.jobs == 4
    assert told.slots == {"k2": 6, "k1": 2}
    assert "-j4 instead of -j8: build.max_jobs" in told.reasons


def test_settings_of_distcc_that_cost_hours_when_wrong() -> None:
    env = hosts.plan(cluster(Node("k2", "10.0.0.2")), {"k1": ready(), "k2": ready()}).env
    assert 5 <= int(env["DISTCC_BACKOFF_PERIOD"]) <= 10  # 0 is an endless loop in 3.4
    assert int(env["DISTCC_IO_TIMEOUT"]) < 300
    assert int(env["DISTCC_PAUSE_TIME_MSEC"]) < 100
    assert env["DISTCC_FALLBACK"] == "1"
    assert env["DISTCC_NO_REWRITE_CROSS"] == "1"


@pytest.mark.parametrize(
    ("address", "where"),
    [
        ("10.0.0.12", "10.0.0.12:3632"),
        ("node-2.lan", "node-2.lan:3632"),
        ("fd00::12", "[fd00::12]:3632"),
        ("localhost", "127.0.0.1:3632"),
        ("LOCALHOST", "127.0.0.1:3632"),
    ],
)
def test_an_address_as_distcc_takes_it(address: str, where: str) -> None:
    assert hosts.endpoint(Node("k2", address), {}) == where


@pytest.mark.parametrize("address", ["10.0.0.2/9", "a b", "@ssh", "x,cpp", "x#", "--randomize", "", "a\nb", "$(x)"])
def test_an_address_that_would_take_the_whole_list_with_it_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="k2: distcc cannot use the address"):
        hosts.endpoint(Node("k2", address), {"mode": {"address": address or " "}})


def test_a_coordinator_that_was_not_prepared() -> None:
    with pytest.raises(KbuildError) as raised:
        hosts.plan(cluster(), {})
    assert raised.value.render() == "k1 cannot compile: it was not prepared\nhint: run: doit prepare:k1"


FULL = "aarch64-unknown-linux-gnu-gcc"


def names(**modes: dict[str, str]) -> hosts.HostPlan:
    workers = [Node(name, f"10.0.0.{number}") for number, name in enumerate(modes, 1) if name != "k1"]
    return hosts.plan(cluster(*workers), {name: ready(**mode) for name, mode in modes.items()})


def test_workers_of_one_architecture_are_asked_as_make_does() -> None:
    plan = names(k1={"cc": "gcc", "full": FULL}, k2={"cc": "gcc", "full": FULL}, k3={"cc": "gcc", "full": ""})
    assert plan.far == "" and plan.workers == ("k2", "k3") and not plan.left_out


def test_a_worker_of_another_architecture_is_asked_for_the_name_that_all_must_have() -> None:
    plan = names(
        k1={"cc": "gcc", "full": FULL}, k2={"cc": "gcc", "full": FULL}, k3={"cc": FULL, "full": FULL}, k4={"cc": "gcc"}
    )
    assert plan.far == FULL
    assert plan.workers == ("k2", "k3")
    assert plan.left_out == (("k4", f"it has no {FULL} (/usr/lib/distcc), as gcc is called on k3"),)


def test_many_workers_are_not_given_up_for_one_of_another_architecture() -> None:
    plan = names(k1={"cc": "gcc", "full": FULL}, k2={"cc": "gcc"}, k3={"cc": "gcc"}, k4={"cc": FULL, "full": FULL})
    assert plan.far == "" and plan.workers == ("k2", "k3")
    assert plan.left_out == (
        ("k4", f"k2, k3 lend more slots, and have no {FULL} (/usr/lib/distcc), as gcc is called there"),
    )


def test_the_coordinator_must_have_that_name_as_well() -> None:
    plan = names(k1={"cc": "gcc", "full": ""}, k2={"cc": "gcc"}, k3={"cc": FULL, "full": FULL})
    assert plan.far == "" and plan.workers == ("k2",)
    assert plan.left_out == (("k3", f"k1 has no {FULL}, as it could be asked for there"),)


def test_a_cross_build_has_one_name_everywhere() -> None:
    cross = "aarch64-linux-gnu-gcc"
    plan = names(k1={"cc": cross, "full": cross}, k2={"cc": cross, "full": cross})
    assert plan.workers == ("k2",) and not plan.left_out
