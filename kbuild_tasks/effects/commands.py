"""The user's verify commands on a node: as ssh.user, without sudo, each in a shell of its own, with a deadline each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kbuild_tasks.core.model import Cluster, Node
from kbuild_tasks.effects import node as remote

LIMIT = 60  # seconds for one command
# The commands come as variables command_1 ...; output is cut and made plain there: it goes into JSON. It goes through a
# fifo to a tail, which holds little however much comes; and what a command leaves running in its group is ended, or is
# waited for a second: it may hold the fifo open for ever.
_SCRIPT = r"""
json=
folder=$(mktemp -d) || die "cannot make a temporary directory	df -h /tmp"
mkfifo "$folder/says"
all=
i=0
while [ "$i" -lt "$count" ]; do
	i=$((i + 1))
	eval "command=\$command_$i"
	tail -c 400 <"$folder/says" >"$folder/said" &
	reader=$!
	timeout -k 2 "$limit" sh -c "$command" >"$folder/says" 2>&1 </dev/null &
	runs=$!
	wait "$runs"
	status=$?
	kill -KILL "-$runs" 2>/dev/null
	for pause in 0 0.1 0.3 0.6; do
		sleep "$pause"
		kill -0 "$reader" 2>/dev/null || break
	done
	kill -KILL "$reader" 2>/dev/null
	wait "$reader" 2>/dev/null
	text out "$(printf %s "$(cat "$folder/said")" | tr '\n\t' '  ')"
	all="$all${all:+, }{$json\"status\": $status}"
	json=
done
rm -rf -- "$folder"
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
