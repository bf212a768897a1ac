"""kbuild's record of an object: what an edit of a file touches."""

from __future__ import annotations

import pytest

from kbuild_tasks.core.kbuild import depends_on, object_of

RECORD = """\
cmd_drivers/net/veth.o := gcc -Wp,-MMD,drivers/net/.veth.o.d -nostdinc -c -o drivers/net/veth.o drivers/net/veth.c

source_drivers/net/veth.o := drivers/net/veth.c

deps_drivers/net/veth.o := \\
    $(wildcard include/config/NET) \\
  include/linux/netdevice.h \\
  arch/x86/include/asm/bug.h \\

drivers/net/veth.o: $(deps_drivers/net/veth.o)

$(deps_drivers/net/veth.o):
"""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("drivers/net/veth.c", True),
        ("include/linux/netdevice.h", True),
        ("arch/x86/include/asm/bug.h", True),
        ("include/linux/netdevice", False),
        ("drivers/net/dummy.c", False),
        ("drivers/net/.veth.o.d", False),
    ],
)
def test_depends_on(name, expected) -> None:
    assert depends_on(RECORD, frozenset([name])) is expected
    assert depends_on(RECORD.replace("cmd_", "savedcmd_"), frozenset([name])) is expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("drivers/net/.veth.o.cmd", "drivers/net/veth.o"),
        (".vmlinux.o.cmd", "vmlinux.o"),
        ("drivers/net/veth.o", None),
        ("scripts/.fixdep.cmd", None),
    ],
)
def test_object_of(name, expected) -> None:
    assert object_of(name) == expected
