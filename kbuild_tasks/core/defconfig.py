"""Whether kernel.config names a make target of the tree or a file: told by its form alone, the same everywhere."""

from __future__ import annotations

import re

_PRESETS = frozenset({"allnoconfig", "allyesconfig", "allmodconfig", "alldefconfig"})
_NOT_A_PRESET = frozenset({"olddefconfig", "savedefconfig"})
_DEFCONFIG = r"[A-Za-z0-9][A-Za-z0-9_.+-]*"


def is_defconfig(config: str) -> bool:
    """Whether kernel.config names a make target of the tree rather than a file.

    >>> [is_defconfig(c) for c in ("bcm2711_defconfig", "allnoconfig", "kernel/config", "./defconfig", "olddefconfig")]
    [True, True, False, False, False]
    """
    if config in _PRESETS:
        return True
    return config.endswith("defconfig") and config not in _NOT_A_PRESET and re.fullmatch(_DEFCONFIG, config) is not None
