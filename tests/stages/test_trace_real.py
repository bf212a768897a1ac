"""build/trace.json of a real compilation by real workers: what it tells agrees with what the stage counts."""

from __future__ import annotations

import errno
import json
from collections import Counter
from pathlib import Path

import pytest

from kbuild_tasks.core import trace
from kbuild_tasks.core.errors import CommandFailed
from kbuild_tasks.core.spans import lanes
from kbuild_tasks.effects import distcc
from kbuild_tasks.effects import trace as writer
from tests.stages.compile_world import COUNT, Small, daemons

pytestmark = pytest.mark.real


def told(small: Small) -> trace.Timeline:
    found = trace.read(json.loads((small.paths.build / "trace.json").read_text()))
    assert found is not None
    return found


def test_every_object_has_its_time_and_node(small: Small, temporary: Path) -> None:
    with daemons(temporary, "127.0.0.2", "127.0.0.3") as (two, three):
        outcome, events = small.prepared(n2=two.where, n3=three.where).compile()
        found = told(small)
        assert sorted(span.object for span in found.spans) == outcome.run["objects"]
        assert Counter(span.node for span in found.spans) == outcome.run["per_node"]
        assert found.slots == outcome.run["slots"]
        assert found.seconds == pytest.approx(outcome.run["seconds"], abs=1.0)
        for span in found.spans:
            assert 0 < span.seconds < found.seconds and span.end <= found.seconds + 0.01
        for node in found.nodes:  # a slot is never taken twice at once: make has no more jobs than there are slots
            assert max(lanes([s for s in found.spans if s.node == node]), default=0) < outcome.run["jobs"]
        assert [name for name, *_ in found.phases][:1] in (["prepare"], ["compile"])
        assert all(event["cpu"] is None or 0 <= event["cpu"] <= 1 for event in events if "cpu" in event)
        before = (small.paths.build / "trace.json").read_bytes()
        again, _ = small.compile()
        assert again.message == "nothing to compile"
        assert (small.paths.build / "trace.json").read_bytes() == before


def test_what_is_compiled_here_has_times_too(small: Small) -> None:
    small.prepared().compile()
    found = told(small)
    assert len(found.spans) == COUNT
    assert {span.node for span in found.spans} == {"n1"}
    assert all(0 < span.seconds < found.seconds for span in found.spans)


def test_a_build_that_fails_leaves_its_trace(small: Small) -> None:
    small.prepared()
    (small.tree / "fs/o7.c").write_text("int broken(\n")
    with pytest.raises(CommandFailed):
        small.compile()
    assert told(small).failed


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_the_records_own_failure_is_not_told_instead_of_the_builds(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.prepared()
    (small.tree / "fs/o7.c").write_text("int broken(\n")
    monkeypatch.setattr(distcc.Client, "finish", full)
    with pytest.raises(CommandFailed, match="o7"):
        small.compile()
    assert not list(small.paths.state.rglob("*compiling*")), "make ended by itself: nothing is to be mended"


@pytest.mark.parametrize("what", ["timeline", "_write"])
def test_a_good_build_without_its_trace_is_a_good_build(
    small: Small, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(writer, what, full)
    outcome, _ = small.prepared().compile()
    assert len(outcome.run["objects"]) == COUNT
    assert [line for line in outcome.warnings if "build/trace.json was not written" in line]
    assert not (small.paths.build / "trace.json").exists()


def test_without_a_clock_in_procfs_there_are_no_times(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "UPTIME", small.home / "nothing")
    outcome, _ = small.prepared().compile()
    assert len(outcome.run["objects"]) == COUNT
    assert not [line for line in outcome.warnings if "trace" in line]
    assert not (small.paths.build / "trace.json").exists()


def test_an_edit_leaves_the_trace_of_the_whole_build(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "LEAST", 1)
    small.prepared().compile()
    whole = writer.whole(small.paths).read_bytes()
    assert json.loads(whole)["otherData"]["objects"] == COUNT
    (small.tree / "fs/o7.c").write_text("int o7;\n")
    small.compile()
    assert [span.object for span in told(small).spans] == ["fs/o7.o"]
    assert writer.whole(small.paths).read_bytes() == whole
