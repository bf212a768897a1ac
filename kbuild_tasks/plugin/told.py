"""Callables for task dictionaries whose text a person can read: `doit info` and `doit clean` print them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kbuild_tasks.core.errors import KbuildError


class Freshness:
    """An `uptodate` of doit: true while `why` tells nothing; as text, what it tells."""

    def __init__(self, why: Callable[[], Sequence[str]]) -> None:
        self._why = why

    def __call__(self) -> bool:
        return not self._told()

    def __repr__(self) -> str:
        return "; ".join(self._told()) or "fresh"

    def _told(self) -> Sequence[str]:
        try:
            return self._why()
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
