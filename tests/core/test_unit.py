"""A .cmd record as kbuild writes it, taken apart."""

from __future__ import annotations

import pytest

from kbuild_tasks.core.unit import Unit, parse, spread

HEAD = "cmd_kernel/fork.o := gcc -Wp,-MMD,kernel/.fork.o.d -nostdinc -I./include -include ./include/linux/kconfig.h "
REAL = (
    HEAD + "-D__KERNEL__ -fmacro-prefix-map=./= -O2 -DKBUILD_MODNAME='\"fork\"' -c -o kernel/fork.o kernel/fork.c "
    " ; ./tools/objtool/objtool --hacks kernel/fork.o\n\nsource_kernel/fork.o := kernel/fork.c\n"
)


def test_a_record_of_linux_6_1() -> None:
    unit = parse(REAL)
    assert unit is not None
    assert (unit.object, unit.source) == ("kernel/fork.o", "kernel/fork.c")
    assert unit.flags == (
        "-nostdinc",
        "-I./include",
        "-include",
        "./include/linux/kconfig.h",
        "-D__KERNEL__",
        "-fmacro-prefix-map=./=",
        "-O2",
        '-DKBUILD_MODNAME="fork"',
    )
    argv = unit.compile("gcc", "/tmp/x.o")
    assert argv[0] == "gcc" and argv[-4:] == ["-c", "-o", "/tmp/x.o", "kernel/fork.c"]
    assert {"-fdirectives-only", '-D__BASE_FILE__="kernel/fork.c"'} <= set(argv)
    assert not any("fork.o.d" in word for word in argv), "no dependency file is written into the tree"


def test_since_6_3_it_has_another_name() -> None:
    assert parse("saved" + REAL) == parse(REAL)


@pytest.mark.parametrize(
    "record",
    [
        "",
        "cmd_a.o := gcc -c -o a.o a.c",  # no kernel C
        "cmd_a.o := gcc -D__KERNEL__ -c -o a.o a.S",
        "cmd_scripts/x := gcc -D__KERNEL__ -o scripts/x scripts/x.c",
        "cmd_a.o := gcc -D__KERNEL__ -fplugin=x.so -c -o a.o a.c",
        "cmd_a.o := gcc -D__KERNEL__ -march=native -c -o a.o a.c",
        "cmd_kernel/configs.o := gcc -D__KERNEL__ -c -o kernel/configs.o kernel/configs.c",
        "cmd_a.o := gcc -D__KERNEL__ -DX='unended -c -o a.o a.c",
        "source_a.o := a.c",
    ],
)
def test_what_no_worker_compiles_is_none(record: str) -> None:
    assert parse(record) is None


def test_makes_escapes_are_undone() -> None:
    unit = parse("cmd_a.o := gcc -D__KERNEL__ -DA='$$x' -DB=\\# -c -o a.o a.c")
    assert unit == Unit("a.o", "a.c", ("-D__KERNEL__", "-DA=$x", "-DB=#"))


def test_a_sample_is_spread_evenly_and_is_the_same_each_time() -> None:
    names = [str(number) for number in range(100)]
    assert spread(names, 4) == ["12", "37", "62", "87"]
    assert spread(names[:3], 4) == ["0", "1", "2"]
