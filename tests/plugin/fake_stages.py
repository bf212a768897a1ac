"""Small true stages for the tests of the doit border: they read their inputs, write a result, and can be told to be
slow or to fail. The real ones are tested with the real kernel in tests/lab.

FAKE_SLEEP="patch:5" sleeps in a child process, FAKE_FAIL="compile" fails, FAKE_BUG="configure" raises what no stage
should raise. Each run() appends its name to build/trace. FAKE_TREE=1 makes a tree in workdir, which the real stages'
lost() then look at; with FAKE_PKGBUILD=1 every stage asks for the PKGBUILD. FAKE_BARE=1: extract has no file of its
own, as the real one of a source that does not lie beside the PKGBUILD. FAKE_AT: what the clock says in prepare.
FAKE_STAYS="n2" refuses to leave build mode, FAKE_AWAY="n2 n3" do not answer then.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
import types
from pathlib import Path

from kbuild_tasks.core.errors import KbuildError, NodeRefused, NodeUnreachable
from kbuild_tasks.core.model import Inputs, Outcome
from kbuild_tasks.effects import places, shell
from kbuild_tasks.effects.files import sha256_file, sha256_text, write_json

BEFORE = {"extract": (), "patch": ("extract",), "configure": ("patch",), "compile": ("patch", "configure")}
BEFORE["package"] = ("compile",)
PLACE, TREE = "linux/src/linux-6.1", "0123456789" * 4
MADE = {"patch": "Makefile", "configure": ".config", "compile": "vmlinux"}


def install() -> None:
    from kbuild_tasks.stages import compile, configure, patch

    real = {"patch": patch, "configure": configure, "compile": compile} if os.environ.get("FAKE_TREE") else {}
    for verb in (*BEFORE, "sync", "prepare", "release", "calibrate"):
        module = types.ModuleType(f"kbuild_tasks.stages.{verb}")
        module.inputs = _inputs(verb)
        module.run = _run
        module.release_node = _release
        if verb in real:
            module.lost = real[verb].lost
        sys.modules[module.__name__] = module


def _inputs(verb):
    def inputs(project, node=None):
        kernel = project.cluster.kernel
        if os.environ.get("FAKE_PKGBUILD"):
            _ = project.pkgbuild
        if verb == "extract" and os.environ.get("FAKE_BARE"):
            return Inputs(values={"arch": kernel.arch})
        if verb == "extract":
            return Inputs(files=(kernel.pkgbuild,), values={"arch": kernel.arch})
        if verb == "patch":
            return Inputs(files=project.series, receipts=BEFORE[verb])
        if verb == "configure":
            return Inputs((kernel.config, *kernel.fragments), {"require": list(kernel.require)}, BEFORE[verb])
        if verb == "sync":
            return Inputs(files=(kernel.pkgbuild, *project.series), values={"address": node.address})
        return Inputs(receipts=BEFORE[verb])

    return inputs


def _trace(context, text: str) -> None:
    with open(context.paths.build / "trace", "a") as file:
        file.write(text + "\n")


def _run(context) -> Outcome:
    task = context.task
    _trace(context, task)
    verb, _, _ = task.partition(":")
    sleeps, _, seconds = os.environ.get("FAKE_SLEEP", "").partition("=")
    if task == sleeps:
        shell.run(["sleep", seconds])
    if task == os.environ.get("FAKE_FAIL"):
        evidence = [os.environ.get("FAKE_EVIDENCE", "line one")]
        raise KbuildError(f"{verb} was told to fail", "unset FAKE_FAIL", evidence=evidence, log="build/logs/x.log")
    if task == os.environ.get("FAKE_BUG"):
        raise ZeroDivisionError("a bug")
    if verb == "prepare":
        record = {"reached": True, "state": "ready", "at": float(os.environ.get("FAKE_AT", time.time()))}
        if context.node.name == os.environ.get("FAKE_SLOW"):
            record |= {"reached": False, "state": "left-out", "unsure": True}
        write_json(context.paths.facts(context.node.name), record)
        return Outcome("ready")
    if task == os.environ.get("FAKE_LEFT_OUT"):
        return Outcome("left out: it is down; start it", run={"left_out": "it is down"}, final=False)
    if verb == "calibrate":
        write_json(context.paths.calibration("n1"), {"version": 1})
        return Outcome("2 nodes timed", lines=("node  alone", "n1    0.5 s"), final=False)
    # comments do not reach the result: an edit of one stops the wave
    root: Path = context.paths.root
    text = "".join(
        line
        for path in sorted([*root.glob("patches/*.patch"), root / "kernel/config", root / "kernel/PKGBUILD"])
        for line in path.read_text().splitlines(keepends=True)
        if not line.startswith("#") and (verb in ("patch", "compile", "package") or path.name != "a.patch")
    )
    tree = context.paths.builddir / PLACE
    if os.environ.get("FAKE_TREE") and verb in MADE:
        if verb == "compile" and sha256_file(tree / ".config") is None:
            raise KbuildError("there is no .config")
        tree.mkdir(parents=True, exist_ok=True)
        (tree / MADE[verb]).write_text(MADE[verb])
    results = {"result": hashlib.sha256(text.encode()).hexdigest(), "pkgbase": "linux", "srctree": "linux-6.1"}
    results |= {"place": PLACE, "tree": PLACE if verb == "compile" else TREE, "prepared": []}
    results["config_sha256"] = sha256_text(".config")
    if os.environ.get("FAKE_TREE") and verb == "patch":
        source = context.paths.repository / "objects" / TREE[:2] / TREE[2:]
        source.parent.mkdir(parents=True, exist_ok=True)
        source.touch()
        places.end_move(context.paths, PLACE, TREE, written=True)
    if os.environ.get("FAKE_TREE") and verb == "compile":
        places.end_build(context.paths, PLACE, places.built(context.paths, TREE, results))
    return Outcome(f"{verb} did it", results, run={"seconds": 0.0, "objects": []}, warnings=("mind this",))


def _release(context, node, *, tree) -> str:
    sleeps, _, seconds = os.environ.get("FAKE_SLEEP", "").partition("=")
    if sleeps == "release":
        _trace(context, "releasing")
        shell.run(["sleep", seconds])
    _trace(context, f"release:{node.name}" + (":tree" if tree else ""))
    if node.name in os.environ.get("FAKE_AWAY", "").split():
        raise NodeUnreachable(f"{node.name} does not answer")
    if node.name == os.environ.get("FAKE_STAYS"):
        raise NodeRefused(f"{node.name} cannot unmount it: it is in use", "end what works there, then: doit release")
    return f"{node.name} left build mode"
