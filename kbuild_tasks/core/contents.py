"""What is in a package, and what differs between two: names, sizes and digests, from the .MTREE that makepkg writes.

mtree(5): "/set key=value" gives defaults, then a line a file, its name with \\ooo for what is not plain. MOST files of
a package are kept (a distribution's headers have 25,000), what is beyond is counted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST = 60_000
OWN = (".BUILDINFO", ".PKGINFO", ".INSTALL", ".CHANGELOG")  # of the package format, none of the kernel's
_OCTAL = re.compile(r"\\([0-7]{3})")

Files = Mapping[str, Sequence[Any]]  # path -> (bytes, digest, or "-> TARGET" of a symbolic link)


def read_mtree(text: str) -> tuple[dict[str, tuple[int, str]], int]:
    """Files and links of a package, and how many more there are than MOST."""
    found: dict[str, tuple[int, str]] = {}
    defaults: dict[str, str] = {}
    more = 0
    for line in text.splitlines():
        name, *words = line.split() or [""]
        keys = dict(word.partition("=")[::2] for word in words)
        if name == "/set":
            defaults |= keys
        if not name.startswith("./"):
            continue
        keys = defaults | keys
        path = unquoted(name[2:])
        if path in OWN or keys.get("type", "file") not in ("file", "link"):
            continue
        if len(found) >= MOST:
            more += 1
        elif "link" in keys:
            found[path] = (0, f"-> {unquoted(keys['link'])}")
        else:
            size = keys.get("size", "0")
            found[path] = (int(size) if size.isdecimal() else 0, keys.get("sha256digest", "")[:16])
    return found, more


def unquoted(name: str) -> str:
    """A name of mtree(5) as text; bytes that are no UTF-8 as Python's escapes."""
    raw = _OCTAL.sub(lambda match: chr(int(match[1], 8) & 0xFF), name).encode("latin-1", "replace")
    return raw.decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class Difference:
    """added, removed: (path, bytes); changed: (path, bytes before, bytes now), the largest change first."""

    added: tuple[tuple[str, int], ...] = ()
    removed: tuple[tuple[str, int], ...] = ()
    changed: tuple[tuple[str, int, int], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def difference(before: Files, now: Files, releases: tuple[str, str] = ("", "")) -> Difference:
    """What became of the files of a package.

    releases  kernelrelease before and now: /usr/lib/modules/<release>/ is one place under two names
    """
    if releases[0] and releases[0] != releases[1]:
        before = {path.replace(f"/{releases[0]}/", f"/{releases[1]}/", 1): told for path, told in before.items()}
    changed = [
        (path, _size(before[path]), _size(now[path]))
        for path in now
        if path in before and list(before[path]) != list(now[path])
    ]
    return Difference(
        added=tuple((path, _size(now[path])) for path in sorted(now.keys() - before.keys())),
        removed=tuple((path, _size(before[path])) for path in sorted(before.keys() - now.keys())),
        changed=tuple(sorted(changed, key=lambda item: (-abs(item[2] - item[1]), item[0]))),
    )


def files(value: Any) -> dict[str, tuple[int, str]]:
    """The same from JSON; entries of another shape are passed over."""
    if not isinstance(value, Mapping):
        return {}
    return {
        str(path): (told[0], str(told[1]))
        for path, told in value.items()
        if isinstance(told, list | tuple) and len(told) == 2 and isinstance(told[0], int)
    }


def _size(told: Sequence[Any]) -> int:
    return int(told[0])
