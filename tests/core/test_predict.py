"""From measurements to a table: where each figure comes from, and that it says so."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from kbuild_tasks.core import predict
from kbuild_tasks.core.calibration import Measured
from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.core.spans import Span
from kbuild_tasks.core.trace import Timeline
from kbuild_tasks.report.plot import plot

SAMPLE = tuple((0.05, 0.2 * 1.2**n, 1_000_000 + 1000 * n) for n in range(8))
OWN = Measured(
    "k1", 0.0, "sum", 1_000_000, alone=0.5, rate=4.0, jobs=2, cpp=0.05, compile=0.5, sample=SAMPLE, objects=400
)
MEAN = sum(one[1] for one in SAMPLE) / 8


def worker(name: str, rate: float, alone: float = 0.5, bandwidth: float = 1e8) -> Measured:
    return Measured(name, 0.0, "sum", 1_000_000, alone=alone, rate=rate, jobs=8, bandwidth=bandwidth)


def line(objects: int = 400) -> Timeline:
    spans = tuple(Span(f"fs/{n}.o", "k2", 3.0 + n / 10, 4.0 + n / 10) for n in range(objects))
    end = 3.0 + objects / 10 + 1
    phases = (("prepare", 0.0, 3.0), ("compile", 3.0, end), ("link", end, end + 7))
    return Timeline(0.0, end + 7, spans, phases, nodes=("k2", "k1"), slots={"k2": 8})


def test_without_anything_it_says_that_figures_are_assumed() -> None:
    told = predict.site({}, "k1", cores=4)
    assert told.own.capacity == 4 and told.work.objects == 2704 and told.nodes == ()
    assert told.said[0].startswith("nodes are not calibrated")
    assert "assumed: there is no trace of a whole build" in told.said[1]


def test_calibrations_are_scaled_to_a_typical_object() -> None:
    told = predict.site({"k1": OWN, "k2": worker("k2", 4.0), "k3": worker("k3", 2.0, 0.9)}, "k1")
    assert told.own.compile == pytest.approx(MEAN) and told.own.capacity == pytest.approx(2.0)
    assert told.work.objects == 400 and told.work.bytes == pytest.approx(1_003_500)
    k2, k3 = told.nodes
    assert (k2.name, k3.name) == ("k2", "k3"), "the quickest for one job first"
    assert k2.rate == pytest.approx(4.0 * 0.5 / MEAN)
    assert k2.seconds == pytest.approx(0.49 * MEAN / 0.5)
    assert told.own.link == 1e8
    assert 0.3 < told.work.spread < 0.6  # of logarithms of 0.2 * 1.2^n


def test_the_last_whole_build_tells_head_tail_and_the_cost_of_an_object() -> None:
    records = {"k1": OWN, "k2": worker("k2", 4.0)}
    told = predict.site(records, "k1", line(), {"cpu_seconds": 10.0 + 400 * 0.05 + 400 * 0.09})
    assert (told.work.objects, told.work.head, told.work.tail) == (400, 3.0, pytest.approx(7.0))
    assert told.own.noted == pytest.approx(0.09)
    assert any("of the last whole build" in said for said in told.said)
    assert any("90 ms of k1 for an object beside the compiler" in said for said in told.said)


@pytest.mark.parametrize("partial", [line(30), replace(line(), failed=True), None])
def test_the_trace_of_an_edit_or_of_a_failure_is_none_of_a_whole_build(partial: Timeline | None) -> None:
    told = predict.site({"k1": OWN}, "k1", partial, {"cpu_seconds": 1.0})
    assert told.work.head == predict.DEFAULTS["head"]
    assert any("assumed" in said for said in told.said)


def test_a_figure_that_cannot_be_is_not_believed() -> None:
    records = {"k1": OWN, "k2": worker("k2", 4.0)}
    usual = predict.site(records, "k1").own.noted
    assert predict.site(records, "k1", line(), {"cpu_seconds": 1e6}).own.noted == pytest.approx(3 * usual)
    assert predict.site(records, "k1", line(), {"cpu_seconds": 1e-6}).own.noted == pytest.approx(usual / 3)
    assert predict.site(records, "k1", line(), {"cpu_seconds": "x"}).own.noted == usual


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1..64", [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]),
        ("1..8", [1, 2, 3, 4, 5, 6, 7, 8]),
        ("5", [5]),
        ("3,1,3", [1, 3]),
        ("5..100", [5, 6, 8, 12, 16, 24, 32, 48, 64, 100]),
    ],
)
def test_counts(text: str, found: list[int]) -> None:
    assert predict.counts(text) == found


@pytest.mark.parametrize("text", ["", "0", "x", "1..", "..3", "1..9999", "-1", "1;2", "1.5"])
def test_counts_that_are_none(text: str) -> None:
    with pytest.raises(KbuildError, match="--nodes"):
        predict.counts(text)


def test_kinds() -> None:
    assert predict.kind("4,0.5,12") == predict.Kind(4, 0.5, 12e6)
    assert predict.kind("2") == predict.Kind(2)
    for text in ("", "0,1", "1,2,3,4", "x", "1,-1", "nan", "inf,1"):
        with pytest.raises(KbuildError, match="--kind"):
            predict.kind(text)


def test_a_node_of_the_coordinators_own_kind_compiles_as_it_does() -> None:
    own = predict.site({"k1": OWN}, "k1").own
    one = predict.of_kind(own, predict.Kind(2, 1.0), 0)
    assert one.rate == pytest.approx(2 / (own.compile - own.cpp)) and one.slots == 3
    half = predict.of_kind(own, predict.Kind(0.5, 1.0), 0)
    assert half.rate == pytest.approx(0.5 / (own.compile - own.cpp))
    assert half.seconds == pytest.approx(2 * (own.compile - own.cpp))


def test_a_curve_goes_on_with_nodes_like_those_that_there_are() -> None:
    told = predict.site({"k1": OWN, "k2": worker("k2", 4.0), "k3": worker("k3", 2.0)}, "k1", line())
    curve = predict.curve(told, [1, 2, 4, 16])
    seconds = [point.told.seconds for point in curve.points]
    assert seconds == sorted(seconds, reverse=True)
    assert curve.alone.seconds > seconds[0]
    assert curve.points[-1].told.bound in ("coordinator", "serial")
    assert curve.advice


def test_nodes_that_do_not_help_are_said_not_to() -> None:
    told = predict.site({"k1": OWN}, "k1", line())
    curve = predict.curve(told, [1], predict.Kind(0.05, 0.1))
    assert curve.advice[0] == "the coordinator alone is as quick: such nodes do not help"


def test_the_plot_stands_alone_in_light_and_dark() -> None:
    told = predict.site({}, "k1", cores=2)
    curves = [predict.curve(told, [1, 2, 4, 64], predict.Kind(4, speed)) for speed in (0.3, 1.0)]
    text = plot([replace(curves[0], name="<script>alert(1)</script>"), curves[1]])
    assert text.startswith("<svg ") and text.count("<circle ") == 8
    assert "prefers-color-scheme: dark" in text and "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "<script" not in text and "&lt;script&gt;" in text
    assert "nan" not in text and "inf" not in text


def test_one_point_is_a_plot_too() -> None:
    told = predict.site({}, "k1", cores=2)
    assert "<circle" in plot([predict.curve(told, [3], predict.Kind(2))])


def test_every_bound_has_its_advice() -> None:
    assert set(predict.HELP) == {"coordinator", "network", "workers", "serial", "make"}
    assert math.isclose(sum(predict.DEFAULTS[key] for key in ("cpp", "noted")), 0.112)


def test_a_build_that_is_known_to_be_whole_is_believed_whatever_was_counted_before() -> None:
    """Calibrated with 400 objects, built since with a configuration that has 200."""
    told = predict.site({"k1": OWN}, "k1", replace(line(200), began=1796058900.0), {}, whole=True)
    assert told.work.objects == 200 and told.work.head == 3.0
    (said,) = [said for said in told.said if said.startswith("200 objects")]
    assert said.endswith(": of the last whole build, of 2026-11-30 17:15 UTC")
