"""A patch file, taken apart: which files it touches and which lines it wants to find there.

Everything is parsed before anything is applied, and what is applied is written anew from what was parsed
(FilePatch.text), so what was checked and what git reads cannot differ. Accepted as patch(1) and git-apply(1) do:
git-format, mail (several in one file too), plain `diff -u`; text before and between diffs is skipped. Refused, with
the line: what patch(1) would guess at (context diffs, counts that do not fit) and paths that leave the tree.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from kbuild_tasks.core.errors import ConfigError
from kbuild_tasks.core.patchnames import quote

NO_NEWLINE = b"\\ No newline at end of file"


class PatchError(ConfigError):
    """A patch that cannot be read: `patch` is its name, `line` counts from 1 in the file."""

    def __init__(self, patch: str, line: int, what: str, hint: str | None = None) -> None:
        super().__init__(f"{patch}:{line}: {what}" if line else f"{patch} {what}", hint)
        self.patch = patch
        self.line = line


@dataclass(frozen=True)
class Hunk:
    """One @@ block. Starts count from 1 (0: before the first line, as diff -u writes for an empty side).

    lines       each with its first character (b" ", b"-", b"+", or a whole NO_NEWLINE), without its line end
    patch_line  line of the @@ in the patch file
    """

    old_start: int
    old_count: int
    new_start: int
    new_count: int
    lines: tuple[bytes, ...]
    patch_line: int

    @cached_property
    def before(self) -> tuple[bytes, ...]:
        """The lines it wants to find, each with its line end."""
        return _side(self.lines, b" -")

    @cached_property
    def after(self) -> tuple[bytes, ...]:
        """The lines it leaves in their place, each with its line end."""
        return _side(self.lines, b" +")

    @property
    def has_context(self) -> bool:
        return any(line[:1] == b" " for line in self.lines)

    def text(self) -> bytes:
        head = b"@@ -%d,%d +%d,%d @@" % (self.old_start, self.old_count, self.new_start, self.new_count)
        return b"".join(line + b"\n" for line in (head, *self.lines))


def _side(lines: tuple[bytes, ...], marks: bytes) -> tuple[bytes, ...]:
    found: list[bytes] = []
    mine = False
    for line in lines:
        if line == NO_NEWLINE:
            if mine:
                found[-1] = found[-1][:-1]
            continue
        mine = line[:1] in (bytes([m]) for m in marks)
        if mine:
            found.append(line[1:] + b"\n")
    return tuple(found)


@dataclass(frozen=True)
class FilePatch:
    """What a patch does to one file.

    old, new    path before and after, below the tree; None where there is no file on that side
    kind        add | delete | modify | rename | copy | mode
    old_mode, new_mode  as git writes them: "100644", "100755", "120000"; None: not told
    binary      the lines of a GIT binary patch, with its index line first; None: text
    patch_line  line of its header in the patch file
    certain     False: a plain diff that starts from an empty side without saying that there is no file
    """

    old: str | None
    new: str | None
    kind: str
    hunks: tuple[Hunk, ...]
    patch_line: int
    old_mode: str | None = None
    new_mode: str | None = None
    binary: tuple[bytes, ...] | None = None
    certain: bool = True

    @property
    def path(self) -> str:
        """The file by which a message names it: where it lies now, or will lie."""
        return self.old or self.new or ""

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(p for p in (self.old, self.new) if p))

    def text(self) -> bytes:
        """The same as git-apply(1) reads it, with -p1; nothing in it is left to guess."""
        old, new = self.old or self.new or "", self.new or self.old or ""
        body = b"".join(hunk.text() for hunk in self.hunks)
        names = b"--- %s\n+++ %s\n" % (
            b"/dev/null" if self.old is None and self.certain else quote("a/" + old),
            b"/dev/null" if self.new is None else quote("b/" + new),
        )
        if not self.certain:
            return names + body
        head = [b"diff --git %s %s" % (quote("a/" + old), quote("b/" + new))]
        if self.kind == "add":
            head.append(b"new file mode " + (self.new_mode or "100644").encode())
        elif self.kind == "delete":
            head.append(b"deleted file mode " + (self.old_mode or "100644").encode())
        elif self.old_mode and self.new_mode:
            head += [b"old mode " + self.old_mode.encode(), b"new mode " + self.new_mode.encode()]
        if self.kind in ("rename", "copy"):
            kind = self.kind.encode()
            head += [b"similarity index 50%", kind + b" from " + quote(old), kind + b" to " + quote(new)]
        if self.binary is not None:
            body, names = b"\n".join(self.binary) + b"\n", b""
        return b"\n".join(head) + b"\n" + ((names + body) if body else b"")


@dataclass(frozen=True)
class Patch:
    """A parsed patch file; `name` is for messages."""

    name: str
    files: tuple[FilePatch, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """All files that it touches, before and after, in its order."""
        return tuple(dict.fromkeys(path for file in self.files for path in file.paths))

    def rounds(self) -> tuple[tuple[FilePatch, ...], ...]:
        """What to apply one after the other; in each round no path occurs twice.

        One file may hold several mails that change the same path in turn: git-apply(1) reads each of its arguments
        on top of the one before, which is what is meant.
        """
        found: list[list[FilePatch]] = []
        taken: set[str] = set()
        for file in self.files:
            if not found or taken.intersection(file.paths):
                found.append([])
                taken = set()
            found[-1].append(file)
            taken.update(file.paths)
        return tuple(tuple(files) for files in found)


def text(files: tuple[FilePatch, ...]) -> bytes:
    """Several files as one input for git-apply(1)."""
    return b"".join(file.text() for file in files)
