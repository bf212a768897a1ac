"""`doit recover DIRECTORY`: a project of what sync left on this machine. It needs no dodo.py: it makes one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from doit.cmd_base import Command

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.core.visible import visible
from kbuild_tasks.plugin.usage import Usage


class Recover(Usage, Command):
    """`doit recover [--set=NAME] DIRECTORY`"""

    name = "recover"
    doc_purpose = "make a project of what the last sync left on this machine"
    doc_usage = "[--set=NAME] DIRECTORY"
    doc_description = "DIRECTORY is new, or empty. Nothing is asked of other nodes; `doit adopt` does that."
    cmd_options = (
        {
            "name": "set",
            "short": "",
            "long": "set",
            "type": str,
            "default": "",
            "help": "the name of a set in /var/lib/kbuild-tasks/sync; else the current one is taken",
        },
    )

    def execute(self, params: Any, args: list[str]) -> int:
        from kbuild_tasks.effects import synced
        from kbuild_tasks.effects.files import unreadable

        if len(args) != 1:
            sys.stderr.write("doit recover takes the directory to make\nhint: doit recover ~/kernel\n")
            return 3
        directory = Path(args[0]).absolute()
        try:
            name, count, origin = synced.make_project(directory, params["set"] or None)
        except KbuildError as error:
            sys.stderr.write(error.render() + "\n")
            return 1
        except OSError as error:
            sys.stderr.write(unreadable(error).render() + "\n")
            return 1
        whose = f" of {origin.coordinator}, {origin.project}" if origin else ""
        lines = [f"  {directory}: {count} files{whose}; set {name[:12]}"]
        for missing in origin.left_out if origin else ():
            lines.append(f"  not in it, for it is large: {missing}; put it there")
        lines.append("  next: name this node in build.coordinator of cluster.yaml, then doit plan there")
        sys.stdout.write(visible("\n".join(lines)) + "\n")
        return 0
