"""The live line: what it says, what it leaves out, and that it never promises what it does not know."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kbuild_tasks.core.progress import PACE, Meter, Snapshot, duration, eta, line, phase_of


@pytest.mark.parametrize(
    ("text", "phase"),
    [
        ("  CC      fs/ext4/inode.o", "compile"),
        ("  CC [M]  fs/isofs/inode.o", "compile"),
        ("  HOSTCC  scripts/kallsyms", "prepare"),
        ("  MODPOST Module.symvers", "modpost"),
        ("  LD      vmlinux.o", "link"),
        ("  LD      .tmp_vmlinux.kallsyms1", "link"),
        ("  LD      arch/x86/boot/setup.elf", ""),
        ("  LD [M]  fs/isofs/isofs.ko", "link"),
        ("  GZIP    arch/x86/boot/compressed/vmlinux.bin.gz", "image"),
        ("  gcc -Wp,-MMD,a.o.d -c -o a.o a.c", ""),
        ("Kernel: arch/x86/boot/bzImage is ready", ""),
        ("    CC      x.o", ""),
        ("", ""),
    ],
)
def test_the_phase_that_a_line_of_kbuild_tells(text: str, phase: str) -> None:
    assert phase_of(text) == phase


SHOT = Snapshot(
    done=412,
    total=1290,
    phase="compile",
    seconds=60,
    rate=6.25,
    eta=140.5,
    in_use={"k2": 4, "k3": 3, "k1": 1},
    slots={"k2": 5, "k3": 5, "k1": 2},
    rates={"k2": 3.0, "k3": 2.25},
)


def test_a_line_of_a_compilation() -> None:
    assert line(SHOT) == "compile  412/1290 objects  6.2/s  2 min 20 s left  k2 4/5 3.0/s  k3 3/5 2.2/s  k1 1/2"


def test_what_is_dropped_in_a_narrow_terminal() -> None:
    assert line(SHOT, 75) == "compile  412/1290 objects  6.2/s  2 min 20 s left  k2 4/5 k3 3/5 k1 1/2"
    assert line(SHOT, 60) == "compile  412/1290 objects  6.2/s  2 min 20 s left"
    assert line(SHOT, 64) == "compile  412/1290 objects  6.2/s  2 min 20 s left  8/12 slots"
    assert len(line(SHOT, 10)) == 10


def test_fallbacks_and_lost_workers_are_told() -> None:
    shot = Snapshot(done=3, phase="compile", fallbacks=2, gone=("k3",))
    assert line(shot) == "compile  3 objects  0.0/s  2 fell back  lost: k3"


def test_a_lost_worker_is_told_in_the_narrowest_terminal_and_its_slots_are_gone() -> None:
    shot = replace(SHOT, fallbacks=21, gone=("k3",))
    assert line(shot, 90).endswith("left  k2 4/5 k1 1/2  21 fell back  lost: k3")
    assert line(shot, 40) == "compile  412/1290 objects  lost: k3"


def test_without_a_total_none_is_shown() -> None:
    assert line(Snapshot(done=1)) == "prepare  1 object"


@pytest.mark.parametrize(
    ("done", "total", "rate", "seconds", "left"),
    [
        (100, 300, 4.0, 30.0, 50.0),
        (100, None, 4.0, 30.0, None),
        (100, 300, 0.0, 30.0, None),
        (100, 300, 4.0, 5.0, None),  # too early to say
        (300, 300, 4.0, 30.0, None),
    ],
)
def test_time_left(done: int, total: int | None, rate: float, seconds: float, left: float | None) -> None:
    assert eta(done, total, rate, seconds) == left


def test_objects_per_second_of_the_last_ten_seconds() -> None:
    meter = Meter()
    rates = []
    for now, done in ((0.0, 0), (5.0, 10), (10.0, 20), (20.0, 120)):
        meter.add(now, done)
        rates.append(meter.rate())
    assert rates == [0.0, 2.0, 2.0, 10.0]  # (120 - 20) / 10: the slow start is forgotten
    assert meter.rate(PACE) == 6.0  # what the time left is reckoned from remembers it
    for now in range(21, 200):
        meter.add(float(now), 120)
    assert (meter.rate(), meter.rate(PACE), len(meter._points)) == (0.0, 0.0, PACE + 1)


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (61, "1 min 1 s"), (3900, "1 h 5 min")])
def test_a_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
