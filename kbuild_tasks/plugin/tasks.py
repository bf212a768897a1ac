"""doit's tasks from a project: the order of the stages is stated once, here, and every edge derives from it.

An edge of the build half is a file_dep on a receipt: a stage that reran to the same result does not make the next
one run. What a stage depends on is declared by its inputs(); whether it is fresh is told by its receipt, by content
(effects/receipts.py). doit's file_dep say the same for `doit info`. prepare is a set-up task: doit starts it only
when a stage that needs it will run, so a run with nothing to do opens no connection.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.core.fingerprint import settled
from kbuild_tasks.core.model import Inputs, Node, Outcome
from kbuild_tasks.effects import lock
from kbuild_tasks.effects.context import Context
from kbuild_tasks.effects.files import unreadable, write_atomic
from kbuild_tasks.effects.project import Project
from kbuild_tasks.effects.receipts import Receipts
from kbuild_tasks.plugin import interrupt, run, words
from kbuild_tasks.plugin.action import StageAction
from kbuild_tasks.plugin.adopt import Adoption
from kbuild_tasks.plugin.buildmode import Nodes
from kbuild_tasks.plugin.rollout import RolloutTasks
from kbuild_tasks.plugin.told import Cleaning, Freshness

STAGES = {
    "extract": "verify the kernel source and unpack it on the coordinator",
    "patch": "apply the series, all of it or nothing",
    "configure": "make the .config and prove that every requested option is in it",
    "compile": "run the PKGBUILD's build(), distributed over the nodes",
    "package": "make the packages, into artifacts/",
}
# Tasks for which no PKGBUILD is read: it may be what hangs; nor the first time, for sync alone: that takes 0.1 s.
BESIDE = ("prepare", "calibrate", "release", "adopt", "rollback", "takeover", "allow", "prune", "trust")
UNREAD = (*BESIDE, "sync")
ALL_NODES = "compile"  # the stage that needs every node prepared; the others need the coordinator alone

_current: list[Pipeline] = []


def current() -> Pipeline:
    """The pipeline that the loaded dodo.py made; for our commands."""
    if not _current:
        raise KbuildError("dodo.py makes no Pipeline", "see the one that is shipped: it has a dozen lines")
    return _current[-1]


class Pipeline:
    """A project's tasks. In dodo.py: `pipeline = Pipeline("cluster.yaml")`."""

    def __init__(self, cluster_yaml: str | Path) -> None:
        from doit import get_var
        from doit.exceptions import InvalidDodoFile

        interrupt.install()
        try:
            given = Path(cluster_yaml)  # not resolved itself: where it is a link, the project is where the link lies
            self.project = Project.load(given.parent.resolve() / given.name)
        except KbuildError as error:
            raise InvalidDodoFile(error.render()) from None
        try:
            words.check(run.asked, self.project.cluster.nodes)
            self.rollout = RolloutTasks(self, get_var("only"), get_var("to"), get_var("build"))
            self.adoption = Adoption(self, get_var("from"), get_var("project"), get_var("replace"))
        except KbuildError as error:
            raise InvalidDodoFile(error.render()) from None
        self.receipts = Receipts(self.project.paths)
        self.forgotten: Callable[[str], bool] = lambda task: False  # by `doit forget`; see learn()
        self.doit_decides = False
        self._declared: dict[str, Inputs] = {}
        self._guard = threading.Lock()
        self.nodes = Nodes(self)
        _current.append(self)

    def doit_config(self) -> dict[str, Any]:
        """DOIT_CONFIG: all nodes at once, in threads; state under build/."""
        from kbuild_tasks.plugin.backend import ContentChecker
        from kbuild_tasks.plugin.reporter import Reporter

        return {
            "default_tasks": ["package"],
            "backend": "kbuild",
            "dep_file": str(self.project.paths.build / ".doit.json"),
            "check_file_uptodate": ContentChecker,
            "reporter": Reporter,
            "num_process": max(4, len(self.project.cluster.active)),
            "par_type": "thread",
            "verbosity": 0,
        }

    def tasks(self) -> Iterator[dict[str, Any]]:
        """Every task, as doit's dictionaries."""
        cluster = self.project.cluster
        yield {"basename": "prepare", "name": None, "doc": "gather facts of all nodes and enter build mode"}
        for node in cluster.active:
            yield self._prepare(node)
        yield {"basename": "sync", "name": None, "doc": "bring PKGBUILD, patches and config to all nodes"}
        for node in cluster.active:
            yield self._sync(node)
        for stage, doc in STAGES.items():
            yield self._stage(stage, doc)
        yield self._release()
        yield self._calibrate()
        yield {"basename": "trust", "name": None, "doc": "let a node compile again that returned a wrong object"}
        for node in cluster.active:
            yield self._trust(node)
        yield from self.adoption.tasks()
        yield from self.rollout.tasks()

    def declared(self, task: str) -> Inputs:
        """What a stage (or "sync:<node>") depends on; asked once, as the project's files are read once. Raises
        ConfigError where a file of the user's is broken."""
        if task not in self._declared:
            self._declared[task] = _inputs(self.project, task)
        return self._declared[task]

    def why(self, task: str) -> list[str]:
        """Why a task with a receipt is stale, in the user's words; empty: fresh. Raises ConfigError.

        What a stage made and is not there any more (a tmpfs after a reboot) makes it stale only if somebody needs it:
        the user, who wants the packages, or a later stage that will run. A reboot alone rebuilds nothing.
        """
        try:
            told = [self.receipts.tell(change) for change in self.receipts.changes(task, self.declared(task))]
        except OSError as error:
            raise unreadable(error) from None
        receipt = self.receipts.read(task)
        if told or receipt is None:
            return told
        missing = self._lost(task, receipt["results"])
        if not missing:
            return []  # the later ones are not asked: each would ask those after it again
        later = list(STAGES)[list(STAGES).index(task) + 1 :] if task in STAGES else []
        return missing if not later or any(self.forgotten(stage) or self.why(stage) for stage in later) else []

    def learn(self, forgotten: Callable[[str], bool], doit_decides: bool) -> None:
        """What was forgotten, as soon as doit's database is open (plugin/backend.py, told)."""
        self.forgotten, self.doit_decides = forgotten, doit_decides

    def _lost(self, task: str, results: Any) -> list[str]:
        lost = getattr(_module(task.partition(":")[0]), "lost", None)
        try:
            return list(lost(self.project.paths, results)) if lost else []
        except (KeyError, TypeError):
            return ["its receipt is none of this version"]
        except OSError as error:
            raise unreadable(error) from None

    def _stage(self, stage: str, doc: str) -> dict[str, Any]:
        coordinator = self.project.cluster.build.coordinator
        return {
            "basename": stage,
            "doc": doc,
            **self._files(stage),
            "setup": ["prepare" if stage == ALL_NODES else f"prepare:{coordinator}"],
            "task_dep": ["sync"] if stage == next(iter(STAGES)) else [],
            "actions": [self.action(stage, partial(self._run, stage))],
            "clean": [Cleaning(stage, self._clean)],
        }

    def _sync(self, node: Node) -> dict[str, Any]:
        task = f"sync:{node.name}"
        return {
            "basename": "sync",
            "name": node.name,
            "doc": f"bring PKGBUILD, patches and config to {node.name}",
            **self._files(task),
            "actions": [self.action(task, partial(self._run, task, node))],
            "clean": [Cleaning(task, self._clean)],
        }

    def _prepare(self, node: Node) -> dict[str, Any]:
        task = f"prepare:{node.name}"
        act = partial(self.nodes.enter, task, node)
        return self._by_hand(task, f"gather facts of {node.name} and enter build mode", act, uptodate=[False])

    def _release(self) -> dict[str, Any]:
        doc = "leave build mode on all nodes, the coordinator's tmpfs included"
        return self._by_hand("release", doc, self.nodes.release_all, uptodate=[False])

    def _calibrate(self) -> dict[str, Any]:
        doc, act = "time a file of this kernel on every node; slots and -j follow", partial(self.act, "calibrate")
        return self._by_hand("calibrate", doc, act, uptodate=[False], setup=["prepare"])

    def _trust(self, node: Node) -> dict[str, Any]:
        task = f"trust:{node.name}"
        doc = f"let {node.name} compile again after it returned a wrong object"
        return self._by_hand(task, doc, partial(self.act, task, node))

    def _by_hand(self, task: str, doc: str, act: Callable[[], Outcome], **more: Any) -> dict[str, Any]:
        """A task that leaves no receipt."""
        basename, _, name = task.partition(":")
        return {"basename": basename, "doc": doc, "actions": [self.action(task, act)], **more} | (
            {"name": name} if name else {}
        )

    def _files(self, task: str) -> dict[str, Any]:
        """file_dep, targets and uptodate of a task with a receipt."""
        paths = self.project.paths
        try:
            unread = run.asked_only(UNREAD if task in STAGES else BESIDE)
            inputs = Inputs() if unread else self.declared(task)
        except KbuildError:
            inputs = Inputs()  # told when the task runs: a broken PKGBUILD must not stop `doit release`
        deps = [paths.root / name for name in inputs.files] + [paths.receipt(stage) for stage in inputs.receipts]
        return {  # relative to where doit runs: shorter to read, and a project that was moved stays fresh
            "file_dep": [os.path.relpath(path) for path in deps],
            "targets": [os.path.relpath(paths.receipt(task))],
            "uptodate": [Freshness(task, self)],
        }

    def _run(self, task: str, node: Node | None = None) -> Outcome:
        """A task with a receipt: removed first, written last."""
        self.take_lock()
        why = self.why(task)
        if not why and not (self.forgotten(task) or self.doit_decides or run.chosen.get("always")):
            return Outcome("already so", run={"state": "fresh"})  # doit's database is new, or lost: receipts decide
        if run.chosen.get("single"):
            self._refuse_without(task)
        before = self._now(task)
        self.receipts.remove(task)
        outcome = self.act(task, node)
        if outcome.final:
            self.receipts.write(task, settled(before, self._now(task)), outcome.results)
        warnings = (*outcome.warnings, *self.project.remarks(task))
        return Outcome(outcome.message, run={**outcome.run, "why": why}, warnings=warnings)

    def _refuse_without(self, task: str) -> None:
        """`doit --single` starts no stage that is needed first: what that has made must be there."""
        for stage in self.declared(task).receipts:
            receipt = self.receipts.read(stage)
            missing = self._lost(stage, receipt["results"]) if receipt else [f"stage {stage} has not run"]
            if missing:
                raise KbuildError(f"{task} cannot run alone: {missing[0]}", f"doit {task}, without --single")

    def _now(self, task: str) -> dict[str, Any]:
        """A fingerprint of what lies there at this moment: a run takes hours, and what was read at its start may be
        another commit's by now."""
        return Receipts(self.project.paths).now(_inputs(Project(self.project.cluster), task), times=True)

    def act(self, task: str, node: Node | None = None, rollout: Any = None) -> Outcome:
        """Run a stage; its log starts anew."""
        self.take_lock()
        context = replace(self.context(task, node), rollout=rollout)
        write_atomic(context.log, f"doit {task}\n", durable=False)
        outcome: Outcome = _module(task.partition(":")[0]).run(context)
        return outcome

    def context(self, task: str, node: Node | None) -> Context:
        from kbuild_tasks.plugin.progress import show

        known = {stage: receipt for stage in STAGES if (receipt := self.receipts.read(stage))}
        anew = self.forgotten(task) or bool(run.chosen.get("always"))
        return Context(self.project.cluster, self.project.paths, task, node, known, show, anew)

    def take_lock(self) -> None:
        with self._guard:
            lock.acquire(self.project.paths.build / ".lock")

    def action(self, task: str, work: Callable[[], Outcome], turn: Any = None) -> StageAction:
        def log(text: str) -> str:
            path = self.project.paths.log(task.replace(" ", "-"))
            write_atomic(path, text, durable=False)
            return str(path.relative_to(self.project.paths.root))

        return StageAction(work, task, log, turn)

    def _clean(self, task: str, dryrun: bool = False) -> None:
        from kbuild_tasks.plugin.clean import clean

        clean(self.project.paths, task, dryrun)


def _inputs(project: Project, task: str) -> Inputs:
    verb, _, name = task.partition(":")
    try:
        inputs: Inputs = _module(verb).inputs(project, *([project.cluster.nodes[name]] if name else []))
    except OSError as error:
        raise unreadable(error) from None
    return inputs


def _module(verb: str) -> Any:
    return importlib.import_module(f"kbuild_tasks.stages.{verb}")
