"""What is known of the roll-out on each node: its journal and the last thing that it said. Opens no connection, unless
asked to."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kbuild_tasks.core import answers, nodestate, rollout_table
from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.core.history import ENDED, History, fold
from kbuild_tasks.core.rollout import Build, taking_part
from kbuild_tasks.core.rollout_table import Row
from kbuild_tasks.effects import artifacts, journal
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.files import read_record
from kbuild_tasks.effects.rollout import Run, journal_file, observe, seen_file
from kbuild_tasks.plugin.plan import Step
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
    """Per node that takes part: "running", "known_good", "trial", "state", "step", "since", "why". `ask`: now."""
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
    return {node.name: _node(project.paths, node.name, build, unreached.get(node.name, "")) for node in nodes}


def _node(paths: Paths, name: str, build: Build | None, unreached: str) -> dict[str, Any]:
    kept, answer = _kept(paths, name)
    value: dict[str, Any] = {
        "running": answer.get("release"),
        "known_good": None,
        "trial": None,
        "asked": kept.get("at"),
    }
    if good := answer.get("known_good"):
        value["known_good"] = good.get("release")
    if trial := answer.get("trial"):
        value["trial"] = trial.get("release") or trial.get("build")
    try:
        history = fold(journal.read(journal_file(paths, name)))
    except (KbuildError, OSError) as error:
        return value | {"state": "journal damaged", "since": None, "why": str(error)}
    value |= {
        "state": _state(history, build, value["running"]),
        "since": history.back.at if history.back is not None else history.since or None,
        "why": _why(history, build, unreached),
    }
    value |= {"build": history.build or None, "step": history.state or None}
    if history.back is not None:
        value["step"] = history.back.state
    return value


def _kept(paths: Paths, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was kept of when it was asked last, and its answer; {} where it is damaged: as if it never was."""
    kept = read_record(seen_file(paths, name))
    answer = kept.get("observe")
    try:
        if not isinstance(answer, dict) or answers.wrong("observe", answer):
            return {}, {}
        nodestate.seen(answer)
    except ValueError:
        return {}, {}
    return kept, answer


def _state(history: History, build: Build | None, running: str | None) -> str:
    if history.back is not None:
        return WORDS["ROLLING_BACK"]
    if history.held:
        return WORDS["HELD"]
    if not history.state:
        return "not touched"
    word = WORDS[history.state]
    if build and history.build != build.build and history.state in ENDED:
        return f"{word}, an older build"
    if build and word == WORDS["UNCORDONED"] and running not in (None, build.release):
        return f"{word}, and runs another kernel"
    return word


def _why(history: History, build: Build | None, unreached: str) -> str | None:
    if unreached:
        return unreached
    if history.back is not None:
        return history.back.note
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
            running=told["running"] or "",
            known_good=told["known_good"] or "",
            trial=told["trial"] or "",
            state=told["state"],
            since=told["since"] or "",
            why=told["why"] or "",
            down=away.get(name),
        )
        for name, told in value.items()
    ]


def render(value: dict[str, dict[str, Any]]) -> str:
    """`doit status`: the roll-out, a table."""
    if not value:
        return ""
    return "".join(f"  {line}\n" for line in rollout_table.status(rows(value)))


def summary(pipeline: Pipeline, run: Run) -> list[str]:
    """The table at the end of a run: the nodes of that run."""
    value = status(pipeline)
    names = run.names()
    told = {name: value[name] for name in names if name in value}
    return rollout_table.summary(rows(told, run.away))


def plan(pipeline: Pipeline) -> list[Step]:
    """What `doit rollout` would do on each node, as far as journal and last observation tell."""
    paths = pipeline.project.paths
    build = artifacts.known(paths)
    return [step for name in pipeline.rollout.names if (step := _plan(paths, name, build))]


def _plan(paths: Paths, name: str, build: Build | None) -> Step | None:
    try:
        history = fold(journal.read(journal_file(paths, name)))
    except (KbuildError, OSError) as error:
        return Step(f"deploy:{name}", "broken", [str(error)]) if build else None
    if history.back is not None:  # also where there is nothing to roll out
        step = nodestate.decide(history, nodestate.Seen("", ""), build or Build("", ""))
        return Step(f"deploy:{name}", "held", [f"{step.why}: {(step.hint or '').format(node=name)}"])
    if build is None:
        return None
    _, answer = _kept(paths, name)
    if not answer:
        return Step(f"deploy:{name}", "run", [f"{build.release} ({build.build}); it was never asked"])
    step = nodestate.decide(history, nodestate.seen(answer), build)
    if step.act == nodestate.Act.DONE:
        return Step(f"deploy:{name}", "fresh", [f"runs {build.release}, verified"])
    if step.act in (nodestate.Act.DENIED, nodestate.Act.REFUSE):
        return Step(f"deploy:{name}", "held", [step.why])
    if step.act in (nodestate.Act.STAGE, nodestate.Act.INSTALL, nodestate.Act.BOOTFILES):
        return Step(f"deploy:{name}", "run", [f"{build.release} ({build.build}) over {answer.get('release')}"])
    verb = "verify" if history.state in ("BACK", "VERIFIED", "VERIFIED2", "COMMITTED") else "reboot"
    return Step(f"{verb}:{name}", "run", [f"goes on at {history.state}"])
