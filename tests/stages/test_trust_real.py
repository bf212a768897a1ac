"""Workers that lie, with the real distccd, make, gcc and ccache: caught, out, and nothing of theirs is left."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.effects import quarantine
from kbuild_tasks.effects.context import Context
from kbuild_tasks.effects.files import read_json, write_json
from kbuild_tasks.stages import trust as stage
from tests.stages.compile_world import COUNT, Daemon, Mute, Small, daemons
from tests.stages.liar import LIES, Liar

pytestmark = pytest.mark.real
OTHERWISE = LIES["compiles it otherwise"]


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def honest(temporary: Path) -> Iterator[Daemon]:
    with daemons(temporary, "127.0.0.3") as (one,):
        yield one


def liar(closing: ExitStack, directory: Path, lie: str, address: str = "127.0.0.2", forges: bool = False) -> Liar:
    made = Liar(address, directory, lie, forges)
    closing.callback(made.stop)
    return made


def caught(small: Small) -> KbuildError:
    with pytest.raises(KbuildError) as raised:
        small.compile()
    assert "n2 returned" in raised.value.message and raised.value.message.endswith("From now on n2 compiles nothing")
    assert "trust:n2" in (raised.value.hint or "")
    return raised.value


def alone(small: Small) -> str:
    """vmlinux that nobody but the coordinator had a hand in."""
    for name in list(small.nodes)[1:]:
        small.leave_out(name, "not now")
    for pattern in ("fs/*.o", "vmlinux"):
        for path in small.tree.glob(pattern):
            path.unlink()
    small.ccache = 0
    outcome, _ = small.compile()
    assert outcome.run["per_node"] == {"n1": COUNT}
    return str(outcome.results["vmlinux_sha256"])


@pytest.mark.parametrize("lie", LIES)
def test_every_lie_is_caught_where_all_is_checked(small: Small, temporary: Path, closing: ExitStack, lie: str) -> None:
    small.build["check_share"] = 1.0
    worker = liar(closing, temporary, LIES[lie])
    error = caught(small.prepared(n2=worker.where))
    assert worker.lies() >= 1
    told = {"flips a bit": "1 of", "cuts it short": "it is cut short", "returns nothing": "it is cut short, 0 of"}
    told["adds a byte"] = "1 bytes more"
    assert told.get(lie, "differ") in error.evidence[0] and error.evidence[0].startswith("fs/o")
    record = read_json(small.paths.quarantine / "n2.json")
    assert (record["node"], record["address"]) == ("n2", "127.0.0.2") and record["dropped"] is not None
    kept = small.paths.quarantine / "n2"
    assert sorted(path.name for path in kept.iterdir()) == ["ours.o", "text.i", "theirs.o"]
    assert (kept / "theirs.o").read_bytes() != (kept / "ours.o").read_bytes()
    assert not (small.tree / "vmlinux").exists(), "it was caught before anything was made of it"


def test_the_next_run_does_without_it(small: Small, temporary: Path, closing: ExitStack) -> None:
    small.build["check_share"] = 1.0
    caught(small.prepared(n2=liar(closing, temporary, OTHERWISE).where))
    again, _ = small.compile()
    assert set(again.run["per_node"]) == {"n1"} and again.run["checked"] == {}
    assert any(line.startswith("n2 compiled nothing: it is in quarantine since ") for line in again.warnings)
    assert "doit trust:n2 lifts it" in "\n".join(again.warnings)


def test_what_it_made_before_it_was_caught_goes_and_what_others_made_stays(
    small: Small, temporary: Path, closing: ExitStack, honest: Daemon
) -> None:
    small.build["check_share"] = 0.0
    worker = liar(closing, temporary, OTHERWISE)
    poisoned, _ = small.prepared(n2=worker.where, n3=honest.where).compile()
    lies = worker.lies()
    assert lies == poisoned.run["per_node"]["n2"] > 0 and poisoned.run["checked"] == {}
    makers = read_json(small.paths.makers)["linux-small/src/linux"]
    theirs = {name for name, (node, _, _) in makers.items() if node == "n2"}
    before = {path.name: path.stat().st_mtime_ns for path in small.tree.glob("fs/*.o")}
    assert len(theirs) == lies

    small.build["check_share"] = 1.0
    small.leave_out("n3", "not now")
    for number, name in enumerate(sorted(theirs)):  # edited, so that it makes them again: each is a lie
        path = small.tree / name.replace(".o", ".c")
        path.write_text(path.read_text() + f"int more{number};\n")
    error = caught(small)
    assert any(line.startswith("dropped: ") for line in error.evidence)
    for name in theirs & {f"fs/{path.name}" for path in small.tree.glob("fs/*.o")}:
        assert read_json(small.paths.makers)["linux-small/src/linux"][name][0] == "n1", "made anew here, in between"
    others = before.keys() - {Path(name).name for name in theirs}
    assert others and all((small.tree / "fs" / name).stat().st_mtime_ns == before[name] for name in others)
    again, _ = small.compile()
    assert set(again.run["objects"]) <= theirs and "n2" not in again.run["per_node"]
    assert again.results["vmlinux_sha256"] == alone(small) != poisoned.results["vmlinux_sha256"]


def test_it_does_not_live_on_in_ccache(small: Small, temporary: Path, closing: ExitStack) -> None:
    small.build["check_share"] = 0.0
    small.ccache = 1 << 30
    worker = liar(closing, temporary, OTHERWISE)
    poisoned, _ = small.prepared(n2=worker.where).compile()
    assert worker.lies() > 0
    for pattern in ("fs/*.o", "vmlinux"):
        for path in small.tree.glob(pattern):
            path.unlink()
    again, _ = small.compile()
    assert again.run["ccache"]["hits"] == COUNT, "what comes from ccache was compiled by nobody"
    assert again.results["vmlinux_sha256"] == poisoned.results["vmlinux_sha256"]

    small.build["check_share"] = 1.0
    for number in range(COUNT):
        path = small.tree / f"fs/o{number}.c"
        path.write_text(path.read_text() + "int more;\n")
    caught(small)
    for number in range(COUNT):
        path = small.tree / f"fs/o{number}.c"
        path.write_text(path.read_text().removesuffix("int more;\n"))
    clean, _ = small.compile()
    assert clean.run["ccache"]["hits"] == 0, "nothing of before is believed, and a wrong one was never stored"
    assert sum(clean.run["per_node"].values()) == COUNT
    for pattern in ("fs/*.o", "vmlinux"):
        for path in small.tree.glob(pattern):
            path.unlink()
    hot, _ = small.compile()
    assert hot.run["ccache"]["hits"] == COUNT
    assert hot.results["vmlinux_sha256"] == clean.results["vmlinux_sha256"] == alone(small)


def test_an_object_of_a_text_that_does_not_compile(small: Small, temporary: Path, closing: ExitStack) -> None:
    small.build["check_share"] = 1.0
    worker = liar(closing, temporary, "", forges=True)
    small.prepared(n2=worker.where)
    for number in range(COUNT):
        (small.tree / f"fs/o{number}.c").write_text("int f(void) { return missing; }\n")
    assert "the compiler here refuses the text" in caught(small).evidence[0]


@pytest.mark.parametrize("flags", ["-O1", "-O1 -g", "-O2 -g -gdwarf-4 -ffunction-sections -Wp,-DX=1 -DY='\"a b\"'"])
def test_no_false_alarm_where_all_is_checked(small: Small, temporary: Path, honest: Daemon, flags: str) -> None:
    small.build["check_share"] = 1.0
    with daemons(temporary, "127.0.0.2") as (two,):
        small.prepared(n2=two.where, n3=honest.where)
        makefile = small.tree / "Makefile"
        makefile.write_text(makefile.read_text().replace("-D__KERNEL__ -O1", f"-D__KERNEL__ {flags}"))
        small._own()
        outcome, _ = small.compile()
    per_node = outcome.run["per_node"]
    assert outcome.run["checked"] == {name: per_node[name] for name in ("n2", "n3")} and outcome.warnings == ()
    assert not small.paths.quarantine.exists() and not (small.paths.workdir / "tmp").exists()


def test_no_false_alarm_where_workers_fail(small: Small, honest: Daemon, closing: ExitStack) -> None:
    """One that takes the job and hangs up: the object is made elsewhere in the end, here too."""
    small.build |= {"check_share": 1.0, "fail_local_share": 1.0}
    dying = Mute("127.0.0.7", closes=True)
    closing.callback(dying.stop)
    makefile = small.prepared(n7=dying.where, n3=honest.where).tree / "Makefile"
    makefile.write_text(makefile.read_text().replace("-D__KERNEL__ -O1", "-D__KERNEL__ -O1 -g"))
    outcome, _ = small.compile()
    assert outcome.run["lost_attempts"]["n7"] >= 1
    assert outcome.run["checked"] == {"n3": outcome.run["per_node"]["n3"]}
    assert not small.paths.quarantine.exists()


def test_a_run_that_could_not_drop_all_is_made_up_for(small: Small, honest: Daemon) -> None:
    small.build["check_share"] = 0.0
    first, _ = small.prepared(n3=honest.where).compile()
    count = first.run["per_node"]["n3"]
    small.run(write_json, small.paths.quarantine / "n3.json", {"address": "127.0.0.3", "objects": [], "dropped": None})
    context = Context(small.cluster, small.paths, "trust:n3", small.nodes["n3"])
    with pytest.raises(KbuildError, match="is still in the tree"):
        small.run(stage.run, context)
    again, _ = small.compile()
    assert len(again.run["objects"]) == count and again.run["per_node"] == {"n1": count}
    assert small.run(stage.run, context).message.startswith("compiles again")
    assert small.run(stage.run, context).run == {"state": "fresh"}
    assert not list(small.paths.quarantine.iterdir())
    shutil.rmtree(small.tree / "fs")


def test_another_name_is_still_the_same_node(small: Small, honest: Daemon) -> None:
    small.prepared(n4=honest.where)
    small.run(write_json, small.paths.quarantine / "n3.json", {"address": "127.0.0.3", "objects": [], "dropped": 0})
    assert list(quarantine.known(small.paths, small.cluster)) == ["n4"]
    outcome, _ = small.compile()
    assert outcome.run["per_node"] == {"n1": COUNT}
    small.run(stage.run, Context(small.cluster, small.paths, "trust:n4", small.nodes["n4"]))
    assert quarantine.known(small.paths, small.cluster) == {}


def test_a_record_that_is_damaged_keeps_its_node_out(small: Small, honest: Daemon) -> None:
    small.prepared(n3=honest.where)
    small.paths.quarantine.mkdir(parents=True)
    (small.paths.quarantine / "n3.json").write_text("{")
    small._own()
    assert small.compile()[0].run["per_node"] == {"n1": COUNT}
