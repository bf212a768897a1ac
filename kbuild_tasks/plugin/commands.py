"""doit commands of ours: plan, status, report. Found by entry points (pyproject.toml)."""

from __future__ import annotations

import json
import sys
from typing import Any

from doit.cmd_base import DoitCmdBase

from kbuild_tasks.core.visible import visible
from kbuild_tasks.plugin.stream import guarded
from kbuild_tasks.plugin.usage import Usage

SHOWN_OBJECTS = 12

OPT_JSON: dict[str, Any] = {
    "name": "as_json",
    "short": "",
    "long": "json",
    "type": bool,
    "default": False,
    "help": "print JSON",
}


OPT_ASK: dict[str, Any] = {
    "name": "ask",
    "short": "",
    "long": "ask",
    "type": bool,
    "default": False,
    "help": "ask the nodes of the roll-out now; else what they said last is shown",
}


class Plan(Usage, DoitCmdBase):
    """`doit plan [--json]`"""

    name = "plan"
    doc_purpose = "what a run would do and why; opens no connection, changes nothing"
    doc_usage = "[--json]"
    doc_description = None
    cmd_options = (OPT_JSON,)

    def execute(self, params: Any, args: list[str]) -> Any:
        return refused(self.name, args) or super().execute(params, args)

    @guarded
    def _execute(self, as_json: bool) -> int:
        from kbuild_tasks.plugin import plan, rollout_plan
        from kbuild_tasks.plugin.backend import told
        from kbuild_tasks.plugin.tasks import STAGES, current

        current().learn(*told(self.dep_manager))
        steps = plan.plan(current())
        rollout = rollout_plan.plan(current())
        hint = current().adoption.hint()
        if as_json:
            self.outstream.write(json.dumps(plan.as_json(steps, rollout, hint), indent=1) + "\n")
            return 0
        for step in steps:
            if step.task.startswith(("prepare:", "sync:")) and step.state == "fresh":
                continue
            first, *rest = step.why or [""]
            self.outstream.write(visible(f"  {step.state:<6} {step.task:<12} {first}".rstrip()) + "\n")
            for line in rest:
                self.outstream.write(f"{'':<9}{'':<13}{visible(line)}\n")
            for line in step.warnings:
                self.outstream.write(f"{'':<9}warning: {visible(line)}\n")
            if step.objects:
                shown = " ".join(step.objects[:SHOWN_OBJECTS])
                more = f" and {len(step.objects) - SHOWN_OBJECTS} more" if len(step.objects) > SHOWN_OBJECTS else ""
                noun = "object" if len(step.objects) == 1 else "objects"
                least = "at least " if step.at_least else ""
                self.outstream.write(f"{'':<22}{least}{len(step.objects)} {noun}: {shown}{more}\n")
        if hint:
            self.outstream.write(f"  {visible(hint)}\n")
        if any(step.state not in ("fresh", "hold") for step in rollout):
            behind = next((step.task for step in steps if step.task in STAGES and step.state != "fresh"), "")
            before = f" refuses until doit has run {behind}; then it" if behind else ""
            self.outstream.write(f"  doit rollout{before} would, with what is in artifacts/ now:\n")
            width = max(len(step.task) for step in rollout)
            for step in rollout:
                line = f"  {step.state:<6} {step.task:<{width}}  {' '.join(step.why)}".rstrip()
                self.outstream.write(visible(line) + "\n")
        return 1 if any(step.state == "broken" for step in steps) else 0


class Status(Usage, DoitCmdBase):
    """`doit status [--json] [--ask]`"""

    name = "status"
    doc_purpose = "nodes as they were last seen, the roll-out on each, the last run, and what is in artifacts/"
    doc_usage = "[--json] [--ask]"
    doc_description = None
    cmd_options = (OPT_JSON, OPT_ASK)

    def execute(self, params: Any, args: list[str]) -> Any:
        return refused(self.name, args) or super().execute(params, args)

    @guarded
    def _execute(self, as_json: bool, ask: bool) -> int:
        from kbuild_tasks.plugin import status
        from kbuild_tasks.plugin.backend import told
        from kbuild_tasks.plugin.tasks import current

        current().learn(*told(self.dep_manager))
        value = status.status(current(), ask)
        self.outstream.write(json.dumps(value, indent=1) + "\n" if as_json else status.render(value))
        return 0


class Report(Usage, DoitCmdBase):
    """`doit report`"""

    name = "report"
    doc_purpose = (
        "build/report.html: what was built, why, by whom, what changed, what is wrong; one page, no connection"
    )
    doc_usage = ""
    doc_description = None
    cmd_options = ()

    def execute(self, params: Any, args: list[str]) -> Any:
        return refused(self.name, args) or super().execute(params, args)

    @guarded
    def _execute(self) -> int:
        import os

        from kbuild_tasks.plugin import report
        from kbuild_tasks.plugin.backend import told
        from kbuild_tasks.plugin.tasks import current

        current().learn(*told(self.dep_manager))
        try:
            path = report.write(current())
        except OSError as error:
            self.outstream.write(f"build/report.html cannot be written: {error.strerror or error}\n")
            return 1
        self.outstream.write(visible(os.path.relpath(path)) + "\n")
        return 0


def refused(command: str, args: list[str]) -> int:
    """3, as doit ends for a command line that it does not take, where there are words that would be passed over."""
    if not args:
        return 0
    sys.stderr.write(f"doit {command} takes no {args[0]!r}\nhint: doit help {command}\n")
    return 3
