"""What bounded a build: traces made by hand, one for each answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kbuild_tasks.core.bound import bound, main_part
from kbuild_tasks.core.progress import bytes_sent
from kbuild_tasks.core.spans import CACHED, Span
from kbuild_tasks.core.trace import Timeline


def line(busy: float = 0.3, at_work: int = 4, tail: float = 5.0, node: str = "k2") -> Timeline:
    """20 s of objects after 2 s of preparation, in `at_work` of four slots."""
    spans = [Span(f"fs/{lane}-{n}.o", node, 2.0 + n, 3.0 + n) for lane in range(at_work) for n in range(20)]
    return Timeline(
        began=0.0,
        seconds=22.0 + tail,
        spans=tuple(sorted(spans, key=lambda span: span.begin)),
        phases=(("prepare", 0.0, 2.0), ("compile", 2.0, 22.0), ("link", 22.0, 22.0 + tail)),
        cpu=tuple((float(second), busy) for second in range(1, 22)),
        nodes=("k2", "k1"),
        slots={"k2": 3, "k1": 1},
    )


@pytest.mark.parametrize(
    ("told", "more", "by", "says"),
    [
        (line(tail=40.0), {}, "serial", "bounded by serial steps: objects were made in 20 s of 62 s"),
        (line(busy=0.97), {}, "coordinator", "the coordinator's CPU, 97% busy while objects were made: more nodes"),
        (line(busy=0.97), {"cores": 2, "cpu_seconds": 50.0}, "coordinator", "more nodes will not help"),
        (line(busy=0.97), {"cores": 2, "cpu_seconds": 10.0}, "coordinator", "but 19% by this build: something else"),
        (
            line(),
            {"sent": [(2.0, 0.0), (22.0, 2.2e9)], "link": 117e6},
            "network",
            "network: 110 MB/s of 117 MB/s while objects were made",
        ),
        (line(), {"sent": [(2.0, 0.0), (22.0, 1e9)], "link": 117e6}, "workers", "all 4 at work 100% of the time"),
        (
            line(),
            {"sent": [(2.0, 0.0), (22.0, 9e9)]},
            "workers",
            "the coordinator's CPU 30% busy: more or faster nodes",
        ),
        (line(at_work=2), {}, "make", "of 4 slots 2.0 were at work on average"),
    ],
)
def test_one_sentence(told: Timeline, more: dict[str, object], by: str, says: str) -> None:
    found = bound(told, **more)  # type: ignore[arg-type]
    assert found is not None
    assert found.by == by
    assert says in found.sentence
    assert found.sentence.startswith("bounded by ") and "\n" not in found.sentence


def test_a_coordinator_that_compiles_alone_is_told_that_workers_would_help() -> None:
    told = replace(line(busy=0.97, node="k1"), nodes=("k1",), slots={"k1": 4})
    found = bound(told)
    assert found is not None and found.sentence.endswith("workers would help")


def test_a_coordinator_that_compiles_beside_workers_is_one_of_them() -> None:
    told = line(busy=0.97)
    own = tuple(Span(f"own/{n}.o", "k1", 2.0 + n, 3.0 + n) for n in range(20))
    told = replace(told, spans=(*told.spans, *own), slots={"k2": 4, "k1": 1})
    assert [found.by for cores in (1, 4) if (found := bound(told, cores=cores))] == ["workers", "coordinator"]


def test_nothing_compiled_is_bounded_by_nothing() -> None:
    assert bound(replace(line(), spans=())) is None
    assert bound(replace(line(), spans=tuple(replace(span, kind=CACHED) for span in line().spans))) is None


def test_the_main_part_is_where_most_objects_begin() -> None:
    told = replace(line(), phases=(("compile", 0.0, 0.5), ("prepare", 0.5, 2.0), ("compile", 2.0, 22.0)))
    assert main_part(told) == (2.0, 22.0)
    assert main_part(replace(told, phases=())) == (2.0, 22.0)


def test_bytes_of_all_interfaces_but_the_loopback() -> None:
    table = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier
    lo: 1000       1    0    0    0     0          0         0     1000       1    0    0    0     0       0          0
  eth0: 5000       9    0    0    0     0          0         0      700       9    0    0    0     0       0          0
 wlan0:5000       9    0    0    0     0          0         0        44       9    0    0    0     0       0          0
"""
    assert bytes_sent(table) == 744
    assert bytes_sent("") == 0
