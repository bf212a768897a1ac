"""Files of ours that are JSON and not what we write there: they count as none, nobody sees a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from doit.dependency import JSONCodec

from kbuild_tasks.core.model import Inputs
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.receipts import Receipts
from kbuild_tasks.plugin.backend import AtomicJson

BUILD = ["extract", "patch", "configure", "compile", "package"]


TORN = ["[]", "null", '"x"', "5", '{"patch": 5}', '{"patch": {"deps:": 5}}', '{"forgotten:": 5}', "{ torn"]


@pytest.mark.parametrize("text", TORN)
def test_a_database_of_another_shape_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "db.json").write_text(text)
    database = AtomicJson(str(tmp_path / "db.json"), JSONCodec())
    assert not database.forgotten("patch") and not database.in_("patch")
    database.set("patch", "deps:", ["a"])
    assert AtomicJson(str(tmp_path / "db.json"), JSONCodec()).get("patch", "deps:") == ["a"]


def test_then_the_receipts_decide(built) -> None:
    (built.root / "build/.doit.json").write_text('{"patch": 5, "package": {"deps:": []}}')
    assert "Traceback" not in built.doit("list", "-s")
    built.doit()
    assert not [task for task in built.trace() if task in BUILD]


WRONG = [
    lambda receipt: [],
    lambda receipt: {**receipt, "inputs": 5},
    lambda receipt: {**receipt, "results": "x"},
    lambda receipt: {**receipt, "inputs": {**receipt["inputs"], "files": 5}},
    lambda receipt: {**receipt, "inputs": {**receipt["inputs"], "files": {"a.patch": 5}}},
    lambda receipt: {**receipt, "inputs": {**receipt["inputs"], "order": None}},
    lambda receipt: {**receipt, "inputs": {**receipt["inputs"], "receipts": []}},
]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_receipt_of_another_shape_is_none(tmp_path: Path, wrong) -> None:
    receipts = Receipts(Paths(tmp_path, tmp_path, tmp_path))
    receipts.write("patch", receipts.now(Inputs(("a.patch",), {"arch": "x"}, ("extract",))), {"tree": "1"})
    path = receipts.paths.receipt("patch")
    good = json.loads(path.read_text())
    assert receipts.read("patch") == good
    path.write_text(json.dumps(wrong(good)))
    assert receipts.read("patch") is None


def test_then_the_stage_is_not_done_yet(built) -> None:
    (built.root / "build/receipts/patch.json").write_text('{"inputs": {"files": 5}, "results": {}}')
    assert "run    patch        not done yet" in built.doit("plan")
    built.doit()
    assert [task for task in built.trace() if task in BUILD] == ["patch"]


@pytest.mark.parametrize("text", ['"x"', '{"facts": 5, "at": "x"}', '{"facts": {"cores": [], "memory": "x"}}'])
def test_what_is_shown_and_what_is_put_back(built, text: str) -> None:
    for name in ("build/facts/n2.json", "build/last-run.json", "build/.lock", "artifacts/manifest.json"):
        path = built.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    for command in (["status"], ["prepare:n1"]):
        assert "Traceback" not in built.doit(*command)


def test_nothing_that_is_told_steers_the_terminal(bench) -> None:
    out = bench.doit(check=1, FAKE_FAIL="patch", FAKE_EVIDENCE="expected: \x1b]0;title\x07\x1b[2J \u202e\u009b1m")
    assert "expected: \\x1b]0;title\\x07\\x1b[2J \\u202e\\x9b1m" in out
    assert not set(out) & set("\x1b\x07\u202e\u009b")
