"""A workdir on a tmpfs that is lost, and one that is full: the next build has the bytes of a clean one, and after a
loss it compiles what was edited."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.exact.bench import contents, new_bench
from tests.exact.edits import EDITS, PATCHES, START
from tests.exact.mounted import Mounted, mounted, possible

pytestmark = [pytest.mark.real, pytest.mark.skipif(not possible(), reason="needs root, for a mount namespace")]
EDITED = START.patched("core", PATCHES["core"][1])


@pytest.fixture(scope="module")
def bench(linux_source: Path) -> Iterator[Mounted]:
    for made in new_bench(linux_source, kind=Mounted):
        with mounted(made) as inside:
            yield inside


def lose(bench: Mounted) -> None:
    subprocess.run([*bench.enter, "umount", str(bench.work)], stderr=subprocess.DEVNULL)  # the first time none is there
    bench.mount(bench.work, "1g")


def packages(bench: Mounted) -> dict[str, dict[str, str]]:
    return {path.name: contents(path) for path in sorted((bench.project / "artifacts").glob("*.zst"))}


def test_after_a_loss_an_edit_compiles_what_it_touches(bench: Mounted) -> None:
    lose(bench)
    bench.step(START)
    first = bench.made()
    lose(bench)
    bench.doit()  # nothing to do: nothing is brought back
    assert set(bench.states().values()) == {"fresh"}
    assert not (bench.seen(bench.work) / "makepkg").exists()

    step = bench.step(EDITED)
    assert sorted(step.recorded) == sorted(step.said)
    assert "files of the last build brought back" in step.run["tasks"]["patch"]["message"]
    assert step.made.files == step.made_by_hand
    edited = bench.made()

    lose(bench)
    step = bench.step(EDITS["pkgdesc"].patched("core", PATCHES["core"][1]))
    assert (step.recorded, step.made.files) == (frozenset(), edited.files)
    bench.write(EDITED)
    lose(bench)
    bench.doit()  # packaged of what came back: kconfig has not run in this tree
    assert bench.made() == edited
    lose(bench)
    step = bench.step(START)
    assert sorted(step.recorded) == sorted(step.said)
    assert bench.made() == first


def test_with_keep_off_everything_is_compiled_again_to_the_same_bytes(bench: Mounted) -> None:
    bench.build = ", keep: off"
    bench.write(START)
    bench.doit()
    before = bench.made()
    bench.doit("forget", "compile")
    bench.doit()
    assert not (bench.work.with_name("work.state") / "kept").exists()
    lose(bench)
    bench.write(EDITED)
    bench.doit()
    assert len(bench.last_run()["tasks"]["compile"]["objects"]) > 15
    bench.write(START)
    bench.doit()
    assert bench.made() == before
    bench.build = ""


@pytest.mark.whole  # minutes
@pytest.mark.parametrize("where", ["work", "work.state"])
def test_a_file_system_that_is_full_and_then_is_not(bench: Mounted, where: str) -> None:
    bench.write(START)
    bench.doit()
    wanted = bench.made()
    shutil.rmtree(bench.home / "work.state")
    shutil.rmtree(bench.project / "build")
    shutil.rmtree(bench.project / "artifacts")
    full = bench.home / where
    lose(bench)
    if where == "work.state":
        bench.mount(full, "1g")
    bench.doit()
    used = int(bench.root("df", "--output=used", "--block-size=1k", full).split()[-1])
    assert bench.made() == wanted
    failed = 0
    for share in (0.15, 0.3, 0.45, 0.6, 0.75, 0.85, 0.92, 0.97):
        bench.root("umount", full)
        bench.mount(full, f"{int(used * share)}k")
        shutil.rmtree(bench.project / "build")
        out = bench.doit(status=None)
        if "FAILED" in out:
            failed += 1
            assert "no space left" in out.lower(), out
            assert "Traceback" not in out
        bench.root("mount", "-o", "remount,size=1g", full)
        bench.doit()
        assert bench.made() == wanted
    assert failed >= 3
    if where == "work.state":
        bench.root("umount", full)
