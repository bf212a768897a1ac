"""One patched Linux kernel for a whole cluster, as doit tasks. What a dodo.py imports: Pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kbuild_tasks.plugin.tasks import Pipeline

__all__ = ["Pipeline"]


def __getattr__(name: str) -> Any:
    """Pipeline is imported when asked for: the lab and the tests use parts of this package without doit."""
    if name == "Pipeline":
        from kbuild_tasks.plugin.tasks import Pipeline

        return Pipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
