"""Which patches, in which order: quilt's rules and those of a directory without a series file."""

from __future__ import annotations

import pytest

from kbuild_tasks.core.errors import ConfigError
from kbuild_tasks.core.series import order_series, unlisted

THERE = ["0001-a.patch", "0002-b.patch", "0010-c.diff", "net", "README", "series"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("0002-b.patch\n0001-a.patch\n", ("0002-b.patch", "0001-a.patch")),
        ("# all\n\n  0001-a.patch  \n", ("0001-a.patch",)),
        ("0001-a.patch # the first\n", ("0001-a.patch",)),
        ("0001-a.patch\t# the first\n", ("0001-a.patch",)),
        ("0001-a.patch -p1\n", ("0001-a.patch",)),
        ("0001-a.patch -p 1 # as git makes them\n", ("0001-a.patch",)),
        ("#0001-a.patch\n0010-c.diff", ("0010-c.diff",)),
        ("0001-a.patch\r\n0002-b.patch\r\n", ("0001-a.patch", "0002-b.patch")),
        ("\ufeff0001-a.patch\n", ("0001-a.patch",)),
        ("net/x.patch\n", ("net/x.patch",)),
    ],
)
def test_series_file(text, expected):
    assert order_series(THERE, text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0001-a.patch\n0003-x.patch\n", "patches/series:2: there is no patch 0003-x.patch"),
        ("0001-aa.patch\n", "patches/series:1: there is no patch 0001-aa.patch, did you mean 0001-a.patch?"),
        ("0001-a.patch\n\n0001-a.patch\n", "patches/series:3: 0001-a.patch is listed twice; line 1 has it too"),
        ("0001-a.patch -p0\n", "patches/series:1: 0001-a.patch has the option -p0; only -p1 is known"),
        ("0001-a.patch -R\n", "patches/series:1: 0001-a.patch has the option -R; only -p1 is known"),
        ("0001-a.patch 0002-b.patch\n", "patches/series:1: 0001-a.patch has the option 0002-b.patch; only -p1"),
        ("/etc/x.patch\n", "patches/series:1: /etc/x.patch leaves the directory of patches"),
        ("net/../../x.patch\n", "patches/series:1: net/../../x.patch leaves the directory of patches"),
        ("0001\x1b[2J.patch\n", "patches/series:1: '0001\\x1b[2J.patch': this file name cannot be shown"),
    ],
)
def test_series_file_refused(text, message):
    with pytest.raises(ConfigError) as refused:
        order_series(THERE, text)
    assert refused.value.message.startswith(message)
    assert refused.value.hint


def test_without_a_series_file_names_are_in_byte_order_and_leavings_are_ignored():
    names = ["b.patch", "B.patch", "a10.patch", "a9.diff", "ä.patch", ".a.patch.swp", ".x.patch", "#a.patch#"]
    names += ["a.patch~", "a.patch.orig", "notes.txt", "z z.patch", "-rf.patch", "c.patch.zst", "c.tar.gz"]
    expected = ("-rf.patch", "B.patch", "a10.patch", "a9.diff", "b.patch", "c.patch.zst", "z z.patch", "ä.patch")
    assert order_series(names, None) == expected


def test_without_a_series_file_a_name_that_would_move_the_cursor_is_refused():
    with pytest.raises(ConfigError, match=r"patch 'a\\nb.patch'"):
        order_series(["a\nb.patch"], None)


def test_what_lies_there_and_is_not_applied_is_told():
    series = order_series(THERE, "0002-b.patch\n")
    assert unlisted([*THERE, "x.patch.xz", ".y.patch"], series) == (
        "0001-a.patch is not applied: patches/series does not list it",
        "0010-c.diff is not applied: patches/series does not list it",
        "x.patch.xz is not applied: patches/series does not list it",
    )
    assert unlisted(["a.patch", "b.txt"], ("a.patch",)) == ()
