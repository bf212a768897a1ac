"""What a manifest wants, and what of it is not to be had: decided without a disk."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.core.fingerprint import MISSING
from kbuild_tasks.core.reproduce import lacking, other_tools, verdict, wanted

COMPILER = {"version": "12.2.0", "machine": "x86_64-linux-gnu"}


def stage(files: dict[str, str], values: dict[str, Any], **receipts: str) -> dict[str, Any]:
    return {"files": files, "order": list(files), "values": values, "receipts": receipts}


MANIFEST: dict[str, Any] = {
    "packages": [{"file": "a.pkg.tar.zst", "sha256": "1" * 64}],
    "inputs": {
        "extract": stage({}, {"source": "2" * 64}),
        "patch": stage({"patches/a": "3" * 64}, {}, extract="e"),
        "configure": stage({"kernel/config": "4" * 64}, {"compiler": COMPILER, "require": ["A"]}, patch="p"),
        "compile": stage({}, {"compiler": COMPILER}, patch="p", configure="c"),
        "package": {"values": {"sha256": "5" * 64}, "files": {"kernel/a.install": "6" * 64}},
    },
    "workdir": "/home/builder/buildtmp",
    "tools": {"zstd": "1.5.4", "/etc/makepkg.conf": "7" * 64},
    "commit": "abc",
}


def test_what_it_wants() -> None:
    want = wanted(MANIFEST, "m")
    assert want.files == {"patches/a": "3" * 64, "kernel/config": "4" * 64, "kernel/a.install": "6" * 64}
    assert want.results == {"extract": "e", "patch": "p", "configure": "c"}
    assert (want.pkgbuild, want.workdir, want.unreproducible) == ("5" * 64, "/home/builder/buildtmp", ())


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop("workdir"),
        lambda m: m["inputs"].pop("patch"),
        lambda m: m["inputs"]["package"]["values"].pop("sha256"),
        lambda m: m.update(packages=[]),
        lambda m: m["packages"][0].update(file="../a"),
        lambda m: m["inputs"]["patch"]["files"].update({"../x": "3" * 64}),
        lambda m: m["inputs"]["patch"]["files"].update({"/etc/passwd": "3" * 64}),
        lambda m: m.update(workdir="work"),
        lambda m: m.update(inputs=None),
    ],
)
def test_what_is_no_manifest_that_can_be_followed(change: Any) -> None:
    value = copy.deepcopy(MANIFEST)
    change(value)
    with pytest.raises(KbuildError, match=r"^m does not tell all"):
        wanted(value, "m")


@pytest.mark.parametrize("value", [None, [], "x", {}])
def test_other_json(value: Any) -> None:
    with pytest.raises(KbuildError):
        wanted(value, "m")


def test_what_lacks_is_named() -> None:
    want = wanted(MANIFEST, "m")
    same = {**MANIFEST["inputs"]["configure"], "receipts": {"patch": "another"}}
    assert lacking(want, "configure", same) == []
    now = {**same, "values": {"compiler": {**COMPILER, "version": "13"}, "require": ["A", "B"]}}
    compiler, require = lacking(want, "configure", now)
    assert compiler.startswith("compiler: ") and require == "require: +B"
    value = copy.deepcopy(MANIFEST)
    value["inputs"]["patch"]["files"]["patches/a"] = MISSING
    assert lacking(wanted(value, "m"), "patch", MANIFEST["inputs"]["patch"]) == [
        "patches/a: the manifest does not tell which one went in"
    ]


def test_tools() -> None:
    want = wanted(MANIFEST, "m")
    assert other_tools(want, MANIFEST["tools"]) == []
    assert other_tools(want, {"zstd": "1.5.5", "/etc/makepkg.conf": "8" * 64, "the user's makepkg.conf": "9" * 64}) == [
        "zstd: 1.5.4 -> 1.5.5",
        "/etc/makepkg.conf is another one",
        "the user's makepkg.conf: was not there",
    ]


def test_verdict() -> None:
    want = wanted(MANIFEST, "m")
    assert verdict(want, {"a.pkg.tar.zst": "1" * 64}) == (["a.pkg.tar.zst"], [])
    assert verdict(want, {"a.pkg.tar.zst": "2" * 64, "b": "3" * 64}) == ([], ["a.pkg.tar.zst", "b"])
    assert verdict(want, {}) == ([], ["a.pkg.tar.zst"])
