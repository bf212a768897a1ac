"""ELF files that a real compiler made, whole and cut."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest

from kbuild_tasks.core import elf


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("elf")
    (top / "a.c").write_text("int f(int x) { return x + 1; }\n")
    subprocess.run(["gcc", "-g", "-c", "-o", "a.o", "a.c"], cwd=top, check=True)
    subprocess.run(["ld", "-shared", "--build-id=0x0123456789abcdef", "-o", "a.so", "a.o"], cwd=top, check=True)
    return top


def test_a_whole_object(made: Path) -> None:
    raw = (made / "a.o").read_bytes()
    assert elf.is_whole(io.BytesIO(raw), len(raw))


def test_no_shorter_part_of_it_is_whole(made: Path) -> None:
    raw = (made / "a.o").read_bytes()
    for size in range(0, len(raw), 7):
        assert not elf.is_whole(io.BytesIO(raw[:size]), size)
    assert not elf.is_whole(io.BytesIO(raw[:-1]), len(raw) - 1)


@pytest.mark.parametrize("raw", [b"", b"\0" * 4096, b"BC\xc0\xde" * 30, b"!<thin>\n", b"\x7fELF" + b"\xff" * 100])
def test_what_is_no_object(raw: bytes) -> None:
    assert not elf.is_whole(io.BytesIO(raw), len(raw))
    assert elf.build_id(io.BytesIO(raw)) is None


def test_the_build_id(made: Path) -> None:
    with open(made / "a.so", "rb") as file:
        assert elf.build_id(file) == "0123456789abcdef"
    with open(made / "a.o", "rb") as file:
        assert elf.build_id(file) is None


def test_an_object_of_another_machine() -> None:
    """A big-endian 32-bit header, by hand: 52 bytes, table of 2 entries of 40 bytes at 52."""
    head = b"\x7fELF\x01\x02\x01" + bytes(9) + bytes(16) + (52).to_bytes(4, "big") + bytes(4)
    head += (52).to_bytes(2, "big") + bytes(4) + (40).to_bytes(2, "big") + (2).to_bytes(2, "big") + bytes(2)
    whole = head + bytes(80)
    assert len(head) == 52
    assert elf.is_whole(io.BytesIO(whole), len(whole))
    assert not elf.is_whole(io.BytesIO(whole), len(whole) - 1)


def test_sections_are_those_of_objcopy(made: Path) -> None:
    raw, dump = (made / "a.o").read_bytes(), made / "text"
    subprocess.run(["objcopy", "-O", "binary", "--only-section=.text", made / "a.o", dump], check=True)
    found = elf.sections(raw)
    assert found[".text"] == dump.read_bytes() and found[".bss"] == b""
    at = raw.index(found[".text"])
    assert (elf.section_at(raw, at), elf.section_at(raw, 0)) == (".text", "")
    assert elf.sections(raw[:-1]) == {} and elf.section_at(raw[:-1], at) == ""
