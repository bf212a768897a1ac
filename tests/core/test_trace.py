"""Times of objects, and the trace that Perfetto opens."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kbuild_tasks.core import progress, trace
from kbuild_tasks.core.spans import CACHED, DESIGN, FALLBACK, PLAN, Span, lanes, spans, thinned, times

LINES = [
    "began\t100.50\tfs/a.o",
    "began\t100.60\tfs/b.o",
    "ended\t101.00\tfs/a.o",
    "began\tnever\tfs/c.o",
    "ended\t1.0\tnobody.o",
    "rubbish",
    "",
    "began\t103.00\tfs/a.o",
    "ended\t104.25\tfs/a.o",
]
MADE = {"fs/a.o": ("k2", PLAN), "fs/b.o": ("k1", DESIGN)}


def test_times_of_the_front() -> None:
    assert times(LINES) == {"fs/a.o": (103.0, 104.25), "fs/b.o": (100.6, None)}


def test_what_is_made_here_ends_when_its_file_was_written() -> None:
    found = spans(times(LINES), MADE, began=100.0, ended=105.0, written={"fs/b.o": 101.35})
    assert found == [Span("fs/b.o", "k1", 0.6, 1.35, DESIGN), Span("fs/a.o", "k2", 3.0, 4.25, PLAN)]


@pytest.mark.parametrize(("written", "end"), [({}, 0.6), ({"fs/b.o": 50.0}, 0.6), ({"fs/b.o": 900.0}, 5.0)])
def test_no_span_ends_before_it_begins_or_after_the_build(written: dict[str, float], end: float) -> None:
    found = spans({"fs/b.o": (100.6, None)}, MADE, began=100.0, ended=105.0, written=written)
    assert found == [Span("fs/b.o", "k1", 0.6, end, DESIGN)]


def test_an_object_of_which_nobody_says_where_it_was_made_has_no_span() -> None:
    assert spans({"x.o": (1.0, 2.0)}, {}, began=0.0, ended=3.0, written={}) == []


def test_lanes_never_overlap() -> None:
    found = [Span(str(n), "k", b, e) for n, (b, e) in enumerate([(0, 4), (1, 2), (2, 3), (2.5, 5), (4, 6)])]
    assert lanes(found) == [0, 1, 1, 2, 0]


def test_samples_are_thinned_evenly() -> None:
    assert thinned([(float(n), 0.0) for n in range(9)], 3) == [(0.0, 0.0), (4.0, 0.0), (8.0, 0.0)]


TOLD = trace.Timeline(
    began=1796058900.25,
    seconds=5.0,
    spans=(
        Span("a.o", "k2", 0.0, 1.5),
        Span("b.o", "k1", 0.25, 1.0, DESIGN),
        Span("c.o", "k2", 1.0, 2.0),
        Span("d.o", "k1", 1.0, 3.0, FALLBACK),
        Span("e.o", "k1", 3.0, 3.0, CACHED),
    ),
    phases=(("prepare", 0.0, 0.5), ("compile", 0.5, 4.0), ("link", 4.0, 5.0)),
    cpu=((0.5, 0.25), (1.5, 1.0)),
    nodes=("k2", "k1"),
    slots={"k2": 2, "k1": 1},
)


def events(value: dict[str, Any], **wanted: Any) -> list[dict[str, Any]]:
    return [event for event in value["traceEvents"] if all(event.get(key) == want for key, want in wanted.items())]


def test_the_trace_has_what_the_format_asks_for() -> None:
    value = json.loads(json.dumps(trace.build(TOLD)))
    assert value["displayTimeUnit"] in ("ms", "ns")
    for event in value["traceEvents"]:
        assert event["ph"] in ("X", "M", "C")
        assert isinstance(event["name"], str) and isinstance(event["pid"], int) and isinstance(event["tid"], int)
        if event["ph"] == "X":
            assert isinstance(event["ts"], int) and isinstance(event["dur"], int) and event["dur"] >= 0
    names = {event["pid"]: event["args"]["name"] for event in events(value, name="process_name")}
    assert names == {1: "the run", 2: "k2", 3: "k1"}
    assert [event["args"]["name"] for event in events(value, name="thread_name", pid=2)] == ["slot 1", "slot 2"]
    assert [event["args"] for event in events(value, ph="C")] == [{"percent": 25}, {"percent": 100}]


def test_durations_add_up() -> None:
    value = trace.build(TOLD)
    for pid, node in ((2, "k2"), (3, "k1")):
        told = sum(event["dur"] for event in events(value, ph="X", pid=pid))
        assert told == round(1e6 * sum(span.seconds for span in TOLD.spans if span.node == node))
    assert sum(event["dur"] for event in events(value, cat="phase")) == 5_000_000
    for pid in (2, 3):
        for tid in {event["tid"] for event in events(value, ph="X", pid=pid)}:
            ends = 0
            for event in sorted(events(value, ph="X", pid=pid, tid=tid), key=lambda event: event["ts"]):
                assert event["ts"] >= ends
                ends = event["ts"] + event["dur"]


def test_it_is_read_back_as_it_was_told() -> None:
    read = trace.read(json.loads(json.dumps(trace.build(TOLD))))
    assert read is not None
    assert (read.began, read.seconds, read.nodes, read.slots) == (TOLD.began, 5.0, TOLD.nodes, TOLD.slots)
    assert [(s.object, s.node, s.kind) for s in read.spans] == [(s.object, s.node, s.kind) for s in TOLD.spans]
    for got, told in zip(read.spans, TOLD.spans, strict=True):
        assert (got.begin, got.end) == pytest.approx((told.begin, told.end), abs=0.002)
    assert [name for name, *_ in read.phases] == ["prepare", "compile", "link"]


def test_stages_are_added_once_and_beside_each_other() -> None:
    at = TOLD.began
    ran = [("patch", at - 9.0, at - 8.0), ("prepare:k1", at - 12.0, at - 10.0), ("prepare:k2", at - 12.0, at - 11.0)]
    value = trace.add_stages(trace.build(TOLD), ran)
    assert trace.add_stages(value, ran) == value
    found = events(value, cat="stage")
    assert [(event["name"], event["tid"], event["dur"]) for event in found] == [
        ("prepare:k1", 2, 2_000_000),
        ("prepare:k2", 3, 1_000_000),
        ("patch", 2, 1_000_000),
    ]
    assert trace.read(value) == trace.read(trace.build(TOLD))


@pytest.mark.parametrize("value", [None, [], {}, {"otherData": {}}, {"otherData": 1, "traceEvents": 2}, "x", 3])
def test_anything_else_is_no_trace(value: Any) -> None:
    assert trace.read(value) is None


def test_damage_in_the_middle_is_no_trace() -> None:
    value = trace.build(TOLD)
    value["traceEvents"][-1] = {"ph": "X", "ts": "soon"}
    assert trace.read(value) is None


@pytest.mark.parametrize("odd", [float("inf"), float("nan"), 10**400, "1", [], None])
@pytest.mark.parametrize("where", ["began", "slots", "ts", "pid"])
def test_odd_numbers_end_nothing(where: str, odd: Any) -> None:
    value = json.loads(json.dumps(trace.build(TOLD)))
    if where == "slots":
        value["otherData"]["slots"] = {"k2": odd}
    elif where == "began":
        value["otherData"]["began"] = odd
    else:
        next(event for event in value["traceEvents"] if event["ph"] == "X")[where] = odd
    trace.read(json.loads(json.dumps(value)))  # whatever it says, it does not raise
    if odd != odd or odd == float("inf"):
        assert where == "pid" or trace.read(value) is None


def test_short_phases_go_into_the_one_before() -> None:
    changes = [(0.0, "prepare"), (2.0, "compile"), (30.0, "link"), (30.1, "compile"), (40.0, "link"), (45.0, "image")]
    assert trace.phases_of(changes, 47.0) == [
        ("prepare", 0.0, 2.0),
        ("compile", 2.0, 40.0),
        ("link", 40.0, 45.0),
        ("image", 45.0, 47.0),
    ]


STAT = "cpu  {user} 5 100 {idle} 20 0 5 0 0 0\ncpu0 1 2 3 4\n"


def test_the_busy_share_of_the_coordinator() -> None:
    before = progress.cpu_ticks(STAT.format(user=100, idle=1000))
    after = progress.cpu_ticks(STAT.format(user=175, idle=1025))
    assert before == (210, 1230)
    assert before and after and progress.busy(before, after) == 0.75
    assert progress.busy(before, before) is None
    assert progress.cpu_ticks("") is None
    assert progress.cpu_ticks("cpu a b c d e") is None


SHOT = progress.Snapshot(
    done=4, total=9, phase="compile", rate=1.0, eta=5.0, slots={"k2": 2}, cpu=0.934, longest=("net/core/dev.o", 12.4)
)


def test_the_live_line_names_cpu_and_the_longest_object() -> None:
    assert progress.line(SHOT) == "compile  4/9 objects  1.0/s  5 s left  k2 0/2  cpu 93%  net/core/dev.o 12 s"
    assert progress.line(SHOT, 66).endswith("k2 0/2  cpu 93%  dev.o 12 s")
    assert progress.line(SHOT, 60) == "compile  4/9 objects  1.0/s  5 s left  k2 0/2  cpu 93%"
    assert progress.line(SHOT, 40) == "compile  4/9 objects  1.0/s  5 s left"
