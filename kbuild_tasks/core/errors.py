"""What can go wrong, told in one sentence and one thing to type.

Every error that a user may meet is a KbuildError. It is raised anywhere below and turned into a task's failure
by one door, at the doit border (plugin/action.py); nothing else prints an error or ends the process.
"""

from __future__ import annotations

from collections.abc import Sequence

from kbuild_tasks.core.visible import visible

EVIDENCE_LINES = 10


class KbuildError(Exception):
    """One sentence (subject first), evidence, the log to read, the next thing to type.

    message   "0003-sched.patch does not apply (3 of 24)"
    evidence  lines of output or source, at most ten are shown
    log       path of the log that holds the rest
    hint      the next action, as a command where there is one
    """

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        *,
        evidence: Sequence[str] = (),
        log: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.evidence = tuple(evidence)
        self.log = log

    def render(self) -> str:
        """The whole error as the terminal shows it, without a trailing newline."""
        lines = [self.message]
        lines += [f"  {line}" for line in self.evidence[:EVIDENCE_LINES]]
        if self.log:
            lines.append(f"log:  {self.log}")
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return visible("\n".join(lines))


class ConfigError(KbuildError):
    """A user's file (cluster.yaml, PKGBUILD, a fragment, a patch) cannot be used as it is."""


class NodeUnreachable(KbuildError):
    """ssh could not reach or log in to a node: its exit status 255, never a command's own result."""


class Interrupted(KbuildError):
    """The run is being stopped, and this was cut short by that: it says nothing of a node, nor of a program."""


class NodeRefused(KbuildError):
    """A node was reached, but is not fit for the work: no sudo, another compiler, no space.

    word  what the helper refused for, in one word: space-boot, denied, fence ...; "" for others
    """

    word = ""


class CommandFailed(KbuildError):
    """A program ended with a status other than 0, was killed, or passed its deadline."""

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        *,
        evidence: Sequence[str] = (),
        log: str | None = None,
        code: int = 1,
        timed_out: bool = False,
    ) -> None:
        super().__init__(message, hint, evidence=evidence, log=log)
        self.code = code
        self.timed_out = timed_out
