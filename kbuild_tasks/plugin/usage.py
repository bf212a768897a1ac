"""A command line that doit does not take is answered in our words, and -h after a word of ours is a question.

doit parses in parse_execute(), and DoitMain prints what is raised there as it is, with a list of all options. A command
line that is right costs nothing here: what an answer needs is imported when one is due (plugin/meant.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from doit.cmd_help import Help as DoitHelp
from doit.cmdparse import CmdParseError
from doit.exceptions import InvalidCommand


class Usage:
    """In front of a command's class: class Plan(Usage, DoitCmdBase)."""

    task_list: Sequence[Any] = ()  # until dodo.py was read

    def parse_execute(self, in_args: Sequence[str]) -> Any:
        try:
            return super().parse_execute(in_args)  # type: ignore[misc]
        except (CmdParseError, InvalidCommand) as error:
            from kbuild_tasks.plugin import meant

            return meant.answer(self, in_args, error)


class Help(Usage, DoitHelp):
    """doit's own, which takes a task that does not exist for no question at all."""

    name = "help"

    def _execute(self, pos_args: list[str]) -> bool:
        from kbuild_tasks.plugin import meant

        print(meant.task_help(self, pos_args[0]))
        return True
