"""Why a patch does not apply: the differing line, and the cases in which that is not the answer."""

from __future__ import annotations

import pytest

from kbuild_tasks.core.patchfit import first_misfit
from kbuild_tasks.core.patchparse import parse_patch
from kbuild_tasks.core.patchwhy import refusal

FAIR = "".join(f"line {n}\n" for n in range(1, 41)).encode()


def patch(name: str, path: str, *hunks: str):
    text = f"--- a/{path}\n+++ b/{path}\n" + "".join(hunks)
    return parse_patch(f"patches/{name}", text.encode())


def hunk(at: int, *lines: str) -> str:
    old = sum(line[0] in " -" for line in lines)
    new = sum(line[0] in " +" for line in lines)
    return f"@@ -{at},{old} +{at},{new} @@\n" + "".join(line + "\n" for line in lines)


GOOD = hunk(5, " line 5", "-line 6", "+LINE 6", " line 7")


@pytest.mark.parametrize(
    ("content", "hunks", "expected"),
    [
        (FAIR, [GOOD], None),
        (b"top\n" * 9 + FAIR, [GOOD, hunk(30, " line 30", "+x", " line 31")], None),
        (FAIR, [GOOD, hunk(20, " line 20", "-line 21a", "+x", " line 22")], (2, 2, 20, 21, "line 21a", "line 21", "")),
        # six lines were added above: the place is found by the lines that do stand, not by the number
        (
            b"top\n" * 6 + FAIR,
            [hunk(20, " line 20", "-line 21a", "+x", " line 22")],
            (1, 1, 26, 27, "line 21a", "line 21", ""),
        ),
        (
            FAIR,
            [hunk(39, " line 39", " line 40", " line 41", "+x")],
            (1, 1, 39, 41, "line 41", None, "the file ends before it"),
        ),
        (
            FAIR.replace(b"line 6", b"line\t6"),
            [GOOD],
            (1, 1, 5, 6, "line 6", "line\t6", "only white space differs"),
        ),
        (
            FAIR.replace(b"\n", b"\r\n"),
            [GOOD],
            (1, 1, 5, 5, "line 5", "line 5", "the file has CRLF line ends, the patch has not"),
        ),
        (
            FAIR.replace(b"line 6\n", b"LINE 6\n"),
            [GOOD],
            (1, 1, 5, 6, "line 6", "LINE 6", "what the hunk makes stands already at line 5"),
        ),
        (b"", [GOOD], (1, 1, 1, 1, "line 5", None, "the file ends before it")),
        (
            FAIR,
            [hunk(6, "-line 6a", "+x")],
            (1, 1, 6, 6, "line 6a", "line 6", "the hunk has no context lines: make the patch again with diff -U3"),
        ),
        (b"a\xff\n", [hunk(1, "-b", "+c")], (1, 1, 1, 1, "b", "a\\xff", "")),
        (b"b", [hunk(1, "-b", "+c")], (1, 1, 1, 1, "b", "b", "only the newline at the end of the file differs")),
    ],
)
def test_first_misfit(content, hunks, expected):
    (file,) = patch("x.patch", "f", *hunks).files
    found = first_misfit(content, file)
    if expected is None:
        assert found is None
    else:
        assert found is not None
        told = (found.number, found.of, found.start, found.line, found.expected, found.found, found.note)
        assert told == expected


def told(series, position, tree, reverses=False, said=("git said",)):
    file = series[position]
    error = refusal(series, position, file.files, tree.get, lambda: sorted(tree), said, reverses)
    return error.message, list(error.evidence), error.hint


WRONG = hunk(20, " line 20", "-line 21a", "+x", " line 22")


def test_the_terminal_voice():
    series = [
        patch("0001-a.patch", "init/main.c", GOOD),
        patch("0002-b.patch", "kernel/sched/fair.c", GOOD),
        patch("0003-sched.patch", "kernel/sched/fair.c", GOOD, WRONG),
    ]
    assert told(series, 2, {"kernel/sched/fair.c": FAIR}) == (
        "0003-sched.patch does not apply (3 of 3)",
        [
            "kernel/sched/fair.c:20: hunk 2 of 2: context differs at line 21",
            "  expected: line 21a",
            "  found:    line 21",
            "  0002-b.patch changes this file before it",
        ],
        "fix patches/0003-sched.patch and run doit again; nothing was changed",
    )


def test_already_in_the_source_and_made_by_an_earlier_patch():
    series = [patch("a.patch", "f", GOOD), patch("b.patch", "f", GOOD)]
    message, evidence, hint = told(series, 1, {"f": FAIR}, reverses=True)
    assert message == "b.patch does not apply (2 of 2): it is in the source already"
    assert evidence == ["a.patch makes the same change"]
    assert hint == "take patches/b.patch out of the series; nothing was changed"
    assert told(series[:1], 0, {"f": FAIR}, reverses=True)[1] == ["f: the change is there"]


RENAME = parse_patch("r.patch", b"diff --git a/old.c b/new.c\nrename from old.c\nrename to new.c\n")
DELETE = parse_patch("d.patch", b"diff --git a/old.c b/old.c\ndeleted file mode 100644\n")
ADD = parse_patch("patches/n.patch", b"--- /dev/null\n+++ b/old.c\n@@ -0,0 +1 @@\n+x\n")
EDIT = patch("e.patch", "old.c", GOOD)


@pytest.mark.parametrize(
    ("series", "position", "tree", "expected"),
    [
        (
            [RENAME, EDIT],
            1,
            {"new.c": FAIR},
            "old.c: there is no such file: r.patch, earlier in the series, renames it to new.c",
        ),
        ([DELETE, EDIT], 1, {}, "old.c: there is no such file: d.patch, earlier in the series, deletes it"),
        ([EDIT, DELETE, ADD], 0, {}, "old.c: there is no such file: n.patch, later in the series (3), makes it"),
        (
            [EDIT],
            0,
            {"drivers/misc/old.c": FAIR, "x/new.c": b""},
            "old.c: there is no such file; drivers/misc/old.c is there: "
            "was the patch made without one directory before its paths (-p0)?",
        ),
        (
            [patch("e", "drivers/old.c", GOOD)],
            0,
            {"lib/old.c": b""},
            "drivers/old.c: there is no such file; a file of that name is lib/old.c: did it move?",
        ),
        ([patch("e", "drivers/Makefile", GOOD)], 0, {"lib/Makefile": b""}, "drivers/Makefile: there is no such file"),
        ([ADD], 0, {"old.c": b"x\n"}, "old.c: the patch makes this file, and it is there already"),
        ([ADD, ADD], 1, {"old.c": b"x\n"}, "old.c: the patch makes this file, and it is there already, from n.patch"),
        (
            [RENAME],
            0,
            {"old.c": b"", "new.c": b""},
            "new.c: the patch renames old.c to this file, and it is there already",
        ),
        ([EDIT], 0, {"old.c": FAIR}, "git said"),
    ],
)
def test_other_reasons(series, position, tree, expected):
    assert told(series, position, tree)[1][0] == expected
