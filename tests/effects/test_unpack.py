"""A tar of another machine's is taken in member by member: what nobody asked for, or leads elsewhere, is refused."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kbuild_tasks.core.adoption import inside
from kbuild_tasks.core.errors import NodeRefused
from kbuild_tasks.effects.node_stream import Torn
from kbuild_tasks.effects.unpack import Member, unpack


def tar(*members: tuple[str, Any], **pax: str) -> bytes:
    """Members: name and content, or a type with a link's target."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.pax_headers = dict(pax)
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = content
                archive.addfile(info)
    return out.getvalue()


def anywhere(name: str) -> str | None:
    return name if inside(name) else None


def take(top: Path, data: bytes, place: Callable[[str], str | None] = anywhere, room: int = 1000) -> dict[str, Member]:
    return unpack(io.BytesIO(data), top, place, room)  # type: ignore[arg-type]


def test_files_links_and_times_to_the_nanosecond(tmp_path: Path) -> None:
    time = 1796062623_185666321
    data = tar(("a/b", b"one"), ("a/l", (tarfile.SYMTYPE, "/nowhere")), mtime="1796062623.185666321")
    came = take(tmp_path, data)
    assert (tmp_path / "a/b").read_bytes() == b"one" and os.readlink(tmp_path / "a/l") == "/nowhere"
    assert came["a/b"].mtime == time == (tmp_path / "a/b").stat().st_mtime_ns == os.lstat(tmp_path / "a/l").st_mtime_ns
    assert came["a/b"].entry == [time, (tmp_path / "a/b").stat().st_mode, 3, came["a/b"].content]


@pytest.mark.parametrize("mtime", ["nan", "-5", "1e9", "1.2.3", "9" * 40, ""])
def test_a_time_that_is_none(tmp_path: Path, mtime: str) -> None:
    data = tar(("a", b"one"), mtime=mtime) if mtime else tar(("a", b"one"))
    assert take(tmp_path, data)["a"].mtime == 0


@pytest.mark.parametrize(
    "members",
    [
        [("../out", b"x")],
        [("/out", b"x")],
        [("a/../../out", b"x")],
        [("a", b"x"), ("a", b"y")],
        [("a", (tarfile.SYMTYPE, "..")), ("a/out", b"x")],
        [("a", (tarfile.SYMTYPE, "../out")), ("a", b"x")],
        [("a", b"x"), ("a/b", b"x")],
        [("a/b", b"x"), ("a", b"x")],
        [("a", (tarfile.LNKTYPE, "/etc/passwd"))],
        [("a", (tarfile.FIFOTYPE, ""))],
        [("a", (tarfile.CHRTYPE, ""))],
        [("a", b"x" * 1001)],
        [("a", b"x" * 600), ("b", b"x" * 600)],
    ],
    ids=str,
)
def test_what_is_refused(tmp_path: Path, members: list[tuple[str, Any]]) -> None:
    top = tmp_path / "top"
    top.mkdir()
    with pytest.raises(NodeRefused):
        take(top, tar(*members))
    assert sorted(os.listdir(tmp_path)) == ["top"]


def test_what_nobody_asked_for(tmp_path: Path) -> None:
    with pytest.raises(NodeRefused, match=r"sent 'b', which nobody asked for"):
        take(tmp_path, tar(("a", b"x"), ("b", b"y")), lambda name: name if name == "a" else None)


@pytest.mark.parametrize("length", [0, 100, 600, 1500])
def test_one_that_was_cut_short(tmp_path: Path, length: int) -> None:
    with pytest.raises(Torn):
        take(tmp_path, tar(("a", b"x" * 900))[:length])


def test_one_that_is_no_tar(tmp_path: Path) -> None:
    with pytest.raises(Torn):
        take(tmp_path, b"\x01" * 20480)


@pytest.mark.parametrize("size", [-1, -512, -100000])
def test_one_that_has_less_than_no_bytes(tmp_path: Path, size: int) -> None:
    """It would give room to others."""
    info = tarfile.TarInfo("a")
    info.size = size
    data = info.tobuf(tarfile.GNU_FORMAT) + bytes(10240)
    with pytest.raises((NodeRefused, Torn)):
        take(tmp_path, data)
    assert os.listdir(tmp_path) == []


def test_a_header_that_tarfile_does_not_take(tmp_path: Path) -> None:
    data = bytearray(tar(("a", b"x"), comment="abc"))
    at = data.index(b" comment=")
    data[at - 2 : at] = b"xx"  # the length of a pax record
    with pytest.raises((NodeRefused, Torn)):
        take(tmp_path, bytes(data))
