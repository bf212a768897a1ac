"""Another coordinator, as a user lives it: n1 has built, n2 has what sync left, and takes n1's place. Real ssh, the
small kernel under its real kbuild. What an edit compiles afterwards is what plain make compiles, and the packages are
those of a clean build, byte for byte.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.exact.bench import objects
from tests.exact.edits import PATCHES, START
from tests.exact.machines import SIZE, Machine, Two, possible, sshd, two

pytestmark = [pytest.mark.real, pytest.mark.skipif(not possible(), reason="needs root, for mount namespaces, and sshd")]
EDITED = START.patched("core", PATCHES["core"][1])


@pytest.fixture(scope="module")
def built(linux_source: Path) -> Iterator[Two]:
    """n1 has built START, and n2 was synced by it."""
    with two(linux_source) as both:
        both.old.step(START)
        yield both


@pytest.fixture
def both(built: Two) -> Iterator[Two]:
    """n2 as it is when its node has compiled nothing yet."""
    yield built
    new = built.new
    shutil.rmtree(new.project, ignore_errors=True)
    for name in ("work", "work.state"):
        new.root("umount", new.home / name)
        new.mount(new.home / name, SIZE)


def recover(both: Two) -> None:
    new = both.new
    new.project.mkdir()
    new.own(new.project)
    out = new.doit("recover", str(new.project))
    assert "of n1, " in out
    new.configure(", ".join(f"fragments/{name}" for name, _ in START.fragments))


def packages(project: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (project / "artifacts").glob("*.zst")}


def test_it_goes_on_where_the_old_one_was(both: Two) -> None:
    old, new = both.old, both.new
    recover(both)
    plan = new.doit("plan")
    assert "run    compile      not done yet" in plan
    assert f"n1 was the coordinator before: if it answers, doit adopt fetches what it built in {old.project}" in plan

    out = new.doit("adopt")
    assert "done   adopt        extract, patch, configure, compile, package of n1" in out and "warning" not in out
    plan = new.doit("plan")
    assert [line for line in plan.splitlines() if "sync" not in line and line.split()[:1] != ["fresh"]] == [], plan
    assert json.loads(new.doit("plan", "--json"))["adopt"] == ""
    new.doit()
    assert set(new.states().values()) <= {"fresh"} or set(new.states().values()) == {"fresh", "done"}
    assert {new.states()[stage] for stage in ("extract", "patch", "configure", "compile", "package")} == {"fresh"}
    assert packages(new.project) == packages(old.project)
    assert not (new.seen(new.work) / "makepkg").exists(), "nothing is brought back before it is needed"

    step = new.step(EDITED)
    assert sorted(step.recorded) == sorted(step.said) and 0 < len(step.said) < 5
    assert "files of the last build brought back" in step.run["tasks"]["patch"]["message"]
    assert step.made.files == step.made_by_hand
    assert step.run["tasks"]["extract"]["state"] == "fresh"
    clean = new.clean(EDITED)
    assert (step.made.files, step.made.packages) == (clean.files, clean.packages)


def test_the_edit_may_come_before_and_the_tree_may_be_all_there_is(both: Two) -> None:
    """What the old one has built is other than what is wanted here: it is fetched all the same, and make goes on. Its
    tree was on a disk: there is no kept copy."""
    old, new = both.old, both.new
    recover(both)
    new.write(EDITED)
    old.root("mv", old.home / "work.state/kept", old.home / "work.state/aside")
    try:
        new.doit("adopt")
    finally:
        old.root("mv", old.home / "work.state/aside", old.home / "work.state/kept")
    plan = new.doit("plan")
    assert "fresh  extract" in plan and "core changed (line" in plan and "run    patch" in plan, plan
    before = objects(old.tree)
    new.doit()
    compiled = new.last_run()["tasks"]["compile"]["objects"]
    assert "kernel/core.o" in compiled and len(compiled) < 5
    after = objects(new.tree)
    assert {name for name in before if after.get(name) != before[name]} <= {*compiled, "vmlinux.o"}


@contextmanager
def damaged(machine: Machine, *paths: Path) -> Iterator[None]:
    """One byte of each file is another one for a while."""
    for path in paths:
        machine.root("cp", "-a", path, f"{path}.aside")
        machine.root("sh", "-c", 'printf x | dd of="$0" bs=1 seek=100 conv=notrunc status=none', path)
    try:
        yield
    finally:
        for path in paths:
            machine.root("mv", f"{path}.aside", path)


def test_what_is_not_whole_there_is_made_here(both: Two) -> None:
    old, new = both.old, both.new
    recover(both)
    package = next((old.project / "artifacts").glob("linux-small-6*.zst"))
    tarball = next((old.seen(old.home) / "work.state/sources").iterdir()).name
    copy = old.home / "work.state/kept/files/kernel/core.o"
    with damaged(old, package, copy, old.home / "work.state/sources" / tarball):
        out = new.doit("adopt")
    assert "done   adopt        extract, patch, configure, compile of n1" in out
    assert f"not taken: {tarball}: not what its sum says" in out
    assert "not taken: 1 file of the last build, not whole there" in out
    assert f"not taken: {package.name}: it is not there, or not what the receipt tells" in out
    assert not (new.project / "artifacts").exists()
    new.doit()
    # the kernel is linked anew, and the image holds addresses of it
    assert new.last_run()["tasks"]["compile"]["objects"] == ["arch/x86/boot/setup.o", "kernel/core.o"]
    assert packages(new.project) == packages(old.project)


@pytest.mark.parametrize("sent", [0, 512, 30000])
def test_a_transfer_that_is_cut_changes_nothing_and_is_begun_anew(both: Two, sent: int) -> None:
    """The other one's tar sends so many bytes, and then what runs it is killed."""
    old, new = both.old, both.new
    recover(both)
    fake, real = old.home / "tar", old.home / "real-tar"
    shutil.copy("/usr/bin/tar", real)
    fake.write_text(f'#!/bin/sh\n{real} "$@" | head -c {sent}\nkill -9 "$PPID"\n')
    fake.chmod(0o755)
    old.root("mount", "--bind", fake, "/usr/bin/tar")
    try:
        out = new.doit("adopt", status=1)
    finally:
        old.root("umount", "/usr/bin/tar")
    assert "FAILED adopt        n1 " in out and "doit adopt again" in out and "Traceback" not in out, out
    state = new.seen(new.home) / "work.state"
    assert not (new.project / "artifacts").exists() and not (new.project / "build/receipts").exists()
    assert not any((state / name).exists() for name in ("adopting", "kept", "sources", "srcdir"))
    new.doit("adopt")
    assert packages(new.project) == packages(old.project)


def test_a_run_that_goes_on_there(both: Two) -> None:
    recover(both)
    held = subprocess.Popen([*both.old.enter, "flock", "--no-fork", both.old.project / "build/.lock", "sleep", "60"])
    try:
        time.sleep(0.5)
        out = both.new.doit("adopt", status=1)
    finally:
        held.terminate()
        held.wait()
    assert f"n1 is at work in {both.old.project}" in out and "wait for that run to end" in out


def test_no_room(both: Two) -> None:
    recover(both)
    both.new.root("mount", "-o", "remount,size=1g", both.new.home / "work.state")
    out = both.new.doit("adopt", status=1)
    assert "work.state has no room for what another coordinator has" in out and "df -h" in out


def test_the_old_one_does_not_answer(both: Two) -> None:
    recover(both)
    both.sshds[0].terminate()
    both.sshds[0].wait(5)
    both.hang_up()
    try:
        out = both.new.doit("adopt", status=1)
    finally:
        both.sshds[0] = sshd(both.old, both.old.ports[0])
    assert "FAILED adopt        n1 refuses connections at" in out
    assert "Without it doit makes all of it here" in out and "Traceback" not in out
    both.new.doit()
    assert packages(both.new.project) == packages(both.old.project), "from what sync left, the same bytes"
