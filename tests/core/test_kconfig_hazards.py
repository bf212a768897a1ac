"""Options that stop distcc, by name."""

from __future__ import annotations

import pytest

from kbuild_tasks.core.kconfig_hazards import HAZARDS, plugins, warnings


@pytest.mark.parametrize(
    "symbol",
    [
        "X86_NATIVE_CPU",
        "MNATIVE_INTEL",
        "MNATIVE_AMD",
        "DEBUG_INFO_SPLIT",
        "GCOV_KERNEL",
        "DEBUG_INFO_BTF",
        "KERNEL_ZSTD",
        "KERNEL_XZ",
        "LTO_CLANG",
        "MODVERSIONS",
    ],
)
def test_each_is_named_when_it_is_on_and_only_then(symbol: str) -> None:
    (line,) = warnings({symbol: "y"})
    assert line.startswith(f"{symbol}: ")
    assert warnings({symbol: "n"}) == []


def test_every_row_says_why_and_where_from() -> None:
    assert all(h.effect and h.source for h in HAZARDS)
    assert len({h.symbol for h in HAZARDS}) == len(HAZARDS)


PLUGINS = [
    ({}, []),
    ({"GCC_PLUGINS": "y"}, []),
    ({"GCC_PLUGINS": "n", "GCC_PLUGIN_STACKLEAK": "y"}, []),
    ({"GCC_PLUGINS": "y", "GCC_PLUGIN_STACKLEAK": "y"}, ["GCC_PLUGIN_STACKLEAK"]),
    (
        {"GCC_PLUGINS": "y", "GCC_PLUGIN_STRUCTLEAK": "y", "GCC_PLUGIN_LATENT_ENTROPY": "y"},
        ["GCC_PLUGIN_LATENT_ENTROPY", "GCC_PLUGIN_STRUCTLEAK"],
    ),
    (
        {"GCC_PLUGINS": "y", "GCC_PLUGIN_STRUCTLEAK": "y", "GCC_PLUGIN_STRUCTLEAK_VERBOSE": "y"},
        ["GCC_PLUGIN_STRUCTLEAK"],
    ),
    ({"GCC_PLUGINS": "y", "RANDSTRUCT_FULL": "y"}, ["RANDSTRUCT_FULL"]),
]


@pytest.mark.parametrize(("final", "expected"), PLUGINS)
def test_plugins(final: dict[str, str], expected: list[str]) -> None:
    assert plugins(final) == expected
    assert bool(warnings(final)) == bool(expected)


def test_plugins_are_named() -> None:
    (line,) = warnings({"GCC_PLUGINS": "y", "GCC_PLUGIN_STACKLEAK": "y", "GCC_PLUGIN_LATENT_ENTROPY": "y"})
    assert line.startswith("GCC_PLUGINS (LATENT_ENTROPY, STACKLEAK): ")


def test_kcov_by_plugin() -> None:
    with_plugin = {"GCC_PLUGINS": "y", "GCC_PLUGIN_SANCOV": "y", "KCOV": "y"}
    assert any(line.startswith("KCOV ") for line in warnings(with_plugin))
    assert warnings({"KCOV": "y"}) == []
