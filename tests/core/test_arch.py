"""Which compiler makes a kernel."""

from __future__ import annotations

import pytest

from kbuild_tasks.core import arch

DEBIAN = {"aarch64-linux-gnu-gcc", "arm-linux-gnueabihf-gcc"}


@pytest.mark.parametrize(
    ("wanted", "machine", "there", "prefix"),
    [
        ("x86_64", "x86_64-linux-gnu", set(), ""),
        ("x86_64", "x86_64-pc-linux-gnu", {"x86_64-pc-linux-gnu-gcc"}, ""),
        ("aarch64", "aarch64-unknown-linux-gnu", set(), ""),
        ("armv7h", "armv7l-unknown-linux-gnueabihf", set(), ""),
        ("armv7h", "arm-linux-gnueabihf", set(), ""),
        ("aarch64", "x86_64-linux-gnu", DEBIAN, "aarch64-linux-gnu-"),
        ("armv7h", "x86_64-linux-gnu", DEBIAN, "arm-linux-gnueabihf-"),
        ("armv7h", "aarch64-linux-gnu", DEBIAN, "arm-linux-gnueabihf-"),
        ("armv7h", "x86_64-pc-linux-gnu", {"armv7l-unknown-linux-gnueabihf-gcc"}, "armv7l-unknown-linux-gnueabihf-"),
        ("x86_64", "aarch64-linux-gnu", {"x86_64-linux-gnu-gcc"}, "x86_64-linux-gnu-"),
        ("aarch64", "x86_64-linux-gnu", {"arm-linux-gnueabihf-gcc"}, None),
    ],
)
def test_cross(wanted: str, machine: str, there: set[str], prefix: str | None) -> None:
    assert arch.cross(wanted, machine, there.__contains__) == prefix


def test_every_architecture_has_all_its_words() -> None:
    assert set(arch.KERNEL_ARCH) == set(arch.PREFIXES)
    assert all(arch.makes(name, f"{arch.PREFIXES[name][0]}x") for name in arch.PREFIXES)


def test_debians_packages() -> None:
    assert arch.debian_package("x86_64-linux-gnu-gcc") == "gcc-x86-64-linux-gnu"
    assert arch.debian_package("arm-linux-gnueabihf-gcc") == "gcc-arm-linux-gnueabihf"
