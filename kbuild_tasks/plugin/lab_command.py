"""`doit lab`: a thin face of kbuild_tasks.lab, usable in a project whose cluster.yaml is broken or missing.

The words are taken from sys.argv: doit takes every word with `=` in it for a variable of its own and removes it
before a command sees it, and `doit lab exec kubenode2 -- make LOCALVERSION=-x` must not lose one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doit.cmd_base import Command

from kbuild_tasks.core.errors import ConfigError, KbuildError

if TYPE_CHECKING:
    from kbuild_tasks.lab.arguments import Request
    from kbuild_tasks.lab.lab import Lab as LabType
    from kbuild_tasks.lab.lab import NodeStatus


class Lab(Command):
    """`doit lab up|down|status|exec|...`"""

    name = "lab"
    doc_purpose = "a cluster on this machine, for trying and testing"
    doc_usage = "up|down|status|exec|shell|stop|start|freeze|thaw|cut|join|cpu|base ..."
    doc_description = "`doit lab --help` tells the verbs."

    def parse_execute(self, in_args: Sequence[str]) -> int:
        from kbuild_tasks.lab import arguments

        try:
            request = arguments.parse(raw_words(sys.argv[1:], in_args))
        except ConfigError as error:
            sys.stderr.write(error.render() + "\n")
            return 3  # doit's, of a command line that it does not take
        try:
            if request.verb == "help":
                sys.stdout.write(arguments.USAGE)
                return 0
            return _carry_out(request, project(Path((self.opt_vals or {}).get("cwdPath") or ".")))
        except KbuildError as error:
            sys.stderr.write(error.render() + "\n")
            return 1
        except KeyboardInterrupt:
            return 130


def raw_words(typed: Sequence[str], left: Sequence[str]) -> list[str]:
    """What was typed after `lab`, given what doit left of it; the latter where we were not started by typing."""
    for i, word in enumerate(typed):
        rest = list(typed[i + 1 :])
        if word == "lab" and [w for w in rest if w.startswith("-") or "=" not in w] == list(left):
            return rest
    return list(left)


def project(start: Path) -> Path:
    """The directory of the project: where dodo.py or cluster.yaml is, from `start` upwards; else `start`."""
    start = start.resolve()
    for directory in (start, *start.parents):
        if (directory / "dodo.py").exists() or (directory / "cluster.yaml").exists():
            return directory
    return start


def _carry_out(request: Request, root: Path) -> int:
    from kbuild_tasks.lab.lab import Lab as LabOf

    lab = LabOf(root)
    verb = request.verb
    if verb == "up":
        _print_nodes(lab.up(request.nodes, request.shares, _narrate, request.vms))
    elif verb == "down":
        print(_farewell(lab, lab.down(request.wipe)))
    elif verb == "status":
        _status(lab, request.json)
    elif verb == "exec":
        return lab.run_here(request.node, request.argv, request.user)
    elif verb == "shell":
        # A terminal of the node's own, so that tty(1), job control and sudo work as at its console.
        return lab.run_here(request.node, ["/usr/bin/script", "-qec", "exec bash -l", "/dev/null"], request.user)
    elif verb == "cpu":
        lab.cpu(request.node, request.shares[0])
    elif verb == "base":
        from kbuild_tasks.lab import base, vm_image

        base.ensure(lab.places, _narrate)
        if request.vms:
            vm_image.ensure(lab.places, request.vms, _narrate)
    else:
        getattr(lab, verb)(request.node)
    return 0


def _narrate(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _status(lab: LabType, as_json: bool) -> None:
    nodes = lab.status()
    if as_json:
        print(json.dumps([asdict(node) for node in nodes], indent=1))
    elif nodes:
        _print_nodes(nodes)
    else:
        print("the lab is not up")


def _farewell(lab: LabType, was_up: bool) -> str:
    text = "the lab is down" if was_up else "the lab was not up"
    kept = lab.places.disks.exists()
    return text + (f"; the nodes' disks stay in {lab.places.disks} (--wipe removes them)" if kept else "")


def _print_nodes(nodes: Sequence[NodeStatus]) -> None:
    for node in nodes:
        remarks: list[Any] = [] if node.kind == "container" else [f"VM, {node.kind}"]
        if node.cut:
            remarks.append("cut off the network")
        if node.share is not None:
            remarks.append(f"at most {node.share:g} {'core' if node.share == 1 else 'cores'}")
        if node.boots > 1:
            verb = "booted" if node.kind == "container" else "switched on"  # a VM's own reboots are not seen
            remarks.append(f"{verb} {node.boots} times since doit lab up")
        if node.state == "crashed":
            remarks.append(f"its process ended with {node.exit}")
        if node.volatile:
            remarks.append("disk in memory")
        print(f"  {node.state:<8}{node.name:<12} {node.address:<12} {'; '.join(remarks)}".rstrip())
