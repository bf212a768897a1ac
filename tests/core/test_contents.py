"""What is in a package, and what differs between two."""

from __future__ import annotations

import pytest

from kbuild_tasks.core import contents
from kbuild_tasks.core.contents import Difference, difference, files, read_mtree

MTREE = r"""#mtree
/set type=file uid=0 gid=0 mode=644
./.BUILDINFO time=1.0 size=701 sha256digest=00
./.PKGINFO time=1.0 size=581 sha256digest=00
/set mode=755
./usr time=1.0 type=dir
./usr/lib/modules/6.1/vmlinuz time=1.0 size=7000 sha256digest=0123456789abcdef0123456789abcdef
./usr/lib/modules/6.1/a\040name\303\244 time=1.0 mode=644 size=3 sha256digest=ff
./usr/lib/modules/6.1/build time=1.0 type=link link=../\134x
"""


def test_files_of_a_package() -> None:
    assert read_mtree(MTREE) == (
        {
            "usr/lib/modules/6.1/vmlinuz": (7000, "0123456789abcdef"),
            "usr/lib/modules/6.1/a nameä": (3, "ff"),
            "usr/lib/modules/6.1/build": (0, "-> ../\\x"),
        },
        0,
    )


def test_more_than_can_be_kept_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "MOST", 1)
    found, more = read_mtree(MTREE)
    assert (list(found), more) == (["usr/lib/modules/6.1/vmlinuz"], 2)


@pytest.mark.parametrize("text", ["", "\n\n", "./x", "./x size=many type=file", "/set", "nonsense = 3"])
def test_no_mtree_is_no_traceback(text: str) -> None:
    assert read_mtree(text)[1] == 0


def test_a_difference_is_the_largest_first() -> None:
    before = {"m/1/a.ko": (10, "a"), "m/1/b.ko": (10, "b"), "m/1/c.ko": (10, "c"), "m/1/d.ko": (10, "d")}
    now = {"m/2/a.ko": (11, "x"), "m/2/b.ko": (90, "y"), "m/2/c.ko": (10, "c"), "m/2/e.ko": (5, "e")}
    assert difference(before, now, ("1", "2")) == Difference(
        added=(("m/2/e.ko", 5),),
        removed=(("m/2/d.ko", 10),),
        changed=(("m/2/b.ko", 10, 90), ("m/2/a.ko", 10, 11)),
    )
    assert not difference(now, now)


def test_files_from_json() -> None:
    assert files({"a": [1, "x"], "b": [1], "c": "no", "d": ["1", "x"]}) == {"a": (1, "x")}
    assert files(["a"]) == {}
