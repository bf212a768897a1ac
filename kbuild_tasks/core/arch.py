"""Architectures in the words of pacman, the kernel and the compilers. Pure."""

from __future__ import annotations

from collections.abc import Callable

KERNEL_ARCH = {"x86_64": "x86", "aarch64": "arm64", "armv7h": "arm"}  # pacman's word -> arch/ of the kernel
# What stands before gcc in the name of a compiler for it, first the names of Debian's and Arch's packages, then those
# of the toolchains that Arch Linux ARM's own compilers are called by.
PREFIXES = {
    "x86_64": ("x86_64-linux-gnu-", "x86_64-pc-linux-gnu-"),
    "aarch64": ("aarch64-linux-gnu-", "aarch64-unknown-linux-gnu-"),
    "armv7h": ("arm-linux-gnueabihf-", "armv7l-unknown-linux-gnueabihf-", "arm-none-linux-gnueabihf-"),
}
_FIRST = {"x86_64": ("x86_64",), "aarch64": ("aarch64",), "armv7h": ("arm", "armv7l", "armv7")}


def makes(arch: str, machine: str) -> bool:
    """Whether a compiler that says `machine` to -dumpmachine ("aarch64-linux-gnu") makes kernels for `arch`."""
    return machine.partition("-")[0] in _FIRST[arch]


def cross(arch: str, machine: str, has: Callable[[str], bool]) -> str | None:
    """CROSS_COMPILE (Documentation/kbuild/kbuild.rst): "" where the machine's own gcc makes the kernel, else the first
    prefix whose gcc is there; None where there is none.

    machine  what that gcc says to -dumpmachine
    has      whether a program of this name is there
    """
    if makes(arch, machine):
        return ""
    return next((prefix for prefix in PREFIXES[arch] if has(f"{prefix}gcc")), None)


def debian_package(gcc: str) -> str:
    """The package of a cross compiler; its names have no "_"."""
    return f"gcc-{gcc.removesuffix('-gcc')}".replace("_", "-")
