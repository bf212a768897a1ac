"""One remark on a PKGBUILD. Apart from what makes it (core/pkgbuild_lint.py): a run that has nothing to do reads those
of the last time, and loads no rules."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """kind: refuse | warn; stage: which it concerns; line: of the PKGBUILD, 0 where it was not found.

    program  it holds only where this program is not installed
    several  it holds only where the cluster has more than one node
    """

    kind: str
    stage: str
    line: int
    text: str
    hint: str
    program: str = ""
    several: bool = False

    def told(self, name: str) -> str:
        return f"{name}:{self.line}: {self.text}" if self.line else f"{name}: {self.text}"
