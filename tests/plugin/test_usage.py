"""A command line that doit does not take: a sentence, a line to type instead, status 3; and -h after a word of ours."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.plugin.conftest import Workbench, project

NODES = """\
  n2: {address: 10.77.0.12}
  kubenode7: {address: 10.77.0.17}
  kubenode8: {address: 10.77.0.18, hold: true}
  kubenode9: {address: 10.77.0.19, rollout: false}
"""
LISTS = "doit list names the tasks, doit help the commands"
TAKE_PART = "take that out of cluster.yaml for {} to take part; doit status shows all nodes"
OWN = """\
def task_hello():
    loud = {"name": "loud", "long": "loud", "default": False, "type": bool}
    for name in ("world", "moon"):
        yield {"name": name, "actions": None, "params": [loud]}
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    made = project(tmp_path_factory.mktemp("usage") / "project")
    made.edit("cluster.yaml", "  n2: {address: 10.77.0.12}\n", NODES)
    return made


@pytest.mark.parametrize(
    ("line", "told", "hint"),
    [
        ("rolout", "rolout is no task and no command, did you mean rollout?", "doit rollout"),
        (
            "rolout only=kubenode7",
            "rolout is no task and no command, did you mean rollout?",
            "doit rollout only=kubenode7",
        ),
        ("run rolout", "rolout is no task, did you mean rollout?", "doit run rollout"),
        ("hlep", "hlep is no task and no command, did you mean help?", "doit help"),
        ("package xyzzy", "xyzzy is no task", LISTS),
        ("zzz", "zzz is no task and no command", LISTS),
        ("zz:n2", "zz:n2 is no task", LISTS),
        (
            "rollback:kubnode7",
            "rollback:kubnode7 is no task, did you mean rollback:kubenode7?",
            "doit rollback:kubenode7",
        ),
        (
            "rolback:kubnode7",
            "rolback:kubnode7 is no task, did you mean rollback:kubenode7?",
            "doit rollback:kubenode7",
        ),
        ("compile:n2", "compile:n2 is no task: compile is not done node by node", "doit compile"),
        ("deploy:n2 only=kubenode7", "deploy:n2 is no task: only=kubenode7 leaves n2 out", "doit deploy only=n2"),
        ("rollout kubenode7", "kubenode7 is a node, not a task", "doit rollout only=kubenode7"),
        ("rollout n2 kubenode7", "n2 is a node, not a task", "doit rollout only=n2,kubenode7"),
        ("rollout kubenod7", "kubenod7 is no task, did you mean the node kubenode7?", "doit rollout only=kubenode7"),
        ("prepare kubenode7", "kubenode7 is a node, not a task", "doit prepare:kubenode7"),
        ("compile kubenode7", "kubenode7 is a node, not a task", LISTS),
        (
            "deploy:kubenode8",
            "deploy:kubenode8 is no task: kubenode8 has hold: true in cluster.yaml",
            TAKE_PART.format("kubenode8"),
        ),
        (
            "deploy:kubenod8",  # not deploy:kubenode7, which is near and another machine
            "deploy:kubenod8 is no task: kubenode8 has hold: true in cluster.yaml",
            TAKE_PART.format("kubenode8"),
        ),
        (
            "prepare:kubenode8",
            "prepare:kubenode8 is no task: kubenode8 has hold: true in cluster.yaml",
            TAKE_PART.format("kubenode8"),
        ),
        (
            "verify:kubenode9",
            "verify:kubenode9 is no task: kubenode9 has rollout: false in cluster.yaml",
            TAKE_PART.format("kubenode9"),
        ),
        ("status --asl", "doit status has no option --asl, did you mean --ask?", "doit status --ask"),
        ("plan --jsn", "doit plan has no option --jsn, did you mean --json?", "doit plan --json"),
        ("recover --st=x", "doit recover has no option --st, did you mean --set?", "doit recover --set=x"),
        ("plan -z", "doit plan has no option -z", "doit help plan"),
        ("simulate --nodes", "doit simulate: option --nodes requires argument", "doit help simulate"),
        ("patch --foo", "patch has no option --foo", "doit help patch"),
        ("rollout --only=n2", "rollout has no option --only: only= has no dashes", "doit rollout only=n2"),
        ("rollout --only n2", "rollout has no option --only: only= has no dashes", "doit rollout only=n2"),
        ("rollout -n 4", "-n goes before rollout: it is no option of a task", "doit -n 4 rollout"),
        ("help rolout", "rolout is no task, did you mean rollout?", "doit help rollout"),
        ("list rolout", "rolout is no task, did you mean rollout?", "doit list rollout"),
        ("info ptch", "ptch is no task, did you mean patch?", "doit info patch"),
        ("forget ptch", "ptch is no task, did you mean patch?", "doit forget patch"),
        ("clean ptch", "ptch is no task, did you mean patch?", "doit clean patch"),
        ("lab upp", "doit lab has no verb 'upp', did you mean up?", "doit lab up"),
        ("lab strat kubenode2", "doit lab has no verb 'strat', did you mean start?", "doit lab --help"),
    ],
)
def test_a_sentence_and_what_to_type(bench: Workbench, line: str, told: str, hint: str) -> None:
    out = bench.doit(*line.split(), check=3)
    assert out == f"{told}\nhint: {hint}\n"


def test_a_choice_that_there_is_not_is_told_in_one_line(bench: Workbench) -> None:
    told, hint = bench.doit("run", "-r", "jsn", check=3).splitlines()
    assert told.startswith("doit run: parameter 'reporter'. Provided 'jsn' but available choices are: ")
    assert hint == "hint: doit help run"


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("rollout", "rollout  bring the kernel of artifacts/ to every node"),
        ("rollout", "  only=NODE[,NODE...]  these nodes alone"),
        ("rollback:kubenode7", "  to=previous "),
        ("patch", "patch  apply the series"),
        ("reproduce", "reproduce [--anyway]"),
        ("status", "--ask"),
        ("recover", "recover [--set=NAME] DIRECTORY"),
        ("list", "list tasks from dodo file"),
        ("lab", "doit lab up [--nodes N]"),
        ("run", "--continue"),
        ("", "help <task-name>  show task usage"),
    ],
)
def test_help_behind_a_word_is_of_that_word(bench: Workbench, line: str, shown: str, flag: str) -> None:
    assert shown in bench.doit(*line.split(), flag)
    assert bench.trace() == [], "it is a question"


def test_help_of_a_task_is_the_same_either_way(bench: Workbench) -> None:
    assert bench.doit("help", "rollout") == bench.doit("rollout", "--help")
    assert "Task Dictionary parameters" in bench.doit("help", "task")
    assert bench.doit("rolout", "--help", check=3).startswith("rolout is no task")


def test_a_dodo_of_the_user_s_own(tmp_path: Path) -> None:
    """Suggestions are of its own tasks; what its tasks take is theirs."""
    own = Workbench(tmp_path)
    (tmp_path / "dodo.py").write_text(OWN)
    assert own.doit("helo", check=3).startswith("helo is no task and no command, did you mean hello?")
    assert "did you mean hello:moon?" in own.doit("hello:mon", check=3)
    assert "hello:sun is no task\nhint: doit list --all hello" in own.doit("hello:sun", check=3)
    assert "loud" in own.doit("hello:moon", "--help") and "only=" not in own.doit("hello:moon", "--help")
    own.doit("hello:moon", "--loud")


def test_a_task_beside_ours_is_suggested_too(bench: Workbench, tmp_path: Path) -> None:
    both = Workbench(Path(shutil.copytree(bench.root, tmp_path / "project")))
    (both.root / "dodo.py").write_text((both.root / "dodo.py").read_text() + OWN)
    assert "did you mean hello?" in both.doit("helo", check=3)
    assert "did you mean hello:world?" in both.doit("hello:wold", check=3)
    assert "only=" not in both.doit("hello:moon", "--help")


@pytest.mark.parametrize(
    ("line", "told", "hint"),
    [
        (["rolback:*"], "rolback:* matches no task, did you mean rollback:*?", "doit 'rollback:*'"),
        (["rollback:kuben8*"], "rollback:kuben8* matches no task", "doit list --all names them"),
        (["zzz*"], "zzz* matches no task", "doit list --all names them"),
        (["deploy:n2", "kubenode7"], "kubenode7 is a node, not a task", "doit deploy:n2 deploy:kubenode7"),
        (["rollout", "--to", "previous"], "rollout has no option --to; to= belongs to rollback", "doit help rollout"),
        (["-n", "-1", "rollout"], "-n -1: so few tasks at once are none", "doit help run"),
        (["-o", "/nowhere/x", "extract"], "/nowhere/x: No such file or directory", "ls -ld /nowhere/x"),
    ],
)
def test_what_would_do_nothing_or_end_in_a_traceback(line: list[str], told: str, hint: str, bench: Workbench) -> None:
    assert bench.doit(*line, check=3) == f"{told}\nhint: {hint}\n"
    assert bench.trace() == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (["rollb*", "onyl=n2"], "onyl=n2: a roll-out knows no such word, did you mean only=?"),
        (["deploy:*", "onyl=n2"], "onyl=n2: a roll-out knows no such word, did you mean only=?"),
        (["d*:n2", "onyl=n2"], "onyl=n2: a roll-out knows no such word, did you mean only=?"),
        (["deploy", "only=n2", "only=kubenode7"], "only= is given 2 times, and the last one alone would count"),
        (["rollout", "rollback:n2"], "rollback with rollout in one command: which comes first is nobody's word"),
        (["r*"], "rollback with reboot rollout in one command: which comes first is nobody's word"),
    ],
)
def test_a_pattern_is_no_way_around_the_words_of_a_roll_out(line: list[str], told: str, bench: Workbench) -> None:
    """`doit 'rollb*' onyl=n2` meant every node."""
    assert f"ERROR: {told}\n" in bench.doit(*line, check=3)
    assert bench.trace() == []


def test_more_threads_than_tasks_are_not_started(bench: Workbench) -> None:
    assert "extract" in bench.doit("-n", "99999999999999999999", "extract")
    assert "patch" in bench.doit("pat*", "onyl=n2")
