"""build/trace.json: when what was compiled where, in the format that Perfetto and chrome://tracing open.

"Trace Event Format", JSON object form (docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU):
complete events ("ph": "X", microseconds), a process for each node and a thread for each of its slots; the run itself is
process 1, with its stages and the phases of the compilation; the coordinator's CPU is a counter ("C"). Microseconds are
those since 1970: they stay below 2^53, and a stage that is added later moves no other event.

The report reads the same file back, so that the two never tell different stories.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kbuild_tasks.core.spans import FALLBACK, KINDS, PLAN, Span, lanes

RUN = 1  # the process of stages and phases; nodes follow
PHASES = 1  # its thread of phases; lanes of stages follow
CPU = "coordinator CPU"
WHOLE = 0.8  # of a kernel's objects: a build that made so many tells of head, tail and pace


@dataclass(frozen=True)
class Timeline:
    """One compilation; seconds since it began.

    began   seconds since 1970;  nodes: in the order in which they are shown, the coordinator last
    phases  (name, begin, end);  cpu: (second, busy share 0..1) of the coordinator
    slots   node -> slots that it lent
    failed  the build did not end well
    """

    began: float
    seconds: float
    spans: tuple[Span, ...] = ()
    phases: tuple[tuple[str, float, float], ...] = ()
    cpu: tuple[tuple[float, float], ...] = ()
    nodes: tuple[str, ...] = ()
    slots: Mapping[str, int] = field(default_factory=dict)
    failed: bool = False


def phases_of(changes: Sequence[tuple[float, str]], ended: float, least: float = 1.0) -> list[tuple[str, float, float]]:
    """Phases from their beginnings, equal ones in a row as one; those shorter than `least` seconds go into the one
    before: kbuild links a module between two objects."""
    found: list[tuple[str, float, float]] = []
    for number, (begin, name) in enumerate(changes):
        end = changes[number + 1][0] if number + 1 < len(changes) else ended
        if found and (end - begin < least or found[-1][0] == name):
            found[-1] = (found[-1][0], found[-1][1], end)
        elif end > begin:
            found.append((name, begin, end))
    merged: list[tuple[str, float, float]] = []
    for name, begin, end in found:
        if merged and merged[-1][0] == name:
            merged[-1] = (name, merged[-1][1], end)
        else:
            merged.append((name, begin, end))
    return merged


def build(told: Timeline) -> dict[str, Any]:
    """The trace of a compilation; add_stages() adds what else ran."""
    events = [_name("process_name", RUN, 0, "the run"), _name("thread_name", RUN, PHASES, "phases of compile")]
    events += [_event(name, "phase", RUN, PHASES, told.began + begin, end - begin) for name, begin, end in told.phases]
    for number, node in enumerate(told.nodes):
        pid = RUN + 1 + number
        own = [span for span in told.spans if span.node == node]
        taken = lanes(own)
        events.append(_name("process_name", pid, 0, node))
        events.append({"ph": "M", "name": "process_sort_index", "pid": pid, "tid": 0, "args": {"sort_index": pid}})
        events += [
            _name("thread_name", pid, lane + 1, f"slot {lane + 1}") for lane in range(max(taken, default=-1) + 1)
        ]
        for span, lane in zip(own, taken, strict=True):
            event = _event(span.object, span.kind, pid, lane + 1, told.began + span.begin, span.seconds)
            events.append(event | ({"cname": "terrible"} if span.kind == FALLBACK else {}))
    for at, share in told.cpu:
        events.append(
            {
                "ph": "C",
                "name": CPU,
                "pid": RUN,
                "tid": 0,
                "ts": _micro(told.began + at),
                "args": {"percent": round(100 * share)},
            }
        )
    about: dict[str, Any] = {"version": 1, "began": round(told.began, 3), "seconds": round(told.seconds, 2)}
    about |= {"nodes": list(told.nodes), "slots": dict(told.slots), "failed": told.failed}
    return {"displayTimeUnit": "ms", "otherData": about, "traceEvents": events}


def add_stages(trace: Mapping[str, Any], stages: Iterable[tuple[str, float, float]]) -> dict[str, Any]:
    """The same trace with the tasks of the run: (task, begin, end), seconds since 1970."""
    found = sorted(stages, key=lambda stage: (stage[1], -stage[2], stage[0]))
    rows = [Span(task, "", begin, max(begin, end)) for task, begin, end in found]
    taken = lanes(rows)
    own = ("phase", None)
    events = [e for e in trace["traceEvents"] if e["pid"] != RUN or (e["tid"] <= PHASES and e.get("cat") in own)]
    for lane in range(max(taken, default=-1) + 1):
        events.append(_name("thread_name", RUN, PHASES + 1 + lane, "stages" if not lane else f"stages {lane + 1}"))
    for row, lane in zip(rows, taken, strict=True):
        events.append(_event(row.object, "stage", RUN, PHASES + 1 + lane, row.begin, row.seconds))
    return {**trace, "traceEvents": events}


def read(value: Any) -> Timeline | None:
    """What build() made, from any JSON: None where it is not that; events that are none of ours are passed over."""
    try:
        about, events = value["otherData"], value["traceEvents"]
        began, seconds = float(about["began"]), float(about["seconds"])
        names = {e["pid"]: e["args"]["name"] for e in events if e.get("name") == "process_name" and e["pid"] != RUN}
        told: dict[str, Any] = {
            "nodes": tuple(str(node) for node in about["nodes"]),
            "slots": {str(node): int(count) for node, count in about["slots"].items()},
            "failed": bool(about.get("failed")),
        }
        spans, phases, cpu = [], [], []
        for event in events:
            if event["ph"] == "C" and event["name"] == CPU:
                cpu.append((event["ts"] / 1e6 - began, event["args"]["percent"] / 100))
            if event["ph"] != "X":
                continue
            begin = event["ts"] / 1e6 - began
            end = begin + event["dur"] / 1e6
            if event["cat"] == "phase":
                phases.append((str(event["name"]), begin, end))
            elif event["pid"] in names:
                kind = event["cat"] if event["cat"] in KINDS else PLAN
                spans.append(Span(str(event["name"]), str(names[event["pid"]]), begin, end, kind))
        ends = [at for span in spans for at in (span.begin, span.end)] + [at for _, *two in phases for at in two]
        if not all(map(math.isfinite, (began, seconds, *ends))):
            return None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError):
        return None
    spans.sort(key=lambda span: (span.begin, span.end, span.object))
    return Timeline(began, seconds, tuple(spans), tuple(phases), tuple(cpu), **told)


def _event(name: str, kind: str, pid: int, tid: int, begin: float, seconds: float) -> dict[str, Any]:
    start = _micro(begin)
    end = _micro(begin + seconds)
    return {"ph": "X", "name": name, "cat": kind, "pid": pid, "tid": tid, "ts": start, "dur": end - start}


def _name(what: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": pid, "tid": tid, "args": {"name": name}}


def _micro(seconds: float) -> int:
    """Hundredths of a second are all that is known: as floats of microseconds, two that touch would overlap."""
    return round(seconds * 1000) * 1000
