"""The parts of script/bench that measure and count; the measurements themselves are no tests."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.bench.cold import SETTINGS, Setting
from tests.bench.edit import compared
from tests.bench.place import TOOK, counted


def took(script: str) -> dict[str, object]:
    done = subprocess.run([sys.executable, TOOK, script], capture_output=True, text=True, check=True)
    told: dict[str, object] = json.loads(done.stdout)
    return told


def test_cpu_is_counted_of_grandchildren_and_sleep_is_none() -> None:
    busy = took("sh -c 'i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done'; true")
    idle = took("sleep 0.3")
    assert float(str(busy["cpu"])) > float(str(idle["cpu"]))
    assert float(str(idle["seconds"])) >= 0.3 > float(str(idle["cpu"]))


def test_a_script_ends_at_its_first_failure_and_says_all() -> None:
    told = took("echo one; echo two >&2; false; echo three")
    assert (told["status"], told["out"]) == (1, "one\ntwo\n")


def test_what_is_left_in_the_background_holds_nothing_up() -> None:
    assert took("sleep 5 &")["status"] == 0


@pytest.mark.parametrize(
    ("setting", "hosts", "jobs"),
    [
        (Setting(3, 1), "--localslots=2 --localslots_cpp=9 a:1/3,lzo b:2/3,lzo localhost/1", 7),
        (Setting(4, 0, lzo=False), "--localslots=2 --localslots_cpp=8 a:1/4 b:2/4", 8),
    ],
)
def test_hosts_lists(setting: Setting, hosts: str, jobs: int) -> None:
    assert setting.hosts(["a:1", "b:2"]) == hosts
    assert setting.jobs(2) == jobs
    assert len(set(SETTINGS)) == len(SETTINGS)


def test_counting_and_comparing() -> None:
    out = "  CC      fs/inode.o\n  CC [M]  drivers/net/veth.o\n  HOSTCC  scripts/x\n  LD      vmlinux\n  CC      x.s\n"
    assert counted(out) == 2
    middle = {"doit compile": 3.0, "by hand": 2.0, "doit": 4.0, "doit, tmpfs lost": 6.0, "makepkg": 40.0}
    assert list(compared(middle).values()) == [1.5, 1.5, 10.0]
