"""The merge, the proof, the waivers and the difference, as tables."""

from __future__ import annotations

from datetime import date

import pytest

from kbuild_tasks.core.defconfig import is_defconfig
from kbuild_tasks.core.errors import ConfigError
from kbuild_tasks.core.kconfig import (
    Unmet,
    base_differences,
    diff,
    is_derived,
    judge,
    merge,
    prove,
)
from kbuild_tasks.core.kconfig_syntax import Request, parse, required
from kbuild_tasks.core.model import Waiver

BASE = "CONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_NR=8\n"


def merged(*fragments: str, base: str = BASE, require: tuple[str, ...] = ()):  # type: ignore[no-untyped-def]
    parsed = [parse(text, f"{number}.config") for number, text in enumerate(fragments, 1)]
    return merge(parse(base, "base"), parsed, required(require, dict.fromkeys(require, 9), "cluster.yaml"))


MERGES = [
    ((), (), "CONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_NR=8\n"),
    (("CONFIG_C=y",), (), "CONFIG_A=y\nCONFIG_B=m\nCONFIG_NR=8\nCONFIG_C=y\n"),
    (("CONFIG_A=n",), (), "CONFIG_B=m\n# CONFIG_C is not set\nCONFIG_NR=8\n# CONFIG_A is not set\n"),
    (
        ("CONFIG_A=m\nCONFIG_NR=4", "CONFIG_A=y"),
        (),
        "CONFIG_B=m\n# CONFIG_C is not set\nCONFIG_NR=4\nCONFIG_A=y\n",
    ),
    ((), ("A", "B"), "CONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_NR=8\n"),
    ((), ("C", "D"), "CONFIG_A=y\nCONFIG_B=m\nCONFIG_NR=8\nCONFIG_C=y\nCONFIG_D=y\n"),
    (("CONFIG_C=m",), ("C",), "CONFIG_A=y\nCONFIG_B=m\nCONFIG_NR=8\nCONFIG_C=m\n"),
]


@pytest.mark.parametrize(("fragments", "require", "text"), MERGES)
def test_merge(fragments: tuple[str, ...], require: tuple[str, ...], text: str) -> None:
    assert merged(*fragments, require=require).text == text


PROOFS = [
    # fragments, require, final, unmet: symbol, wanted, got, who overrode
    (("CONFIG_X=y",), (), {"X": "y"}, []),
    (("CONFIG_X=y",), (), {"X": "m"}, [("X", "y", "m", None)]),
    (("CONFIG_X=m",), (), {"X": "y"}, [("X", "m", "y", None)]),
    (("CONFIG_X=y",), (), {}, [("X", "y", "n", None)]),
    (("CONFIG_X=y",), (), {"X": "n"}, [("X", "y", "n", None)]),
    (("CONFIG_X=n",), (), {}, []),
    (("# CONFIG_X is not set",), (), {"X": "n"}, []),
    (("# CONFIG_X is not set",), (), {"X": "y"}, [("X", "n", "y", None)]),
    (("CONFIG_X=n",), (), {"X": "m"}, [("X", "n", "m", None)]),
    (('CONFIG_X="a"',), (), {"X": '"a"'}, []),
    (('CONFIG_X="a"',), (), {"X": '"b"'}, [("X", '"a"', '"b"', None)]),
    (('CONFIG_X="a"',), (), {}, [("X", '"a"', "nothing", None)]),
    (('CONFIG_X=""',), (), {}, []),
    (("CONFIG_X=8",), (), {"X": "8"}, []),
    (("CONFIG_X=8",), (), {"X": "64"}, [("X", "8", "64", None)]),
    (("CONFIG_X=8",), (), {}, [("X", "8", "nothing", None)]),
    (("CONFIG_X=0x0A",), (), {"X": "0xa"}, []),
    ((), ("X",), {"X": "m"}, []),
    ((), ("X",), {"X": "y"}, []),
    ((), ("X",), {"X": "n"}, [("X", "y or m", "n", None)]),
    ((), ("X",), {}, [("X", "y or m", "n", None)]),
    (("CONFIG_X=y", "CONFIG_X=n"), (), {"X": "n"}, [("X", "y", "n", "2.config:1")]),
    (("CONFIG_X=y\nCONFIG_X=m",), (), {"X": "m"}, [("X", "y", "m", "1.config:2")]),
    (("CONFIG_X=y", "CONFIG_X=y"), (), {"X": "n"}, [("X", "y", "n", None), ("X", "y", "n", None)]),
    (("CONFIG_X=n",), ("X",), {"X": "y"}, [("X", "n", "y", "cluster.yaml:9")]),
    (("CONFIG_X=0x10", "CONFIG_X=0x010"), (), {"X": "0x10"}, []),
    (('CONFIG_CC_VERSION_TEXT="gcc 13"\nCONFIG_GCC_VERSION=130000\nCONFIG_CC_HAS_INT128=y',), (), {}, []),
]


@pytest.mark.parametrize(("fragments", "require", "final", "expected"), PROOFS)
def test_proof(
    fragments: tuple[str, ...], require: tuple[str, ...], final: dict[str, str], expected: list[tuple[str, ...]]
) -> None:
    unmet = prove(merged(*fragments, base="CONFIG_BASE=y\n", require=require), final)
    told = [
        (u.request.symbol, u.request.wanted, u.shown, u.overridden_by.where if u.overridden_by else None) for u in unmet
    ]
    assert told == expected


def test_the_base_is_counted_where_nobody_overrides_it() -> None:
    base = BASE + 'CONFIG_CC_VERSION_TEXT="gcc 13"\nCONFIG_GCC_VERSION=130000\n'
    found = base_differences(merged("CONFIG_A=n", base=base), {"B": "y", "NR": "64"})
    assert [u.line for u in found] == [
        "CONFIG_B: wanted m, got y (base:2)",
        "CONFIG_NR: wanted 8, got 64 (base:4)",
    ]


DERIVED = ["CC_VERSION_TEXT", "GCC_VERSION", "CLANG_VERSION", "AS_VERSION", "LD_VERSION", "LLD_VERSION"]
DERIVED += ["PAHOLE_VERSION", "RUSTC_VERSION", "RUSTC_LLVM_VERSION", "RUSTC_VERSION_TEXT", "CC_IS_GCC", "CC_CAN_LINK"]
DERIVED += ["AS_IS_GNU", "LD_IS_BFD", "CC_HAS_ASM_INLINE", "AS_TPAUSE", "TOOLS_SUPPORT_RELR"]


@pytest.mark.parametrize("symbol", DERIVED)
def test_findings_about_tools_are_nobodys_request(symbol: str) -> None:
    assert is_derived(symbol)


@pytest.mark.parametrize("symbol", ["MODVERSIONS", "CRYPTO_FIPS_VERSION", "CC_OPTIMIZE_FOR_SIZE", "ASYNC_CORE", "LDM"])
def test_options_are_requests(symbol: str) -> None:
    assert not is_derived(symbol)


PRESETS = [
    ("defconfig", True),
    ("bcm2711_defconfig", True),
    ("x86_64_defconfig", True),
    ("tinyconfig", False),
    ("allnoconfig", True),
    ("kernel/config", False),
    ("config", False),
    ("./defconfig", False),
    ("kernel/my_defconfig", False),
    ("olddefconfig", False),
    ("savedefconfig", False),
    ("menuconfig", False),
    ("randconfig", False),
    ("-f x_defconfig", False),
    ("a b_defconfig", False),
    ("$(shell id)_defconfig", False),
    ("clean\nx_defconfig", False),
]


@pytest.mark.parametrize(("name", "expected"), PRESETS)
def test_which_names_are_targets(name: str, expected: bool) -> None:
    assert is_defconfig(name) is expected


TODAY = date(2027, 1, 31)
WAIVERS = [
    # until, unmet symbols, failing, waived, expired, unused
    ("2027-02-01", ["X"], [], ["X"], [], []),
    ("2027-01-31", ["X"], [], ["X"], [], []),
    ("2027-01-30", ["X"], ["X"], [], ["X"], []),
    ("2027-02-01", ["Y"], ["Y"], [], [], ["X"]),
    ("2027-01-30", [], [], [], [], ["X"]),
]


@pytest.mark.parametrize(("until", "symbols", "failing", "waived", "expired", "unused"), WAIVERS)
def test_waivers(
    until: str, symbols: list[str], failing: list[str], waived: list[str], expired: list[str], unused: list[str]
) -> None:
    unmet = [Unmet(Request(s, "y", "f", 1), None) for s in symbols]
    for spelling in ("X", "CONFIG_X"):
        verdict = judge(unmet, [Waiver(spelling, until, "why")], TODAY, "cluster.yaml")
        assert [u.request.symbol for u in verdict.failing] == failing
        assert [u.request.symbol for u, _ in verdict.waived] == waived
        assert [w.symbol.removeprefix("CONFIG_") for w in verdict.expired] == expired
        assert [w.symbol.removeprefix("CONFIG_") for w in verdict.unused] == unused


def test_a_renewed_waiver_counts_beside_its_expired_one() -> None:
    unmet = [Unmet(Request("X", "y", "f", 1), None)]
    verdict = judge(unmet, [Waiver("X", "2028-01-01", "b"), Waiver("X", "2026-01-01", "a")], TODAY, "cluster.yaml")
    assert (verdict.failing, verdict.expired) == ((), ())


@pytest.mark.parametrize("until", ["2027-02-30", "soon", "", "2027-13-01"])
def test_a_waiver_needs_a_day_that_exists(until: str) -> None:
    with pytest.raises(ConfigError, match=r"cluster.yaml:5: kernel.waivers: "):
        judge([], [Waiver("X", until, "why", 5)], TODAY, "cluster.yaml")


def test_diff() -> None:
    old = {"A": "y", "B": "n", "C": "m", "D": '"x"', "E": "8"}
    new = {"A": "y", "C": "y", "D": '"y"', "F": "n", "G": "y"}
    assert diff(old, new) == [
        ("C", "m", "y"),
        ("D", '"x"', '"y"'),
        ("E", "8", None),
        ("G", None, "y"),
    ]
    assert diff(old, old) == []
