"""Questions to an ELF file, without binutils: is it whole, which build id does it carry, what are its sections, what
lies at an offset.

The assembler and the linker write the section header table, or the header that points to it, last (BFD): a file that
was cut short either has no valid header or a table beyond its end. Layout: elf(5).
"""

from __future__ import annotations

import io
import struct
from typing import BinaryIO, NamedTuple

_MAGIC = b"\x7fELF"
_NOTE = 7  # SHT_NOTE
_NOBITS = 8  # SHT_NOBITS: takes no room in the file
_BUILD_ID = 3  # NT_GNU_BUILD_ID
_MAX_NOTES = 1 << 20


def is_whole(file: BinaryIO, size: int) -> bool:
    """Whether an ELF file of `size` bytes has all that its header promises. False for anything but ELF."""
    head = _header(file)
    if head is None:
        return False
    _, _, table, entry, count = head
    return table > 0 and entry > 0 and table + entry * count <= size


def build_id(file: BinaryIO) -> str | None:
    """The GNU build id as hex digits; None where there is none or it is no ELF file."""
    head = _header(file)
    if head is None:
        return None
    wide, order, table, entry, count = head
    file.seek(table)
    raw = file.read(entry * count)
    if len(raw) < entry * count:
        return None
    for number in range(count):
        section = raw[number * entry : (number + 1) * entry]
        kind = struct.unpack_from(order + "I", section, 4)[0]
        offset, length = struct.unpack_from(order + ("QQ" if wide else "II"), section, 24 if wide else 16)
        if kind == _NOTE and length <= _MAX_NOTES:
            file.seek(offset)
            found = _find_note(file.read(length), order)
            if found:
                return found
    return None


def sections(data: bytes) -> dict[str, bytes]:
    """Name -> content, b"" where it takes no place in the file; a name that several have counts on: ".text", ".text#2".
    {} for anything but a whole ELF file."""
    named: dict[str, bytes] = {}
    for section in _table(data):
        twin = sum(1 for other in named if other.partition("#")[0] == section.name)
        named[f"{section.name}#{twin + 1}" if twin else section.name] = data[section.begin : section.end]
    return named


def section_at(data: bytes, offset: int) -> str:
    """The name of the section that the byte at `offset` is in; "" where it is in none, or it is no whole ELF file."""
    return next((section.name for section in _table(data) if section.begin <= offset < section.end), "")


class _Section(NamedTuple):
    """Its bytes in the file are begin..end, none where it takes no room there."""

    name: str
    begin: int
    end: int


def _table(data: bytes) -> list[_Section]:
    """The sections of a whole ELF file but the first, which is none; [] for anything else."""
    file = io.BytesIO(data)
    head = _header(file)
    if head is None or not is_whole(file, len(data)):
        return []
    wide, order, table, entry, count = head
    if entry < (64 if wide else 40):
        return []
    found = []
    for at in range(table, table + entry * count, entry):
        name, kind = struct.unpack_from(order + "II", data, at)
        begin, size = struct.unpack_from(order + ("QQ" if wide else "II"), data, at + (24 if wide else 16))
        found.append((name, begin, begin if kind == _NOBITS else begin + size))
    names = struct.unpack_from(order + "H", data, 62 if wide else 50)[0]
    if names >= count:  # SHN_XINDEX too: more than 65,279 sections
        return []
    text = data[slice(*found[names][1:])]
    return [
        _Section(text[name : text.find(b"\0", name)].decode("utf-8", "replace"), begin, end)
        for name, begin, end in found[1:]
    ]


def _find_note(raw: bytes, order: str) -> str | None:
    at = 0
    while at + 12 <= len(raw):
        name_size, size, kind = struct.unpack_from(order + "III", raw, at)
        name = at + 12
        body = name + (name_size + 3 & ~3)
        if kind == _BUILD_ID and raw[name : name + name_size] == b"GNU\0":
            return raw[body : body + size].hex()
        at = body + (size + 3 & ~3)
    return None


def _header(file: BinaryIO) -> tuple[bool, str, int, int, int] | None:
    """(64 bit, byte order, section table's offset, size of an entry, entries)."""
    file.seek(0)
    raw = file.read(64)
    if len(raw) < 52 or raw[:4] != _MAGIC or raw[4] not in (1, 2) or raw[5] not in (1, 2):
        return None
    wide, order = raw[4] == 2, "<" if raw[5] == 1 else ">"
    if wide and len(raw) < 64:
        return None
    table = struct.unpack_from(order + ("Q" if wide else "I"), raw, 40 if wide else 32)[0]
    entry, count = struct.unpack_from(order + "HH", raw, 58 if wide else 46)
    if count == 0 and table:  # more than 65,279 sections: the number is in the first entry
        file.seek(table)
        first = file.read(entry)
        if len(first) == entry and entry >= (40 if wide else 24):
            count = struct.unpack_from(order + ("Q" if wide else "I"), first, 32 if wide else 20)[0]
    return wide, order, table, entry, count
