"""Build mode's numbers and sentences; and that the node computes the slots that we would."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from kbuild_tasks.core import buildmode, lending
from kbuild_tasks.core.model import Build, Node, Workdir

GCC = {"version": "12.2.0", "machine": "x86_64-linux-gnu", "binutils": "GNU assembler (GNU Binutils for Debian) 2.40"}
BUILD = Build("kubenode1", Workdir("/home/builder/buildtmp"))
NODE = Node("kubenode2", "10.0.0.12")
MIB = 1 << 20
SCRIPTS = Path(buildmode.__file__).parent.parent / "effects"


@pytest.mark.parametrize(
    ("cores", "available", "slots", "expected"),
    [
        (1, 8 << 30, None, 1),
        (2, 8 << 30, None, 2),
        (4, 8 << 30, None, 5),
        (8, 8 << 30, None, 9),
        (64, 64 << 30, None, 74),
        (4, 500 * MIB, None, 2),  # 200 MiB a job
        (4, 199 * MIB, None, 0),
        (4, 8 << 30, 3, 3),
        (2, 450 * MIB, 12, 2),
    ],
)
def test_the_node_computes_the_slots_that_hosts_does(cores: int, available: int, slots: int | None, expected: int):
    node = Node("kubenode2", "10.0.0.12", slots=slots, memory_per_job=200 * MIB)
    assert lending.slots(node, {"cores": cores, "memory": 64 << 30, "available": available}) == expected
    values = buildmode.worker_values(node, BUILD, GCC)
    text = (SCRIPTS / "worker.sh").read_text()
    function = re.search(r"^slots\(\) \{.*?^\}", text, re.DOTALL | re.MULTILINE)
    assert function
    given = f"cores={cores} available={available} lend={values['lend']} per_job={values['per_job']}"
    script = f"{given} lend_percent={values['lend_percent']}\n{function[0]}\nslots; echo $jobs"
    assert int(subprocess.run(["sh", "-c", script], capture_output=True, check=True, text=True).stdout) == expected


def test_size_of_workdir_is_the_coordinator_s_alone():
    build = Build("kubenode1", Workdir("/home/builder/buildtmp", 20 << 30), k3s="stop")
    worker = Node("kubenode2", "10.0.0.12", k3s="agent")
    assert buildmode.worker_values(worker, build, GCC)["tmpfs"] == "auto"
    assert buildmode.worker_values(worker, build, GCC)["k3s_stop"] == 1
    assert buildmode.worker_values(NODE, build, GCC)["k3s_stop"] == 0
    assert buildmode.coordinator_values(Node("a", "b", k3s="server"), build, 1000, 1000, GCC)["k3s_stop"] == 0
    assert buildmode.coordinator_values(NODE, build, 1000, 985, GCC)["builder"] == "1000:985"
    assert buildmode.coordinator_values(NODE, build, 1000, 985, GCC)["tmpfs"] == 20 << 30


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        ({**GCC, "version": "13.1.0"}, "gcc 13.1.0, the coordinator has gcc 12.2.0"),
        (
            {**GCC, "machine": "aarch64-linux-gnu"},
            "gcc for aarch64-linux-gnu, the coordinator has gcc for x86_64-linux-gnu",
        ),
        ({**GCC, "binutils": ""}, "unknown, the coordinator has GNU assembler (GNU Binutils for Debian) 2.40"),
    ],
)
def test_another_compiler_is_told_by_its_difference(theirs: dict[str, str], expected: str):
    error = buildmode.refusal(NODE, "/w", "other-compiler", "", {"compiler": theirs}, GCC)
    assert error.message == f"kubenode2 has another compiler: {expected}"
    assert error.hint and "slots: 0" in error.hint


def test_every_word_a_script_may_refuse_with_has_a_sentence_and_a_hint():
    words = set()
    for script in ("enter", "worker", "coordinator"):
        words |= set(re.findall(r"\brefuse ([a-z][a-z0-9-]+)", (SCRIPTS / f"{script}.sh").read_text()))
    words -= {"lends-nothing"}  # not a refusal: the node was asked for facts alone
    assert len(words) > 15
    facts = {"compiler": {}, "distccd": "3.3.5", "available": 1, "memory": 1, "disk_free": 1}
    for word in words:
        error = buildmode.refusal(NODE, "/w", word, "detail", facts, GCC)
        assert error.message.startswith("kubenode2"), word
        assert "refused: " not in error.message, word
        assert error.hint, word


@pytest.mark.parametrize(
    ("mode", "coordinator", "expected"),
    [
        ({"jobs": 3, "tmpfs": 192 * MIB, "stopped": ""}, False, "3 slots, tmpfs 192 MiB"),
        ({"jobs": 1, "tmpfs": 0, "disk_why": "off"}, False, "1 slot, on disk"),
        (
            {"jobs": 2, "tmpfs": 0, "disk_why": "memory", "stopped": "k3s-agent.service"},
            False,
            "2 slots, on disk: a tmpfs does not fit into its memory; stopped k3s-agent.service",
        ),
        ({"jobs": 0, "tmpfs": 12 << 30}, True, "tmpfs 12.0 GiB"),
        ({"jobs": 0, "tmpfs": 0, "disk_why": "tree"}, True, "on disk: a tree is there already"),
    ],
)
def test_ready(mode: dict[str, object], coordinator: bool, expected: str):
    assert buildmode.ready(mode, coordinator) == expected


@pytest.mark.parametrize(
    ("sent", "theirs", "received", "ahead", "error", "warned"),
    [
        (100.0, 100.1, 100.2, 0.0, 0.1, False),
        (100.0, 106.0, 100.2, 5.9, 0.1, True),
        (100.0, 90.0, 100.0, -10.0, 0.0, True),
        (100.0, 108.0, 110.0, 3.0, 5.0, False),  # a slow answer says little
    ],
)
def test_clock(sent: float, theirs: float, received: float, ahead: float, error: float, warned: bool):
    measured = buildmode.clock(sent, theirs, received)
    assert measured == {"ahead": ahead, "error": error}
    assert (buildmode.clock_warning("kubenode2", measured) is not None) == warned


def test_clock_warning_says_which_way():
    assert buildmode.clock_warning("kubenode2", {"ahead": -12.4, "error": 0.0}) == (
        "kubenode2's clock is 12 s behind; run NTP there"
    )
