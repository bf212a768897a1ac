"""parse_patch: formats, what mail and editors do to patches, and what is refused. Expected values by hand."""

from __future__ import annotations

import base64
import quopri

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbuild_tasks.core.patchfile import NO_NEWLINE, FilePatch, Hunk, PatchError, text
from kbuild_tasks.core.patchparse import parse_patch

HUNK = b"@@ -1,3 +1,4 @@ int x;\n a\n-b\n+B\n+c\n d\n"
GIT = b"diff --git a/kernel/fork.c b/kernel/fork.c\nindex 1111111..2222222 100644\n"
GIT += b"--- a/kernel/fork.c\n+++ b/kernel/fork.c\n"
PARSED = Hunk(1, 3, 1, 4, (b" a", b"-b", b"+B", b"+c", b" d"), 0)


def one(data: bytes) -> FilePatch:
    (file,) = parse_patch("x.patch", data).files
    return file


def same_hunk(hunk: Hunk, other: Hunk) -> bool:
    return (hunk.old_start, hunk.old_count, hunk.new_start, hunk.new_count, hunk.lines) == (
        other.old_start,
        other.old_count,
        other.new_start,
        other.new_count,
        other.lines,
    )


@pytest.mark.parametrize(
    "data",
    [
        GIT + HUNK,
        b"From 0123 Mon Sep 17 00:00:00 2001\nFrom: A <a@b>\nSubject: [PATCH] x\n\nWhy\n---\n kernel/fork.c | 3 +-\n\n"
        + GIT
        + HUNK
        + b"-- \n2.39.5\n\n",
        b"--- a/kernel/fork.c\n+++ b/kernel/fork.c\n" + HUNK,
        b"--- linux-6.1.orig/kernel/fork.c\t2024-01-02 03:04:05.000000000 +0100\n"
        b"+++ linux-6.1/kernel/fork.c\t2024-01-02 03:05:05.000000000 +0100\n" + HUNK,
        b"--- a/kernel/fork.c 2024-01-02 03:04:05\n+++ b/kernel/fork.c\tTue Jan  2 03:04:05 2024\n" + HUNK,
        b"--- a/kernel/fork.c.orig\n+++ b/kernel/fork.c\n" + HUNK,
        b"Index: linux/kernel/fork.c\n=====\n--- linux.orig/kernel/fork.c\n+++ linux/kernel/fork.c\n" + HUNK,
        b"\xef\xbb\xbf" + GIT + HUNK,
        (GIT + HUNK).replace(b"\n", b"\r\n"),
        GIT + HUNK.rstrip(b"\n"),
        b'diff --git "a/kernel/fork.c" "b/kernel/fork.c"\n--- "a/kernel/fork.c"\n+++ "b/kernel/fork.c"\n' + HUNK,
        b"diff -ruN a/kernel/fork.c b/kernel/fork.c\n--- a/kernel/fork.c\n+++ b/kernel/fork.c\n" + HUNK,
        b"diff --git i/kernel/fork.c w/kernel/fork.c\n--- i/kernel/fork.c\n+++ w/kernel/fork.c\n" + HUNK,
    ],
)
def test_one_change_in_many_dresses(data):
    file = one(data)
    assert (file.old, file.new, file.kind) == ("kernel/fork.c", "kernel/fork.c", "modify")
    assert len(file.hunks) == 1
    assert same_hunk(file.hunks[0], PARSED)


def test_lines_of_headers_and_hunks_are_those_of_the_file():
    patch = parse_patch("x.patch", b"Subject: x\n\n" + GIT + HUNK + b"@@ -20 +21 @@\n-x\n+y\n")
    (file,) = patch.files
    assert (file.patch_line, [h.patch_line for h in file.hunks]) == (3, [7, 13])


def test_an_empty_context_line_without_its_blank_is_one():
    assert one(GIT + b"@@ -1,3 +1,3 @@\n a\n\n-b\n+c\n").hunks[0].lines == (b" a", b" ", b"-b", b"+c")


def test_no_newline_at_the_end_on_either_side():
    body = b"@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+c\n"
    hunk = one(GIT + body).hunks[0]
    assert hunk.before == (b"a\n", b"b")
    assert hunk.after == (b"a\n", b"c\n")
    hunk = one(GIT + b"@@ -1 +1 @@\n-b\n+c\n\\ Kein Zeilenumbruch am Dateiende.\n").hunks[0]
    assert hunk.before == (b"b\n",)
    assert hunk.after == (b"c",)
    assert hunk.lines[-1] == NO_NEWLINE


def test_carriage_returns_of_a_crlf_source_file_stay():
    data = GIT + b"@@ -1,2 +1,2 @@\n a\r\n-b\r\n+c\r\n"
    assert one(data).hunks[0].lines == (b" a\r", b"-b\r", b"+c\r")


def test_a_removed_line_that_looks_like_a_header_is_a_line():
    data = GIT + b"@@ -1,3 +1,2 @@\n a\n--- old comment\n b\n"
    assert one(data).hunks[0].lines == (b" a", b"--- old comment", b" b")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"--- /dev/null\n+++ b/new.c\n@@ -0,0 +1 @@\n+x\n", (None, "new.c", "add", True)),
        (
            b"--- a/new.c\t1970-01-01 01:00:00.000000000 +0100\n+++ b/new.c\t2024-01-01 00:00:00 +0000\n"
            b"@@ -0,0 +1 @@\n+x\n",
            (None, "new.c", "add", True),
        ),
        (
            b"--- a/new.c\t1969-12-31 19:00:00 -0500\n+++ b/new.c\t2024-01-01 00:00:00 +0000\n@@ -0,0 +1 @@\n+x\n",
            (None, "new.c", "add", True),
        ),
        (b"--- a/new.c\n+++ b/new.c\n@@ -0,0 +1 @@\n+x\n", ("new.c", "new.c", "add", False)),
        (b"--- a/old.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n", ("old.c", None, "delete", True)),
        (
            b"--- a/old.c\t2024-01-01 00:00:00 +0000\n+++ b/old.c\t1970-01-01 00:00:00.000000000 +0000\n"
            b"@@ -1 +0,0 @@\n-x\n",
            ("old.c", None, "delete", True),
        ),
        (
            b"diff --git a/e b/e\nnew file mode 100644\nindex 0000000..e69de29\n",
            (None, "e", "add", True),
        ),
        (
            b"diff --git a/e f b/e f\ndeleted file mode 100755\nindex e69de29..0000000\n",
            ("e f", None, "delete", True),
        ),
        (
            b"diff --git a/s.sh b/s.sh\nold mode 100644\nnew mode 100755\n",
            ("s.sh", "s.sh", "mode", True),
        ),
        (
            b"diff --git a/d/a.c b/d/b.c\nsimilarity index 100%\nrename from d/a.c\nrename to d/b.c\n",
            ("d/a.c", "d/b.c", "rename", True),
        ),
        (
            b"diff --git a/d/a.c b/d/b.c\nsimilarity index 100%\ncopy from d/a.c\ncopy to d/b.c\n",
            ("d/a.c", "d/b.c", "copy", True),
        ),
        (
            b'diff --git "a/tab\\there" "b/tab\\there"\nold mode 100644\nnew mode 100755\n',
            ("tab\there", "tab\there", "mode", True),
        ),
        (
            b'--- "a/\\303\\244.c"\n+++ "b/\\303\\244.c"\n' + HUNK,
            ("ä.c", "ä.c", "modify", True),
        ),
        (
            b"--- a/with space.c\t2024-01-01 00:00:00 +0000\n+++ b/with space.c\t2024-01-01 00:00:00 +0000\n" + HUNK,
            ("with space.c", "with space.c", "modify", True),
        ),
    ],
)
def test_kinds(data, expected):
    file = one(data)
    assert (file.old, file.new, file.kind, file.certain) == expected


def test_rename_with_a_change_and_a_mode():
    file = one(
        b"diff --git a/a.sh b/b.sh\nold mode 100644\nnew mode 100755\nsimilarity index 60%\n"
        b"rename from a.sh\nrename to b.sh\nindex 11..22\n--- a/a.sh\n+++ b/b.sh\n" + HUNK
    )
    assert (file.old, file.new, file.kind) == ("a.sh", "b.sh", "rename")
    assert (file.old_mode, file.new_mode, len(file.hunks)) == ("100644", "100755", 1)


BINARY = (
    b"diff --git a/logo.bin b/logo.bin\nindex "
    + b"1" * 40
    + b".."
    + b"2" * 40
    + b" 100644\nGIT binary patch\nliteral 4\nLcmZQzWMT#Y01f~L\n\nliteral 3\nKcmZQzWMTjS000O9\n\n"
)


def test_binary_blocks_are_kept_as_they_are():
    file = one(BINARY + b"-- \n2.39.5\n")
    assert (file.old, file.kind) == ("logo.bin", "modify")
    assert file.binary is not None
    assert file.binary[1:5] == (b"GIT binary patch", b"literal 4", b"LcmZQzWMT#Y01f~L", b"")
    assert text((file,)).endswith(b"literal 3\nKcmZQzWMTjS000O9\n\n")


def test_several_mails_in_one_file_are_rounds():
    mail = b"From 0123 Mon Sep 17 00:00:00 2001\nFrom: A <a@b>\nSubject: x\n\nWhy\n---\n"
    other = GIT.replace(b"kernel/fork.c", b"kernel/exit.c")
    patch = parse_patch("x.mbox", mail + GIT + HUNK + b"-- \n2.39\n\n" + mail + other + HUNK + GIT + HUNK)
    assert [[f.path for f in files] for files in patch.rounds()] == [
        ["kernel/fork.c", "kernel/exit.c"],
        ["kernel/fork.c"],
    ]
    assert patch.paths == ("kernel/fork.c", "kernel/exit.c")


@pytest.mark.parametrize(
    ("name", "encode"), [("base64", base64.encodebytes), ("quoted-printable", quopri.encodestring)]
)
def test_an_encoded_mail_among_others_is_decoded(name, encode):
    head = b"From 0123 Mon Sep 17 00:00:00 2001\nSubject: x\nMIME-Version: 1.0\nContent-Transfer-Encoding: %s\n\n"
    body = b"Why =\n---\n" + GIT + HUNK.replace(b"+c\n", b"+\xc3\xa4 = c\n")
    plain = b"From 0123 Mon Sep 17 00:00:00 2001\nSubject: y\n\n" + GIT.replace(b"fork", b"exit") + HUNK
    patch = parse_patch("x.mbox", plain + b"\n" + head % name.encode() + encode(body) + b"\n" + plain)
    assert [f.path for f in patch.files] == ["kernel/exit.c", "kernel/fork.c", "kernel/exit.c"]
    assert patch.files[1].hunks[0].lines == (b" a", b"-b", b"+B", b"+\xc3\xa4 = c", b" d")


PLAIN = b"--- a/f\n+++ b/f\n"


@pytest.mark.parametrize(
    ("data", "line", "message"),
    [
        (b"", 0, "is empty"),
        (b" \n\n", 0, "is empty"),
        (b"Subject: nothing\n\nreally\n", 0, "has no diff in it"),
        (b"<!DOCTYPE html>\n<html>" + GIT + HUNK, 0, "is a web page, not a patch"),
        (b"\n<HTML><head>", 0, "is a web page, not a patch"),
        (b"\x1f\x8b\x08\x00", 0, "is compressed"),
        ((GIT + HUNK).decode().encode("utf-16"), 0, "is UTF-16 text"),
        (PLAIN + b"@@ -1,3 +1,4 @@\n a\n-b\n+B\n", 3, "hunk 1 says 3 old and 4 new lines, but 2 and 2 follow"),
        (GIT + HUNK + b"+more\n", 5, "hunk 1 says 3 old and 4 new lines, but more follow"),
        (GIT + HUNK + b"@@ -9,2 +9,2 @@\n-x\n\n+y\n+z\n+z\n", 11, "hunk 2 says 2 old and 2 new lines, but more follow"),
        (PLAIN + b"@@ -1,2 +1,2 @@\n-a\n+b\nlost its blank\n", 3, "hunk 1 says 2 old and 2 new lines, but 1 and 1"),
        (PLAIN + b"@@ -a,b +c @@\n x\n", 3, "an @@ line that cannot be read"),
        (PLAIN + b"@@ -1 +1 @@\n x\n", 3, "hunk 1 changes nothing"),
        (HUNK, 1, "a hunk without ---/+++ lines before it"),
        (PLAIN, 1, "---/+++ lines without a hunk after them"),
        (GIT, 1, "---/+++ lines without a hunk after them"),
        (b"diff --git a/f b/f\nindex 11..22 100644\n", 1, "a diff --git line with no change after it"),
        (b"diff --git a/f b/g\nold mode 100644\nnew mode 100755\n", 1, "which file is meant cannot be told"),
        (b"diff --git a/f b/f\n--- a/g\n+++ b/g\n" + HUNK, 1, "the ---/+++ lines name another file than"),
        (b"diff --cc f\nindex 1,2..3\n", 1, "is the diff of a merge"),
        (b"*** a/f\t2024\n--- b/f\t2024\n***************\n", 1, "is a context diff"),
        (b"Binary files a/f and b/f differ\n", 1, "says only that a binary file differs"),
        (b"diff --git a/f b/f\nindex 11..22\nBinary files a/f and b/f differ\n", 3, "says only that a binary file"),
        (b"diff --git a/f b/f\nindex 11..22\nGIT binary patch\nliteral 1\nIc\n\n", 1, "a binary file without the full"),
        (BINARY[: BINARY.index(b"Y01f")], 1, "ends in the middle of a binary file"),
        (b"diff --git a/f b/f\nnew file mode 160000\n", 2, "file mode 160000: only files and symbolic links"),
        (b"--- a/f\n+++ /dev/null\n" + HUNK, 1, "a file is added or deleted, but its hunk holds lines of both"),
        (b"diff --git a/f b/f\nnew file mode 100644\n--- /dev/null\n+++ b/f\n" + HUNK, 1, "a new file cannot have old"),
        (b"--- /etc/passwd\n+++ /etc/passwd\n" + HUNK, 1, "names the absolute path /etc/passwd"),
        (b"--- a//etc/passwd\n+++ b//etc/passwd.\n" + HUNK.replace(b"@@ -1", b"@@ -a"), 3, "an @@ line that cannot"),
        (b"--- a/../../etc/passwd\n+++ b/../../etc/passwd\n" + HUNK, 1, "names ../../etc/passwd, which leaves"),
        (b"--- a/x\n+++ b/x/../../y\n" + HUNK, 2, "names x/../../y, which leaves the tree"),
        (b"--- a/.git/hooks/x\n+++ b/.git/hooks/x\n" + HUNK, 1, "names .git/hooks/x: with a .git in the tree"),
        (b"--- a/d/.GIT/x\n+++ b/d/.GIT/x\n" + HUNK, 1, "names d/.GIT/x: with a .git in the tree"),
        (b"--- fork.c\n+++ fork.c\n" + HUNK, 1, "names fork.c, which has no directory to strip"),
        (b'--- "a/x\\ny"\n+++ "b/x\\ny"\n' + HUNK, 1, 'names "x\\ny": a line end in a file name'),
        (b'--- "a/x\\q"\n+++ "b/x\\q"\n' + HUNK, 1, "has a file name with the unknown escape"),
        (b'--- "a/x\n+++ "b/x\n' + HUNK, 1, "has a file name with a quote that does not end"),
        (b"--- a/\xff.c\n+++ b/\xff.c\n" + HUNK, 1, 'names "\\377.c", which is not UTF-8'),
        (
            b"--- a/" + b"x" * 256 + b"\n+++ b/x\n" + HUNK,
            1,
            "names " + "x" * 40 + "..., which is too long for a file name",
        ),
        (b"--- a/x\n+++ b" + b"/xx" * 1400 + b"\n" + HUNK, 2, "names " + ("xx/" * 14)[:40] + "..., which is too long"),
        (b"diff --git a/x b/y\nrename from ../x\nrename to y\n", 2, "names ../x, which leaves the tree"),
        (b"diff --git a/x b/y\nrename from x\nrename to /y\n", 3, "names the absolute path /y"),
    ],
)
def test_refused(data, line, message):
    with pytest.raises(PatchError) as refused:
        parse_patch("patches/x.patch", data)
    assert refused.value.line == line
    start = f"patches/x.patch:{line}: " if line else "patches/x.patch "
    assert refused.value.message.startswith(start + message)


def test_a_patch_that_is_an_attachment_is_to_be_saved_first():
    head = b"From: a\nContent-Type: multipart/mixed; boundary=xx\n\n--xx\nContent-Type: text/plain\n\nsee there\n"
    part = b"--xx\nContent-Type: text/x-patch\nContent-Transfer-Encoding: base64\n\n"
    encoded = base64.encodebytes(GIT + HUNK) + b"--xx--\n"
    with pytest.raises(PatchError, match="is a mail with the patch as an attachment") as refused:
        parse_patch("x.patch", head + part + encoded)
    assert refused.value.hint == "save the attachment, and put it here in its place"
    inline = head.replace(b"see there\n", GIT + HUNK + b"\n")
    assert len(parse_patch("x.patch", inline + part + encoded).files) == 1


def test_what_is_written_anew_parses_to_the_same():
    data = (
        GIT
        + HUNK
        + b"diff --git a/d/a.c b/d/b.c\nsimilarity index 60%\nrename from d/a.c\nrename to d/b.c\n"
        + b"--- a/d/a.c\n+++ b/d/b.c\n"
        + HUNK
        + b"--- /dev/null\n+++ b/new.c\n@@ -0,0 +1 @@\n+x\n\\ No newline at end of file\n"
        + b"--- a/maybe.c\n+++ b/maybe.c\n@@ -0,0 +1 @@\n+x\n"
        + b'--- "a/t\\tb"\n+++ "b/t\\tb"\n'
        + HUNK
        + b"diff --git a/s b/s\nold mode 100644\nnew mode 100755\n"
        + b"diff --git a/gone b/gone\ndeleted file mode 100755\n--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"
        + BINARY
    )
    files = parse_patch("x", data).files
    again = parse_patch("x", text(files)).files
    assert len(files) == 8
    for file, other in zip(files, again, strict=True):
        assert (file.old, file.new, file.kind, file.binary) == (other.old, other.new, other.kind, other.binary)
        assert [h.lines for h in file.hunks] == [h.lines for h in other.hunks]


SEEDS = (GIT + HUNK, BINARY, b"--- a/f\n+++ b/f\n" + HUNK * 2, b"diff --git a/x b/y\nrename from x\nrename to y\n")


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=3)), max_size=6))
def test_whatever_happened_to_it_a_patch_is_read_or_refused_in_words(seed, damages):
    data = bytearray(seed)
    for at, new in damages:
        at %= len(data) + 1
        data[at : at + 1] = new
    try:
        patch = parse_patch("x.patch", bytes(data))
    except PatchError as refused:
        assert "\n" not in refused.message
        return
    for file in patch.files:
        again = parse_patch("x.patch", file.text()).files
        assert [(f.old, f.new, f.kind) for f in again] == [(file.old, file.new, file.kind)]
        for path in file.paths:
            assert ".." not in path.split("/") and not path.startswith("/")
