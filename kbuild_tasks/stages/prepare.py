"""prepare:<node>: one round trip gathers a node's facts and puts it into build mode.

A worker that is down, refuses, or has another compiler is left out with one line that names cause and fix: the build
goes on without it. Only the coordinator being unfit is an error. Either way build/facts/<node>.json tells:
{"node", "state": "ready" | "left-out", "reached": bool, "why", "hint", "facts", "mode", "at": epoch, "run": token}, and
"unsure": true where the node was too slow: it may be in build mode by now.

facts  "cores", "memory", "available", "disk_free" (bytes), "fstype", "source", "mountpoint" of the workdir,
       "compiler" {"version", "machine", "binutils"}, "distccd", "arch", "kernel", "boot_id", "user", "systemd",
       "k3s" (absent | active | ...), "other_distccd", "sync" (set that it has), "clock" {"ahead", "error"}
mode   "cc", "full" (the compiler's name there, and the one with its machine in it, "": none), "jobs", "tmpfs" (bytes,
       0: on disk), "address", "port", "listen", "stopped", "disk_why"

It has no inputs and no receipt: what it brings changes the speed of a build, never its bytes.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import Any

from kbuild_tasks.core import buildmode
from kbuild_tasks.core.errors import CommandFailed, Interrupted, KbuildError, NodeRefused, NodeUnreachable
from kbuild_tasks.core.model import DISTCC_PORT, STATE_DIR, Node, Outcome
from kbuild_tasks.effects import compiler, lock, owner, quarantine
from kbuild_tasks.effects import node as remote
from kbuild_tasks.effects.context import Context
from kbuild_tasks.effects.files import write_json

DEADLINE = 30  # seconds for a node to answer: a slow board starts gcc, as and distccd once each
PROBE = 3  # seconds for its distccd to accept a connection
_asking = threading.Lock()  # nodes are prepared all at once; the compiler is asked once


def run(ctx: Context) -> Outcome:
    """Raises KbuildError when the coordinator is unfit. A worker's failure is an Outcome that is not final."""
    assert ctx.node is not None
    node = ctx.node
    record: dict[str, Any] = {"node": node.name, "state": "left-out", "reached": False, "why": "", "hint": None}
    record |= {"facts": {}, "mode": {}, "at": time.time(), "run": owner.TOKEN}
    try:
        if ctx.cluster.ssh.sudo == "helper" and node.name != ctx.cluster.build.coordinator:
            raise NodeRefused(f"{node.name} gets the kernel and does not compile: ssh.sudo is helper")
        if node.name in (out := quarantine.known(ctx.paths, ctx.cluster)):
            raise NodeRefused(
                f"{node.name} compiles nothing: {quarantine.since(out[node.name])}", f"doit trust:{node.name}"
            )
        _enter(ctx, node, record)
    except Interrupted as error:
        record["why"] = error.message
        raise
    except (NodeUnreachable, NodeRefused, CommandFailed) as error:
        late = isinstance(error, NodeUnreachable) and time.time() - record["at"] >= DEADLINE
        record |= {"why": error.message, "hint": error.hint, "unsure": late}
        if node.name == ctx.cluster.build.coordinator:
            raise
        fix = f"; {error.hint}" if error.hint else ""
        return Outcome(f"left out: {error.message}{fix}", run={"left_out": error.message}, final=False)
    finally:
        write_json(ctx.paths.facts(node.name), record, durable=False)
    warning = buildmode.clock_warning(node.name, record["facts"]["clock"])
    return Outcome(record["why"], run=record["mode"], warnings=(warning,) if warning else (), final=False)


def _enter(ctx: Context, node: Node, record: dict[str, Any]) -> None:
    """Fills in the record; "why" of a node that is ready is its one line."""
    build, workdir = ctx.cluster.build, str(ctx.paths.workdir)
    coordinator = node.name == build.coordinator
    values: dict[str, str | int] = {"workdir": workdir, "state": STATE_DIR, "port": DISTCC_PORT}
    values |= owner.values(ctx.cluster) | {"me": node.name, "leave_script": remote.script("leave")}
    with _asking:
        ours = compiler.toolchain(ctx.cluster.kernel.arch, ctx.paths).identity
    if coordinator:
        _refuse_root(node)
        if ctx.paths.state.is_dir():  # else it is made now, and nobody is at work in it
            _lock_workdir(ctx)
        values |= buildmode.coordinator_values(node, build, os.geteuid(), os.getegid(), ours)
        text = remote.script("leave", "facts", "enter", "coordinator")
    else:
        values |= buildmode.worker_values(node, build, ours)
        text = remote.script("leave", "facts", "enter", "worker")
    sent = time.time()
    answer = remote.ask(ctx.cluster, node, text, values, timeout=DEADLINE)
    received = time.time()

    facts = answer["facts"]
    facts["clock"] = buildmode.clock(sent, float(facts.pop("time")), received)
    record |= {"reached": True, "facts": facts}
    word = answer["refused"]
    if word == "lends-nothing":
        record |= {"state": "ready", "why": "lends no slot", "mode": {"jobs": 0, "tmpfs": 0}}
        return
    if word:
        raise buildmode.refusal(node, workdir, word, answer.get("detail", ""), facts, ours)
    mode = answer["mode"] | {"address": node.address}
    if coordinator:
        _lock_workdir(ctx)
    else:
        _probe(node)
    record |= {"state": "ready", "mode": mode, "why": buildmode.ready(mode, coordinator)}


def _lock_workdir(ctx: Context) -> None:
    """Two projects may have one workdir, one after the other: for the rest of this run it is ours."""
    workdir = ctx.paths.workdir
    try:
        lock.acquire(ctx.paths.state / ".lock", project=str(ctx.paths.root))
    except PermissionError:
        raise KbuildError(
            f"{ctx.paths.state} belongs to somebody else than the user that builds",
            "set another build.workdir.path, or remove it",
        ) from None
    except KbuildError as error:
        raise KbuildError(
            f"{workdir} is another project's at the moment: {error.message}",
            "wait for it, or set another build.workdir.path here",
        ) from None


def _refuse_root(node: Node) -> None:
    if os.geteuid() == 0:
        raise KbuildError(
            f"{node.name}: doit runs as root, and makepkg refuses root",
            "run it as builder (in the lab, doit lab exec does)",
        )


def _probe(node: Node) -> None:
    """A firewall between us and distccd would cost every job 4 s: one connection shows it now."""
    try:
        socket.create_connection((node.address, DISTCC_PORT), PROBE).close()
    except OSError as error:
        raise NodeRefused(
            f"{node.name}'s distccd cannot be reached at {node.address} port {DISTCC_PORT}: {error.strerror or error}",
            f"open TCP port {DISTCC_PORT} there for the coordinator",
        ) from None
