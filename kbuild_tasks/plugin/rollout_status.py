"""What is known of the roll-out on each node: its journal and the last thing that it said. Opens no connection, unless
asked to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kbuild_tasks.core import answers, nodestate, prune, rollout_table
from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.core.history import AFTER_ARMING, ENDED, History, fold, rolls_back
from kbuild_tasks.core.model import Cluster
from kbuild_tasks.core.rollout import Build, taking_part
from kbuild_tasks.core.rollout_table import Row
from kbuild_tasks.core.when import when
from kbuild_tasks.effects import artifacts, journal, lease
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.files import read_record
from kbuild_tasks.effects.rollout import Run, journal_file, observe, seen_file
from kbuild_tasks.plugin.tasks import Pipeline

WORDS = {
    "STAGED": "copied",
    "INSTALLED": "installing",
    "BOOTFILES_OK": "installed",
    "DRAINED": "drained",
    "ARMED": "armed",
    "REBOOTING": "rebooting",
    "BACK": "on trial",
    "VERIFIED": "verified once",
    "VERIFIED2": "verified twice",
    "COMMITTED": "verified",
    "UNCORDONED": "verified",
    "FELL_BACK": "fell back",
    "HELD": "held",
    "ROLLING_BACK": "rolling back",
    "ROLLED_BACK": "rolled back",
}


def states(paths: Paths, names: Iterable[str], build: str) -> dict[str, str]:
    """node -> the state of this build there, "" for one that nothing was done to, HELD for one that was stopped,
    ROLLING_BACK for one that is, whatever build it is of."""
    found = {}
    for name in names:
        try:
            history = fold(journal.read(journal_file(paths, name)))
        except (KbuildError, OSError):
            found[name] = "DAMAGED"
            continue
        state = "HELD" if history.held else history.state
        if history.build != build:  # what was done there was for another one; it may have failed here before
            state = "HELD" if build in history.failed else ""
        found[name] = "ROLLING_BACK" if history.back is not None else state
    return found


def status(pipeline: Pipeline, ask: bool = False) -> dict[str, dict[str, Any]]:
    """Per node: "running", "known_good", "trial" (releases, and "*_build"), "state", "step", "since", "why"; of one
    on hold, whether it was in the middle of something. `ask`: now."""
    project = pipeline.project
    nodes = taking_part(project.cluster)
    build = artifacts.known(project.paths)
    unreached: dict[str, str] = {}
    if ask and nodes:

        def look(node: Any) -> str:
            try:
                observe(project.cluster, project.paths, node)
            except (KbuildError, OSError) as error:
                return str(error)
            return ""

        with ThreadPoolExecutor(len(nodes)) as pool:
            told = dict(zip((node.name for node in nodes), pool.map(look, nodes), strict=True))
        unreached = {name: why for name, why in told.items() if why}
    found = {node.name: _node(project.paths, node.name, build, unreached.get(node.name, "")) for node in nodes}
    us = lease.who(project.cluster.root)
    for name, value in found.items():
        holder = kept(project.paths, name)[1].get("lease") or {}
        if holder.get("who") not in (None, "", us):
            value["why"] = "; ".join(filter(None, (value["why"], f"in the roll-out of {lease.told(holder)}")))
    for name in on_hold(project.cluster):
        found[name] = _node(project.paths, name, build, "") | {
            "state": "on hold",
            "since": None,
            "why": _between(project.paths, name),
        }
    return found


def on_hold(cluster: Cluster) -> list[str]:
    """Nodes that would get the kernel, were they not on hold. (One with `rollout: false` is none.)"""
    return [node.name for node in cluster.nodes.values() if node.hold and node.rollout]


def _between(paths: Paths, name: str) -> str | None:
    """Of a node on hold: that it was put there in the middle of something. A hold takes nothing back."""
    try:
        history = fold(journal.read(journal_file(paths, name)))
    except (KbuildError, OSError):
        return None
    if history.back is None and not history.in_flight:
        return None
    state = WORDS[history.state if history.back is None else history.back.state]
    return f"it was {state} when it was put on hold, and is not looked after since"


def running_build(answer: Mapping[str, Any]) -> str:
    """The build that a node runs, by its kernel or its boot entry; "" for one that is not ours."""
    return str(answer.get("build") or prune.of_entry((answer.get("loader") or {}).get("selected")))


def _node(paths: Paths, name: str, build: Build | None, unreached: str) -> dict[str, Any]:
    saw, answer = kept(paths, name)
    good, trial = answer.get("known_good") or {}, answer.get("trial") or {}
    value: dict[str, Any] = {
        "running": answer.get("release"),
        "running_build": running_build(answer) or None,
        "known_good": good.get("release"),
        "known_good_build": good.get("build") or None,
        "trial": trial.get("release") or trial.get("build"),
        "trial_build": trial.get("build") or None,
        "builds": answer.get("builds") or [],
        "asked": saw.get("at"),
    }
    try:
        history = fold(journal.read(journal_file(paths, name)))
    except (KbuildError, OSError) as error:
        return value | {"state": "journal damaged", "since": None, "why": str(error)}
    if history.state in ("ARMED", *AFTER_ARMING):  # what it said last may be from before it was armed
        release = build.release if build and build.build == history.build else None
        value |= {"trial": release or value["trial"] or history.build, "trial_build": history.build}
    value |= {
        "state": _state(history, build, answer),
        "since": history.back.at if history.back is not None else history.since or None,
        "why": _why(name, history, build, unreached),
    }
    value |= {"build": history.build or None, "step": history.state or None}
    if history.back is not None:
        value["step"] = history.back.state
    return value


def kept(paths: Paths, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was kept of when it was asked last, and its answer; {} where it is damaged: as if it never was."""
    saw = read_record(seen_file(paths, name))
    answer = saw.get("observe")
    try:
        if not isinstance(answer, dict) or answers.wrong("observe", answer):
            return {}, {}
        nodestate.seen(answer)
    except ValueError:
        return {}, {}
    return saw, answer


def _state(history: History, build: Build | None, answer: Mapping[str, Any]) -> str:
    running = answer.get("release")
    if history.back is not None:
        return WORDS["ROLLING_BACK"]
    if history.held:
        return WORDS["HELD"]
    if not history.state:
        if build and answer and nodestate.is_done(nodestate.seen(answer), build):
            return WORDS["COMMITTED"]  # by another project, or an attempt before it was allowed
        return "may be tried again" if history.build else "not touched"
    word = WORDS[history.state]
    if build and history.build != build.build and history.state in ENDED:
        return f"{word}, an older build"
    if build and word == WORDS["UNCORDONED"] and running not in (None, build.release):
        return f"{word}, and runs another kernel"
    return word


def _why(name: str, history: History, build: Build | None, unreached: str) -> str | None:
    if history.back is not None:
        told = f"{history.back.note}; {rolls_back(name, history.back_to)} goes on with it"
        return f"{unreached}; {told}" if unreached else told
    if unreached:
        return unreached
    if history.held:
        return history.held
    if build and build.build in history.failed:
        return f"build {build.build} is not tried again: {history.failed[build.build]}"
    return history.note or None if history.state in ("FELL_BACK", "ROLLED_BACK") else None


def rows(value: dict[str, dict[str, Any]], away: dict[str, float] | None = None) -> list[Row]:
    away = away or {}
    return [
        Row(
            node=name,
            running=_named(told, "running"),
            known_good=_named(told, "known_good"),
            trial=_named(told, "trial"),
            state=told["state"],
            build=told.get("build") or "",
            since=when(told["since"]),
            why=told["why"] or "",
            down=away.get(name),
        )
        for name, told in value.items()
    ]


def _named(told: dict[str, Any], which: str) -> str:
    """The release, and the build where it is one of ours: two builds may have one release."""
    release, build = told[which], told.get(f"{which}_build")
    return f"{release} {build}" if release and build and release != build else release or ""


def render(value: dict[str, dict[str, Any]]) -> str:
    """`doit status`: the roll-out, a table."""
    if not value:
        return ""
    return "".join(f"  {line}\n" for line in rollout_table.status(rows(value)))


def summary(pipeline: Pipeline, run: Run) -> list[str]:
    """The table at the end of a run: the nodes of that run."""
    value = status(pipeline)
    names = run.names()
    if not pipeline.rollout.only:
        names += on_hold(pipeline.project.cluster)
    told = {name: value[name] for name in names if name in value}
    return rollout_table.summary(rows(told, run.away))
