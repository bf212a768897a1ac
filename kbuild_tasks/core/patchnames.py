"""File names in patches: quoted as git quotes them, stripped by one directory, and never leaving the tree.

git-diff-tree(1), "core.quotePath": a name with control characters, quotes or bytes above 0x7f is in double quotes,
with C escapes. diff(1) ends a name with a tab and a time.
"""

from __future__ import annotations

import re

NAME_BYTES, PATH_BYTES = 255, 4000  # path_resolution(7): NAME_MAX, and PATH_MAX with room for where the tree lies
_ESCAPES = {"a": 7, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13, '"': 34, "\\": 92}
_LETTERS = {code: letter for letter, code in _ESCAPES.items()}
_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(rb"\\([0-3][0-7]{2}|.)")
# diff(1) after the name: ISO time, or ctime; what is behind a tab is a time in any case.
_TIME = re.compile(rb"(?:\t| +(?=\d{4}-\d\d-\d\d \d\d:\d\d|(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} )).*$")
_EPOCH = re.compile(rb"(19(?:69-12-31|70-01-01)) (\d\d):(\d\d):00(?:\.0+)?(?: ([-+])(\d\d):?(\d\d))?\s*$")


_RELATIVE = "make it again in the top directory of the source: git diff, or diff -ru a b"
_OUT = "take this file out of the patch: a patch changes files of the kernel's source only"
_RENAME = "give the file another name, and make the patch again"


class BadName(ValueError):
    """A name that is refused; the text is the rest of a sentence that starts with the patch."""

    def __init__(self, text: str, hint: str | None = None) -> None:
        super().__init__(text)
        self.hint = hint


def quote(path: str) -> bytes:
    """`path` as git writes it in a header: in quotes where it has to be."""
    raw = path.encode("utf-8", "surrogateescape")
    if all(0x20 <= c < 0x7F and c not in b'"\\' for c in raw):
        return raw
    out = bytearray(b'"')
    for c in raw:
        if c in _LETTERS:
            out += b"\\" + _LETTERS[c].encode()
        elif 0x20 <= c < 0x7F:
            out.append(c)
        else:
            out += b"\\%03o" % c
    return bytes(out + b'"')


def unquote(raw: bytes) -> tuple[bytes, bytes]:
    """A quoted name at the start of `raw` -> (name, rest)."""
    match = _QUOTED.match(raw)
    if not match:
        raise BadName("has a file name with a quote that does not end")
    return _ESCAPE.sub(_unescape, match[1]), raw[match.end() :]


def _unescape(match: re.Match[bytes]) -> bytes:
    code = match[1]
    if len(code) == 3:
        return bytes([int(code, 8)])
    letter = code.decode("latin-1")
    if letter not in _ESCAPES:
        raise BadName(f"has a file name with the unknown escape \\{letter}")
    return bytes([_ESCAPES[letter]])


def from_header(raw: bytes) -> tuple[bytes, bool]:
    """What follows `--- ` or `+++ ` -> (name, whether the time behind it is the epoch: the file is not there)."""
    if raw.startswith(b'"'):
        return unquote(raw)[0], False
    found = _TIME.search(raw)
    return (raw[: found.start()] if found else raw).rstrip(b" "), bool(found and _is_epoch(found[0].strip()))


def _is_epoch(time: bytes) -> bool:
    """Whether a time of diff -u is 1970-01-01 00:00:00 UTC, in whatever zone it is written."""
    match = _EPOCH.match(time)
    if not match:
        return False
    day, hour, minute, sign, zone_hour, zone_minute = match.groups()
    local = (int(hour) * 60 + int(minute)) - (1440 if day == b"1969-12-31" else 0)
    ahead = (int(zone_hour) * 60 + int(zone_minute)) * (-1 if sign == b"-" else 1) if sign else 0
    return local == ahead


def strip(raw: bytes) -> str:
    """One directory off, as -p1 does, and checked. Raises BadName."""
    head, slash, rest = raw.partition(b"/")
    if not head:
        raise BadName(f"names the absolute path {show(raw)}", _RELATIVE)
    rest = rest.lstrip(b"/")
    if not slash or not rest:
        raise BadName(f"names {show(raw)}, which has no directory to strip (patches are applied with -p1)")
    return inside(rest)


def inside(raw: bytes) -> str:
    """A path below the tree, or refused: absolute, with "..", ".git", or letters that no source file has."""
    try:
        path = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise BadName(f"names {show(raw)}, which is not UTF-8") from None
    parts = path.split("/")
    if path.startswith("/"):
        raise BadName(f"names the absolute path {show(raw)}", _RELATIVE)
    if ".." in parts:
        raise BadName(f"names {show(raw)}, which leaves the tree", _OUT)
    if any(part.lower() == ".git" for part in parts):
        raise BadName(f"names {show(raw)}: with a .git in the tree, kbuild would change the release", _OUT)
    if "\n" in path or "\r" in path or "\0" in path:
        raise BadName(f"names {show(raw)}: a line end in a file name", _RENAME)
    if any(part in ("", ".") for part in parts):
        raise BadName(f"names {show(raw)}, which is not a plain path")
    if len(raw) > PATH_BYTES or any(len(part) > NAME_BYTES for part in raw.split(b"/")):
        raise BadName(f"names {show(raw[:40])}..., which is too long for a file name")
    return path


def show(raw: bytes) -> str:
    """A name as a message shows it: on one line, whatever is in it."""
    return quote(raw.decode("utf-8", "surrogateescape")).decode()


def from_diff_line(raw: bytes) -> str | None:
    """The one name in `diff --git A B` (what follows the second word), where both sides are the same file.

    None where it cannot be told: then rename or ---/+++ lines have to say it.
    """
    if raw.startswith(b'"'):
        first, rest = unquote(raw)
        rest = rest[1:]
        second = unquote(rest)[0] if rest.startswith(b'"') else rest
        return strip(first) if first.partition(b"/")[2] == second.partition(b"/")[2] else None
    if raw.endswith(b'"') and b' "' in raw:
        at = raw.index(b' "')
        first, second = raw[:at], unquote(raw[at + 1 :])[0]
        return strip(first) if first.partition(b"/")[2] == second.partition(b"/")[2] else None
    for at in (i for i, c in enumerate(raw) if c == 0x20):
        first, second = raw[:at], raw[at + 1 :]
        if first.partition(b"/")[2] == second.partition(b"/")[2] and b"/" in first:
            return strip(first)
    return None
