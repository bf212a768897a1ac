"""Options with which no two builds are the same bytes, by name; and what a patch may have pinned."""

from __future__ import annotations

import pytest

from kbuild_tasks.core.reproducible import PAHOLE, SEED, obstacles

RANDOM = "SEED=$(od -A n -t x8 -N 32 /dev/urandom | tr -d ' \\n')\n"
PARALLEL = 'extra_paholeopt="${extra_paholeopt} -j"\n'


@pytest.mark.parametrize(
    ("symbol", "value", "tree"),
    [
        ("MODULE_SIG_KEY", '"certs/signing_key.pem"', {}),
        ("RANDSTRUCT_FULL", "y", {SEED: RANDOM}),
        ("RANDSTRUCT_PERFORMANCE", "y", {SEED: RANDOM}),
        ("GCC_PLUGIN_RANDSTRUCT", "y", {}),  # kernels of before: another script
        ("GCC_PLUGIN_LATENT_ENTROPY", "y", {}),
        ("DEBUG_INFO_BTF", "y", {PAHOLE[0]: PARALLEL}),
        ("DEBUG_INFO_BTF", "y", {PAHOLE[1]: "pahole-flags-$(call test-ge, $(pahole-ver), 122) += -j\n"}),
        ("GCOV_KERNEL", "y", {}),
    ],
)
def test_each_is_named_when_it_is_on_and_only_then(symbol: str, value: str, tree: dict[str, str]) -> None:
    (found,) = obstacles({symbol: value}, tree)
    assert found.symbol == symbol and found.line.startswith(f"{symbol}: ") and found.hint
    assert obstacles({symbol: "n"}, tree) == []
    assert obstacles({}, tree) == []


@pytest.mark.parametrize(
    ("final", "tree"),
    [
        ({"MODULE_SIG": "y", "MODULE_SIG_KEY": '"/home/builder/keys/modules.pem"'}, {}),
        ({"RANDSTRUCT_FULL": "y"}, {SEED: "echo 0123 > $1\n"}),
        ({"DEBUG_INFO_BTF": "y"}, {PAHOLE[0]: 'extra_paholeopt="${extra_paholeopt} --btf_gen_floats"\n'}),
        ({"DEBUG_INFO_BTF": "y"}, {PAHOLE[1]: "-j$(JOBS) --btf_features=encode_force,reproducible_build\n"}),
        ({"IKHEADERS": "y", "BUILD_SALT": '"x"', "LOCALVERSION_AUTO": "y", "DEBUG_INFO_DWARF5": "y"}, {}),
    ],
)
def test_what_is_pinned_is_no_obstacle(final: dict[str, str], tree: dict[str, str]) -> None:
    assert obstacles(final, tree) == []
