"""kconfig is asked again exactly where it can have read what was edited, and the .config is a clean build's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kbuild_tasks.core import kconfig_reads
from tests.exact.bench import Bench, State, new_bench
from tests.exact.edits import CORE, CORE_AGAIN, edit

pytestmark = pytest.mark.real
ONE = State(patches=(("core", CORE),))
OPTION = edit("Kconfig", '"Tracing: many files look at it"', '"Tracing: many files look at it"\n\tdefault y')
READS = edit("Kconfig", "\tdefault 8", "\tdefault $(shell,sed -n 's/^#define XATTR //p' fs/xattr.h)")


@pytest.fixture(scope="module")
def bench(linux_source: Path) -> Iterator[Bench]:
    for made in new_bench(linux_source):
        made.write(ONE)
        made.doit("configure")
        yield made


def asked(bench: Bench, state: State) -> bool:
    bench.write(state)
    bench.doit("configure")
    return bool(bench.last_run()["tasks"]["configure"]["kconfig"] == "asked")


def config(bench: Bench) -> str:
    return (bench.tree / ".config").read_text()


def test_a_source_is_not_read(bench: Bench) -> None:
    before = config(bench)
    assert not asked(bench, ONE.patched("core", CORE_AGAIN))
    assert not asked(bench, ONE)
    assert config(bench) == before


def test_a_kconfig_is(bench: Bench) -> None:
    state = ONE.patched("option", OPTION)
    assert asked(bench, state)
    assert "CONFIG_TRACE=y" in config(bench)
    assert not asked(bench, state.patched("core", CORE_AGAIN))
    assert asked(bench, ONE)
    assert "CONFIG_TRACE=y" not in config(bench)


def test_so_is_a_fragment_and_the_name_of_the_release(bench: Bench) -> None:
    assert asked(bench, ONE.with_fragment("trace", "CONFIG_TRACE=y\n"))
    assert "CONFIG_TRACE=y" in config(bench)
    assert asked(bench, ONE)
    assert asked(bench, ONE.with_pkgbuild("pkgrel=1", "pkgrel=2"))
    assert bench.last_run()["tasks"]["configure"]["message"].startswith("6.1.1-2;")
    assert asked(bench, ONE)


def test_a_config_that_somebody_changed_is_made_again(bench: Bench) -> None:
    (bench.tree / ".config").write_text(before := config(bench).replace("CONFIG_DEPTH=8", "CONFIG_DEPTH=9"))
    assert asked(bench, ONE)
    assert config(bench) != before


def test_who_wants_it_anew_gets_it_anew(bench: Bench) -> None:
    """A pahole that was replaced in its place is nothing that one can see from outside."""
    core = ONE.patched("core", CORE_AGAIN)
    assert not asked(bench, core)
    bench.doit("forget", "configure")
    assert asked(bench, core)
    assert not asked(bench, ONE)
    bench.doit("-a", "-s", "configure")
    assert bench.last_run()["tasks"]["configure"]["kconfig"] == "asked"


def test_a_kconfig_that_reads_sources_is_asked_each_time(bench: Bench) -> None:
    state = ONE.patched("reads", READS)
    assert asked(bench, state)
    assert "CONFIG_DEPTH=3" in config(bench)
    assert asked(bench, state.patched("xattr", edit("fs/xattr.h", "XATTR 3", "XATTR 5")))
    assert "CONFIG_DEPTH=5" in config(bench)
    assert asked(bench, ONE)


def test_linux_itself_reads_no_source(linux_source: Path) -> None:
    others = {path.name for path in (linux_source / "arch").iterdir() if path.is_dir()} - {"x86", "arm", "arm64"}
    files = [
        path for path in linux_source.rglob("Kconfig*")
        if path.is_file() and path.relative_to(linux_source).parts[:2] not in {("arch", name) for name in others}
        and "scripts/kconfig" not in str(path)
    ]  # fmt: skip
    assert len(files) > 500
    words = kconfig_reads.named(path.read_text("utf-8", "replace") for path in files)
    assert {word for word in words if (linux_source / word).exists()} == set()
