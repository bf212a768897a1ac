"""What was gathered, in a form that the sections can rely on: any part may be missing, or damaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from kbuild_tasks.core import trace
from kbuild_tasks.core.history import BEFORE_REBOOT, IN_FLIGHT
from kbuild_tasks.report.words import plural, took

BAD, WARN = "bad", "warn"
HALTED = ("held", "fell back", "journal damaged")
UNDER_WAY = {  # step of a journal -> where a node stands, of one that is neither done nor stopped
    "STAGED": "copied, not installed",
    "INSTALLED": "installed, boot files not checked",
    "BOOTFILES_OK": "installed, not rebooted",
    "DRAINED": "drained, not rebooted",
    "ARMED": "armed: its next boot tries the kernel once",
    "REBOOTING": "rebooting",
    "BACK": "on trial, not verified",
    "VERIFIED": "on trial, verified once",
    "VERIFIED2": "on trial, verified twice",
    "COMMITTED": "verified, takes no pods yet",
}
SHOWN = 3


@dataclass(frozen=True)
class Material:
    """Plain data, as it lies in files.

    tasks      in the order of the pipeline, those of nodes as "prepare:NODE"
    plan       of `doit plan`: {"task", "state", "why"};  nodes, rollout: of `doit status`
    journals   node -> [{"at", "build", "state", "note"}];  patches: name -> {"subject", "added", "removed"}
    now, before  the last two sets of packages (effects/published.py)
    running    who holds the lock: {} if that cannot be told, None when it is free
    damaged    files that are there and cannot be read
    """

    at: float
    root: str = ""
    coordinator: str = ""
    tasks: Sequence[str] = ()
    last_run: Mapping[str, Any] = field(default_factory=dict)
    done: Mapping[str, Any] = field(default_factory=dict)
    running: Mapping[str, Any] | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)
    trace: Any = None
    now: Mapping[str, Any] = field(default_factory=dict)
    before: Mapping[str, Any] = field(default_factory=dict)
    config: str = ""
    plan: Sequence[Mapping[str, Any]] = ()
    plan_error: str = ""
    patch: Mapping[str, Any] = field(default_factory=dict)
    patches: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    nodes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rollout: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    journals: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    damaged: Sequence[str] = ()

    @cached_property
    def timeline(self) -> trace.Timeline | None:
        return trace.read(self.trace)

    @cached_property
    def last(self) -> dict[str, Mapping[str, Any]]:
        """task -> what the last run says of it."""
        return records(self.last_run.get("tasks"))

    @cached_property
    def acted(self) -> dict[str, Mapping[str, Any]]:
        """task -> what it did when it last did something: the last run's word where that is younger."""
        found = records(self.done.get("tasks"))
        return found | {name: told for name, told in self.last.items() if did(told) and not same(found.get(name), told)}

    @property
    def older(self) -> list[Mapping[str, Any]]:
        """Steps of the plan that would make the packages anew, or may; what is done on a node is none: sync of one that
        is down runs in every run."""
        steps = [step for step in self.plan if ":" not in str(step.get("task"))]
        return [step for step in steps if step.get("state") in ("run", "maybe")]

    @property
    def killed(self) -> bool:
        """The last run has not said how it ended, and is no more."""
        return self.running is None and self.last_run.get("result") == "running"

    @property
    def compiled(self) -> Mapping[str, Any]:
        return self.acted.get("compile", {})


@dataclass(frozen=True)
class Trouble:
    """Something that a person must know: bad (it stands in the way) or warn."""

    level: str
    title: str
    lines: tuple[str, ...] = ()
    hint: str = ""
    log: str = ""


def records(value: Any) -> dict[str, Mapping[str, Any]]:
    """Of any JSON, what is an object of objects."""
    if not isinstance(value, Mapping):
        return {}
    return {str(key): entry for key, entry in value.items() if isinstance(entry, Mapping)}


def did(entry: Mapping[str, Any]) -> bool:
    return entry.get("state") in ("done", "failed")


def same(kept: Mapping[str, Any] | None, told: Mapping[str, Any]) -> bool:
    """Whether what is kept of a task is what the last run says: it then knows more, when that was."""
    return kept is not None and all(kept.get(key) == told.get(key) for key in ("state", "seconds", "why", "message"))


def strings(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list | tuple) else []


def grouped(fallbacks: Any) -> list[tuple[str, list[str]]]:
    """Reasons of fallbacks with their objects, the most frequent first."""
    found: dict[str, list[str]] = {}
    for entry in fallbacks if isinstance(fallbacks, list) else ():
        if isinstance(entry, Mapping):
            found.setdefault(str(entry.get("reason", "?")), []).append(str(entry.get("object", "?")))
    return sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))


def fallback_count(compiled: Mapping[str, Any]) -> int:
    told = compiled.get("fallbacks_count")
    listed = compiled.get("fallbacks")
    return told if isinstance(told, int) else len(listed) if isinstance(listed, list) else 0


def object_count(compiled: Mapping[str, Any]) -> int:
    told = compiled.get("objects")
    return told if isinstance(told, int) else len(told) if isinstance(told, list) else 0


def troubles(told: Material) -> list[Trouble]:
    """What is wrong, the worst first."""
    found = [
        *_killed(told),
        *_failed(told),
        *_broken(told),
        *_halted(told),
        *_unfinished(told),
        *_damaged(told),
        *_fallbacks(told),
        *_left_out(told),
    ]
    found += [*_warnings(told), *_stale(told)]
    return sorted(found, key=lambda trouble: trouble.level != BAD)


def _killed(told: Material) -> list[Trouble]:
    if not told.killed:
        return []
    spent = took(told.last_run.get("seconds"))
    lines = ("it had no time to say why; that is when it last said how far it was",) if spent else ()
    return [Trouble(BAD, f"the last run was killed{f' after {spent}' if spent else ''}", lines, "doit")]


def _failed(told: Material) -> list[Trouble]:
    found: dict[tuple[str, ...], list[str]] = {}
    held = [name for name, entry in told.last.items() if entry.get("state") == "held"]
    for name, entry in told.last.items():
        if entry.get("state") == "failed":
            key = (*strings(entry.get("why")), *strings(entry.get("evidence")))
            found.setdefault(key, []).append(name)
    troubles = []
    for lines, names in found.items():
        entry = told.last[names[0]]
        troubles.append(
            Trouble(BAD, f"{', '.join(names)} failed", lines, str(entry.get("hint") or ""), str(entry.get("log") or ""))
        )
    if held and found:
        troubles.append(Trouble(WARN, f"held by that: {', '.join(sorted(held))}"))
    return troubles


def _broken(told: Material) -> list[Trouble]:
    broken = [step for step in told.plan if step.get("state") == "broken"]
    found = [Trouble(BAD, f"{step.get('task')} cannot run", tuple(strings(step.get("why")))) for step in broken[:1]]
    return found + ([Trouble(BAD, "what would run cannot be told", (told.plan_error,))] if told.plan_error else [])


def _halted(told: Material) -> list[Trouble]:
    return [
        Trouble(BAD, f"{node}: {entry.get('state')}", (str(entry["why"]),) if entry.get("why") else ())
        for node, entry in told.rollout.items()
        if str(entry.get("state", "")).startswith(HALTED)
    ]


def stands(entry: Mapping[str, Any]) -> str:
    """Where a roll-out stands on a node, in words."""
    state = str(entry.get("state") or "?")
    return state if state.startswith(HALTED) else UNDER_WAY.get(str(entry.get("step")), state)


def unfinished(told: Material) -> dict[str, list[str]]:
    """Of a roll-out that was begun and is not at its end: where nodes stand -> which; {} of none. A kernel that was
    built and not rolled out yet is none, and what stopped on a node is told apart."""
    build = str(told.manifest.get("packages_sha256") or "")[:12]
    found: dict[str, list[str]] = {}
    begun = False
    for node, entry in told.rollout.items():
        step, ours = str(entry.get("step") or ""), bool(build) and entry.get("build") == build
        under_way = step in IN_FLIGHT or (ours and step in BEFORE_REBOOT)
        if entry.get("state") == "on hold" and not under_way:
            continue  # the user's word: no roll-out waits for it
        begun = begun or under_way or (ours and bool(step))
        if str(entry.get("state")).startswith((*HALTED, "rolled back")) or (ours and step == "UNCORDONED"):
            continue
        found.setdefault(stands(entry) if under_way else "not touched", []).append(node)
    return found if begun else {}


def _unfinished(told: Material) -> list[Trouble]:
    found = unfinished(told)
    if not found:
        return []
    down = told.running is None and any(entry.get("step") in IN_FLIGHT for entry in told.rollout.values())
    title = "; ".join(f"{where}: {' '.join(nodes)}" for where, nodes in found.items())
    stopped = any(str(entry.get("state")).startswith((*HALTED, "rolled back")) for entry in told.rollout.values())
    hint = "doit status tells what stopped it" if stopped else "doit rollout goes on"
    return [Trouble(BAD if down else WARN, f"roll-out not finished: {title}", hint=hint)]


def _damaged(told: Material) -> list[Trouble]:
    if not told.damaged:
        return []
    return [Trouble(WARN, "damaged, so that what it tells is missing here", tuple(told.damaged))]


def _fallbacks(told: Material) -> list[Trouble]:
    count = fallback_count(told.compiled)
    if not count:
        return []
    groups = grouped(told.compiled.get("fallbacks"))
    lines = [f"{len(names)} × {why} ({', '.join(names[:2])}{', …' if names[2:] else ''})" for why, names in groups]
    title = f"{plural(count, 'object')} fell back to {told.coordinator or 'the coordinator'}"
    return [Trouble(WARN, title, tuple(lines[:SHOWN]))]


def _left_out(told: Material) -> list[Trouble]:
    return [
        Trouble(WARN, f"{name} took no part in the last build", (str(node["why"]),) if node.get("why") else ())
        for name, node in told.nodes.items()
        if node.get("state") == "left-out"
    ]


def _warnings(told: Material) -> list[Trouble]:
    """Warnings of what made the artifacts, each once."""
    seen: dict[str, list[str]] = {}
    for name, entry in told.acted.items():
        if told.nodes.get(name.partition(":")[2], {}).get("state") == "left-out":
            continue  # that is told, and younger
        for line in strings(entry.get("warnings")):
            seen.setdefault(line, []).append(name)
    by_task: dict[str, list[str]] = {}
    for line, names in seen.items():
        by_task.setdefault(", ".join(names), []).append(line)
    return [Trouble(WARN, f"{names} warned", tuple(lines)) for names, lines in by_task.items()]


def _stale(told: Material) -> list[Trouble]:
    steps = [step for step in told.older if step.get("state") == "run"]
    if not steps or not told.manifest:
        return []
    lines = [f"{step.get('task')}: {why}" for step in steps for why in strings(step.get("why"))[:1]]
    return [Trouble(WARN, "the packages are older than your files", tuple(lines[:8]), "doit")]
