"""Callables for task dictionaries whose text a person can read: `doit info` and `doit clean` print them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from doit.dependency import UptodateCalculator

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.plugin.backend import told

if TYPE_CHECKING:
    from kbuild_tasks.plugin.tasks import Pipeline


class Freshness(UptodateCalculator):
    """An `uptodate` of doit: true while Pipeline.why() tells nothing, and the task was not forgotten; as text, what it
    tells.

    doit itself runs a task that was forgotten only where it has a file_dep.
    """

    def __init__(self, task: str, pipeline: Pipeline) -> None:
        super().__init__()
        self._task, self._pipeline = task, pipeline

    def setup(self, dep_manager: Any, tasks_dict: Any) -> None:
        super().setup(dep_manager, tasks_dict)
        self._pipeline.learn(*told(dep_manager))

    def __call__(self) -> bool:
        return not self._told()

    def __repr__(self) -> str:
        return "; ".join(self._told()) or "fresh"

    def _told(self) -> Sequence[str]:
        if self._pipeline.forgotten(self._task):
            return ["forgotten (doit forget)"]
        try:
            return self._pipeline.why(self._task)
        except KbuildError as error:  # told in full when the task runs
            return [error.message]


class Cleaning:
    """A `clean` action of doit."""

    def __init__(self, task: str, clean: Callable[[str, bool], None]) -> None:
        self._task, self._clean = task, clean

    def __call__(self, dryrun: bool = False) -> None:
        self._clean(self._task, dryrun)

    def __repr__(self) -> str:
        return f" remove what {self._task} made"  # doit drops the first character
