"""In what two packages differ: the member, and within it the field, the ELF section, or the byte.

A package is what effects/package_members.py reads of it: its members in the order of the archive. Pure, as all of core:
members are compared by digests, and only the text or bytes of those that differ are looked into.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kbuild_tasks.core.elf import sections

FIELDS = (".BUILDINFO", ".PKGINFO")  # "name = value" lines, a name many times (makepkg, write_kv_pair)
DERIVED = ".MTREE"  # lists the others: it differs with them
SHOWN = 5


@dataclass(frozen=True)
class Member:
    """kind: file | link | directory | other; content: hex sha256 of a file, the target of a link; size in bytes."""

    kind: str
    mode: int
    owner: str
    mtime: float
    size: int
    content: str

    def attributes(self) -> dict[str, str]:
        return {"kind": self.kind, "mode": f"{self.mode:04o}", "owner": self.owner, "time": f"{self.mtime:.0f}"}


Read = Callable[[str], bytes]  # content of a member, by its name; what was compressed is unpacked


def differences(old: Mapping[str, Member], new: Mapping[str, Member], read_old: Read, read_new: Read) -> list[str]:
    """One line a difference, `old` first; empty where both hold the same in the same order.

    The members are equal and yet the packages are not: then it is how they were packed, and the caller says so.
    """
    lines = [f"{name}: only in the package of the manifest" for name in old if name not in new]
    lines += [f"{name}: only in the one made now" for name in new if name not in old]
    both = [name for name in old if name in new]
    if not lines and list(old) != list(new):
        lines.append("the members are in another order")
    changed = [name for name in both if old[name] != new[name]]
    for name in changed:
        was, now = old[name].attributes(), new[name].attributes()
        lines += [f"{name}: {key} {was[key]} -> {now[key]}" for key in was if was[key] != now[key]]
        if old[name].content == new[name].content or old[name].kind != new[name].kind:
            continue
        if old[name].kind == "link":
            lines.append(f"{name}: leads to {old[name].content} -> {new[name].content}")
        elif name != DERIVED or changed == [DERIVED]:  # else it tells the same once more
            lines += [f"{name}: {line}" for line in _inside(name, read_old(name), read_new(name))]
    return lines


def _inside(name: str, old: bytes, new: bytes) -> list[str]:
    if old == new:
        return ["the same when unpacked: it was compressed otherwise"]
    if name in FIELDS:
        return fields(old.decode("utf-8", "replace"), new.decode("utf-8", "replace"))
    was, now = sections(old), sections(new)
    if was and now:
        found = [f"section {section} only before" for section in was if section not in now]
        found += [f"section {section} only now" for section in now if section not in was]
        for section in was:
            if section in now and was[section] != now[section]:
                sizes = f", {len(was[section])} -> {len(now[section])} bytes" * (len(was[section]) != len(now[section]))
                found.append(f"section {section} differs from its byte {first(was[section], now[section])} on{sizes}")
        return _few(found) or [f"the layout of the ELF file differs from byte {first(old, new)} on"]
    sizes = f", {len(old)} -> {len(new)} bytes" if len(old) != len(new) else ""
    if b"\0" not in old[:4096] and b"\0" not in new[:4096]:
        return [f"differs from line {old[: first(old, new)].count(10) + 1} on{sizes}"]
    return [f"differs from byte {first(old, new)} on{sizes}"]


def fields(old: str, new: str) -> list[str]:
    """Differing "name = value" lines by name: "builddir: /a -> /b"; of names with many values those that came and went:
    "installed: -gcc-12.2-1-x86_64 +gcc-13.1-1-x86_64"."""
    was, now = _pairs(old), _pairs(new)
    found = []
    for name in dict.fromkeys((*was, *now)):
        before, after = was.get(name, Counter()), now.get(name, Counter())
        if before == after:
            continue
        if before.total() == after.total() == 1:
            found.append(f"{name}: {next(iter(before))} -> {next(iter(after))}")
            continue
        words = [f"-{value}" for value in before - after] + [f"+{value}" for value in after - before]
        more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
        found.append(f"{name}: {' '.join(words[:SHOWN])}{more}")
    return found or ["its lines are in another order"]


def _pairs(text: str) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for line in text.splitlines():
        name, equals, value = line.partition(" = ")
        if equals:
            found.setdefault(name, Counter())[value] += 1
    return found


def first(old: bytes, new: bytes) -> int:
    """Offset of the first byte that differs, of bytes that do; found by halves, for a vmlinux has 500 MB."""
    low, high = 0, min(len(old), len(new))
    if old[:high] == new[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if old[low:middle] == new[low:middle]:
            low = middle
        else:
            high = middle
    return low


def _few(lines: list[str]) -> list[str]:
    return lines if len(lines) <= SHOWN else [*lines[:SHOWN], f"and {len(lines) - SHOWN} sections more"]
