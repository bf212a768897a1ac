from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from kbuild_tasks.core import fileset
from kbuild_tasks.core.errors import KbuildError

A, B = "a" * 64, "b" * 64
NAMES = ["b", "a dir/x", "a", "a\nb", "-n", "ä", os.fsdecode(b"\xff"), "a.b", "a/b"]


def test_the_listing_is_what_a_node_prints(tmp_path: Path):
    files = {}
    for name in (n for n in NAMES if n != "a"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name, "utf-8", "surrogateescape")
        files[name] = hashlib.sha256(os.fsencode(name)).hexdigest()
    script = r"find . -type f -printf '%P\0' | sort -z | xargs -0r sha256sum -z --"
    printed = subprocess.run(["sh", "-c", script], cwd=tmp_path, env={**os.environ, "LC_ALL": "C"}, capture_output=True)
    assert printed.stdout == fileset.listing(files)
    assert fileset.parse(printed.stdout) == files
    assert fileset.identity(files) == hashlib.sha256(printed.stdout).hexdigest()


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a\0b", ""])
def test_a_path_that_leaves_the_set_is_refused(path: str):
    with pytest.raises(KbuildError, match="cannot be brought to the nodes"):
        fileset.listing({path: A})


@pytest.mark.parametrize(
    ("wanted", "present", "send", "drop"),
    [
        ({"a": A}, {}, ("a",), ()),
        ({"a": A}, {"a": A}, (), ()),
        ({"a": A}, {"a": B}, ("a",), ("a",)),
        ({"a": A, "c": B}, {"a": A, "b": B}, ("c",), ("b",)),
    ],
)
def test_difference(wanted: dict[str, str], present: dict[str, str], send: tuple[str, ...], drop: tuple[str, ...]):
    assert fileset.difference(wanted, present) == fileset.Change(send, drop)
