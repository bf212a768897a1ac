"""Modules imported when they are first used: what all stages import together is the time of a run with nothing to do.

For modules that only run() needs, as a stage's inputs() is asked in every run. Type checkers see the plain import:

    if TYPE_CHECKING:
        from kbuild_tasks.core import hosts
    else:
        hosts = later("kbuild_tasks.core.hosts")
"""

from __future__ import annotations

import importlib
from typing import Any


class _Later:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


def later(name: str) -> Any:
    """Stands for the module `name`; every access goes through, so what a test replaces there is seen."""
    return _Later(name)
