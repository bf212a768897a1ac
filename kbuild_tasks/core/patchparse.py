"""parse_patch: the reader of diffs. One pass over the lines; every number in a message is a line of the patch file."""

from __future__ import annotations

import re
from collections.abc import Callable

from kbuild_tasks.core.patchfile import NO_NEWLINE, FilePatch, Hunk, Patch, PatchError
from kbuild_tasks.core.patchnames import BadName, from_diff_line, from_header, inside, show, strip, unquote
from kbuild_tasks.core.patchtext import read_lines

_HUNK = re.compile(rb"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@")
_MODE = re.compile(rb"(old mode|new mode|deleted file mode|new file mode) (\d{6})\s*$")
_MOVE = re.compile(rb"(rename|copy) (from|to|old|new) (.*)$")
_INDEX = re.compile(rb"index ([0-9a-f]+)\.\.([0-9a-f]+)(?: \d{6})?\s*$")
_OTHER = re.compile(rb"(?:similarity|dissimilarity) index \d+%\s*$")
_MODES = ("100644", "100755", "120000")
ODD_MODE = "take it out of the patch (160000 is a submodule: bring its files), or make it 100644 or 100755"
AGAIN = "make it again: git diff --binary --full-index, or git format-patch"


def parse_patch(name: str, data: bytes) -> Patch:
    """Take a patch file apart. Raises PatchError (a ConfigError) that names the patch and the line."""
    return Patch(name, _Reader(name, read_lines(name, data)).files())


class _Reader:
    def __init__(self, name: str, lines: list[bytes]) -> None:
        self.name = name
        self.lines = lines
        self.at = 0  # index of the line to read next

    def line(self, ahead: int = 0) -> bytes:
        return self.lines[self.at + ahead] if self.at + ahead < len(self.lines) else b""

    def error(self, what: str, hint: str | None = None, at: int | None = None) -> PatchError:
        return PatchError(self.name, (self.at if at is None else at) + 1, what, hint)

    def path(self, read: Callable[[bytes], str], raw: bytes) -> str:
        try:
            return read(raw)
        except BadName as refused:
            raise self.error(str(refused), refused.hint) from None

    def files(self) -> tuple[FilePatch, ...]:
        found: list[FilePatch] = []
        while self.at < len(self.lines):
            line = self.line()
            if line.startswith(b"diff --git "):
                found.append(self.git_file())
            elif line.startswith(b"--- ") and self.line(1).startswith(b"+++ "):
                found.append(self.plain_file())
            else:
                self.refuse_if_lost(line)
                self.at += 1
        if not found:
            raise PatchError(self.name, 0, "has no diff in it", "take it out of the series, or copy the patch again")
        return tuple(found)

    def refuse_if_lost(self, line: bytes) -> None:
        """Lines outside of any diff are prose, but for those that only a diff of a kind we cannot apply has."""
        if _HUNK.match(line):
            raise self.error("a hunk without ---/+++ lines before it", AGAIN)
        if line.startswith((b"diff --cc ", b"diff --combined ")):
            raise self.error("is the diff of a merge, which cannot be applied", "git format-patch leaves merges out")
        if line.startswith(b"*** ") and self.line(1).startswith(b"--- ") and self.line(2).startswith(b"*****"):
            raise self.error("is a context diff", "make it again with diff -u")
        if re.match(rb"Binary files .* and .* differ\s*$", line):
            raise self.error("says only that a binary file differs", AGAIN)

    def plain_file(self) -> FilePatch:
        start = self.at
        (old, old_gone), (new, new_gone) = self.header_names()
        hunks = self.hunks()
        if not hunks:
            raise self.error("---/+++ lines without a hunk after them", AGAIN, at=start)
        alone = hunks[0] if len(hunks) == 1 else None
        adds = alone is not None and alone.old_count == 0 and alone.old_start == 0
        deletes = alone is not None and alone.new_count == 0 and alone.new_start == 0
        if old is None and new is None:
            raise self.error("both sides are /dev/null", AGAIN, at=start)
        if (old is None or old_gone) and adds:
            return FilePatch(None, new or old, "add", hunks, start + 1)
        if (new is None or new_gone) and deletes:
            return FilePatch(old or new, None, "delete", hunks, start + 1)
        if old is None or new is None:
            raise self.error("a file is added or deleted, but its hunk holds lines of both sides", AGAIN, at=start)
        path = _same_file(old, new)
        return FilePatch(path, path, "add" if adds else "modify", hunks, start + 1, certain=not adds)

    def header_names(self) -> tuple[tuple[str | None, bool], tuple[str | None, bool]]:
        """The two lines --- and +++: (path or None for /dev/null, time is the epoch) of each."""
        sides: list[tuple[str | None, bool]] = []
        for _ in range(2):
            try:
                raw, gone = from_header(self.line()[4:])
                sides.append((None if raw == b"/dev/null" else strip(raw), gone))
            except BadName as refused:
                raise self.error(str(refused), refused.hint) from None
            self.at += 1
        return sides[0], sides[1]

    def git_file(self) -> FilePatch:
        start = self.at
        header = self.line()[len(b"diff --git ") :]
        both = self.path(lambda raw: from_diff_line(raw) or "", header)
        self.at += 1
        modes, moves, index = self.extended()
        kind = "add" if "new file mode" in modes else "delete" if "deleted file mode" in modes else "modify"
        old = new = both or None
        if moves:
            kind = moves["kind"]
            old, new = moves.get("from"), moves.get("to")
        hunks: tuple[Hunk, ...] = ()
        binary: tuple[bytes, ...] | None = None
        if self.line().startswith(b"--- ") and self.line(1).startswith(b"+++ "):
            (first, _), (second, _) = self.header_names()
            self.same_name(start, header, both, first, second)
            old, new = (old or first, new or second) if moves else (first, second)
            kind = "add" if first is None else "delete" if second is None else kind
            hunks = self.hunks()
            if not hunks:
                raise self.error("---/+++ lines without a hunk after them", AGAIN, at=start)
        elif self.line().rstrip() == b"GIT binary patch":
            binary = self.binary(index, start)
        elif re.match(rb"Binary files .* and .* differ\s*$", self.line()):
            raise self.error("says only that a binary file differs", AGAIN)
        if kind == "add":
            old = None
        if kind == "delete":
            new = None
        if (old or new) is None or (kind in ("modify", "rename", "copy") and (old is None or new is None)):
            raise self.error(f"which file is meant cannot be told from: diff --git {show(header)}", AGAIN, at=start)
        old_mode = modes.get("old mode") or modes.get("deleted file mode")
        new_mode = modes.get("new mode") or modes.get("new file mode")
        if kind == "modify" and not hunks and binary is None:
            if not (old_mode and new_mode):
                raise self.error("a diff --git line with no change after it", AGAIN, at=start)
            kind = "mode"
        self.check_sides(kind, hunks, start)
        return FilePatch(old, new, kind, hunks, start + 1, old_mode, new_mode, binary)

    def same_name(self, start: int, header: bytes, both: str, first: str | None, second: str | None) -> None:
        names = {name for name in (first, second) if name}
        if not names or (both and names != {both}):
            raise self.error(f"the ---/+++ lines name another file than diff --git {show(header)}", AGAIN, at=start)

    def check_sides(self, kind: str, hunks: tuple[Hunk, ...], start: int) -> None:
        if kind == "add" and any(h.old_count for h in hunks):
            raise self.error("a new file cannot have old lines", AGAIN, at=start)
        if kind == "delete" and any(h.new_count for h in hunks):
            raise self.error("a deleted file cannot have new lines", AGAIN, at=start)

    def extended(self) -> tuple[dict[str, str], dict[str, str], bytes]:
        """git's extended header lines (git-diff(1), "Generating patch text with -p")."""
        modes: dict[str, str] = {}
        moves: dict[str, str] = {}
        index = b""
        while self.at < len(self.lines):
            line = self.line()
            if match := _MODE.match(line):
                modes[match[1].decode()] = mode = match[2].decode()
                if mode not in _MODES:
                    raise self.error(f"file mode {mode}: only files and symbolic links can be patched", ODD_MODE)
            elif match := _MOVE.match(line):
                moves["kind"] = match[1].decode()
                side = {b"old": "from", b"new": "to"}.get(match[2], match[2].decode())
                moves[side] = self.path(_moved, match[3])
            elif _INDEX.match(line):
                index = line.rstrip()
            elif not _OTHER.match(line):
                break
            self.at += 1
        return modes, moves, index

    def binary(self, index: bytes, start: int) -> tuple[bytes, ...]:
        match = _INDEX.match(index)
        if not match or len(match[1]) not in (40, 64) or len(match[2]) != len(match[1]):
            raise self.error("a binary file without the full index line that git needs", AGAIN, at=start)
        kept = [index, b"GIT binary patch"]
        self.at += 1
        blocks = 0
        while re.match(rb"(?:literal|delta) \d+\s*$", self.line()):
            blocks += 1
            while self.line().strip():
                kept.append(self.line().rstrip())
                self.at += 1
            if self.at >= len(self.lines):
                raise self.error("ends in the middle of a binary file", "copy the patch again, whole", at=start)
            kept.append(b"")
            self.at += 1
        if not blocks:
            raise self.error("a binary file with no data after it", AGAIN, at=start)
        return tuple(kept)

    def hunks(self) -> tuple[Hunk, ...]:
        found: list[Hunk] = []
        while self.line().startswith(b"@@ "):
            found.append(self.hunk(len(found) + 1))
        return tuple(found)

    def hunk(self, number: int) -> Hunk:
        start = self.at
        match = _HUNK.match(self.line())
        if not match:
            raise self.error("an @@ line that cannot be read: " + show(self.line()[:60]), AGAIN)
        old_start, new_start = int(match[1]), int(match[3])
        want = [1 if match[2] is None else int(match[2]), 1 if match[4] is None else int(match[4])]
        have, lines = [0, 0], list[bytes]()
        self.at += 1
        while have != want and self.at < len(self.lines):
            line = self.line() or b" "  # an editor took the blank of an empty context line away
            mark = line[:1]
            if mark not in (b" ", b"-", b"+", b"\\") or (mark == b"\\" and not lines):
                break
            step = [have[0] + (mark in (b" ", b"-")), have[1] + (mark in (b" ", b"+"))]
            if step[0] > want[0] or step[1] > want[1]:
                break
            have = step
            lines.append(NO_NEWLINE if mark == b"\\" else line)
            self.at += 1
        if have == want and self.line().startswith(b"\\ "):
            lines.append(NO_NEWLINE)
            self.at += 1
        # "-- " starts a mail's signature, "--- " the next file.
        more = self.line()[:1] in (b" ", b"+", b"-") and not re.match(rb"--(?:-| ?$|- )", self.line())
        if have != want or more:
            self.at = start
            has = "more follow" if have == want else f"{have[0]} and {have[1]} follow"
            raise self.error(
                f"hunk {number} says {want[0]} old and {want[1]} new lines, but {has}: cut off, or edited by hand",
                "copy the patch again, whole, or make it again with git diff",
            )
        if not any(line[:1] in (b"-", b"+") for line in lines):
            raise self.error(f"hunk {number} changes nothing", AGAIN, at=start)
        return Hunk(old_start, want[0], new_start, want[1], tuple(lines), start + 1)


def _moved(raw: bytes) -> str:
    return inside(unquote(raw)[0] if raw.startswith(b'"') else raw)


def _same_file(old: str, new: str) -> str:
    """The file that a plain diff means: `x.orig` beside `x` is somebody's backup (as git-apply(1) takes it)."""
    return old if new.startswith(old) else new
