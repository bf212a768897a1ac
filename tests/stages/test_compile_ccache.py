"""ccache in front of distcc, with the real ccache, distccd, make and gcc: what comes from it, and what must not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kbuild_tasks.core.errors import CommandFailed
from tests.makepkg_world import new_world
from tests.stages.compile_world import COUNT, Daemon, Small, daemons

pytestmark = pytest.mark.real
ALL = f"{COUNT} objects, all from ccache"


@pytest.fixture
def small() -> Iterator[Small]:
    for world in new_world():
        made = Small(world.home)
        made.ccache = 1 << 30
        yield made


@pytest.fixture
def worker(temporary: Path) -> Iterator[Daemon]:
    with daemons(temporary, "127.0.0.2") as (one,):
        yield one


def anew(small: Small, **change: Any) -> Any:
    """The outcome of a build of all objects, after the source was imported as stage patch leaves it."""
    for pattern in ("fs/*.o", "fs/.*.d", "fs/.*.cmd", "vmlinux"):
        for path in small.tree.glob(pattern):
            path.unlink()
    del small.source
    return small.compile()[0]


def cached(outcome: Any) -> tuple[int, int]:
    return outcome.run["ccache"]["hits"], outcome.run["ccache"]["misses"]


def test_what_was_compiled_before_comes_back(small: Small, worker: Daemon) -> None:
    first, _ = small.prepared(n2=worker.where).compile()
    assert cached(first) == (0, COUNT) and sum(first.run["per_node"].values()) == COUNT
    assert first.run["per_node"]["n2"] == worker.count() > 0, "what is not there goes to the workers as without it"
    assert first.run["ccache"]["bytes"] > 0 and (small.paths.state / "ccache").is_dir()
    again = anew(small)
    assert (again.message, cached(again)) == (ALL, (COUNT, 0))
    assert (again.run["objects"], again.run["fallbacks"], again.run["untold"]) == ([], [], [])
    assert again.results["vmlinux_sha256"] == first.results["vmlinux_sha256"]
    assert worker.count() == first.run["per_node"]["n2"]

    small.ccache = 0
    off, _ = small.compile()
    assert off.message == "nothing to compile", "turned off: what kbuild has recorded is the same"
    assert "ccache" not in off.run
    without = anew(small)
    assert without.results["vmlinux_sha256"] == first.results["vmlinux_sha256"]

    small.ccache = 1 << 30
    small.leave_out("n2", "it is off")
    assert anew(small).message == ALL, "and without workers"


def test_an_edit_and_its_undoing(small: Small, worker: Daemon) -> None:
    first, _ = small.prepared(n2=worker.where).compile()
    header = small.tree / "include/common.h"
    was = header.read_text()
    header.write_text(was + "static int more_of_it __attribute__((used)) = 7;\n")
    changed = anew(small)
    assert cached(changed) == (0, COUNT)
    assert changed.results["vmlinux_sha256"] != first.results["vmlinux_sha256"]
    header.write_text(was)
    assert anew(small).message == ALL
    source = small.tree / "fs/o3.c"
    source.write_text(source.read_text() + "int more;\n")
    edited = anew(small)
    assert (cached(edited), edited.run["objects"]) == ((COUNT - 1, 1), ["fs/o3.o"])


def test_a_new_header_that_is_found_before_the_one_that_was(small: Small, worker: Daemon) -> None:
    """The dependency file of then names the other one, which is as it was: ccache alone would be content."""
    first, _ = small.prepared(n2=worker.where).compile()
    nearer = small.tree / "fs/common.h"
    nearer.write_text("extern int common;\nstatic int more_of_it __attribute__((used)) = 7;\n")
    small._own()
    changed = anew(small)
    assert cached(changed) == (0, COUNT)
    small.ccache = 0
    assert anew(small).results["vmlinux_sha256"] == changed.results["vmlinux_sha256"]
    small.ccache = 1 << 30
    nearer.unlink()
    taken_back = anew(small)
    assert (taken_back.message, taken_back.results["vmlinux_sha256"]) == (ALL, first.results["vmlinux_sha256"])


def test_an_error_is_told_as_without_it(small: Small, worker: Daemon) -> None:
    small.prepared(n2=worker.where)
    source = small.tree / "fs/o3.c"
    source.write_text("int f(void) { return missing; }\n")
    small._own()
    with pytest.raises(CommandFailed) as caught:
        small.compile(touched={"fs/o3.c": ["0003-break.patch"]})
    assert "fs/o3.c:1" in caught.value.message and "missing" in caught.value.message
    assert "0003-break.patch" in "\n".join([caught.value.message, caught.value.hint or "", *caught.value.evidence])


def test_without_ccache_on_the_machine_it_is_said(
    small: Small, worker: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kbuild_tasks.effects import ccache

    monkeypatch.setattr(ccache, "is_there", lambda: False)
    outcome, _ = small.prepared(n2=worker.where).compile()
    assert sum(outcome.run["per_node"].values()) == COUNT
    assert "ccache is not installed here" in outcome.warnings[-1]


def test_its_place_is_a_setting(small: Small, tmp_path: Path) -> None:
    from dataclasses import replace

    from kbuild_tasks.effects import ccache

    build = replace(small.prepared().cluster.build, ccache_dir="/srv/cache")
    assert ccache.place(build, small.paths) == Path("/srv/cache")
    assert ccache.place(replace(build, ccache_dir=None), small.paths) == small.paths.state / "ccache"
