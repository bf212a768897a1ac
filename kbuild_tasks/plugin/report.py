"""`doit report`: gathers what the project's files tell, and writes build/report.html. Opens no connection, changes
nothing else, and works with any of them missing."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.core.patchparse import parse_patch
from kbuild_tasks.effects import journal, lock, published, trace
from kbuild_tasks.effects.files import read_json, read_record, write_atomic
from kbuild_tasks.effects.packed import unpacked
from kbuild_tasks.effects.rollout import journal_file
from kbuild_tasks.plugin import rollout_status, status
from kbuild_tasks.plugin.plan import plan
from kbuild_tasks.plugin.tasks import STAGES, Pipeline
from kbuild_tasks.report.model import Material
from kbuild_tasks.report.page import page

PATCH_BYTES = 16 << 20
_SUBJECT = re.compile(rb"^Subject: (.*(?:\n[ \t].*)*)", re.MULTILINE)
_TAG = re.compile(r"^\[[^\]]*\]\s*")


def write(pipeline: Pipeline) -> Path:
    """Raises OSError where the page cannot be written."""
    path: Path = pipeline.project.paths.build / "report.html"
    write_atomic(path, page(gather(pipeline)).encode("utf-8", "replace"), durable=False)
    return path


def gather(pipeline: Pipeline) -> Material:
    project = pipeline.project
    paths, cluster = project.paths, project.cluster
    running = lock.holder(paths.build / ".lock")  # before last-run.json: a run that ends in between was not killed
    files = {
        "last_run": paths.build / "last-run.json",
        "done": paths.build / "last-done.json",
        "manifest": paths.artifacts / "manifest.json",
        "now": published.now(paths),
        "before": published.before(paths),
        "patch": paths.receipt("patch"),
    }
    told: dict[str, Any] = {name: read_record(path) for name, path in files.items()}
    damaged = [_shown(paths.root, path) for name, path in files.items() if not told[name] and path.exists()]
    spans = read_json(trace.path(paths))
    if trace.path(paths).exists() and spans is None:
        damaged.append(_shown(paths.root, trace.path(paths)))
    steps: list[dict[str, Any]] = []
    why = ""
    try:
        steps = [asdict(step) for step in plan(pipeline)]
    except (KbuildError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        why = str(error)
    nodes = [node.name for node in cluster.active]
    tasks = [f"{verb}:{node}" for verb in ("prepare", "sync") for node in nodes]
    tasks += [
        *STAGES,
        *(f"{verb}:{name}" for verb in ("deploy", "reboot", "verify") for name in pipeline.rollout.names),
    ]
    return Material(
        at=time.time(),
        root=str(paths.root),
        coordinator=cluster.build.coordinator,
        tasks=tasks,
        running=running,
        trace=spans,
        config=_text(paths.build / "config"),
        plan=steps,
        plan_error=why,
        patches=_patches(paths.root, told["patch"]),
        nodes={name: status.node(pipeline, name) for name in cluster.nodes},
        rollout=_rollout(pipeline),
        journals=_journals(pipeline),
        damaged=damaged,
        **told,
    )


def _shown(root: Path, path: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _text(path: Path) -> str:
    try:
        with open(path, encoding="utf-8", errors="backslashreplace") as file:
            return file.read(published.CONFIG_BYTES)
    except OSError:
        return ""


def _rollout(pipeline: Pipeline) -> dict[str, dict[str, Any]]:
    try:
        return rollout_status.status(pipeline)
    except (KeyError, TypeError, ValueError, AttributeError):  # an answer of a node's that is damaged on the disk
        return {name: {"state": "unknown", "why": "what it said last is damaged"} for name in pipeline.rollout.names}


def _journals(pipeline: Pipeline) -> dict[str, list[dict[str, Any]]]:
    found = {}
    for name in pipeline.rollout.names:
        try:
            found[name] = [asdict(record) for record in journal.read(journal_file(pipeline.project.paths, name))]
        except (KbuildError, OSError):
            continue  # rollout_status says so
    return found


def _patches(root: Path, receipt: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Of each patch that was applied, as its file is now: subject, lines added and removed."""
    inputs, results = receipt.get("inputs"), receipt.get("results")
    names = inputs.get("order") if isinstance(inputs, Mapping) else None
    series = results.get("series") if isinstance(results, Mapping) else None
    if not isinstance(names, list) or not isinstance(series, list):
        return {}
    found = {}
    for name in names:
        short = next((patch for patch in series if str(name).endswith(f"/{patch}")), None)
        if short is not None and (told := _patch(root / str(name))):
            found[str(short)] = told
    return found


def _patch(path: Path) -> dict[str, Any] | None:
    try:
        if path.stat().st_size > PATCH_BYTES:
            return None
        data = unpacked(path.name, path.read_bytes())
        hunks = [hunk for file in parse_patch(path.name, data).files for hunk in file.hunks]
    except (KbuildError, OSError):
        return None
    subject = _SUBJECT.search(data)
    words = " ".join(subject[1].decode("utf-8", "backslashreplace").split()) if subject else ""
    lines = [line[:1] for hunk in hunks for line in hunk.lines]
    return {"subject": _TAG.sub("", words), "added": lines.count(b"+"), "removed": lines.count(b"-")}
