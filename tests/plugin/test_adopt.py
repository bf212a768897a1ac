"""`doit adopt` and the hint to it in a plan, as far as they go without another node."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.plugin.conftest import Workbench, project

ORIGIN = {"coordinator": "n2", "project": "/srv/kernel", "workdir": "/home/builder/buildtmp", "left_out": []}


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    """A project as `doit recover` makes it."""
    made = project(tmp_path)
    (made.root / "build").mkdir(exist_ok=True)
    (made.root / "build/origin.json").write_text(json.dumps(ORIGIN))
    return made


def test_a_plan_names_the_other_coordinator_until_something_was_compiled_here(bench: Workbench) -> None:
    hint = "n2 was the coordinator before: if it answers, doit adopt fetches what it built in /srv/kernel"
    plan = bench.doit("plan")
    assert plan.count(hint) == 1 and "run    compile      not done yet" in plan
    assert json.loads(bench.doit("plan", "--json"))["adopt"] == hint
    bench.doit()
    assert "adopt" not in bench.doit("plan")
    assert json.loads(bench.doit("plan", "--json"))["adopt"] == ""


def test_no_hint_where_this_project_has_built_long_since(bench: Workbench) -> None:
    """Its last compile may have failed: adopt would be refused all the same."""
    bench.doit("patch")
    assert "adopt" not in bench.doit("plan")


def test_one_that_is_no_node_any_more(bench: Workbench) -> None:
    (bench.root / "build/origin.json").write_text(json.dumps({**ORIGIN, "coordinator": "n9"}))
    assert "n9 was the coordinator before, and is no node of cluster.yaml any more" in bench.doit("plan")
    assert "FAILED adopt        n9 is no node of cluster.yaml" in bench.doit("adopt", check=1)


def test_what_was_built_here_is_not_overwritten(bench: Workbench) -> None:
    bench.doit()
    out = bench.doit("adopt", check=1)
    assert "FAILED adopt        this project has built here already" in out
    assert f"{bench.root}/build/receipts/extract.json" in out and "doit adopt replace=yes" in out


@pytest.mark.parametrize("words", [("package",), ("package", "replace=yes")])
def test_it_runs_alone(bench: Workbench, words: tuple[str, ...]) -> None:
    out = bench.doit("adopt", *words, check=1)
    assert "FAILED adopt        adopt runs alone" in out and "doit adopt; then doit" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["from=n9"], "n9 is no node of cluster.yaml"),
        (["from=n1"], "n1 is this coordinator"),
        (["project=kernel"], "project=kernel: not an absolute path"),
        (["replace=perhaps"], "replace=perhaps: yes or no"),
        (["from=n1", "replace=yes"], "n1 is this coordinator"),  # words with = are no other tasks
    ],
)
def test_words_that_it_does_not_take(bench: Workbench, words: list[str], said: str) -> None:
    out = bench.doit("adopt", *words, check=None)
    assert said in out and "hint:" in out and "Traceback" not in out


def test_nothing_tells_of_another_coordinator(bench: Workbench) -> None:
    (bench.root / "build/origin.json").write_text("{")
    out = bench.doit("adopt", "from=n2", check=1)
    assert "nothing here tells where n2 has built" in out and "project=DIRECTORY" in out


def test_one_on_hold_is_asked_only_by_name(bench: Workbench) -> None:
    path = bench.root / "cluster.yaml"
    path.write_text(path.read_text().replace("{address: 10.77.0.12}", "{address: 10.77.0.12, hold: true}"))
    assert "n2 is on hold: nothing is asked of it" in bench.doit("adopt", check=1)


def test_a_helper_reads_no_project(bench: Workbench) -> None:
    path = bench.root / "cluster.yaml"
    path.write_text(path.read_text() + "ssh: {sudo: helper}\n")
    assert "lets ansible run the helper alone (ssh.sudo), which reads no project" in bench.doit("adopt", check=1)


def test_it_is_listed_and_helped(bench: Workbench) -> None:
    assert "adopt" in bench.doit("list")
    assert "make a project of what the last sync left" in bench.doit("help")
    assert "DIRECTORY" in bench.doit("help", "recover")


def test_recover_without_a_directory_and_without_a_set(bench: Workbench, tmp_path: Path) -> None:
    assert "doit recover takes the directory to make" in bench.doit("recover", check=3)
    assert "there is no set ffff" in (out := bench.doit("recover", "--set=ffff", "x", check=1)) or "left nothing" in out
    assert not (tmp_path / "x").exists()
