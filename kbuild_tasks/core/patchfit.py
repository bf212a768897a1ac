"""Why a patch does not fit a file: the hunk, the line, what was expected there and what was found.

git-apply(1) says only "patch does not apply". So its search is done again here, the same way (a hunk fits where all
of its old lines stand, nearest to where it says), and where that fails the place is taken where most of its lines
stand: there the first line that differs is the answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from kbuild_tasks.core.patchfile import FilePatch, Hunk

COMMON = 500  # a line that stands in more places ("}") says nothing about where a hunk belongs


@dataclass(frozen=True)
class Misfit:
    """The first hunk that does not fit.

    number, of       hunk 2 of 3
    start            line where the hunk belongs, in the file as it is
    line             line that differs, in the file as it is; one past the end: the file ends too early
    expected, found  the two lines without line ends, undecodable bytes escaped; found is None past the end
    note             what else can be told of the difference, or ""
    """

    number: int
    of: int
    start: int
    line: int
    expected: str
    found: str | None
    note: str = ""


def first_misfit(content: bytes, file: FilePatch) -> Misfit | None:
    """The first hunk of `file` that does not fit `content`; None: all fit."""
    lines = _lines(content)
    offset = 0
    for number, hunk in enumerate(file.hunks, start=1):
        nominal = max(hunk.old_start - (1 if hunk.old_count else 0), 0) + offset
        at = _find(lines, hunk.before, nominal)
        if at is None:
            return _misfit(lines, hunk, number, len(file.hunks), nominal)
        lines[at : at + len(hunk.before)] = hunk.after
        offset += at - nominal + len(hunk.after) - len(hunk.before)
    return None


def _lines(content: bytes) -> list[bytes]:
    """Lines with their ends; only a newline ends one (splitlines would take a carriage return too)."""
    lines = [line + b"\n" for line in content.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _find(lines: Sequence[bytes], wanted: Sequence[bytes], nominal: int) -> int | None:
    """Where all of `wanted` stands, nearest to `nominal`."""
    last = len(lines) - len(wanted)
    if not wanted:
        return min(nominal, len(lines))
    places = (at for at in range(last + 1) if lines[at] == wanted[0] and tuple(lines[at : at + len(wanted)]) == wanted)
    return min(places, key=lambda at: abs(at - nominal), default=None)


def _misfit(lines: Sequence[bytes], hunk: Hunk, number: int, of: int, nominal: int) -> Misfit:
    at = _best_place(lines, hunk.before, nominal)
    for i, expected in enumerate(hunk.before):
        found = lines[at + i] if at + i < len(lines) else None
        if found != expected:
            break
    note = _note(expected, found)
    if not hunk.has_context and len(hunk.before) != len(lines):
        note = "the hunk has no context lines: make the patch again with diff -U3"
    elif _find(lines, hunk.after, at) is not None and hunk.after:
        place = (_find(lines, hunk.after, at) or 0) + 1
        note = f"what the hunk makes stands already at line {place}"
    return Misfit(number, of, at + 1, at + i + 1, _text(expected), None if found is None else _text(found), note)


def _best_place(lines: Sequence[bytes], wanted: Sequence[bytes], nominal: int) -> int:
    """Where most of the wanted lines stand; ties go to the place nearest to `nominal`."""
    where: dict[bytes, list[int]] = {line: [] for line in wanted}
    for number, line in enumerate(lines):
        if line in where:
            where[line].append(number)
    votes: Counter[int] = Counter()
    for i, line in enumerate(wanted):
        if len(where[line]) <= COMMON:
            votes.update(number - i for number in where[line] if number >= i)
    if not votes:
        return min(nominal, len(lines))
    return min(votes, key=lambda at: (-votes[at], abs(at - nominal)))


def _note(expected: bytes, found: bytes | None) -> str:
    if found is None:
        return "the file ends before it"
    if found.rstrip(b"\r\n") == expected.rstrip(b"\r\n"):
        if found.endswith(b"\r\n") != expected.endswith(b"\r\n"):
            who = ("file", "patch") if found.endswith(b"\r\n") else ("patch", "file")
            return f"the {who[0]} has CRLF line ends, the {who[1]} has not"
        return "only the newline at the end of the file differs"
    if b"".join(found.split()) == b"".join(expected.split()):
        return "only white space differs"
    return ""


def _text(line: bytes) -> str:
    return line.rstrip(b"\r\n").decode("utf-8", "backslashreplace")
