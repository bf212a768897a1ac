"""What a run says that a signal has ended: what is kept, how to go on, and what happens meanwhile to a node that was
left half-way through its reboot."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Collection

from kbuild_tasks.core.progress import duration
from kbuild_tasks.plugin import run
from kbuild_tasks.plugin.rollout import VERBS, RolloutTasks

HALF_WAY = {
    "ARMED": "its next boot, whoever asks for it, tries the new kernel once",
    "REBOOTING": "was asked to reboot into the new kernel",
    "BACK": "runs the new kernel on trial",
    "VERIFIED": "runs the new kernel on trial",
}


def command() -> str:
    """What was asked of doit: its tasks and words, without options."""
    from doit import doit_cmd

    given = doit_cmd._CMDLINE_VARS or {}
    return shlex.join(["doit", *run.asked, *(f"{name}={value}" for name, value in given.items())])


def told(number: int, tasks: Collection[str], rollout: RolloutTasks) -> list[str]:
    """number: of the signal; tasks: all that the run was to do."""
    acts = [task for task in tasks if rollout.is_rollout(task)]
    kept = "what was done on the nodes is kept" if acts else "finished stages are kept"
    by = "Ctrl-C" if number == signal.SIGINT else f"signal {number}"
    lines = [f"ended by {by}; {kept}: run {command()} again"]
    if any(task.partition(":")[0] in VERBS for task in acts):
        lines += _half_way(rollout)
    return lines


def _half_way(rollout: RolloutTasks) -> list[str]:
    """Of nodes that boot, or have booted, what nobody has verified: the dead man there takes it back (node/node.sh)."""
    left = {name: state for name, state in rollout.states(rollout.names).items() if state in HALF_WAY}
    if not left:
        return []
    from kbuild_tasks.stages.reboot import unseen

    limit = duration(unseen(rollout.pipeline.project.cluster.rollout))
    return [
        f"{name}: {HALF_WAY[state]}; unless doit rollout verifies it, it goes back to its old kernel by itself, "
        f"{limit} after that boot"
        for name, state in left.items()
    ]
