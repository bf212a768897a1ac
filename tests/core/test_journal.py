"""The journal is read as it was written or not at all: cut at every byte, 1,000 bits turned, lines moved."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from kbuild_tasks.core import journal
from kbuild_tasks.core.journal import JournalDamaged, Record
from kbuild_tasks.effects import files
from kbuild_tasks.effects.journal import Journal, read

STATES = ("STAGED", "INSTALLED", "BOOTFILES_OK", "ARMED", "REBOOTING", "BACK", "VERIFIED", "VERIFIED2", "COMMITTED")


@pytest.fixture
def written(tmp_path: Path) -> Journal:
    made = Journal(tmp_path / "n7.jsonl")
    for state in STATES:
        made.append("0123456789ab", state, "a note with ü and \n in it", {"boot_id": "x", "n": 1})
    return made


def test_what_is_written_is_read(written: Journal) -> None:
    assert read(written.path) == written.records
    assert [record.n for record in written.records] == list(range(1, len(STATES) + 1))
    assert Journal(written.path).records == written.records


def test_cut_at_every_byte_it_is_the_records_before(written: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "sync_directory", lambda path: None)
    data = written.path.read_bytes()
    ends = [index + 1 for index, byte in enumerate(data) if byte == ord("\n")]
    for cut in range(1, len(data)):
        records, good = journal.read(data[:cut], "n7.jsonl")
        whole = sum(end <= cut + 1 for end in ends)  # a record without its newline is whole
        assert records == written.records[:whole], cut
        assert good <= cut
        if cut % 17 == 0:  # and it is mended on the disk
            written.path.write_bytes(data[:cut])
            mended = Journal(written.path)
            mended.append("0123456789ab", "HELD")
            assert read(written.path)[:-1] == written.records[:whole]


def test_a_thousand_turned_bits_are_never_misread(written: Journal) -> None:
    data = written.path.read_bytes()
    chance = random.Random(7)
    refused = 0
    for _ in range(1000):
        bit = chance.randrange(len(data) * 8)
        bad = bytearray(data)
        bad[bit // 8] ^= 1 << bit % 8
        try:
            records, _ = journal.read(bytes(bad), "n7.jsonl")
        except JournalDamaged as error:
            refused += 1
            assert error.message.startswith("n7.jsonl is damaged in line ") and error.hint
            continue
        # the one harmless reading: the last record is whole, and what follows it was no record
        assert records == written.records, bit
    assert refused == 1000


@pytest.mark.parametrize("swap", [(0, 1), (3, 4)])
def test_moved_doubled_and_lost_lines_are_refused(written: Journal, swap: tuple[int, int]) -> None:
    lines = written.path.read_bytes().splitlines(keepends=True)
    moved = list(lines)
    moved[swap[0]], moved[swap[1]] = moved[swap[1]], moved[swap[0]]
    doubled = [*lines[: swap[1]], lines[swap[0]], *lines[swap[1] :]]
    lost = lines[: swap[0]] + lines[swap[1] :]
    for bad in (moved, doubled, lost):
        with pytest.raises(JournalDamaged):
            journal.read(b"".join(bad), "n7.jsonl")


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"\0" * 100 + b"\n", b"[]\n", b"null\n", b"{}\n", b"\xff\xfe\n", b"[" * 9999 + b"\n"]
)
def test_what_is_no_journal_is_refused(data: bytes) -> None:
    with pytest.raises(JournalDamaged):
        journal.read(data, "n7.jsonl")


def test_a_state_that_is_none_is_refused() -> None:
    line = journal.encode(Record(1, "", "b", "DREAMING"), journal.START)
    with pytest.raises(JournalDamaged, match="DREAMING is no state"):
        journal.read(line, "n7.jsonl")


def test_a_full_disk_leaves_the_journal_as_it_was(written: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    before = written.path.read_bytes()
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[: len(data) // 2]))
    with pytest.raises(OSError, match="No space left"):
        written.append("0123456789ab", "HELD")
    assert written.path.read_bytes() == before


def test_a_journal_that_never_had_a_whole_record_is_none(tmp_path: Path) -> None:
    path = tmp_path / "n7.jsonl"
    path.write_bytes(journal.encode(Record(1, "", "b", "STAGED"), journal.START)[:20])
    assert Journal(path).records == []
    Journal(path).append("b", "STAGED")
    assert len(read(path)) == 1
