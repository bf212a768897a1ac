"""release: nodes leave build mode, by what is recorded on each: what was running before runs after.

Called for every node at the end of a run (the coordinator's tree stays then, or nothing would be incremental) and by
the task `release` (tree=True: the coordinator's tmpfs is unmounted too). Works after a crash, and twice.
"""

from __future__ import annotations

from kbuild_tasks.core.errors import NodeUnreachable
from kbuild_tasks.core.model import STATE_DIR, Node
from kbuild_tasks.effects import node as remote
from kbuild_tasks.effects import owner
from kbuild_tasks.effects.context import Context

DEADLINE = 45  # seconds: 20 for a prepare that is still at work there, and a k3s agent may take some to start
LATER = "a node leaves build mode by itself at its next boot, or after a day; sooner: doit release when it is back"


def release_node(ctx: Context, node: Node, tree: bool = False) -> str:
    """One line of what happened. Raises NodeRefused or CommandFailed where something is in the way on the node, with
    all else put back, and NodeUnreachable."""
    keep_tree = node.name == ctx.cluster.build.coordinator and not tree
    values: dict[str, str | int] = {"state": STATE_DIR, "tree": 0 if keep_tree else 1}
    values |= owner.values(ctx.cluster)
    if tree:
        values["token"] = ""  # the task is a part of its run: `doit release prepare` goes on
    try:
        answer = remote.ask(ctx.cluster, node, remote.script("leave", "release"), values, timeout=DEADLINE)
    except NodeUnreachable as error:
        raise NodeUnreachable(error.message, LATER, evidence=error.evidence) from None
    if answer["other"]:
        return f"{node.name}: {answer['did'] or 'not touched'}, in build mode for {answer['other']}"
    nothing = "the tree stays" if keep_tree else "was not in build mode"
    return f"{node.name}: {answer['did'] or nothing}"
