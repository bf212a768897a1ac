"""Trust no worker, decided: how many objects are checked, what a difference is called, which objects are doubted.

A checked object is made on the coordinator as well, of the text that was sent (effects/check.sh). The same compiler
makes the same bytes of the same text, with debug information too, so one byte that differs is proof: of a lie, a broken
memory, or another compiler behind the same name. What else that node has made can then not be told good from bad, and
is dropped; so is what nobody is known to have made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kbuild_tasks.core import elf
from kbuild_tasks.core.package_diff import first

DRAWS = 1 << 32  # the front draws a number below this for each object
CACHE = "ccache"  # the maker of an object that came from ccache: whoever made it then


class Maker(NamedTuple):
    """Who made an object, and its time of writing then, in ns: an object of another time is another object."""

    node: str
    address: str
    mtime: int


def draws(share: float) -> int:
    """Of DRAWS, how many numbers mean that an object is checked."""
    return min(DRAWS, round(share * DRAWS))


def is_doubted(maker: Maker | None, mtime: int, node: str, address: str) -> bool:
    """Whether an object may be one that `node` at `address` made."""
    if maker is None or maker.mtime != mtime:
        return True  # of a build that was killed, or an older version of ours
    return maker.node in (node, CACHE) or maker.address == address


def is_kernel_c(record: str) -> bool:
    """Whether a .cmd record of kbuild is that of an object that a worker could have made."""
    command = record.partition("\nsource_")[0]
    return "-D__KERNEL__" in command and "-D__ASSEMBLY__" not in command and " -c " in command


def difference(theirs: bytes, ours: bytes) -> str:
    """What is different in two objects, as the end of a sentence about theirs."""
    if not ours:
        return "the compiler here refuses the text"
    if len(theirs) < len(ours) and ours.startswith(theirs):
        return f"it is cut short, {len(theirs)} of {len(ours)} bytes"
    if theirs.startswith(ours):
        return f"it has {len(theirs) - len(ours)} bytes more than {len(ours)}"
    at = first(theirs, ours)
    section = elf.section_at(ours, at)
    where = f"the first at {at:#x}" + (f" in {section}" if section else "")
    if len(theirs) != len(ours):
        return f"it has {len(theirs)} bytes instead of {len(ours)}, {where} differs"
    count = sum(one != other for one, other in zip(theirs, ours, strict=True))
    return f"{count} of {len(ours)} bytes {'differs' if count == 1 else 'differ'}, {where}"


def sentence(record: Mapping[str, Any], when: str) -> str:
    """Why a node compiles nothing, without its name: "it is in quarantine since 2026-11-30 14:02: ..."."""
    wrong = record.get("objects")
    first = wrong[0] if isinstance(wrong, list) and wrong and isinstance(wrong[0], dict) else {}
    what = f"it returned a wrong {first.get('object', 'object')} ({first.get('what', 'it is not told how')})"
    return f"it is in quarantine since {when}: {what}"


def accusation(node: str, wrong: Sequence[Mapping[str, str]]) -> str:
    """One sentence about what a node has returned."""
    if len(wrong) == 1:
        return f"{node} returned a wrong object: {wrong[0]['object']} is not what the compiler makes of the same text"
    return f"{node} returned {len(wrong)} wrong objects: they are not what the compiler makes of the same texts"
