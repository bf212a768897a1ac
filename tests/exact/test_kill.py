"""kill -9 at random moments of a build, and what a kill leaves: the next run ends with the bytes of a clean build.

KBUILD_TEST_KILLS says how often (10); KBUILD_TEST_SEED repeats a run. What was done twice is told at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.exact.bench import Bench, State, new_bench
from tests.exact.edits import PATCHES, START

pytestmark = [pytest.mark.real, pytest.mark.whole]  # minutes: script/test --whole

# Between them nearly every object is compiled again, kconfig's and modpost's own among them where they were not there.
OTHER = START.patched("offsets", PATCHES["offsets"][0]).with_fragment("trace", "CONFIG_TRACE=y\n")
HOWS = ["doit", "make", "one make", "compiler", "makepkg", "all", "all, files cut short"]
PROGRAMS = {"make": {"make"}, "compiler": {"cc1", "as", "ld", "fixdep", "conf", "modpost"}, "makepkg": {"makepkg"}}


@pytest.fixture(scope="module")
def bench(linux_source: Path) -> Iterator[Bench]:
    yield from new_bench(linux_source)


def below(bench: Bench) -> dict[int, str]:
    """Processes that work in the project's workdir: pid -> name."""
    found = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if os.readlink(f"{entry.path}/cwd").startswith(str(bench.work)):
                    found[int(entry.name)] = Path(entry.path, "comm").read_text().strip()
    return found


def kill(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


STAGES = ["patch", "configure", "compile", "compile", "compile", "package"]


def wait_for(bench: Bench, run: subprocess.Popen[str], stage: str, since: float) -> None:
    """Until the stage has begun: its log starts anew."""
    log = bench.project / f"build/logs/{stage}.log"
    while run.poll() is None and not (log.exists() and log.stat().st_mtime > since):
        time.sleep(0.01)


def strike(bench: Bench, run: subprocess.Popen[str], how: str, chance: random.Random) -> bool:
    """Kill; whether anything was there to be killed."""
    if how == "doit":
        return run.poll() is None and kill(run.pid)
    if how.startswith("all"):
        hit = run.poll() is None and kill(run.pid)
        while left := below(bench):  # what a child started meanwhile too
            for pid in left:
                kill(pid)
        return hit
    wanted = PROGRAMS["make" if how == "one make" else how]
    while run.poll() is None:
        pids = sorted(pid for pid, name in below(bench).items() if name in wanted)
        if how == "one make" and pids:
            pids = [chance.choice(pids)]
        if sum(kill(pid) for pid in pids):
            return True
    return False


def cut_short(bench: Bench, chance: random.Random, since: float) -> int:
    """Shorten some files that were written in the last half second, as if they had been in the middle of it; a file
    that is written keeps the time of its last write. Only of a build that was still going on: what one that ended has
    made is on the disk before its mark goes."""
    if not compiling(bench).exists():
        return 0
    young = []
    for directory, _, names in os.walk(bench.work / "makepkg"):
        for name in names:
            path = os.path.join(directory, name)
            if name.endswith((".o", ".cmd", ".a", ".ko")) and not os.path.islink(path):
                info = os.lstat(path)
                if info.st_mtime >= since and info.st_size:
                    young.append((path, info))
    chosen = chance.sample(young, min(len(young), 4))
    for path, info in chosen:
        os.truncate(path, chance.randrange(info.st_size))
        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    return len(chosen)


def test_kills(bench: Bench) -> None:
    seed = int(os.environ.get("KBUILD_TEST_SEED") or random.SystemRandom().getrandbits(32))
    print(f"KBUILD_TEST_SEED={seed}")
    chance = random.Random(seed)
    wanted: dict[State, object] = {state: bench.clean(state) for state in (START, OTHER)}
    bench.write(START)
    bench.doit()
    state, hits, twice = START, 0, 0
    for number in range(int(os.environ.get("KBUILD_TEST_KILLS") or 10)):
        how = HOWS[number % len(HOWS)] if number < len(HOWS) else chance.choice(HOWS)
        state = OTHER if state == START else START
        bench.write(state)
        stage = "compile" if how in PROGRAMS or how == "one make" else chance.choice(STAGES)
        began = time.time()
        run = subprocess.Popen(
            bench.command(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **bench.identity(),
        )
        wait_for(bench, run, stage, began)
        delay = chance.uniform(0.0, 1.5)
        time.sleep(delay)
        began = time.time()
        hit = strike(bench, run, how, chance)
        run.communicate(timeout=600)
        cut = cut_short(bench, chance, began - 0.5) if how.endswith("short") and hit else 0
        before = bench.last_run()["tasks"].get("compile", {}) if hit else {}
        out = bench.doit()
        told = bench.last_run()["tasks"]["compile"]
        print(
            f"{number}: {how} in {stage} after {delay:.1f} s: {'hit' if hit else 'missed'}, {cut} cut short; then "
            f"{len(told.get('objects', []))} objects, {len(told.get('mended', []))} files removed first"
        )
        hits += hit
        twice += len({*before.get("objects", ())} & {*told.get("objects", ())})
        assert bench.made() == wanted[state], "\n".join(bench.differences(state)) or out
        bench.doit()
        assert set(bench.states().values()) == {"fresh"}
    print(f"{hits} kills; {twice} objects compiled before and again after")
    assert hits >= 3


def compiling(bench: Bench) -> Path:
    """The mark of a build that is going on in the tree."""
    tree = bench.tree
    return tree.parent.parent / f".{tree.name}.compiling"


@pytest.mark.parametrize("name", ["scripts/kconfig/conf.o", "scripts/basic/fixdep", "scripts/mod/modpost.o"])
def test_half_a_host_program_of_a_killed_run_is_made_again(bench: Bench, name: str) -> None:
    """As a kill leaves it that hits the assembler while kconfig is compiled anew: the record is the old one."""
    wanted = bench.clean(START)
    bench.write(START)
    bench.doit()
    mark = compiling(bench)
    mark.write_text(json.dumps({"boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip()}))
    mark.chmod(0o666)
    bench.own(mark)
    began = time.time() - 1
    os.utime(mark, (began, began))
    os.truncate(bench.tree / name, 100)
    bench.write(START.patched("traps", PATCHES["traps"][0]).with_fragment("trace", "CONFIG_TRACE=y\n"))
    bench.doit()
    bench.write(START)
    bench.doit()
    assert bench.made() == wanted


def test_a_build_whose_make_was_killed_keeps_its_mark(bench: Bench) -> None:
    bench.write(START)
    bench.doit()
    bench.write(START.with_pkgbuild("make bzImage", "sh -c 'kill -9 $$' || exit; make bzImage"))
    out = bench.doit(status=1)
    assert compiling(bench).exists(), out
    bench.write(START.with_pkgbuild("make bzImage", "false; make bzImage"))
    bench.doit(status=1)
    bench.write(START)
    bench.doit()
    assert not compiling(bench).exists()


def test_a_record_that_a_disk_has_damaged_is_named_with_the_way_out(bench: Bench) -> None:
    """No build was going on, so it is trusted; make says no more than "missing separator"."""
    wanted = bench.clean(START)
    bench.write(START)
    bench.doit()
    record = bench.tree / "arch/x86/boot/.bzImage.cmd"
    os.truncate(record, 9)
    bench.doit("forget", "compile")
    told = bench.doit(status=1)
    assert "a record of kbuild is damaged: arch/x86/boot/.bzImage.cmd:1: " in told
    assert f"hint: rm {record}, then doit" in told
    record.unlink()
    bench.doit()
    assert bench.made() == wanted
