"""What makes a stage stale, and how it is told."""

from __future__ import annotations

import pytest

from kbuild_tasks.core.fingerprint import Change, changes, fingerprint, first_changed_line, tell
from kbuild_tasks.core.model import Inputs


def make(files=None, values=None, receipts=None):
    files, receipts = files or {}, receipts or {}
    return fingerprint(Inputs(tuple(files), values or {}, tuple(receipts)), files.get, receipts.get)


BASE = {"files": {"a": "1", "b": "2"}, "values": {"arch": "x86_64"}, "receipts": {"extract": "r"}}


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        ({}, []),
        ({"files": {"a": "9", "b": "2"}}, [Change("file", "a", "1", "9")]),
        ({"files": {"a": "1"}}, [Change("file", "b", "2", None)]),
        ({"files": {"a": "1", "b": "2", "c": "3"}}, [Change("file", "c", None, "3")]),
        ({"files": {"b": "2", "a": "1"}}, [Change("order", "", ["a", "b"], ["b", "a"])]),
        ({"files": {"a": None, "b": "2"}}, [Change("file", "a", "1", "missing")]),
        ({"values": {"arch": "aarch64"}}, [Change("value", "arch", "x86_64", "aarch64")]),
        ({"receipts": {"extract": "s"}}, [Change("receipt", "extract", "r", "s")]),
    ],
)
def test_changes(edit, expected) -> None:
    assert changes(make(**BASE), make(**{**BASE, **edit})) == expected


def test_without_a_receipt_it_is_not_done_yet() -> None:
    assert [tell(change) for change in changes(None, make(**BASE))] == ["not done yet"]


@pytest.mark.parametrize(
    ("change", "line", "told"),
    [
        (Change("file", "patches/a.patch", "1", "2"), 41, "a.patch changed (line 41)"),
        (Change("file", "patches/a.patch", "1", "2"), None, "a.patch changed"),
        (Change("file", "patches/a.patch", None, "2"), None, "a.patch added"),
        (Change("file", "patches/a.patch", "1", None), None, "a.patch removed"),
        (Change("file", "patches/a.patch", "1", "missing"), None, "a.patch removed"),
        (Change("order", "", ["a"], ["b"]), None, "order of the series changed"),
        (Change("value", "arch", "x86_64", "aarch64"), None, "arch: x86_64 -> aarch64"),
        (Change("value", "require", ["A", "B"], ["B", "C"]), None, "require: +C; -A"),
        (Change("value", "require", ["A", "B"], ["B", "A"]), None, "require: order changed"),
        (Change("value", "build()", "0" * 64, "1" * 64), None, "build() changed"),
        (Change("value", "x", None, "1"), None, "x: none -> 1"),
        (Change("receipt", "patch", "a", "b"), None, "result of patch changed"),
        (Change("receipt", "patch", "missing", "b"), None, "patch is new"),
    ],
)
def test_tell(change, line, told) -> None:
    assert tell(change, line) == told


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [("a\nb\n", "a\nc\n", 2), ("a\n", "a\nb\n", 2), ("a\nb\n", "a\n", 2), ("a\n", "a\n", None), ("", "x", 1)],
)
def test_first_changed_line(old, new, line) -> None:
    assert first_changed_line(old, new) == line
