"""The build that a manifest.json describes: one that somebody edited is none, before a node is asked with it."""

from __future__ import annotations

from typing import Any

import pytest

from kbuild_tasks.core.rollout import build_of

GOOD: dict[str, Any] = {
    "packages_sha256": "ab" * 32,
    "kernelrelease": "6.1.192-1-cluster",
    "build_id": "cd" * 20,
    "uname_version": "#1 SMP PREEMPT_DYNAMIC Tue, 01 Dec 2026",
    "config_sha256": "ef" * 32,
    "packages": [{"file": "linux-6.1-1-x86_64.pkg.tar.zst", "pkgname": "linux", "size": 5, "sha256": "12" * 32}],
}


def test_a_good_one() -> None:
    build = build_of(GOOD)
    assert (build.build, build.release, build.files) == (
        "ab" * 6,
        "6.1.192-1-cluster",
        {"linux-6.1-1-x86_64.pkg.tar.zst": 5},
    )
    older = {key: GOOD[key] for key in ("packages_sha256", "kernelrelease", "packages")}
    assert (build_of(older | {"build_id": None}).build_id, build_of(older, "99").config) == (None, "99")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(
            ("packages_sha256", value)
            for value in ("abc", "../../../../etc", 123456789012, "AB" * 32, "ab" * 32 + "\n")
        ),
        *(("kernelrelease", value) for value in (None, 6, "", "6.1\x1b[2J", "6.1\n", "-rf", "6" * 65)),
        *(("build_id", value) for value in (["a"], 5, "xyz")),
        *(("uname_version", value) for value in (["a"], "#1\n", "\x1b[2J")),
        *(("config_sha256", value) for value in (5, "abc")),
        *(("packages", value) for value in ([], {}, ["linux"], None)),
    ],
)
def test_a_member_of_another_form(key: str, value: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        build_of(GOOD | {key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("file", value) for value in (None, "a b", "../linux", "/etc/passwd", ".", "a\0b", "a" * 300, "-rf")),
        *(("size", value) for value in (float("inf"), -1, True, "5", None)),
    ],
)
def test_a_package_of_another_form(key: str, value: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        build_of(GOOD | {"packages": [GOOD["packages"][0] | {key: value}]})
