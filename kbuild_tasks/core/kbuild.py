"""kbuild's own record of a build: the .<object>.cmd files that scripts/basic/fixdep writes beside every object.

    cmd_drivers/net/veth.o := gcc ...          (savedcmd_ since Linux 6.3)
    source_drivers/net/veth.o := drivers/net/veth.c
    deps_drivers/net/veth.o := \\
        $(wildcard include/config/NET) \\
      include/linux/netdevice.h \\

make recompiles an object when a file of its deps is newer: so the deps say, before a build, what an edit touches.
"""

from __future__ import annotations


def depends_on(record: str, files: frozenset[str]) -> bool:
    """Whether the object of this .cmd record is made from one of `files` (paths relative to the tree)."""
    head, _, deps = record.partition("\ndeps_")
    source = head.rpartition("\nsource_")[2]
    if source.partition(":=")[2].strip() in files:
        return True
    # fixdep writes one file a line; a set test on the words is exact and quick
    return not files.isdisjoint(deps.split())


def object_of(record_name: str) -> str | None:
    """ "drivers/net/.veth.o.cmd" -> "drivers/net/veth.o"; None for what is not an object's record."""
    directory, _, name = record_name.rpartition("/")
    if not name.startswith(".") or not name.endswith(".o.cmd"):
        return None
    return f"{directory}/{name[1:-4]}" if directory else name[1:-4]
