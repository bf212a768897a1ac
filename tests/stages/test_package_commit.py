"""manifest.json names a commit only where that commit has every input: "git checkout ... && doit" must reproduce it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kbuild_tasks.effects.files import sha256_file
from kbuild_tasks.stages.package import _as_built, _commit

FILES = ["cluster.yaml", "patches/a b.patch"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text\n")
    (tmp_path / ".gitignore").write_text("ignored/\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-qm", "x")
    return tmp_path


def git(root: Path, *args: str) -> str:
    return subprocess.run(["git", *args], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def test_a_commit_that_has_all(project: Path) -> None:
    assert _commit(project, FILES) == git(project, "rev-parse", "HEAD")


def test_an_edited_input_is_in_no_commit(project: Path) -> None:
    (project / FILES[1]).write_text("edited\n")
    assert _commit(project, FILES) is None


def test_a_project_that_git_ignores_is_in_no_commit(project: Path) -> None:
    own = project / "ignored"
    own.mkdir()
    (own / "cluster.yaml").write_text("text\n")
    assert git(own, "status", "--porcelain", "--", ".") == "", "git says nothing of it"
    assert _commit(own, ["cluster.yaml"]) is None
    assert _commit(project, [*FILES, "ignored/cluster.yaml"]) is None


def test_no_repository(tmp_path: Path) -> None:
    assert _commit(tmp_path, FILES) is None


def test_another_commit_that_was_checked_out_while_it_was_compiled(project: Path) -> None:
    """It is clean, and it is not what the stages have read."""
    digests = {name: sha256_file(project / name) for name in FILES}
    pkgbuild = SimpleNamespace(sha256=digests["cluster.yaml"])
    cluster = SimpleNamespace(kernel=SimpleNamespace(pkgbuild="cluster.yaml"))
    receipts = {"patch": {"inputs": {"files": digests}}, "compile": {"inputs": {"files": {}}}}
    context: Any = SimpleNamespace(cluster=cluster, receipts=receipts, paths=SimpleNamespace(root=project))
    assert _as_built(context, cast(Any, pkgbuild))
    (project / FILES[1]).write_text("of another commit\n")
    assert not _as_built(context, cast(Any, pkgbuild))
