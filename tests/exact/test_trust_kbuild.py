"""True kbuild with workers of which every object is made here once more: no false alarm, with debug information or
without. And a worker that begins to lie: out, its objects made by others, and the bytes of a build without workers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.exact.bench import Bench, Made, State, diff, new_bench
from tests.exact.edits import START
from tests.exact.small_kernel import FILES
from tests.stages.compile_world import Daemon
from tests.stages.liar import LIES, Liar

pytestmark = pytest.mark.real
NODES = """\
nodes:
  n1: {{address: 127.0.0.1, connection: local, slots: 1}}
  n2: {{address: 127.0.0.2, slots: {slots}}}
  n3: {{address: 127.0.0.3, slots: {slots}}}
"""
MAKEFILE = "arch/x86/Makefile"
DEBUG = diff([(MAKEFILE, FILES[MAKEFILE], FILES[MAKEFILE].replace("+= -O1 ", "+= -O1 -g -gdwarf-5 "))])


class Shared(Bench):
    """A bench with two workers; `workers` by name."""

    workers: dict[str, Daemon]

    def write(self, state: State) -> None:
        super().write(state)
        path = self.project / "cluster.yaml"
        head = path.read_text().partition("nodes:")[0]
        path.write_text(
            head.replace("workdir:", f"check_share: {self.share}, workdir:") + NODES.format(slots=self.slots)
        )
        self.own(path)

    share, slots = "100%", 2

    def identity(self):
        told = super().identity()
        where = {name: list(daemon.where) for name, daemon in self.workers.items()}
        return told | {"env": {**told["env"], "KBUILD_TEST_WORKERS": json.dumps(where)}}

    def compiled(self):
        return self.last_run()["tasks"]["compile"]


@pytest.fixture
def bench(linux_source: Path) -> Iterator[Shared]:
    for made in new_bench(linux_source, kind=Shared):
        directory = made.home / "daemons"
        directory.mkdir()
        directory.chmod(0o777)
        with ExitStack() as stack:
            made.workers = {"n3": Daemon("127.0.0.3", directory)}
            stack.callback(made.workers["n3"].stop)
            made.workers["n2"] = Liar("127.0.0.2", directory, "")  # honest, for now
            stack.callback(made.workers["n2"].stop)
            yield made


def without_workers(bench: Shared, state: State) -> Made:
    bench.slots = 0
    try:
        return bench.clean(state)
    finally:
        bench.slots = 2


@pytest.mark.parametrize("debug", [False, True])
def test_no_false_alarm_over_a_whole_kernel(bench: Shared, debug: bool) -> None:
    state = START.patched("debug", DEBUG) if debug else START
    bench.write(state)
    bench.doit()
    told = bench.compiled()
    assert told["checked"] == {name: told["per_node"][name] for name in ("n2", "n3")}
    assert min(told["checked"].values()) > 3 and told.get("warnings", []) == []
    assert not (bench.project / "build/quarantine").exists()


def test_a_worker_that_begins_to_lie(bench: Shared) -> None:
    bench.share = "0%"
    bench.write(START)
    bench.doit()
    honest = bench.made()
    theirs = bench.compiled()["per_node"]["n2"]
    liar = bench.workers["n2"]
    assert isinstance(liar, Liar) and theirs > 3
    gcc = liar.top / "gcc"
    gcc.write_text(
        gcc.read_text().replace("data = bytearray(data)\n", f"data = bytearray(data)\n{LIES['flips a bit']}\n")
    )
    bench.share = "100%"
    header = "include/linux/kernel.h"
    edit = diff([(header, FILES[header], FILES[header].replace("KERNEL 1", "KERNEL 1 /* one */"))])
    bench.write(START.patched("edit", edit))
    said = bench.doit(status=1)
    assert "n2 returned" in said and "doit trust:n2" in said and "differs, the first at" in said
    assert "n2" in bench.doit("status") and "quarantine" in bench.doit("status")
    bench.write(START)
    said = bench.doit()
    assert "n2 compiled nothing: it is in quarantine since" in said
    told = bench.compiled()
    assert "n2" not in told["per_node"] and len(told["objects"]) >= theirs
    assert bench.made() == honest == without_workers(bench, START)
    assert "compiles again" in bench.doit("trust:n2")
    assert json.loads(bench.doit("status", "--json"))["nodes"]["n2"]["state"] != "quarantine"
