"""What a difference is called, which objects are doubted, how many are checked."""

from __future__ import annotations

import struct

import pytest

from kbuild_tasks.core import trust
from kbuild_tasks.core.distcc_log import DistccLog
from kbuild_tasks.core.distribution import distribution
from kbuild_tasks.core.trust import CACHE, Maker

LOG = """\
distcc[{pid}] (dcc_trace_version) distcc 3.4
distcc[{pid}] (dcc_scan_args) found object/output file "{name}"
distcc[{pid}] (dcc_parse_hosts) found tcp token "10.0.0.2:3632/2,lzo"
distcc[{pid}] exec on {host}: gcc
distcc[{pid}] compile x.c on {host} completed ok
distcc[{pid}] (dcc_exit) exit: code 0; self: 0.1
"""


@pytest.mark.parametrize(("share", "number"), [(0.0, 0), (0.5, 1 << 31), (1.0, 1 << 32), (0.01, 42949673)])
def test_draws(share: float, number: int) -> None:
    assert trust.draws(share) == number


@pytest.mark.parametrize(
    ("maker", "doubted"),
    [
        (Maker("n2", "10.0.0.2", 5), True),
        (Maker("n3", "10.0.0.2", 5), True),  # the same machine under another name
        (Maker("n2", "10.0.0.9", 5), True),  # at another address then
        (Maker("n3", "10.0.0.3", 5), False),
        (Maker("n1", "127.0.0.1", 5), False),
        (Maker("n3", "10.0.0.3", 4), True),  # written since, by nobody knows whom
        (Maker(CACHE, "", 5), True),
        (None, True),
    ],
)
def test_is_doubted(maker: Maker | None, doubted: bool) -> None:
    assert trust.is_doubted(maker, 5, "n2", "10.0.0.2") is doubted


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (
            "cmd_fs/a.o := gcc -Wp,-MMD,fs/.a.o.d -D__KERNEL__ -O2 -c -o fs/a.o fs/a.c\n\nsource_fs/a.o := fs/a.c\n",
            True,
        ),
        ("savedcmd_fs/a.o := gcc -D__KERNEL__ -c -o fs/a.o fs/a.c ; ./tools/objtool fs/a.o\n", True),
        ("cmd_head.o := gcc -D__KERNEL__ -D__ASSEMBLY__ -c -o head.o head.S\n\nsource_head.o := head.S\n", False),
        ("cmd_scripts/a.o := gcc -O2 -c -o scripts/a.o scripts/a.c\n\nsource_scripts/a.o := scripts/a.c\n", False),
        ("cmd_drivers/pair.o := ld -r -o drivers/pair.o left.o right.o\n", False),
    ],
)
def test_is_kernel_c(record: str, expected: bool) -> None:
    assert trust.is_kernel_c(record) is expected


@pytest.mark.parametrize(
    ("theirs", "ours", "told"),
    [
        (b"abXd", b"abcd", "1 of 4 bytes differs, the first at 0x2"),
        (b"XbXd", b"abcd", "2 of 4 bytes differ, the first at 0x0"),
        (b"ab", b"abcd", "it is cut short, 2 of 4 bytes"),
        (b"", b"abcd", "it is cut short, 0 of 4 bytes"),
        (b"abcdef", b"abcd", "it has 2 bytes more than 4"),
        (b"aX", b"abcd", "it has 2 bytes instead of 4, the first at 0x1 differs"),
        (b"abcd", b"", "the compiler here refuses the text"),
    ],
)
def test_difference(theirs: bytes, ours: bytes, told: str) -> None:
    assert trust.difference(theirs, ours) == told


def elf(text: bytes) -> bytes:
    """An object with the sections .text and .shstrtab."""
    names = b"\0.text\0.shstrtab\0"
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    table = 64 + len(text) + len(names)
    head += struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 2)
    sections = struct.pack("<IIQQQQIIQQ", *[0] * 10)
    sections += struct.pack("<IIQQQQIIQQ", 1, 1, 6, 0, 64, len(text), 0, 0, 16, 0)
    sections += struct.pack("<IIQQQQIIQQ", 7, 3, 0, 0, 64 + len(text), len(names), 0, 0, 1, 0)
    return head + text + names + sections


def test_difference_names_the_section() -> None:
    assert trust.difference(elf(b"\x90\x91"), elf(b"\x90\x90")) == "1 of 275 bytes differs, the first at 0x41 in .text"


@pytest.mark.parametrize("cut", range(0, 275, 7))
def test_difference_of_what_is_no_whole_elf(cut: int) -> None:
    ours = elf(b"\x90\x90")[:cut] + b"x"
    assert trust.difference(b"y" + ours[1:] + b"", ours).startswith("1 of ")


def test_what_was_compared_is_counted_for_who_made_it() -> None:
    log = DistccLog()
    for pid, (name, host) in enumerate(
        [("a.o", "10.0.0.2:3632/2,lzo"), ("b.o", "10.0.0.2:3632/2,lzo"), ("c.o", "localhost")]
    ):
        log.feed(LOG.format(pid=pid, name=name, host=host).encode())
    front = "far\t\ta.o\nfar\t\tb.o\nfar\t\tc.o\nfar\t\td.o\n"
    front += "same\t\ta.o\nwrong\t/w\tb.o\nwrong\t/w\tc.o\nunsure\tno room\ta.o\n"
    told = distribution(front, log, {"10.0.0.2:3632": "n2"}, "n1")
    assert told.checked == {"n2": 2}
    assert told.wrong == (("b.o", "n2", "/w"),)
    assert told.unsure == (("c.o", "it was made here in the end, and differs"), ("a.o", "no room"))
    assert told.objects == ("a.o", "b.o", "c.o", "d.o")


def test_sentences() -> None:
    wrong = [{"object": "fs/a.o", "what": "it is cut short, 2 of 4 bytes"}]
    assert trust.sentence({"objects": wrong}, "2026-11-30 14:02") == (
        "it is in quarantine since 2026-11-30 14:02: it returned a wrong fs/a.o (it is cut short, 2 of 4 bytes)"
    )
    assert "a wrong object (it is not told how)" in trust.sentence({}, "1970-01-01 00:00")
    assert trust.accusation("n2", wrong).startswith("n2 returned a wrong object: fs/a.o is not what")
    assert trust.accusation("n2", wrong * 2).startswith("n2 returned 2 wrong objects")
