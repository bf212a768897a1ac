"""The user's verify commands on a node: as ssh.user, without sudo, each in a shell of its own, with a deadline each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kbuild_tasks.core.model import Cluster, Node
from kbuild_tasks.effects import node as remote

LIMIT = 60  # seconds for one command
# The commands come as variables command_1 ...; output is cut and made plain there: it goes into JSON.
_SCRIPT = r"""
json=
all=
i=0
while [ "$i" -lt "$count" ]; do
	i=$((i + 1))
	eval "command=\$command_$i"
	out=$(timeout -k 2 "$limit" sh -c "$command" 2>&1 </dev/null)
	status=$?
	text out "$(printf %s "$out" | tail -c 400 | tr '\n\t' '  ')"
	all="$all${all:+, }{$json\"status\": $status}"
	json=
done
printf '{"ran": [%s]}\n' "$all"
"""


def run(cluster: Cluster, node: Node, commands: Sequence[str]) -> list[dict[str, Any]]:
    """[{"command", "status", "out"}]; status 124 is one that did not end in time. Raises as node.ask()."""
    values: dict[str, str | int] = {"count": len(commands), "limit": LIMIT}
    values |= {f"command_{index}": command for index, command in enumerate(commands, 1)}
    answer = remote.ask(
        cluster, node, remote.script() + _SCRIPT, values, timeout=LIMIT * len(commands) + 30, sudo=False
    )
    ran = answer["ran"]
    return [{"command": command, **result} for command, result in zip(commands, ran, strict=False)]
