"""The config, the fragments and the series of the example kernel: that they say what their documentation promises."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATCHES = ROOT / "patches"
MAINTAINERS = "kbuild-tasks maintainers <maintainers@users.noreply.kbuild-tasks.example>"


def options(path: Path) -> list[tuple[str, str]]:
    """(symbol, value) in the order of the file, "n" for "is not set"; every other line must be a comment or empty."""
    found = []
    for line in path.read_text().splitlines():
        if match := re.fullmatch(r"CONFIG_(\w+)=(.+)", line):
            found.append((match[1], match[2]))
        elif match := re.fullmatch(r"# CONFIG_(\w+) is not set", line):
            found.append((match[1], "n"))
        else:
            assert not line or line.startswith("#"), f"{path.name}: {line!r}"
    return found


FRAGMENTS = sorted((ROOT / "kernel/config.d").glob("*.config"))


@pytest.mark.parametrize("path", [ROOT / "kernel/config", *FRAGMENTS], ids=lambda p: p.name)
def test_a_file_names_a_symbol_once(path: Path) -> None:
    symbols = [symbol for symbol, _ in options(path)]
    assert symbols and len(symbols) == len(set(symbols))


def test_fragments_do_not_contradict_each_other() -> None:
    seen: dict[str, tuple[str, str]] = {}
    for path in FRAGMENTS:
        for symbol, value in options(path):
            assert seen.get(symbol, (value,))[0] == value, f"{symbol}: {path.name} and {seen[symbol][1]}"
            seen[symbol] = (value, path.name)


@pytest.mark.parametrize(
    ("symbol", "value"),
    [
        # quick to compile and to relink
        ("KERNEL_GZIP", "y"),
        ("DEBUG_INFO_NONE", "y"),
        ("UNWINDER_FRAME_POINTER", "y"),
        ("MODVERSIONS", "n"),
        # the same release and bytes wherever it is built
        ("LOCALVERSION", '""'),
        ("LOCALVERSION_AUTO", "n"),
        ("RANDSTRUCT_NONE", "y"),
        # boots without an initramfs, from UEFI or directly, with a serial console
        ("EFI_STUB", "y"),
        ("EFIVAR_FS", "y"),
        ("VFAT_FS", "y"),
        ("EXT4_FS", "y"),
        ("VIRTIO_BLK", "y"),
        ("VIRTIO_NET", "y"),
        ("SERIAL_8250_CONSOLE", "y"),
        ("DEVTMPFS_MOUNT", "y"),
        ("IKCONFIG_PROC", "y"),
        # comes back from a hang
        ("PANIC_TIMEOUT", "10"),
        ("I6300ESB_WDT", "y"),
        ("SOFTLOCKUP_DETECTOR", "y"),
        ("DETECT_HUNG_TASK", "y"),
    ],
)
def test_base(symbol: str, value: str) -> None:
    assert dict(options(ROOT / "kernel/config")).get(symbol) == value


def test_base_has_nothing_that_keeps_objects_from_other_nodes() -> None:
    base = dict(options(ROOT / "kernel/config"))
    stops = ("GCC_PLUGINS", "GCC_PLUGIN_STACKLEAK", "DEBUG_INFO_SPLIT", "X86_NATIVE_CPU", "GCOV_KERNEL")
    assert {symbol: base.get(symbol, "n") for symbol in stops} == dict.fromkeys(stops, "n")


def test_base_says_nothing_of_the_compiler() -> None:
    said = [symbol for symbol, _ in options(ROOT / "kernel/config") if re.match("CC_|GCC_VERSION|AS_|LD_", symbol)]
    assert set(said) <= {"CC_OPTIMIZE_FOR_SIZE", "CC_OPTIMIZE_FOR_PERFORMANCE"}


# --- The series ------------------------------------------------------------------------------------------

SERIES = [
    line.strip() for line in (PATCHES / "series").read_text().splitlines() if line.strip() and not line.startswith("#")
]


def test_the_series_file_names_every_patch_in_order() -> None:
    assert sorted(p.name for p in PATCHES.glob("*.patch")) == SERIES
    assert [name[:4] for name in SERIES] == [f"{n:04}" for n in range(1, len(SERIES) + 1)]


@pytest.mark.parametrize("name", SERIES)
def test_a_patch_has_a_mail_header(name: str) -> None:
    head, _, diff = (PATCHES / name).read_text().partition("\n---\n")
    assert f"\nFrom: {MAINTAINERS}\n" in head
    assert f"\nSigned-off-by: {MAINTAINERS}" in head
    subject = re.search(r"^Subject: \[PATCH\] (.+?)\n\n", head, re.M | re.S)
    assert subject and len(subject[1]) <= 72
    assert diff.count("diff --git ") >= 1


def summary(name: str) -> str:
    """git's own reading of a patch; it fails on one that is cut short."""
    argv = ["git", "apply", "--stat", "--summary", str(PATCHES / name)]
    return subprocess.run(argv, cwd="/", capture_output=True, text=True, check=True).stdout


def test_the_series_has_one_of_each_kind() -> None:
    said = "".join(summary(name) for name in SERIES)
    for kind in ("create mode 100644 ", "delete mode 100644 ", "rename ", "mode change 100644 => 100755 "):
        assert f"\n {kind}" in said
    for touched in ("drivers/block/virtio_blk.c", "net/bridge/br_device.c", "drivers/misc/Kconfig"):
        assert touched in said
